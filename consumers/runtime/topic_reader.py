"""Reading whole topics, or what is added to them, without a group."""

import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Protocol, cast

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import CorruptRecordException

from consumers.records import Record, partition_of
from consumers.runtime.batches import Broken, fetch_apart
from consumers.runtime.clients import Clients, administering
from consumers.runtime.connection import started

__all__ = ["Seen", "TopicReader", "fetch", "is_broken_record", "offsets_since", "topic_reader"]

_log = structlog.get_logger(__name__)

_POLL_MS = 100
#: Records of a partition that are held while the next record of another one is not known.
_AHEAD = 200


class Seen(Protocol):
    """Called with how far a reader has got, in offsets."""

    def __call__(self, done: int, total: int) -> None: ...


class _Done:
    """How many offsets of how many have been read."""

    def __init__(
        self,
        seen: Seen | None,
        ends: Mapping[TopicPartition, int],
        positions: Mapping[TopicPartition, int],
    ) -> None:
        self._seen = seen
        self._at = dict(positions)
        self._done = 0
        self._total = sum(max(end - positions[tp], 0) for tp, end in ends.items())

    def upto(self, record: Record) -> None:
        """Note that a record has been read, and all before it in its partition."""
        if self._seen is None:
            return
        tp = partition_of(record)
        self._done += record.offset + 1 - self._at[tp]
        self._at[tp] = record.offset + 1
        self._seen(self._done, self._total)


class TopicReader:
    """Reads whole topics, or what is added to them, without a group and without traces.

    `seen` is called as the reading goes on.
    """

    def __init__(self, consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition]) -> None:
        self._consumer = consumer
        self._partitions = partitions

    async def until_end(self, seen: Seen | None = None) -> AsyncIterator[Record]:
        """Every record up to where the topics end now."""
        async for records in self.batches(await self.ends(), seen=seen):
            for record in records:
                yield record

    async def in_order(self, seen: Seen | None = None) -> AsyncIterator[Record]:
        """As `until_end`, but in order of time: the oldest record of all partitions comes first.

        Holds a few hundred records of each partition. Records of one partition keep their order
        where their times do not follow it, as with times that producers set.
        """
        ends = await self.ends()
        done = _Done(seen, ends, {tp: await self._consumer.position(tp) for tp in ends})
        ahead: dict[TopicPartition, deque[Record]] = {}
        while True:
            behind = [tp for tp in ends if not ahead.get(tp)]
            left = [tp for tp in behind if await self._consumer.position(tp) < ends[tp]]
            if left:
                for tp, records in (await fetch(self._consumer, left, _AHEAD)).items():
                    ahead[tp] = deque(self._before(ends[tp], tp, records))
                continue
            if not (ready := [tp for tp in ends if ahead.get(tp)]):
                return
            while True:
                first = min(ready, key=lambda tp: ahead[tp][0].timestamp)
                record = ahead[first].popleft()
                yield record
                if not ahead[first]:
                    done.upto(record)
                    break

    async def ends(self) -> dict[TopicPartition, int]:
        """Where every partition ends now: the offset that its next record may have."""
        return dict(await self._consumer.end_offsets(list(self._partitions)))

    async def batches(
        self,
        ends: Mapping[TopicPartition, int],
        most: int | None = None,
        seen: Seen | None = None,
    ) -> AsyncIterator[Sequence[Record]]:
        """Records up to those ends and no further, as they are fetched: of one partition each."""
        done = _Done(seen, ends, {tp: await self._consumer.position(tp) for tp in ends})
        while left := [tp for tp in ends if await self._consumer.position(tp) < ends[tp]]:
            fetched = await fetch(self._consumer, left, most)
            for tp, records in fetched.items():
                if inside := self._before(ends[tp], tp, records):
                    yield inside
                    done.upto(inside[-1])

    def _before(self, end: int, tp: TopicPartition, records: Sequence[Record]) -> Sequence[Record]:
        """The records before an offset; those from it on are left for whoever reads on."""
        inside = [record for record in records if record.offset < end]
        if len(inside) < len(records):
            self._consumer.seek(tp, records[len(inside)].offset)
        return inside

    async def follow(self, limit: float | None = None) -> AsyncIterator[Record]:
        """Every record as it comes, for ever or for `limit` seconds."""
        give_up = None if limit is None else time.monotonic() + limit
        while give_up is None or time.monotonic() < give_up:
            fetched = await fetch(self._consumer, self._partitions)
            for records in fetched.values():
                for record in records:
                    yield record

    async def follow_batches(self) -> AsyncIterator[Sequence[Record]]:
        """The new records, every tenth of a second at least and for ever; empty where none came."""
        while True:
            fetched = await fetch(self._consumer, self._partitions)
            yield [record for records in fetched.values() for record in records]

    async def counts(self) -> dict[str, tuple[int, int]]:
        """Partitions and records (markers included) by topic."""
        ends = await self._consumer.end_offsets(list(self._partitions))
        starts = await self._consumer.beginning_offsets(list(self._partitions))
        counts: dict[str, tuple[int, int]] = {}
        for tp, end in ends.items():
            partitions, records = counts.get(tp.topic, (0, 0))
            counts[tp.topic] = (partitions + 1, records + end - starts[tp])
        return counts


