"""Health as others see it: over HTTP, on a real broker that comes and goes."""

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiokafka import TopicPartition
from aiokafka.admin import NewPartitions
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from confluent_kafka import Producer

from consumers import clock
from consumers.cli.doctor import checkup
from consumers.lab.broker import local_broker
from consumers.lab.broker.local import free_ports
from consumers.lab.simulator import SimulatorSettings, simulator
from consumers.providers.settings import ProviderSettings
from consumers.records import Record
from consumers.rules import load_rules
from consumers.runtime.clients import Clients, administering
from consumers.runtime.health import Health
from consumers.runtime.liveness import Watched, watched
from consumers.runtime.marks import Mark
from consumers.runtime.partition import Partition
from consumers.runtime.poison import Guard
from consumers.runtime.shell import Shell
from consumers.runtime.spec import StageSpec
from consumers.runtime.stage import Stage, StageError
from consumers.runtime.topics import TopicWatch, ensure_topics
from consumers.settings import HealthSettings, Settings
from consumers.wiring import running_stages
from schemas.codec import Outgoing
from tests.builders import Pointers
from tests.kafka.conftest import settings_for
from tests.kafka.flow import flow, read_topics, request

pytestmark = pytest.mark.kafka

_SPEC = StageSpec("route", ("llm.intake",), ())
_SHELL = Shell(Pointers())

_TIERLINE = str(Path(sys.executable).with_name("tierline"))
_NO_PATIENCE = timedelta(minutes=10)


class _Held:
    """Takes a few records and finishes none before it is told."""

    def __init__(self, width: int) -> None:
        self.free = width
        self.is_full = asyncio.Event()
        self._taken: list[tuple[Partition, Record]] = []

    @property
    def in_flight(self) -> int:
        return len(self._taken)

    def start(self, partition: Partition, records: Sequence[Record]) -> None:
        self._taken += [(partition, record) for record in records]
        self.free -= len(records)
        if not self.free:
            self.is_full.set()

    def take(self, more: int) -> None:
        """Take so many records more."""
        self.is_full.clear()
        self.free = more

    def release(self) -> None:
        """Finish what was taken."""
        for partition, record in self._taken:
            partition.finish([(record.offset, ())])
        self._taken.clear()

    async def wait_idle(self, limit: float, *, may_rest: bool = False) -> None:
        pass

    def cancel_all(self, partition: Partition) -> int:
        return 0

    def book_uncommitted(
        self, source: TopicPartition, outgoing: Sequence[Outgoing], *, in_doubt: bool = False
    ) -> None:
        pass


class _Asked:
    """What a process answers on its health port."""

    def __init__(self, port: int, http: aiohttp.ClientSession) -> None:
        self._base = f"http://127.0.0.1:{port}"
        self._http = http

    async def get(self, path: str) -> tuple[int, Any]:
        """Status and JSON."""
        async with self._http.get(self._base + path) as answer:
            return answer.status, await answer.json()

    async def until(
        self, path: str, status: int, reason: str = "", *, times: int = 1, limit: float = 30
    ) -> Any:
        """Ask until the status is this one and so many reasons contain the words."""
        async with asyncio.timeout(limit):
            while True:
                with contextlib.suppress(aiohttp.ClientConnectionError):
                    found, body = await self.get(path)
                    count = sum(reason in one for one in body["reasons"]) if reason else times
                    if found == status and count >= times:
                        return body
                await asyncio.sleep(0.02)

    async def until_lag(self, lag: int) -> list[dict[str, Any]]:
        """Ask until the partitions together lag so far; all their figures."""
        async with asyncio.timeout(30):
            while True:
                _, body = await self.get("/status")
                rows: list[dict[str, Any]] = body["partitions"]
                if rows and sum(row["lag"] or 0 for row in rows) == lag:
                    return rows
                await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def _asking(port: int) -> AsyncIterator[_Asked]:
    async with aiohttp.ClientSession() as http:
        yield _Asked(port, http)


def _publish(settings: Settings, count: int) -> None:
    producer = Producer({"bootstrap.servers": settings.kafka.bootstrap, "log_level": 2})
    for number in range(count):
        producer.produce(settings.kafka.topics.intake, str(number), partition=number % 3)
    assert producer.flush(30) == 0


def _serving(health: Health, port: int, folder: Path) -> AbstractAsyncContextManager[Mark]:
    how = Watched(patience=60, folder=folder, listens=("127.0.0.1", port))
    return watched(how, health.answers, health.loop)


def _with_health(settings: Settings, port: int, **fields: Any) -> Settings:
    return settings.model_copy(update={"health": HealthSettings(port=port, **fields)})


