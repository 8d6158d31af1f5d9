"""The console's server, with limits on the number of connections and their waiting time."""

import asyncio
import contextlib
import socket
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from consumers.console.live import EVENTS
from consumers.console.security import HEADERS

__all__ = ["Limits", "serve"]

_MOST_HEAD = 32 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of the server."""

    connections: int = 256
    #: Seconds for a request's head to arrive, and for a reply to be read by the client.
    head: float = 10.0
    take: float = 30.0
    #: Seconds that a connection is kept for the next request.
    keep_alive: int = 5


class _Patient(H11Protocol):
    """A connection with time limits: Uvicorn waits for ever for a first request and slow readers.

    The time limit of bodies is in `entrance`.
    """

    limits = Limits()
    _head: asyncio.TimerHandle | None = None
    _take: asyncio.TimerHandle | None = None

    # The transport of a stream always has this type.
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections:
            transport.abort()
            return
        self._head = self.loop.call_later(self.limits.head, transport.abort)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def _watch(self) -> None:
        """Start the time limit when a head begins to arrive, and stop it once it is complete."""
        is_idle = self.cycle is None or self.cycle.response_complete
        if not is_idle and self._head is not None:
            self._head.cancel()
            self._head = None
        elif is_idle and self._head is None and self.conn.trailing_data[0]:
            self._head = self.loop.call_later(self.limits.head, self.transport.abort)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._take = self.loop.call_later(self.limits.take, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._take is not None:
            self._take.cancel()
            self._take = None

    def shutdown(self) -> None:
        """End streams at once: they would hold the process up until it no longer waits."""
        super().shutdown()
        is_replying = self.cycle is not None and not self.cycle.response_complete
        if is_replying and self.scope["path"] == EVENTS:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._head, self._take):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Answer with our headers: a request that cannot be parsed reaches no middleware."""
        ours = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
        kind = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
        with contextlib.suppress(h11.LocalProtocolError):  # a reply has begun
            head = h11.Response(status_code=400, headers=[*kind, *ours], reason=b"Bad Request")
            for event in (head, h11.Data(data=msg.encode()), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the process."""
        yield


async def serve(
    app: FastAPI,
    listening: socket.socket,
    limits: Limits | None = None,
    proxies: Collection[str] = (),
    *,
    stop: asyncio.Event | None = None,
) -> None:
    """Serve until `stop` is set; without one, until cancelled.

    Only `proxies` may name the client that they forward for; else anybody could choose an address.
    """
    limits = limits or Limits()
    rules: dict[str, Any] = {"log_config": None, "access_log": False, "server_header": False}
    config = uvicorn.Config(
        app,
        http=type("_Limited", (_Patient,), {"limits": limits}),
        ws="none",
        lifespan="off",
        timeout_keep_alive=limits.keep_alive,
        timeout_graceful_shutdown=5,
        h11_max_incomplete_event_size=_MOST_HEAD,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=[*proxies],
        **rules,
    )
    server = _Server(config)
    async with asyncio.TaskGroup() as tasks:
        ending = tasks.create_task(_end(server, stop or asyncio.Event()))
        await server.serve([listening])
        ending.cancel()


async def _end(server: uvicorn.Server, stop: asyncio.Event) -> None:
    await stop.wait()
    server.should_exit = True