async def _partitions(clients: Clients, topics: Sequence[str]) -> list[TopicPartition]:
    async with administering(clients) as admin:
        described = await admin.describe_topics(list(topics))
    return [
        TopicPartition(topic["topic"], partition["partition"])
        for topic in described
        for partition in topic["partitions"]
    ]


@contextlib.asynccontextmanager
async def topic_reader(
    clients: Clients,
    topics: Sequence[str],
    *,
    since: datetime | None = None,
    at_end: bool = False,
    positions: Mapping[TopicPartition, int] | None = None,
) -> AsyncIterator[TopicReader]:
    """A reader of these topics from their start, an instant, or their end.

    `positions`: where to begin in the partitions that are named there. Raises
    KafkaUnreachableError; a topic that does not exist is left out.
    """
    consumer = clients.reader()
    async with started(clients, consumer):
        partitions = await _partitions(clients, topics)
        consumer.assign(partitions)
        if at_end and partitions:
            await consumer.seek_to_end(*partitions)
            for tp in partitions:
                await consumer.position(tp)
        elif since is not None and partitions:
            offsets = await offsets_since(consumer, partitions, since.timestamp())
            for tp, offset in offsets.items():
                consumer.seek(tp, offset)
        elif partitions:
            await consumer.seek_to_beginning(*partitions)
        for tp, position in (positions or {}).items():
            if tp in partitions:
                consumer.seek(tp, position)
        yield TopicReader(consumer, partitions)


async def offsets_since(
    consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition], since: float
) -> dict[TopicPartition, int]:
    """By partition the first offset appended at or after `since`, in seconds; else its end."""
    milliseconds = int(since * 1000)
    first = await consumer.offsets_for_times(dict.fromkeys(partitions, milliseconds))
    ends = await consumer.end_offsets(list(partitions))
    return {tp: int(first[tp].offset if first[tp] else ends[tp]) for tp in partitions}


async def fetch(
    consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition], most: int | None = None
) -> Mapping[TopicPartition, Sequence[Record]]:
    """What there is now, without the records that the client library cannot parse.

    The stage that reads the topic has set those aside; a reader that stopped at one would never get
    past it.
    """
    at = {tp: await consumer.position(tp) for tp in partitions}
    try:
        fetched = await consumer.getmany(*partitions, timeout_ms=_POLL_MS, max_records=most)
        return cast("Mapping[TopicPartition, Sequence[Record]]", fetched)
    except Exception as error:  # whatever the parser raises
        if not is_broken_record(error):
            raise
    # The failed call has dropped what it had taken from all of them: read each again.
    good: dict[TopicPartition, Sequence[Record]] = {}
    for tp, offset in at.items():
        consumer.seek(tp, offset)
    for tp, offset in at.items():
        if len(at) == 1:
            parts, end = await fetch_apart(consumer, tp, offset)
            good[tp] = [part for part in parts if not isinstance(part, Broken)]
            for part in parts:
                if isinstance(part, Broken):
                    place = f"{tp.topic}-{tp.partition}-{part.offset}"
                    _log.warning("record cannot be read", place=place)
            consumer.seek(tp, end)
        else:
            good |= await fetch(consumer, [tp], most)
    return good


def is_broken_record(error: Exception) -> bool:
    """True for what the client library raises where it cannot parse a record.

    An error of the broker's is no fault of a record.
    """
    if isinstance(error, CorruptRecordException):
        return True
    return not isinstance(error, (RuntimeError, OSError, AssertionError))