async def test_figures_reconcile_with_what_was_published(
    settings: Settings, tmp_path: Path
) -> None:
    """Ten records, four in hand: lag, age and offsets add up before, during and after."""
    clients = Clients(settings.kafka)
    assert await ensure_topics(clients) == []
    held, port, stop = _Held(4), free_ports()[0], asyncio.Event()
    stage = Stage(_SPEC, clients, held, _SHELL, Guard("route"))
    health = Health(lambda: _NO_PATIENCE)
    health.watch(stage)
    async with (
        asyncio.timeout(90),
        _asking(port) as asked,
        _serving(health, port, tmp_path),
        asyncio.TaskGroup() as tasks,
    ):
        assert await asked.get("/live") == (200, {"live": True, "reasons": []})
        status, body = await asked.get("/ready")
        assert (status, body["reasons"]) == (503, ["route: waits for its first partitions"])
        running = tasks.create_task(stage.run(stop))
        watching = tasks.create_task(health.run())
        await asked.until("/ready", 200)
        idle = await asked.until_lag(0)
        assert {row["oldest_age_seconds"] for row in idle} == {None}
        assert {row["last_commit_ms"] for row in idle} == {None}

        await asyncio.to_thread(_publish, settings, 10)
        await held.is_full.wait()
        busy = await asked.until_lag(10)
        assert sum(row["in_flight"] for row in busy) == 4
        assert sum(row["unfinished"] for row in busy) == 4
        ages = [row["oldest_age_seconds"] for row in busy if row["unfinished"]]
        assert all(0 <= age < 60 for age in ages)
        assert {row["committed_offset"] for row in busy} == {None}

        held.take(6)
        await held.is_full.wait()
        held.release()
        done = await asked.until_lag(0)
        assert [row["committed_offset"] for row in sorted(done, key=_partition)] == [4, 3, 3]
        assert {row["in_flight"] + row["unfinished"] for row in done} == {0}
        assert {row["oldest_age_seconds"] for row in done} == {None}
        assert all(row["last_commit_ms"] > 0 for row in done)

        health.is_draining = True
        assert (await asked.get("/ready"))[1]["reasons"] == ["draining"]
        watching.cancel()
        stop.set()
        await running


def _partition(row: Mapping[str, Any]) -> int:
    return int(row["partition"])


async def test_a_stage_whose_handler_never_returns_is_stuck(settings: Settings) -> None:
    clients = Clients(settings.kafka)
    assert await ensure_topics(clients) == []
    held, told, stop = _Held(1), asyncio.Event(), asyncio.Event()
    stage = Stage(_SPEC, clients, held, _SHELL, Guard("route"))
    health = Health(lambda: timedelta(seconds=1), on_stuck=told.set)
    health.watch(stage)
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(stage.run(stop))
        await stage.ready.wait()
        await asyncio.to_thread(_publish, settings, 3)

        with pytest.raises(StageError, match=r"route: nothing has moved for 1 s, with 1 in flight"):
            await health.run()

        assert told.is_set()
        assert health.not_live() == health.not_ready()
        stop.set()
        await running


async def test_a_consumer_that_hangs_without_a_word_is_stuck(settings: Settings) -> None:
    """Its coordinator task ends, and the client library tells nobody."""
    clients = Clients(settings.kafka)
    assert await ensure_topics(clients) == []
    stage = Stage(_SPEC, clients, _Held(100), _SHELL, Guard("route"))
    health, stop = Health(lambda: timedelta(seconds=1)), asyncio.Event()
    health.watch(stage)
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(stage.run(stop))
        await stage.ready.wait()
        stage._member.consumer._coordinator._coordination_task.cancel()
        # What the poll had asked for before that is still delivered.
        await asyncio.wait(stage._assigned._tasks._tasks, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.to_thread(_publish, settings, 3)

        with pytest.raises(StageError, match=r"with 0 in flight and a lag of 3"):
            await health.run()

        stop.set()
        await running


async def test_a_process_that_lost_its_group_does_not_wait_for_commits(settings: Settings) -> None:
    """Another has its partitions, so what it still has in hand can never be committed."""
    clients = Clients(settings.kafka)
    assert await ensure_topics(clients) == []
    held, stop = _Held(3), asyncio.Event()
    stage, other = (
        Stage(_SPEC, clients, executor, _SHELL, Guard("route"), drain_for=0.5)
        for executor in (held, _Held(100))
    )
    health = Health(lambda: timedelta(seconds=2))
    health.watch(stage)
    async with asyncio.timeout(90), asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(stage.run(stop))]
        await stage.ready.wait()
        await asyncio.to_thread(_publish, settings, 3)
        await held.is_full.wait()
        stage._member.consumer._coordinator._coordination_task.cancel()
        stage._member.consumer._coordinator._heartbeat_task.cancel()
        running.append(tasks.create_task(other.run(stop)))
        await other.ready.wait()
        held.release()

        with pytest.raises(StageError, match="nothing has moved"):
            await health.run()

        assert any("commits fail" in reason for reason in health.not_ready())
        stop.set()
        await asyncio.wait(running)


