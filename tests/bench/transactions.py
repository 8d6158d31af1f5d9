"""The route stage with its transactions against itself with plain sends and plain commits."""

import contextlib
from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.structs import OffsetAndMetadata

from consumers.runtime import assigned_partitions
from consumers.runtime.clients import Clients
from consumers.runtime.offsets import Completion
from consumers.runtime.writer import PartitionWriter
from schemas.codec import Outgoing
from tests.bench.harness import Measured, fill, settings_for, sized
from tests.bench.route import COUNT, route_once

__all__ = ["measure_transactions"]

RUNS = sized(3, 1)
_BY_TOPIC = attrgetter("topic")


async def measure_transactions(bootstrap: str) -> list[Measured]:
    """Records per second of both, and their ratio, run by run in turn."""
    plain: list[float] = []
    ours: list[float] = []
    for number in range(RUNS):
        for rates, prefix in ((plain, "plain"), (ours, "transactions")):
            settings = await settings_for(bootstrap, f"{prefix}{number}.")
            await fill(settings, settings.kafka.topics.intake, COUNT)
            if rates is ours:
                rates.append(await route_once(settings))
            else:
                with _without_transactions():
                    rates.append(await route_once(settings))
    ratios = [one / other for one, other in zip(ours, plain, strict=True)]
    return [
        Measured("route stage without transactions", plain, "records/s", "-"),
        Measured("route stage with / without transactions", ratios, "", ">= 0.7"),
    ]


@contextlib.contextmanager
def _without_transactions() -> Iterator[None]:
    vars(assigned_partitions)["PartitionWriter"] = _PlainWriter
    try:
        yield
    finally:
        vars(assigned_partitions)["PartitionWriter"] = PartitionWriter


class _PlainWriter:
    """Writes what follows from one partition, then commits its offset: a crash between repeats."""

    def __init__(self, clients: Clients, source: TopicPartition, group: str) -> None:
        self.needs_start = False
        self._source = source
        self._producer: AIOKafkaProducer = clients.producer()
        # A group of its own: the stage's does not take commits from outside.
        self._commits = AIOKafkaConsumer(
            bootstrap_servers=clients.settings.bootstrap,
            group_id=f"{group}-plain-{source.topic}-{source.partition}",
            enable_auto_commit=False,
        )

    async def start(self) -> None:
        await self._producer.start()
        await self._commits.start()
        self._commits.assign([self._source])

    async def commit(self, outgoing: Sequence[Outgoing], completion: Completion) -> None:
        sent = []
        for topic, records in groupby(sorted(outgoing, key=_BY_TOPIC), key=_BY_TOPIC):
            batch = self._producer.create_batch()
            for record in records:
                fields = {"key": record.key, "value": record.value, "headers": list(record.headers)}
                if batch.append(timestamp=None, **fields) is None:
                    sent.append(await self._send(batch, topic))
                    batch = self._producer.create_batch()
                    batch.append(timestamp=None, **fields)
            sent.append(await self._send(batch, topic))
        for answer in sent:
            await answer
        metadata = OffsetAndMetadata(completion.watermark, completion.encode())
        await self._commits.commit({self._source: metadata})

    async def close(self) -> None:
        await self._producer.stop()
        await self._commits.stop()

    async def _send(self, batch: Any, topic: str) -> Any:
        return await self._producer.send_batch(batch, topic, partition=self._source.partition)
