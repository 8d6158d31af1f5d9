"""The status of this process: published every few seconds, and read from all processes."""

import asyncio
import contextlib
import os
import secrets
import socket
from collections.abc import AsyncIterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Protocol

import structlog
from aiokafka.errors import KafkaError

from consumers import clock
from consumers.records import Record, why_not_taken
from consumers.runtime.clients import KAFKA_IS_AWAY, Clients
from consumers.runtime.connection import KafkaUnreachableError
from consumers.runtime.health import Health
from consumers.runtime.limits import at_most, ended_tasks
from consumers.runtime.publisher import Publisher, publisher
from consumers.runtime.topic_reader import topic_reader
from schemas.codec import dump, read_model
from schemas.status import ModelStatus, Status

__all__ = [
    "EVERY_SECONDS",
    "ahead_of_kafka",
    "clock_ahead",
    "following_status",
    "pass_on",
    "reporting_status",
]

_log = structlog.get_logger(__name__)

EVERY_SECONDS = 5.0
_LAST_WORD_SECONDS = 2.0
_END_SECONDS = 4.0
_LOG_APPEND_TIME = 1
_NOBODY = b"doctor"


class Listener(Protocol):
    """Follows the status of all processes."""

    def heard(self, status: Status) -> None:
        """Take the status of a process."""

    def ended(self, process: str) -> None:
        """Note that a process has announced its end."""


@contextlib.asynccontextmanager
async def reporting_status(clients: Clients, health: Health) -> AsyncIterator[None]:
    """Write the process's status until the context closes, and then that it has ended.

    Where Kafka does not take a status nothing else happens: the next one follows in its time.
    """
    reporter = StatusReporter(clients, health)
    writing = asyncio.ensure_future(reporter.write())
    try:
        yield
    finally:
        reporter.is_over = True
        # The Kafka client may not end while Kafka is away.
        with contextlib.suppress(TimeoutError):
            await at_most(_END_SECONDS, ended_tasks(writing))


@contextlib.asynccontextmanager
async def following_status(
    clients: Clients, listener: Listener, *, since: timedelta
) -> AsyncIterator[None]:
    """Pass on the status and the end of every process until the context closes.

    It begins with those of the last while, as long as `since`. Nothing comes while Kafka is away; a
    status that cannot be read is left out.
    """
    reading = asyncio.ensure_future(_read(clients, listener, since))
    try:
        yield
    finally:
        with contextlib.suppress(TimeoutError):
            await at_most(_END_SECONDS, ended_tasks(reading))


def pass_on(record: Record, listener: Listener) -> None:
    """Pass on a record: a process's status, or that it has ended.

    Raises ContractError for anything else.
    """
    if record.value is None:
        listener.ended((record.key or b"").decode(errors="replace"))
    else:
        listener.heard(read_model(Status, record.value))


async def _read(clients: Clients, listener: Listener, span: timedelta) -> None:
    topics = [clients.settings.topics.status]
    while True:
        try:
            async with topic_reader(clients, topics, since=clock.now() - span) as reader:
                async for record in reader.follow():
                    why_not_taken(lambda record: pass_on(record, listener), record)
        except (*KAFKA_IS_AWAY, KafkaUnreachableError) as error:
            _log.debug("status not read", error=type(error).__name__)
        await asyncio.sleep(EVERY_SECONDS)


class StatusReporter:
    """Writes the status of a process; the end of one is a record without a value."""

    def __init__(self, clients: Clients, health: Health) -> None:
        self._clients = clients
        self._health = health
        self._topic = clients.settings.topics.status
        self._process = clients.settings.instance or _process_name()
        self._started_at = self._at = clock.now()
        self._calls: Mapping[str, int] = {}
        self.is_over = False

    async def write(self) -> None:
        while not self.is_over:
            try:
                async with publisher(self._clients) as out:
                    await self._write_to(out)
            except (*KAFKA_IS_AWAY, KafkaUnreachableError) as error:
                _log.warning("status not written", error=type(error).__name__)
            if not self.is_over:
                await asyncio.sleep(EVERY_SECONDS)

    async def _write_to(self, out: Publisher) -> None:
        key = self._process.encode()
        try:
            while not self.is_over:
                value = dump(self._status(clock.now()).model_dump(mode="json", exclude_none=True))
                sent = clock.now().timestamp()
                written = await (await out.publish(self._topic, value, key=key))
                self._health.clock_ahead = ahead_of_kafka(sent, clock.now().timestamp(), written)
                await self._until_due()
        finally:
            if self.is_over:
                with contextlib.suppress(KafkaError, TimeoutError):
                    async with asyncio.timeout(_LAST_WORD_SECONDS):
                        await (await out.publish(self._topic, None, key=key))

    async def _until_due(self) -> None:
        """Wait for the time of the next status, or for another release, which is told at once."""
        releases = self._health.releases
        changed = asyncio.Event() if releases is None else releases.changed
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(EVERY_SECONDS):
                await changed.wait()
        changed.clear()

    def _status(self, now: datetime) -> Status:
        minutes = (now - self._at).total_seconds() / 60
        models = [self._with_rate(model, minutes) for model in self._health.ask_models()]
        self._at, self._calls = now, {model.model: model.calls for model in models}
        releases = self._health.releases
        released: dict[str, Any] = {}
        if releases is not None:
            released = {
                "policy_version": releases.active.policy.version,
                "policy_digest": releases.active.digest,
                "policy_act": releases.act,
                "policy_since": releases.since,
            }
        return Status(
            process=self._process,
            started_at=self._started_at,
            at=now,
            **released,
            reasons=[*self._health.not_ready(), *self._health.notes()],
            stages=self._health.stages(),
            models=models,
            refused=list(self._health.refused()),
            loop_lag_ms=self._health.loop_lag_ms(),
        )

    def _with_rate(self, model: ModelStatus, minutes: float) -> ModelStatus:
        calls = model.calls - self._calls.get(model.model, 0)
        rate = calls / minutes if minutes > 0 else 0.0
        return model.model_copy(update={"calls_per_minute": round(rate, 1)})


async def clock_ahead(clients: Clients) -> float | None:
    """Seconds that our clock is ahead of Kafka's; None where this user may not write a status.

    Asked by writing a record that does no harm: the end of a process that does not exist.
    """
    try:
        async with publisher(clients) as out:
            sent = clock.now().timestamp()
            written = await (await out.publish(clients.settings.topics.status, None, key=_NOBODY))
            return ahead_of_kafka(sent, clock.now().timestamp(), written)
    except KafkaError:
        return None


def ahead_of_kafka(sent: float, acknowledged: float, written: object) -> float | None:
    """Seconds that our clock is ahead of Kafka's, at least; 0 where it may be the same.

    `written` is Kafka's answer for a record: its broker stamped it between our two times. None
    where the broker stamps no records.
    """
    if getattr(written, "timestamp_type", 0) != _LOG_APPEND_TIME:
        return None
    # An answer with that type of timestamp has one.
    stamped: float = written.timestamp / 1000  # type: ignore[attr-defined]
    return max(sent - stamped, 0.0) - max(stamped - acknowledged, 0.0)


def _process_name() -> str:
    """Host and process id, and a random part: containers may have the same of both."""
    host = "".join(sign for sign in socket.gethostname() if "!" <= sign <= "~")[:100]
    return f"{host}-{os.getpid()}-{secrets.token_hex(2)}"
