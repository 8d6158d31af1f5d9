"""What the measurements share: a broker, filled topics, repetition and the table at the end."""

import asyncio
import contextlib
import os
import statistics
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from aiokafka.admin import NewTopic

from consumers.lab.broker import local_broker
from consumers.runtime.clients import Clients, administering
from consumers.runtime.stage import Stage
from consumers.runtime.topics import ensure_topics
from consumers.settings import KafkaSettings, Settings, WorkerSettings

#: Set by the test that tries every measurement: as small as it goes, once, figures mean nothing.
IS_SMOKE = bool(os.environ.get("TIERLINE_BENCH_SMOKE"))
PARTITIONS = 8
_TEXT = "How do I change the billing address of invoice 2291 in the portal, please? " * 12


@dataclass(frozen=True, slots=True)
class Measured:
    """One figure over several runs, and the figure to reach."""

    name: str
    values: Sequence[float]
    unit: str
    goal: str

    def row(self) -> str:
        """A line of the report: median, spread, goal."""
        median = statistics.median(self.values)
        spread = f"{min(self.values):.3g} to {max(self.values):.3g}, n={len(self.values)}"
        return f"{self.name:<58} {median:>10.3g} {self.unit:<9} ({spread})   goal: {self.goal}"


def sized(full: int, smoke: int) -> int:
    """How many of something a measurement takes."""
    return smoke if IS_SMOKE else full


@contextlib.asynccontextmanager
async def bench_broker() -> AsyncIterator[str]:
    """A broker with room for the load; its JVM may optimise fully."""
    if named := os.environ.get("TIERLINE_BENCH_BROKER"):
        yield named
        return
    async with local_broker(heap_mb=1024) as broker:
        yield broker.bootstrap


async def settings_for(bootstrap: str, prefix: str, *, width: int = 256) -> Settings:
    """Settings with topics of their own."""
    kafka = KafkaSettings(bootstrap=bootstrap, prefix=prefix, partitions=PARTITIONS)
    settings = Settings(kafka=kafka, worker=WorkerSettings(width=width))
    problems = await ensure_topics(Clients(kafka))
    if problems:
        raise RuntimeError(str(problems))
    return settings


async def create_topic(settings: Settings, name: str) -> None:
    """One more topic, with the partitions of the others."""
    async with administering(Clients(settings.kafka)) as admin:
        await admin.create_topics([NewTopic(name, PARTITIONS, 1)])


def a_request(request_id: str, *, task: str = "support_answer", size: int = 1000) -> bytes:
    """A request of about `size` bytes."""
    fields = {"id": request_id, "task": task, "plan": "standard", "input": ""}
    room = size - len(orjson.dumps(fields))
    return orjson.dumps({**fields, "input": (_TEXT * (room // len(_TEXT) + 1))[:room]})


async def fill(settings: Settings, topic: str, count: int, *, task: str = "support_answer") -> None:
    """Write `count` requests of 1 kB, spread evenly over the partitions."""
    producer = Clients(settings.kafka).producer()
    await producer.start()
    try:
        for partition in range(PARTITIONS):
            batch = producer.create_batch()
            for number in range(count // PARTITIONS):
                fields: dict[str, Any] = {
                    "timestamp": None,
                    "key": b"k%d" % number,
                    "value": a_request(f"r{partition}-{number}", task=task),
                    "headers": [],
                }
                if batch.append(**fields) is None:
                    await (await producer.send_batch(batch, topic, partition=partition))
                    batch = producer.create_batch()
                    batch.append(**fields)
            await (await producer.send_batch(batch, topic, partition=partition))
    finally:
        await producer.stop()


def committed(stage: Stage, topic: str) -> int:
    """The sum of the committed watermarks of a stage's partitions of a topic."""
    return sum(
        held.committed.watermark
        for held in stage.partitions
        if held.committed is not None and held.source.topic == topic
    )


def settled(stage: Stage, topic: str) -> int:
    """How many offsets of a stage's partitions of a topic are settled, in whatever order."""
    return sum(
        held.tracker.next_fetch - held.tracker.unsettled_count
        for held in stage.partitions
        if held.source.topic == topic
    )


async def until(condition: Callable[[], bool], limit: float = 120.0) -> None:
    """Wait for a condition that a running stage brings about."""
    async with asyncio.timeout(limit):
        while not condition():  # noqa: ASYNC110  the stage has no event for every figure
            await asyncio.sleep(0.005)


async def repeat(runs: int, measure: Callable[[int], Awaitable[float]]) -> list[float]:
    """The figure of each of several runs."""
    return [await measure(number) for number in range(runs)]
