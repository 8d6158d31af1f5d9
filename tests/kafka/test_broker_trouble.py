"""Kafka dies, sleeps or runs out of disk while calls that cost money are running."""

import asyncio
import contextlib
import os
import resource
import signal
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from consumers.broker import LocalBroker, local_broker
from consumers.broker.local import free_ports
from consumers.runtime.clients import Clients
from consumers.runtime.reading import KafkaUnreachableError, publisher
from consumers.settings import Settings
from schemas.attempt import LedgerEntry
from schemas.codec import read_model
from tests.kafka.conftest import settings_for
from tests.kafka.flow import Flow, Sent, flow, request

pytestmark = [pytest.mark.kafka, pytest.mark.anyio]

_REQUESTS = 60
_LIMIT_SECONDS = 60
#: Larger than the files of an idle broker, small enough to be filled in a moment.
_DISK_BYTES = 24 << 20


@dataclass(slots=True)
class _Kafka:
    """A broker that can be lost and comes back at the same address with the same data."""

    folder: Path
    port: int
    node: LocalBroker | None = None
    _stack: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)

    async def start(self) -> str:
        self.node = await self._stack.enter_async_context(
            local_broker(data_dir=self.folder, port=self.port)
        )
        return self.node.bootstrap

    def signal(self, name: signal.Signals) -> None:
        assert self.node is not None
        os.kill(self.node.pid, name)

    async def lose(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.signal(signal.SIGKILL)
        await self._stack.aclose()


@pytest.fixture
async def kafka() -> AsyncIterator[_Kafka]:
    with tempfile.TemporaryDirectory(prefix="tierline-test-") as folder:
        broker = _Kafka(Path(folder), free_ports()[0])
        try:
            yield broker
        finally:
            await broker.lose()


async def _until_calling(running: Flow, count: int) -> None:
    """Wait until so many calls have begun, some of them still running."""
    async with asyncio.timeout(_LIMIT_SECONDS):
        while running.bill.count + running.bill.open_calls < count:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def _until_quiet(running: Flow) -> None:
    """Wait until no call is running."""
    async with asyncio.timeout(_LIMIT_SECONDS):
        while running.bill.open_calls:  # noqa: ASYNC110  the provider has no event for it
            await asyncio.sleep(0.01)


async def _everything_ends_once(running: Flow) -> None:
    """One end per request, one call per attempt, and a ledger that equals the bill."""
    ended = await running.terminal(_REQUESTS)
    ids = Counter(seen.header("tierline-request-id") or seen.json["id"] for seen in ended)
    assert ids == Counter(f"trouble-{number}" for number in range(_REQUESTS))

    calls = Counter(line.attempt_id for line in running.bill.lines)
    assert max(calls.values()) == 1
    lines = [read_model(LedgerEntry, seen.value).attempt for seen in await running.ledger()]
    assert Counter((one.attempt_id, one.cost_micros) for one in lines) == Counter(
        (line.attempt_id, line.cost_micros) for line in running.bill.lines
    )


def _requests() -> list[Sent]:
    return [request(f"trouble-{number}") for number in range(_REQUESTS)]


async def test_a_broker_that_dies_costs_no_request_and_no_call(kafka: _Kafka) -> None:
    settings = settings_for(await kafka.start(), "dies.")
    async with flow(settings, latency_scale=5.0) as running:
        await running.publish(*_requests())
        await _until_calling(running, 20)
        await kafka.lose()
        await _until_quiet(running)  # replies come while nobody can record them
        await kafka.start()

        await _everything_ends_once(running)


async def test_a_broker_that_sleeps_costs_no_request_and_no_call(kafka: _Kafka) -> None:
    """Longer than every request timeout: half-open connections say nothing."""
    settings = settings_for(await kafka.start(), "sleeps.")
    async with flow(settings, latency_scale=5.0) as running:
        await running.publish(*_requests())
        await _until_calling(running, 20)
        kafka.signal(signal.SIGSTOP)
        try:
            with pytest.raises(KafkaUnreachableError):
                async with publisher(Clients(settings.kafka)):
                    pass
        finally:
            kafka.signal(signal.SIGCONT)

        await _everything_ends_once(running)


async def test_a_full_disk_starts_no_call_and_needs_nobody_when_there_is_room_again(
    kafka: _Kafka,
) -> None:
    """Files that cannot grow: Kafka gives its log folder up, as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (_DISK_BYTES, hard))
    try:
        settings = settings_for(await kafka.start(), "full.")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert kafka.node is not None
    async with flow(settings, latency_scale=5.0) as running:
        await running.publish(*_requests())
        await _until_calling(running, 20)
        await _fill(running, settings, kafka.node)
        await _until_quiet(running)
        await kafka.lose()
        await kafka.start()
        await _everything_ends_once(running)


async def _fill(running: Flow, settings: Settings, node: LocalBroker) -> None:
    """Write until the broker has died of it."""
    async with publisher(Clients(settings.kafka)) as producer, asyncio.TaskGroup() as tasks:

        async def write() -> None:
            value = os.urandom(1 << 19)
            for _ in range(2 * _DISK_BYTES // len(value)):
                await (await producer.publish(running.topics.feedback, value, partition=0))

        writing = tasks.create_task(write())
        async with asyncio.timeout(_LIMIT_SECONDS):
            while _is_alive(node):  # noqa: ASYNC110  it is not our child
                await asyncio.sleep(0.05)
        writing.cancel()


def _is_alive(node: LocalBroker) -> bool:
    try:
        os.kill(node.pid, 0)
    except ProcessLookupError:
        return False
    return True
