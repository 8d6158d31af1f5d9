"""Reading in one partition: from a time or an offset on, and up to where."""

import contextlib
from collections.abc import AsyncIterator
from datetime import datetime

from aiokafka import AIOKafkaConsumer, TopicPartition

from consumers.runtime.clients import Clients, ended
from consumers.runtime.records import Record, told_at
from consumers.runtime.topic_reader import fetch, offsets_since

__all__ = ["end_of", "first_at", "records_since", "start_of"]


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
    clients: Clients, tp: TopicPartition, since: datetime | int, *, until: int | None = None
) -> AsyncIterator[Record]:
    """The records of one partition from an instant or offset on, up to an offset or its end now.

    From an instant on, records of open and aborted transactions are included: a reader of what was
    written outside of transactions must not have to wait for one.
    """
    async with _assigned(clients, tp, committed=isinstance(since, int)) as consumer:
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


@contextlib.asynccontextmanager
async def _assigned(
    clients: Clients, tp: TopicPartition, *, committed: bool
) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = clients.reader(committed=committed)
    try:
        await consumer.start()
        consumer.assign([tp])
        yield consumer
    finally:
        await ended(consumer)
