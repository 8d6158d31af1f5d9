"""Forged records on every topic of a running flow, with its console, among innocent traffic."""

import asyncio
import random
from collections import Counter
from pathlib import Path

import pytest

from consumers import clock
from consumers.console.queue import Queue
from consumers.console.store import CaseFilter, Store, open_store
from consumers.policies import Policies
from consumers.runtime.clients import Clients
from consumers.settings import Settings
from tests.kafka.flow import Flow, Sent, flow, request
from tests.probes.inner import Forged, forged_records

pytestmark = pytest.mark.kafka

_EACH = 60
_INNOCENT = 60


def _chosen() -> list[Forged]:
    """Some of every topic, from a fixed seed, of a size that any client sends."""
    by_topic: dict[str, list[Forged]] = {}
    for forged in forged_records():
        if len(forged.value or b"") < 900_000:
            by_topic.setdefault(forged.topic, []).append(forged)
    dice = random.Random(16)
    return [one for some in by_topic.values() for one in dice.sample(some, min(_EACH, len(some)))]


async def test_nothing_that_lies_on_a_topic_ends_a_stage_or_the_console(
    settings: Settings, tmp_path: Path
) -> None:
    """Every innocent request ends once, also where a stage begins among forged records."""
    forged, names = _chosen(), [f"innocent-{number}" for number in range(_INNOCENT)]
    dice = random.Random(17)
    async with (
        asyncio.timeout(150),
        open_store(f"sqlite:///{tmp_path}/cases.db") as store,
        flow(settings) as running,
        asyncio.TaskGroup() as tasks,
    ):
        topics, clients = running.topics, Clients(settings.kafka)
        queue = Queue(store, clients, Policies(running.rules), topics, clock.now)
        keeping = tasks.create_task(queue.run())
        await running.publish(*map(request, names[::2]))
        for topic in sorted({one.topic for one in forged}):
            records = [
                Sent(one.value, b"forged", one.headers, partition=dice.randrange(3))
                for one in forged
                if one.topic == topic
            ]
            await running.publish(*records, topic=topics.name(topic))
        await running.stop()
        await running.start()
        await running.publish(*map(request, names[1::2]))
        await running.publish(Sent(b"no request", b"broken"))

        while (ended := await _ended(running)) < Counter(names):
            assert not keeping.done()
        assert ended == Counter(names)
        while "not_json" not in await _reasons(store):
            assert not keeping.done()
        assert queue.trouble is None
        keeping.cancel()
    calls = Counter(line.request_id for line in running.bill.lines)
    assert all(calls[name] == 1 for name in names)
    assert len(forged) > _EACH * 6


async def _ended(running: Flow) -> Counter[str]:
    keys = [(seen.key or b"").decode() for seen in await running.terminal(1)]
    return Counter(key for key in keys if key.startswith("innocent-"))


async def _reasons(store: Store) -> set[str]:
    cases = await store.cases(CaseFilter(state=None), clock.now(), limit=10_000)
    return {case.reason.value for case in cases}
