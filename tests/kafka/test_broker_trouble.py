"""Kafka dies, sleeps or runs out of disk while calls that cost money are running."""

import asyncio
import os
import resource
from collections import Counter
from datetime import timedelta

import pytest
import structlog

from consumers.lab.broker import LocalBroker
from consumers.runtime.clients import Clients
from consumers.runtime.connection import KafkaUnreachableError
from consumers.runtime.executor import SyncExecutor
from consumers.runtime.poison import Guard
from consumers.runtime.publisher import publisher
from consumers.runtime.shell import Shell
from consumers.runtime.spec import StageSpec
from consumers.runtime.stage import Stage
from consumers.runtime.topics import ensure_topics
from consumers.settings import Settings
from consumers.telemetry.setup import Telemetry
from schemas.attempt import LedgerEntry
from schemas.codec import read_model
from tests.builders import Pointers
from tests.kafka.conftest import BreakableKafka, settings_for
from tests.kafka.flow import Flow, Sent, flow, request
from tests.nemesis.world import refuse_results

pytestmark = [pytest.mark.kafka, pytest.mark.anyio]

_REQUESTS = 60
_SHELL = Shell(Pointers())
_LIMIT_SECONDS = 60
_BACK_SECONDS = 15
#: Larger than the files of an idle broker, small enough to be filled in a moment.
_DISK_BYTES = 24 << 20


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
    assert not any(line.is_estimated for line in lines)
    assert Counter((one.attempt_id, one.cost_micros) for one in lines) == Counter(
        (line.attempt_id, line.cost_micros) for line in running.bill.lines
    )


def _requests() -> list[Sent]:
    return [request(f"trouble-{number}") for number in range(_REQUESTS)]


async def test_a_broker_that_dies_costs_no_request_and_no_call(kafka: BreakableKafka) -> None:
    settings = settings_for(await kafka.start(), "dies.")
    async with flow(settings, latency_scale=5.0) as running:
        await running.publish(*_requests())
        await _until_calling(running, 20)
        await kafka.lose()
        await _until_quiet(running)  # replies come while nobody can record them
        await kafka.start()

        await _everything_ends_once(running)


async def test_a_broker_that_sleeps_costs_no_request_and_no_call(kafka: BreakableKafka) -> None:
    """Longer than every request timeout: half-open connections say nothing."""
    settings = settings_for(await kafka.start(), "sleeps.")
    async with flow(settings, latency_scale=5.0) as running:
        await running.publish(*_requests())
        await _until_calling(running, 20)
        with kafka.asleep(), pytest.raises(KafkaUnreachableError):
            async with publisher(Clients(settings.kafka)):
                pass

        await _everything_ends_once(running)


async def test_who_the_group_has_not_heard_for_long_starts_nothing(kafka: BreakableKafka) -> None:
    """Its partitions may be another's by the time Kafka answers again."""
    settings = settings_for(await kafka.start(), "unheard.")
    short = settings.kafka.model_copy(update={"session_timeout": timedelta(seconds=6)})
    clients, stop = Clients(short), asyncio.Event()
    assert await ensure_topics(clients) == []
    inline = SyncExecutor(lambda _: (), _SHELL, Guard("route"), Telemetry().tracing)
    stage = Stage(StageSpec("route", ("llm.intake",), ()), clients, inline, _SHELL, Guard("route"))
    async with asyncio.timeout(_LIMIT_SECONDS), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(stage.run(stop))
        await stage.ready.wait()
        await stage._member.membership.until_live()
        with structlog.testing.capture_logs() as lines:
            with kafka.asleep():
                while not any(one["event"] == "group not heard" for one in lines):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
                waiting = tasks.create_task(stage._member.membership.until_live())
                await asyncio.sleep(0.5)
                assert not waiting.done()
            await waiting
        stop.set()
        await running


async def test_a_full_disk_starts_no_call_and_needs_nobody_when_there_is_room_again(
    kafka: BreakableKafka,
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


async def test_results_that_kafka_refuses_for_long_are_kept_and_no_call_starts(
    kafka: BreakableKafka,
) -> None:
    """Longer than any back-off; whoever ended instead would pay again with every new start."""
    settings = settings_for(await kafka.start(), "refused.")
    async with flow(settings, latency_scale=5.0) as running:
        await refuse_results(settings.kafka, refuses=True)
        await running.publish(*_requests())
        with structlog.testing.capture_logs() as logs:
            await _until_calling(running, 20)
            await _until_quiet(running)
            async with asyncio.timeout(_LIMIT_SECONDS):
                while sum(one["event"] == "commits in a row failed" for one in logs) < 2:  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
        assert running.bill.open_calls == 0
        await refuse_results(settings.kafka, refuses=False)
        # The longest back-off, and no rest as long as the trouble was.
        async with asyncio.timeout(_BACK_SECONDS):
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
