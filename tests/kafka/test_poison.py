"""A record that ends or hangs every process that handles it is set aside after the second time."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import httpx
import orjson
import pytest
from aiokafka import TopicPartition
from aiokafka.structs import OffsetAndMetadata
from confluent_kafka import Producer

from consumers.failpoints import HOSTILE_TEXT
from consumers.lab.broker.local import free_ports
from consumers.lab.simulator import SimulatorSettings, simulator
from consumers.runtime.clients import Clients
from consumers.runtime.poison import settings_to_hand
from consumers.runtime.sentinel import LOOP_AT, RECORD, SIZE
from consumers.runtime.strikes import group_of_strikes
from consumers.runtime.topics import ensure_topics
from consumers.settings import Settings
from schemas.base import Tier
from schemas.codec import read_dead_letter
from schemas.reasons import Reason
from tests.kafka.flow import Seen, Sent, flow, read_topics, request

pytestmark = pytest.mark.kafka

_TIERLINE = str(Path(sys.executable).with_name("tierline"))
_ROUTE = ("up", "--only", "route")
_INNOCENT = 200
_LIMIT = 150
_DEADLY = {"record.spins": signal.SIGKILL, "record.holds": signal.SIGKILL} | {
    "record.aborts": signal.SIGABRT
}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """One partition, so that everybody meets the same record."""
    kafka = settings.kafka.model_copy(update={"partitions": 1})
    return settings.model_copy(update={"kafka": kafka})


@dataclass(slots=True)
class _Run:
    """Processes of a role, started again when they end, as by an orchestrator."""

    env: Mapping[str, str]
    words: tuple[str, ...]
    folder: Path
    #: How each has ended.
    ends: list[int] = field(default_factory=list)
    living: dict[int, asyncio.subprocess.Process] = field(default_factory=dict)

    async def died(self, times: int) -> None:
        """Wait until so many have ended."""
        await _until(lambda: len(self.ends) == times)

    def log(self, number: int) -> BinaryIO:
        """What its processes say."""
        self.folder.mkdir(exist_ok=True)
        return (self.folder / f"{number}.log").open("ab")

    async def keep(self, number: int) -> None:
        while True:
            with self.log(number) as log:
                process = await asyncio.create_subprocess_exec(
                    *(_TIERLINE, *self.words), env=self.env, stdout=log, stderr=log
                )
            self.living[number] = process
            try:
                self.ends.append(await process.wait())
            except asyncio.CancelledError:
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(signal.SIGCONT)
                    process.terminate()
                await process.wait()
                raise


@contextlib.asynccontextmanager
async def _orchestrated(
    settings: Settings,
    folder: Path,
    *words: str,
    failpoint: str = "",
    count: int = 1,
    more: Mapping[str, str] | None = None,
) -> AsyncIterator[_Run]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TIERLINE_")}
    env = {
        **kept,
        "HOME": str(folder),
        "TIERLINE_KAFKA__BOOTSTRAP": str(settings.kafka.bootstrap),
        "TIERLINE_KAFKA__PREFIX": settings.kafka.prefix,
        "TIERLINE_KAFKA__PARTITIONS": "1",
        "TIERLINE_KAFKA__SESSION_TIMEOUT": "PT6S",
        "TIERLINE_KAFKA__HEARTBEAT_INTERVAL": "PT1S",
        "TIERLINE_HEALTH__LOOP_PATIENCE": "PT2S",
        "TIERLINE_STATE_DIR": str(folder / "state"),
        **({"TIERLINE_FAILPOINT": failpoint} if failpoint else {}),
        **(more or {}),
    }
    run = _Run(env, words, folder)
    keeping = [asyncio.ensure_future(run.keep(number)) for number in range(count)]
    try:
        yield run
    finally:
        for task in keeping:
            task.cancel()
        await asyncio.wait(keeping)


def _innocents(count: int = _INNOCENT) -> list[Sent]:
    return [request(f"good-{number}") for number in range(count)]


def _hostile() -> Sent:
    return request("hostile", f"what does {HOSTILE_TEXT.decode()} do?")


def _among(innocents: list[Sent]) -> list[Sent]:
    half = len(innocents) // 2
    return [*innocents[:half], _hostile(), *innocents[half:]]


async def _publish(settings: Settings, records: list[Sent]) -> None:
    assert await ensure_topics(Clients(settings.kafka)) == []
    producer = Producer({"bootstrap.servers": settings.kafka.bootstrap, "log_level": 2})
    for record in records:
        producer.produce(settings.kafka.topics.intake, record.value, record.key)
    assert await asyncio.to_thread(producer.flush, 30) == 0


async def _read(settings: Settings, topics: list[str], count: int) -> list[Seen]:
    bootstrap = str(settings.kafka.bootstrap)
    for _ in range(3):  # two deaths, with a session's wait after each
        with contextlib.suppress(TimeoutError):
            return await asyncio.to_thread(read_topics, bootstrap, topics, count)
    raise TimeoutError


def _tiers(settings: Settings) -> list[str]:
    topics = settings.kafka.topics
    return [topics.tier(tier) for tier in Tier]


def _ids(records: list[Seen]) -> Counter[str]:
    return Counter(str(orjson.loads((one.value or b"").split(b"\n")[0])["id"]) for one in records)


def _once(*names: str) -> Counter[str]:
    return Counter(dict.fromkeys(names, 1))


_ALL_GOOD = tuple(f"good-{number}" for number in range(_INNOCENT))


@pytest.mark.parametrize("failpoint", _DEADLY)
async def test_the_third_start_of_route_sets_the_record_aside(
    settings: Settings, tmp_path: Path, failpoint: str
) -> None:
    """Its innocent neighbours are routed once each, whatever it did to the process."""
    async with asyncio.timeout(_LIMIT):
        await _publish(settings, _among(_innocents()))
        member = {"TIERLINE_KAFKA__INSTANCE": "route-0"}
        async with _orchestrated(
            settings, tmp_path, *_ROUTE, failpoint=failpoint, more=member
        ) as run:
            letters = [settings.kafka.topics.dead_letters]
            seen = await _read(settings, [*_tiers(settings), *letters], _INNOCENT + 1)

    [letter] = [one for one in seen if one.topic in letters]
    told = read_dead_letter(letter.headers)
    assert (told.reason, told.request_id) == (Reason.POISONOUS_RECORD, "hostile")
    assert letter.value == _hostile().value
    assert _ids([one for one in seen if one is not letter]) == _once(*_ALL_GOOD)
    assert run.ends == [-_DEADLY[failpoint]] * 2


async def test_the_third_start_of_work_sets_the_record_aside(
    settings: Settings, tmp_path: Path
) -> None:
    """A hundred calls run beside it. Those of its neighbours may be made again; each ends once."""
    async with asyncio.timeout(_LIMIT), simulator(SimulatorSettings(latency_scale=0.02)) as at:
        await _publish(settings, _among(_innocents()))
        work = {
            "TIERLINE_KAFKA__INSTANCE": "work-0",
            "TIERLINE_PROVIDERS__SIMULATED__BASE_URL": at.base_url,
            "TIERLINE_PROVIDERS__SIMULATED__ALLOW_PRIVATE": "true",
        }
        async with (
            _orchestrated(settings, tmp_path / "route", *_ROUTE),
            _orchestrated(
                settings,
                tmp_path / "work",
                "up",
                "--only",
                "work",
                failpoint="record.spins",
                more=work,
            ) as run,
        ):
            topics = settings.kafka.topics
            seen = await _read(settings, [topics.results, topics.dead_letters], _INNOCENT + 1)

    [letter] = [one for one in seen if one.topic == topics.dead_letters]
    told = read_dead_letter(letter.headers)
    assert (told.reason, told.request_id) == (Reason.POISONOUS_RECORD, "hostile")
    assert letter.value == _hostile().value  # what the producer wrote, and not our envelope
    assert Counter(one.json["custom_id"] for one in seen if one is not letter) == _once(*_ALL_GOOD)
    assert run.ends == [-signal.SIGKILL] * 2


async def test_a_strike_counts_anew_where_a_later_release_has_written_its_own(
    settings: Settings,
) -> None:
    """As after a downgrade. Nothing but the count goes where the sentinel reads it."""
    await _publish(settings, [])
    group, topic = f"{settings.kafka.prefix}route", settings.kafka.topics.intake
    tp = TopicPartition(topic, 0)
    committer = Clients(settings.kafka).lone_committer(group_of_strikes(group))
    await committer.start()
    committer.assign([tp])
    await committer.commit({tp: OffsetAndMetadata(5, "9;later release")})
    await committer.stop()

    strike: dict[str, object] = {
        "kafka": settings_to_hand(settings.kafka),
        "group": group,
        "death": "ab",
    }
    strike |= {"topic": topic, "partition": 0, "offset": 5}
    written = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "consumers.runtime.poison"],
        input=orjson.dumps(strike),
        capture_output=True,
        check=True,
    )
    assert (written.stdout, b"strikes not read" in written.stderr) == (b"1\n", True)


async def test_a_partition_that_moves_takes_its_strikes_along(
    settings: Settings, tmp_path: Path
) -> None:
    """The first process dies at the record, then the second, and whoever is next does not try."""
    async with asyncio.timeout(_LIMIT):
        await _publish(settings, _among(_innocents()))
        async with _orchestrated(
            settings, tmp_path, *_ROUTE, failpoint="record.aborts", count=2
        ) as run:
            letters = [settings.kafka.topics.dead_letters]
            seen = await _read(settings, [*_tiers(settings), *letters], _INNOCENT + 1)

    [letter] = [one for one in seen if one.topic in letters]
    assert read_dead_letter(letter.headers).reason is Reason.POISONOUS_RECORD
    assert _ids([one for one in seen if one is not letter]) == _once(*_ALL_GOOD)
    assert run.ends == [-signal.SIGABRT] * 2


def _marks(folder: Path, at: int | None = None) -> set[str]:
    """The files of processes of this folder that handle a record, or died at one: at an offset."""
    found = set()
    for file in (folder / "state" / "marks").glob("*.mark"):
        if len(mark := file.read_bytes()) == SIZE:
            source, _, offset = RECORD.unpack_from(mark, LOOP_AT)
            if source and at in (None, offset):
                found.add(file.name)
    return found


async def _another(folder: Path, known: set[str], at: int | None = None) -> set[str]:
    """Wait until a process more handles a record; all of them."""
    await _until(lambda: _marks(folder, at) - known)
    return known | _marks(folder, at)


def _sentinels(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [
        int(child)
        for child in children
        if b"sentinel.py" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]


async def _until(holds: Callable[[], object]) -> None:
    while True:
        if holds():
            return
        await asyncio.sleep(0.02)


async def test_a_process_lost_with_its_sentinel_is_noted_by_the_next_start(
    settings: Settings, tmp_path: Path
) -> None:
    """As where a container is killed: nobody is left to write the strike but who comes next."""
    async with asyncio.timeout(_LIMIT):
        await _publish(settings, _among(_innocents()))
        patient = {
            "TIERLINE_KAFKA__INSTANCE": "route-0",
            "TIERLINE_HEALTH__LOOP_PATIENCE": "PT5M",
        }
        async with _orchestrated(
            settings, tmp_path, *_ROUTE, failpoint="record.spins", more=patient
        ) as run:
            known: set[str] = set()
            for deaths in (1, 2):
                known = await _another(tmp_path, known, _INNOCENT // 2)
                pid = run.living[0].pid
                for one in (*_sentinels(pid), pid):
                    os.kill(one, signal.SIGKILL)
                await run.died(deaths)
            letters = [settings.kafka.topics.dead_letters]
            seen = await _read(settings, [*_tiers(settings), *letters], _INNOCENT + 1)

    [letter] = [one for one in seen if one.topic in letters]
    assert read_dead_letter(letter.headers).reason is Reason.POISONOUS_RECORD
    assert _ids([one for one in seen if one is not letter]) == _once(*_ALL_GOOD)


async def test_kills_from_outside_condemn_nobody(settings: Settings, tmp_path: Path) -> None:
    """Twice in one partition, while it is busy: each time at another record, or at none."""
    count = 6_000
    names = [f"good-{number}" for number in range(count)]
    async with asyncio.timeout(_LIMIT):
        await _publish(settings, _innocents(count))
        member = {"TIERLINE_KAFKA__INSTANCE": "route-0"}
        async with _orchestrated(settings, tmp_path, *_ROUTE, more=member) as run:
            known: set[str] = set()
            for deaths in (1, 2):
                known = await _another(tmp_path, known)
                run.living[0].kill()
                await run.died(deaths)
            letters = [settings.kafka.topics.dead_letters]
            seen = await _read(settings, [*_tiers(settings), *letters], count)

    assert run.ends == [-signal.SIGKILL] * 2
    assert _ids(seen) == _once(*names)


async def test_a_process_that_somebody_stops_is_not_taken_for_a_hanging_one(
    settings: Settings, tmp_path: Path
) -> None:
    """It goes on when it is let go on, and so it does when its sentinel was stopped too."""
    async with asyncio.timeout(_LIMIT):
        await _publish(settings, _innocents())
        tiers = _tiers(settings)
        async with _orchestrated(settings, tmp_path, *_ROUTE) as run:
            await _read(settings, tiers, _INNOCENT)
            pid = run.living[0].pid
            for stopped in ([pid], [pid, *_sentinels(pid)]):
                for one in stopped:
                    os.kill(one, signal.SIGSTOP)
                await asyncio.sleep(4)  # twice the patience
                for one in stopped:
                    os.kill(one, signal.SIGCONT)
            await _publish(settings, [request("after")])
            seen = await _read(settings, tiers, _INNOCENT + 1)
            assert run.ends == []
    assert _ids(seen) == _once(*_ALL_GOOD, "after")


async def test_a_sentinel_that_is_killed_is_replaced(settings: Settings, tmp_path: Path) -> None:
    """And the new one watches as the first one did."""
    async with asyncio.timeout(_LIMIT):
        await _publish(settings, [])
        async with _orchestrated(settings, tmp_path, *_ROUTE, failpoint="record.spins") as run:
            await _until(lambda: run.living and _sentinels(run.living[0].pid))
            [first] = _sentinels(run.living[0].pid)
            os.kill(first, signal.SIGKILL)
            await _until(lambda: set(_sentinels(run.living[0].pid)) - {first})
            await _publish(settings, [_hostile()])
            letters = await _read(settings, [settings.kafka.topics.dead_letters], 1)
    assert read_dead_letter(letters[0].headers).reason is Reason.POISONOUS_RECORD
    assert run.ends == [-signal.SIGKILL] * 2


async def test_a_console_steps_over_what_has_ended_two_of_them(
    settings: Settings, tmp_path: Path
) -> None:
    """Every other dead letter is a case, and every other request is in the figures."""
    port = free_ports()[0]
    async with asyncio.timeout(_LIMIT), flow(settings) as running:
        # Answers to disputes wait for a person.
        text, task = "You charged me twice for order 7, I want a refund of 30.00", "billing_dispute"
        records = [request(f"bad-{number}", text, task=task) for number in range(5)]
        hostile = request("hostile", f"{text} {HOSTILE_TEXT.decode()}", task=task)
        await running.publish(*records[:2], hostile, *records[2:])
        await running.read([running.topics.dead_letters], 6)
        home = {"XDG_DATA_HOME": str(tmp_path)}
        words = ("console", "--port", str(port))
        async with (
            _orchestrated(settings, tmp_path, *words, failpoint="record.aborts", more=home) as run,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http,
        ):
            found: set[str] = set()
            asked: set[str] = set()
            while len(found) < 5 or len(asked) < 5:
                with contextlib.suppress(httpx.TransportError, KeyError):
                    cases = (await http.get("/api/cases")).json()
                    found = {case["request_id"] for case in cases["cases"]}
                    listed = (await http.get("/api/requests")).json()
                    asked = {one["request_id"] for one in listed["requests"]}
            # The text is on intake, on a tier's topic and in the dead letter.
            assert run.ends == [-signal.SIGABRT] * 6
    assert found == asked == {f"bad-{number}" for number in range(5)}
