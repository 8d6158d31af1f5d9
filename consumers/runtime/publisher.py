"""Publishing: writing records outside of a stage's transactions."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from consumers.runtime.clients import Clients
from consumers.runtime.connection import started
from consumers.telemetry.context import with_context
from consumers.telemetry.hops import Hop
from consumers.telemetry.tracing import Tracing
from schemas.codec import Headers

__all__ = ["Publisher", "publisher"]


class Publisher:
    """Writes records from outside the flow."""

    def __init__(self, producer: object, tracing: Tracing | None = None) -> None:
        self._producer = producer
        self._tracing = tracing

    async def publish(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None = None,
        headers: Headers = (),
        partition: int | None = None,
        request_id: str | None = None,
    ) -> "asyncio.Future[object]":
        """Queue a record. The future is done once the broker has acknowledged it, or has failed.

        `request_id` names the request in the record's trace.
        """
        hop = None
        if self._tracing is not None:
            hop = self._tracing.start(topic, headers, request_id)
        if hop is not None:
            headers = with_context(headers, hop.context)
        try:
            queued: asyncio.Future[object] = await self._producer.send(  # type: ignore[attr-defined]
                topic, value, key=key, headers=list(headers), partition=partition
            )
        except BaseException:
            if hop is not None:
                hop.lost()
            raise
        if hop is not None:
            queued.add_done_callback(lambda done: _end(hop, done))
        return queued


@contextlib.asynccontextmanager
async def publisher(
    clients: Clients, tracing: Tracing | None = None, *, linger_ms: int = 5
) -> AsyncIterator[Publisher]:
    """A producer for as long as the context is open; with `tracing` its records are traced."""
    producer = clients.producer(linger_ms)
    async with started(clients, producer):
        yield Publisher(producer, tracing)


def _end(hop: Hop, done: "asyncio.Future[object]") -> None:
    if done.cancelled() or done.exception() is not None:
        hop.lost()
    else:
        hop.settled()