async def test_ready_follows_the_broker_and_live_does_not(prefix: str) -> None:
    """A frozen broker is waited out: not ready, but no reason to start the process anew."""
    port = free_ports()[0]
    async with asyncio.timeout(120), local_broker() as broker, _asking(port) as asked:
        settings = _with_health(
            settings_for(broker.bootstrap, prefix), port, patience=timedelta(seconds=8)
        )
        async with flow(settings) as running:
            await asked.until("/ready", 200)
            os.kill(broker.pid, signal.SIGSTOP)
            try:
                # Every stage says so, each when it finds out.
                await asked.until("/ready", 503, "Kafka does not answer", times=4)
                assert (await asked.get("/live"))[0] == 200
            finally:
                os.kill(broker.pid, signal.SIGCONT)
            await asked.until("/ready", 200)
            await running.publish(*(request(f"after-{number}") for number in range(5)))
            await running.terminal(5)
            await asked.until_lag(0)
            assert (await asked.get("/live"))[0] == 200


async def test_slow_calls_are_no_standstill(settings: Settings) -> None:
    """The calls of one request, with the waits between them, take longer than the patience."""
    patience = timedelta(seconds=1.3)
    slow = settings.model_copy(update={"health": HealthSettings(patience=patience)})
    async with flow(slow, faults={"http_429": 1.0}) as running:
        # Whoever is throttled waits, ever longer, until the deadline.
        until = (clock.now() + timedelta(seconds=10)).isoformat()
        await running.publish(request("slow-1", task=None, deadline=until))
        await running.terminal(1)
        times = [line.received for line in running.bill.lines]
    assert times[-1] - times[0] > patience.total_seconds() * 1.5


async def test_a_stage_that_stands_still_ends_all_stages(settings: Settings) -> None:
    assert await ensure_topics(Clients(settings.kafka)) == []
    impatient = settings.model_copy(
        update={
            "health": HealthSettings(patience=timedelta(seconds=1)),
            "worker": settings.worker.model_copy(update={"drain_for": timedelta(seconds=1)}),
        }
    )

    async def run(provider: ProviderSettings) -> None:
        at = {"simulated": provider}
        async with running_stages(impatient, load_rules(settings), at):
            await asyncio.to_thread(_publish_request, settings)
            await asyncio.Event().wait()

    async with asyncio.timeout(60), simulator(SimulatorSettings(latency_scale=1_000)) as provider:
        with pytest.raises(ExceptionGroup) as ended:
            await run(ProviderSettings(base_url=provider.base_url, allow_private=True))
    assert ended.group_contains(StageError, match="nothing has moved")


def _publish_request(settings: Settings) -> None:
    producer = Producer({"bootstrap.servers": settings.kafka.bootstrap, "log_level": 2})
    sent = request("stuck-1")
    producer.produce(settings.kafka.topics.intake, sent.value, sent.key)
    assert producer.flush(30) == 0


@pytest.fixture
async def env(settings: Settings, tmp_path: Path) -> dict[str, str]:
    """The environment of a process of its own."""
    assert await ensure_topics(Clients(settings.kafka)) == []
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TIERLINE_")}
    return {
        **kept,
        "HOME": str(tmp_path),
        "XDG_DATA_HOME": str(tmp_path / "data"),
        "TIERLINE_KAFKA__BOOTSTRAP": str(settings.kafka.bootstrap),
        "TIERLINE_KAFKA__PREFIX": settings.kafka.prefix,
        "TIERLINE_KAFKA__PARTITIONS": "2",
        "TIERLINE_KAFKA__SESSION_TIMEOUT": "PT6S",
        "TIERLINE_KAFKA__HEARTBEAT_INTERVAL": "PT1S",
        "TIERLINE_WORKER__DRAIN_FOR": "PT1S",
    }


