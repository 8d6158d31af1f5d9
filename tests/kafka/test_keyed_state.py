"""What a stage remembers is what it has committed, whoever dies, freezes or takes over."""

import asyncio
import contextlib
import os
import signal
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

import pytest
from aiokafka.admin import NewTopic

from consumers.records import Source
from consumers.runtime.clients import Clients, administering
from consumers.runtime.keyed_state import KeyedState
from consumers.runtime.publisher import publisher
from consumers.runtime.topics import ensure_topics
from consumers.settings import Settings
from schemas.topics import state_topic
from tests.kafka.flow import read_topics

pytestmark = [pytest.mark.kafka, pytest.mark.anyio]

_KEYS = 7
#: Records of each key that every process finds when it starts.
_EACH = 8
#: Where processes die one after the other, each on its way through a commit or between two.
_DEATHS = ("route.sent:2", "decided:2", "route.committed:1")


@dataclass
class _Counter:
    process: asyncio.subprocess.Process

    async def says(self, words: str) -> str:
        """Its next line that begins so."""
        assert self.process.stdout is not None
        while line := (await self.process.stdout.readline()).decode():
            if line.startswith(words):
                return line
        raise EOFError(words)

    def goes_on(self) -> None:
        """Let it go on where it waits for us."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n" * 10)

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)


@contextlib.asynccontextmanager
async def _counter(settings: Settings, **env: str) -> AsyncIterator[_Counter]:
    words = ("-m", "tests.kafka.counting_stage")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *words,
        str(settings.kafka.bootstrap),
        settings.kafka.prefix,
        env={**os.environ, **env},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield _Counter(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGCONT)
            process.terminate()
        await process.communicate()


async def _prepared(settings: Settings) -> Clients:
    clients, kafka = Clients(settings.kafka), settings.kafka
    assert await ensure_topics(clients) == []
    spec = state_topic("counting")
    topic = NewTopic(kafka.prefix + spec.name, kafka.partitions, 1, topic_configs=dict(spec.config))
    async with administering(clients) as admin:
        await admin.create_topics([topic])
    return clients


async def _publish(clients: Clients, keys: int, each: int, first: int = 0) -> None:
    """Records of each key in one partition, in order."""
    async with publisher(clients) as sending:
        for number in range(first, first + each):
            for key in range(keys):
                name = b"k%d" % key
                await (
                    await sending.publish(
                        clients.settings.topics.intake,
                        b"%d" % number,
                        key=name,
                        partition=key % clients.settings.partitions,
                    )
                )


def _counted(settings: Settings, count: int) -> Mapping[bytes, list[tuple[int, int]]]:
    """Of each key, what was counted and of which record, in the order of the topic."""
    found: dict[bytes, list[tuple[int, int]]] = defaultdict(list)
    for seen in read_topics(str(settings.kafka.bootstrap), [settings.kafka.topics.results], count):
        number, _, record = (seen.value or b"").partition(b" ")
        found[seen.key or b""].append((int(number), int(record)))
    return found


async def _after_deaths(
    settings: Settings, deaths: Sequence[str], **env: str
) -> Mapping[bytes, list[tuple[int, int]]]:
    """What was counted by processes that die one after the other, and by one that does not."""
    clients = await _prepared(settings)
    async with asyncio.timeout(240):
        for number, death in enumerate(deaths):
            await _publish(clients, _KEYS, _EACH, number * _EACH)
            async with _counter(settings, TIERLINE_FAILPOINT=death, **env) as counter:
                assert await counter.process.wait() == -signal.SIGKILL
        await _publish(clients, _KEYS, _EACH, len(deaths) * _EACH)
        async with _counter(settings, **env):
            return await asyncio.to_thread(_counted, settings, _KEYS * _EACH * (len(deaths) + 1))


def _right(deaths: Sequence[str]) -> list[tuple[int, int]]:
    return [(number + 1, number) for number in range(_EACH * (len(deaths) + 1))]


async def test_what_died_in_a_commit_is_counted_once(settings: Settings) -> None:
    counted = await _after_deaths(settings, _DEATHS)

    assert counted == {b"k%d" % key: _right(_DEATHS) for key in range(_KEYS)}


async def test_state_that_is_written_apart_from_its_outputs_is_found_out(
    settings: Settings,
) -> None:
    """The first of these deaths, with the bug that the transaction is there to prevent."""
    deaths = _DEATHS[:1]
    counted = await _after_deaths(settings, deaths, COUNTING_BUG="outside")

    assert any(numbers != _right(deaths) for numbers in counted.values())


async def _after_a_freeze(settings: Settings, bug: str) -> Mapping[bytes, list[tuple[int, int]]]:
    """One freezes with a commit half sent, and wakes while the next owner has just read."""
    clients = await _prepared(settings)
    async with asyncio.timeout(120):
        await _publish(clients, 1, 20)
        async with _counter(settings, COUNTING_FREEZES_AT="1") as first:
            await first.says("freezes")
            async with _counter(settings, COUNTING_WAITS="1", COUNTING_BUG=bug) as second:
                await second.says("read 0")
                first.send(signal.SIGCONT)
                if bug:
                    await first.says("committed")
                second.goes_on()
                await _publish(clients, 1, 20)
                return await asyncio.to_thread(_counted, settings, 40)


async def test_who_wakes_after_the_next_owner_has_read_changes_nothing(settings: Settings) -> None:
    counted = await _after_a_freeze(settings, "")

    assert [number for number, _ in counted[b"k0"]] == list(range(1, 41))


async def test_state_that_is_read_before_the_fence_is_found_out(settings: Settings) -> None:
    """The former owner commits in between, and its successor knows nothing of it."""
    counted = await _after_a_freeze(settings, "early")

    assert [number for number, _ in counted[b"k0"]] != list(range(1, 41))


async def test_start_up_follows_the_keys_that_live(settings: Settings) -> None:
    """Forgotten keys are tombstones; of an overwritten one only the last value counts."""
    clients = await _prepared(settings)
    topic = clients.settings.topics.name("llm.state.counting")
    async with publisher(clients) as sending:
        for number in range(300):
            value = b"%d" % number if number % 3 else None
            await (await sending.publish(topic, value, key=b"%d" % (number % 10), partition=1))
    state = KeyedState(clients, "counting")
    await state.prepare(Source(clients.settings.topics.intake, 1), 0)

    part = state.part(Source(clients.settings.topics.intake, 1))
    expected: dict[bytes, bytes] = {}
    for number in range(300):
        expected.pop(b"%d" % (number % 10), None)
        if number % 3:
            expected[b"%d" % (number % 10)] = b"%d" % number
    assert part.values == expected
