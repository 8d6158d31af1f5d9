"""Says every few seconds how this process is, in a topic that everybody can read."""

import asyncio
import contextlib
import os
import secrets
import socket
from collections.abc import AsyncIterator, Mapping
from datetime import datetime, timedelta
from typing import Protocol

import structlog
from aiokafka.errors import KafkaError

from consumers import clock
from consumers.runtime.clients import KAFKA_IS_AWAY, Clients
from consumers.runtime.connection import KafkaUnreachableError
from consumers.runtime.health import Health
from consumers.runtime.limits import at_most, ended_tasks
from consumers.runtime.publisher import Publisher, publisher
from consumers.runtime.records import Record, why_not_taken
from consumers.runtime.topic_reader import topic_reader
from router.policy.table import Policy
from schemas.codec import dump, read_model
from schemas.status import ModelStatus, Status

__all__ = ["EVERY_SECONDS", "ahead_of_kafka", "clock_ahead", "following_status", "reporting_status"]

_log = structlog.get_logger(__name__)

EVERY_SECONDS = 5.0
#: So far back a process that begins listens to what others said.
_HEARD_SINCE = timedelta(seconds=60)
_LAST_WORD_SECONDS = 2.0
_END_SECONDS = 4.0
_LOG_APPEND_TIME = 1
_NOBODY = b"doctor"


class Listener(Protocol):
    """Whoever wants to know how the processes are."""

    def heard(self, status: Status) -> None:
        """A process has said how it is."""

    def ended(self, process: str) -> None:
        """A process has said that it ends."""


@contextlib.asynccontextmanager
async def reporting_status(clients: Clients, health: Health, policy: Policy) -> AsyncIterator[None]:
    """Write the process's status until the context closes, and then that it has ended.

    A Kafka that does not take it changes nothing: the next status follows in its time.
    """
    told = StatusReporter(clients, health, policy)
    writing = asyncio.ensure_future(told.write())
    try:
        yield
    finally:
        told.is_over = True
        # The Kafka client may not end while Kafka is away.
        with contextlib.suppress(TimeoutError):
            await at_most(_END_SECONDS, ended_tasks(writing))


@contextlib.asynccontextmanager
async def following_status(clients: Clients, listener: Listener) -> AsyncIterator[None]:
    """Pass on what every process says of itself until the context closes, and who has ended.

    While Kafka is away nothing is heard; a status that cannot be read is left out.
    """
    reading = asyncio.ensure_future(_read(clients, listener))
    try:
        yield
    finally:
        with contextlib.suppress(TimeoutError):
            await at_most(_END_SECONDS, ended_tasks(reading))


async def _read(clients: Clients, listener: Listener) -> None:
    def heard(found: Record) -> None:
        listener.heard(read_model(Status, found.value))

    topics = [clients.settings.topics.status]
    while True:
        try:
            since = clock.now() - _HEARD_SINCE
            async with topic_reader(clients, topics, since=since) as reader:
                async for record in reader.follow():
                    if record.value is None:
                        listener.ended((record.key or b"").decode(errors="replace"))
                        continue
                    why_not_taken(heard, record)
        except (*KAFKA_IS_AWAY, KafkaUnreachableError) as error:
            _log.debug("status not read", error=type(error).__name__)
        await asyncio.sleep(EVERY_SECONDS)


class StatusReporter:
    """What is said of a process, and what was said last."""

    def __init__(self, clients: Clients, health: Health, policy: Policy) -> None:
        self._clients = clients
        self._health = health
        self._policy = policy
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
                taken = await (await out.publish(self._topic, value, key=key))
                self._health.clock_ahead = ahead_of_kafka(sent, clock.now().timestamp(), taken)
                await asyncio.sleep(EVERY_SECONDS)
        finally:
            if self.is_over:
                with contextlib.suppress(KafkaError, TimeoutError):
                    async with asyncio.timeout(_LAST_WORD_SECONDS):
                        await (await out.publish(self._topic, None, key=key))

    def _status(self, now: datetime) -> Status:
        minutes = (now - self._at).total_seconds() / 60
        models = [self._with_rate(one, minutes) for one in self._health.ask_models()]
        self._at, self._calls = now, {one.model: one.calls for one in models}
        return Status(
            process=self._process,
            started_at=self._started_at,
            at=now,
            policy_version=self._policy.version,
            policy_digest=self._policy.digest,
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
    """Seconds that our clock is ahead of Kafka's; None where this user cannot find out.

    That of the broker that takes a record: the end of a process that there is not.
    """
    try:
        async with publisher(clients) as out:
            sent = clock.now().timestamp()
            taken = await (await out.publish(clients.settings.topics.status, None, key=_NOBODY))
            return ahead_of_kafka(sent, clock.now().timestamp(), taken)
    except KafkaError:
        return None


def ahead_of_kafka(sent: float, acknowledged: float, taken: object) -> float | None:
    """Seconds that our clock is ahead of Kafka's, at least; 0 where it may be the same.

    Kafka stamped the record at some time between the two of ours. None where it stamps none.
    """
    if getattr(taken, "timestamp_type", 0) != _LOG_APPEND_TIME:
        return None
    # Whatever has that type of timestamp has one.
    stamped: float = taken.timestamp / 1000  # type: ignore[attr-defined]
    return max(sent - stamped, 0.0) - max(stamped - acknowledged, 0.0)


def _process_name() -> str:
    """Tells machine and process; the rest keeps apart what containers call alike."""
    host = "".join(one for one in socket.gethostname() if "!" <= one <= "~")[:100]
    return f"{host}-{os.getpid()}-{secrets.token_hex(2)}"
