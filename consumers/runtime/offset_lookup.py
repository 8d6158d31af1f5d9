"""Reading in partitions: from a time or an offset on, up to where; or single records."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from datetime import datetime

from aiokafka import AIOKafkaConsumer, TopicPartition

from consumers.records import Record, partition_of, told_at
from consumers.runtime.clients import Clients, ended
from consumers.runtime.connection import CONNECT_LIMIT, connected
from consumers.runtime.topic_reader import fetch, offsets_since
from schemas.dead_letter import Pointer

__all__ = ["end_of", "first_at", "records_at", "records_since", "start_of"]


async def start_of(clients: Clients, tp: TopicPartition, since: float) -> int:
    """The first offset of a partition appended at or after `since`, in seconds; else its end."""
    async with _assigned(clients, tp, committed=True) as consumer:
        return (await offsets_since(consumer, [tp], since))[tp]


async def end_of(clients: Clients, tp: TopicPartition) -> int:
    """The end of a partition, records of open transactions included."""
    async with _assigned(clients, tp, committed=False) as consumer:
        return int((await consumer.end_offsets([tp]))[tp])


async def first_at(clients: Clients, tp: TopicPartition, position: int) -> datetime | None:
    """When the first record from a position on was appended; None when there is none."""
    async with _assigned(clients, tp, committed=True) as consumer:
        ends = await consumer.end_offsets([tp])
        consumer.seek(tp, position)
        while await consumer.position(tp) < ends[tp]:
            for records in (await fetch(consumer, [tp], 1)).values():
                for record in records:
                    return told_at(record)
    return None


async def records_since(
    clients: Clients,
    tp: TopicPartition,
    since: datetime | int,
    *,
    until: int | None = None,
    committed: bool = True,
) -> AsyncIterator[Record]:
    """The records of one partition from an instant or offset on, up to an offset or its end now.

    Without `committed`, records of open and aborted transactions are included: a reader of what was
    written outside of transactions must not have to wait for one.
    """
    async with _assigned(clients, tp, committed=committed) as consumer:
        end = (await consumer.end_offsets([tp]))[tp]
        if until is not None:
            end = min(end, until)  # a forged offset may be one that no record will ever have
        if isinstance(since, datetime):
            first = (await offsets_since(consumer, [tp], since.timestamp()))[tp]
        else:
            first = since
        consumer.seek(tp, first)
        while await consumer.position(tp) < end:
            for records in (await fetch(consumer, [tp])).values():
                for record in records:
                    if record.offset < end:
                        yield record


async def records_at(clients: Clients, places: Iterable[Pointer]) -> list[Record]:
    """The records at these places, as far as they are still there; in no order.

    Raises KafkaUnreachableError.
    """
    left: dict[TopicPartition, list[int]] = defaultdict(list)
    for place in places:
        left[partition_of(place)].append(place.offset)
    records: list[Record] = []
    if not left:
        return records
    async with (
        connected(clients),
        asyncio.timeout(CONNECT_LIMIT),
        _assigned(clients, *left, committed=True) as consumer,
    ):
        starts, ends = (
            await consumer.beginning_offsets([*left]),
            await consumer.end_offsets([*left]),
        )
        for tp, offsets in left.items():
            left[tp] = sorted(offset for offset in {*offsets} if starts[tp] <= offset < ends[tp])
        while left := {tp: offsets for tp, offsets in left.items() if offsets}:
            for tp, offsets in left.items():
                consumer.seek(tp, offsets[0])
            fetched = await fetch(consumer, [*left])
            for tp, offsets in left.items():
                records += [record for record in fetched.get(tp, ()) if record.offset in offsets]
                # What was passed over is gone.
                position = await consumer.position(tp)
                left[tp] = [offset for offset in offsets if offset >= position]
    return records


@contextlib.asynccontextmanager
async def _assigned(
    clients: Clients, *partitions: TopicPartition, committed: bool
) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = clients.reader(committed=committed)
    try:
        await consumer.start()
        consumer.assign([*partitions])
        yield consumer
    finally:
        await ended(consumer)
