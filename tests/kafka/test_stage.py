"""A stage in its group: what happens to it while the group moves partitions."""

import asyncio
from collections.abc import Sequence

import pytest
from aiokafka import TopicPartition

from consumers.runtime.clients import Clients
from consumers.runtime.partition import Partition
from consumers.runtime.records import Record
from consumers.runtime.stage import Inline, Stage
from consumers.runtime.topics import ensure_topics
from consumers.settings import Settings
from consumers.telemetry.setup import Telemetry
from schemas.codec import Outgoing

pytestmark = pytest.mark.kafka


class _HeldUp:
    """Takes no records, and holds up the first rebalance until its stage lets partitions go."""

    free = 0
    in_flight = 0

    def __init__(self) -> None:
        self.is_rebalancing = asyncio.Event()
        self._lets_go = asyncio.Event()

    def start(self, partition: Partition, records: Sequence[Record]) -> None:
        raise AssertionError

    async def settle(self, limit: float, *, may_rest: bool = False) -> None:
        if not self.is_rebalancing.is_set():
            self.is_rebalancing.set()
            await self._lets_go.wait()

    def let_go(self, source: TopicPartition) -> int:
        self._lets_go.set()
        return 0

    def late(self, source: TopicPartition, outgoing: Sequence[Outgoing]) -> None:
        pass


async def test_a_stop_in_the_middle_of_a_rebalance_ends(settings: Settings) -> None:
    """The library ends a rebalance while it stops, and gives partitions to one who has left."""
    clients, topics = Clients(settings.kafka), settings.kafka.topics
    assert await ensure_topics(clients) == []

    def unreadable(tp: TopicPartition, offset: int) -> Sequence[Outgoing]:
        raise AssertionError

    held = _HeldUp()
    first, second = (
        Stage("route", (topics.intake,), clients, executor, unreadable)
        for executor in (held, Inline(lambda _: (), Telemetry().tracing, ""))
    )
    stop, stop_second = asyncio.Event(), asyncio.Event()
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(first.run(stop))
        await first.ready.wait()
        tasks.create_task(second.run(stop_second))
        await held.is_rebalancing.wait()
        stop.set()
        async with asyncio.timeout(20):
            await running
        await second.ready.wait()
        stop_second.set()