@contextlib.contextmanager
def _up(env: Mapping[str, str], *words: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [_TIERLINE, "up", "--simulate", "--no-console", *words],
        env=dict(env),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


async def test_up_answers_on_its_health_port(env: dict[str, str]) -> None:
    port = free_ports()[0]
    async with asyncio.timeout(60), _asking(port) as asked:
        with _up(env, "--health-port", str(port)) as process:
            await asked.until("/ready", 200)
            assert (await asked.get("/live"))[0] == 200
            _, body = await asked.get("/status")
            assert {row["stage"] for row in body["partitions"]} >= {"route", "work.low"}
            assert {row["breaker"] for row in body["models"]} == {"closed"}
            process.terminate()
            await asyncio.to_thread(process.communicate)
            assert process.returncode == 0


async def _grow(settings: Settings, names: Sequence[str], count: int) -> None:
    async with administering(Clients(settings.kafka)) as admin:
        await admin.create_partitions({name: NewPartitions(count) for name in names})


async def test_partitions_that_grow_are_told_and_then_read(
    env: dict[str, str], settings: Settings
) -> None:
    port, topics = free_ports()[0], [name for name, _ in settings.kafka.topics.all()]
    async with asyncio.timeout(300), _asking(port) as asked:
        with _up(env, "--health-port", str(port)):
            await asked.until("/ready", 200)
            await _grow(settings, topics[:1], 5)
            told = f"{topics[0]}: 5 partitions, where {len(topics) - 3} other topics have 3"
            await asked.until("/ready", 503, told, limit=90)
            await _grow(settings, topics[1:], 5)
            await asked.until("/ready", 200, limit=90)
            producer = Producer({"bootstrap.servers": settings.kafka.bootstrap, "log_level": 2})
            sent = request("grown-1")
            producer.produce(topics[0], sent.value, sent.key, partition=4)
            assert producer.flush(30) == 0
            found = await asyncio.to_thread(
                read_topics, str(settings.kafka.bootstrap), [settings.kafka.topics.results], 1
            )
    assert [one.json["id"] for one in found] == ["grown-1"]


async def test_a_topic_with_its_producers_times_is_found(settings: Settings) -> None:
    clients, intake = Clients(settings.kafka), settings.kafka.topics.intake
    assert await ensure_topics(clients) == []
    watch = TopicWatch(clients)
    await watch.look()
    assert watch.problems == []
    created = {"message.timestamp.type": "CreateTime"}
    async with administering(clients) as admin:
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, intake, created)])
    while not watch.problems:
        await watch.look()
    [problem] = watch.problems
    assert problem.startswith(f"{intake}: its message.timestamp.type is CreateTime")
    health = Health(lambda: _NO_PATIENCE)
    health.ask_topics = lambda: watch.problems
    assert health.not_ready() == [problem]


async def test_up_with_a_stage_that_stands_still_exits_1(
    env: dict[str, str], settings: Settings
) -> None:
    port = free_ports()[0]
    slow = SimulatorSettings(latency_scale=1_000)
    async with asyncio.timeout(90), _asking(port) as asked, simulator(slow) as provider:
        env |= {
            "TIERLINE_PROVIDERS__SIMULATED__BASE_URL": provider.base_url,
            "TIERLINE_PROVIDERS__SIMULATED__ALLOW_PRIVATE": "true",
            "TIERLINE_HEALTH__PATIENCE": "PT1S",
            "TIERLINE_HEALTH__PORT": str(port),
        }
        with _up(env) as process:
            await asked.until("/ready", 200)
            await asyncio.to_thread(_publish_request, settings)
            _, said = await asyncio.to_thread(process.communicate)
    assert process.returncode == 1
    assert "Traceback" not in said
    last = said.splitlines()[-1]
    assert re.match(r"tierline: work\.\w+: nothing has moved for 1 s, with 1 in flight", last)


async def test_a_taken_port_is_one_clear_line(env: dict[str, str], tmp_path: Path) -> None:
    port = free_ports()[0]
    async with _serving(Health(lambda: _NO_PATIENCE), port, tmp_path):
        with _up(env, "--health-port", str(port)) as process:
            _, said = await asyncio.to_thread(process.communicate)
    assert process.returncode == 1
    (line,) = said.splitlines()
    assert str(port) in line
    assert "in use" in line


@pytest.mark.parametrize(
    ("minutes", "words"), [(2, "ahead of"), (-2, "behind"), (0, "agrees with")]
)
async def test_the_doctor_tells_a_clock_that_is_not_kafkas(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, minutes: int, words: str
) -> None:
    assert not await ensure_topics(Clients(settings.kafka))
    monkeypatch.setenv("TIERLINE_KAFKA__PREFIX", settings.kafka.prefix)
    monkeypatch.setenv("TIERLINE_KAFKA__PARTITIONS", str(settings.kafka.partitions))
    real = clock.now
    monkeypatch.setattr(clock, "now", lambda: real() + timedelta(minutes=minutes))

    found = {one.name: one for one in await checkup(settings.kafka.bootstrap)}

    assert found["clock"].ok is (minutes == 0)
    assert f"{words} Kafka's" in found["clock"].detail
