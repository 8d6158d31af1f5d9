"""The queue: turns dead letters into cases, and marks them as they are decided on and end.

What was read is noted in the transaction that takes it in, so a store that is lost is made again
from the topics, and several consoles may share one.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from consumers.console.database import inserting, is_away
from consumers.console.errors import StoreAwayError
from consumers.console.projection import (
    apply_audit_lines,
    apply_dead_letters,
    apply_results,
    close_discarded,
    discarded,
)
from consumers.console.store import Store
from consumers.console.tables import CASES, OFFSETS, ORIGINS
from consumers.runtime.clients import Clients, administering
from consumers.runtime.connection import CREATE_TOPICS, KafkaUnreachableError, cluster_of, connected
from consumers.runtime.metrics import ReviewFigures
from consumers.runtime.poison import Guard
from consumers.runtime.records import Record, Source, partition_of, record_ref
from consumers.runtime.topic_reader import TopicReader, topic_reader
from router.policy.table import Policy
from schemas.errors import TierlineError
from schemas.topics import Topics

__all__ = ["Queue", "StoreMismatchError"]

_log = structlog.get_logger(__name__)

_LOOK_AGAIN_SECONDS = 0.2
_TRY_AGAIN_SECONDS = 1.0
_COUNT_SECONDS = 5.0
_MOST = 500
#: Results carry the time of the process that wrote them, and dead letters that of another.
_CLOCKS = timedelta(minutes=10)
#: Any number that nothing else uses: the console that takes records in holds this lock.
_LOCK = 7_202_612
_MEND = "name another one with --store, or delete this one: it is made again from the topics"


class StoreMismatchError(TierlineError):
    """The store was made from other topics than these."""


@dataclass(slots=True)
class Queue:
    """Keeps the store up to date with the topics."""

    store: Store
    clients: Clients
    policy: Policy
    topics: Topics
    clock: Callable[[], datetime]
    #: Records that end or hang consoles are stepped over.
    guard: Guard = field(default_factory=Guard)
    #: Set once everything that the topics held at the start is in the store.
    caught_up: asyncio.Event = field(default_factory=asyncio.Event)
    #: Why it does not get on, in words; None while it does.
    trouble: str | None = None
    #: What waits, as of a moment ago.
    standing: Sequence[ReviewFigures] = ()

    async def run(self) -> None:
        """Keep up until cancelled; while Kafka or the database is away, try again.

        Raises StoreMismatchError.
        """
        while True:
            try:
                async with self._readers() as readers:
                    while True:
                        await self._round(*readers)
                        self.trouble = None
                        self.caught_up.set()
                        await asyncio.sleep(_LOOK_AGAIN_SECONDS)
            except (KafkaUnreachableError, StoreAwayError) as error:
                self.trouble = str(error)
            except StoreMismatchError:
                raise
            except Exception as error:  # noqa: BLE001  the console goes on, and says what is wrong
                if self.trouble is None:
                    _log.exception("queue stopped; it begins anew where it was")
                self.trouble = f"the queue does not get on: {type(error).__name__}"
            await asyncio.sleep(_TRY_AGAIN_SECONDS)

    async def look(self) -> None:
        """Count what waits, again and again until cancelled."""
        while True:
            with contextlib.suppress(StoreAwayError):
                self.standing = await self.store.standing(self.clock())
            await asyncio.sleep(_COUNT_SECONDS)

    async def catch_up(self) -> None:
        """Take in everything that the topics hold now. Raises KafkaUnreachableError."""
        async with self._readers() as readers:
            await self._round(*readers)
        self.caught_up.set()

    @contextlib.asynccontextmanager
    async def _readers(self) -> AsyncIterator[tuple[TopicReader, TopicReader, TopicReader]]:
        """Readers that go on where the store is."""
        await self.check_origin()
        async with connected(self.clients), administering(self.clients) as admin:
            await self.guard.learn(self.clients, admin)
        async with contextlib.AsyncExitStack() as stack:

            async def reader(topic: str, since: datetime | None = None) -> TopicReader:
                async with self.store.database.reading() as connection:
                    at = await _positions(connection, topic)
                opened = topic_reader(self.clients, [topic], positions=at, since=since)
                found = await stack.enter_async_context(opened)
                await _check(found, topic, at, self.store.database.name)
                return found

            letters = await reader(self.topics.dead_letters)
            lines = await reader(self.topics.review)
            # Results are many, and older ones than the oldest case that waits end none: what
            # was dead-lettered and decided is read first, for a store that begins from nothing.
            ends = await lines.ends()
            await self._take_all(letters, await letters.ends())
            await self._take_all(lines, ends)
            results = await reader(self.topics.results, await self._oldest())
            yield letters, lines, results

    async def check_origin(self) -> None:
        """Raises StoreMismatchError for a store that was made from another cluster's topics."""
        cluster, topic = await cluster_of(self.clients), self.topics.dead_letters
        origin = {"topic": topic, "cluster": cluster}
        async with self.store.database.writing() as connection:
            await self.store.database.add_new(connection, ORIGINS, [origin])
            asked = select(ORIGINS.c.cluster).where(ORIGINS.c.topic == topic)
            known = await connection.scalar(asked)
        if known != cluster:
            name = self.store.database.name
            msg = f"the console's store {name} was made from {topic} of another cluster; {_MEND}"
            raise StoreMismatchError(msg)

    async def _round(self, letters: TopicReader, lines: TopicReader, results: TopicReader) -> None:
        """Take in what came since the last round.

        What follows from a dead letter is written after it. So where that ends is asked first: up
        to there, the dead letters it is about are found in the end that is asked for then.
        """
        upto, ended = await lines.ends(), await results.ends()
        await self._take_all(letters, await letters.ends())
        await self._take_all(lines, upto)
        await self._take_all(results, ended)
        async with self.store.database.reading() as connection:
            over = await discarded(connection, self.clock())
        if over:
            async with self.store.database.writing() as connection:
                await close_discarded(connection, over)

    async def _take_all(self, reader: TopicReader, ends: Mapping[Source, int]) -> None:
        async for records in reader.batches(ends, _MOST):
            await self._take(records)

    async def _take(self, records: Sequence[Record]) -> None:
        """Take in records of one partition, and note how far it was read."""
        source = partition_of(records[0])
        async with self.store.database.writing(_LOCK) as connection:
            position = (await _positions(connection, source.topic)).get(source, 0)
            new = [record for record in records if record.offset >= position]
            if not new:
                return  # another console was faster
            await self._fold(connection, new)
            await _note(connection, source, new[-1].offset + 1)

    async def _fold(self, connection: AsyncConnection, records: Sequence[Record]) -> None:
        """Take records in, all but those that cannot be: anybody may have written one.

        Whatever such a record brings about, it stops neither the others nor the console.
        """
        topic = records[0].topic
        try:
            async with connection.begin_nested():
                safe = self.guard.each(records)
                if topic == self.topics.dead_letters:
                    await apply_dead_letters(self.store.database, connection, safe, self.policy)
                elif topic == self.topics.review:
                    await apply_audit_lines(self.store.trail, connection, safe)
                else:
                    await apply_results(connection, safe)
        except Exception as error:
            if is_away(error):
                raise
            if len(records) == 1:
                place, why = record_ref(records[0]), type(error).__name__
                _log.error("record not taken in", place=place, why=why)
                return
            half = len(records) // 2
            await self._fold(connection, records[:half])
            await self._fold(connection, records[half:])

    async def _oldest(self) -> datetime:
        """Since when results may say something about a case that has not ended."""
        waits = select(func.min(CASES.c.opened_at)).where(CASES.c.state != "closed")
        found = await self.store.database.value(waits)
        oldest = self.clock() if found is None else min(found, self.clock())
        return oldest - _CLOCKS


async def _check(
    reader: TopicReader, topic: str, positions: Mapping[Source, int], store: str
) -> None:
    """Raises KafkaUnreachableError for a topic that is not there, StoreMismatchError."""
    ends = await reader.ends()
    if not ends:
        msg = f"the topic {topic} does not exist yet"
        raise KafkaUnreachableError(msg, advice=CREATE_TOPICS)
    for source, position in positions.items():
        if position > ends.get(source, 0):
            place = f"{source.topic}-{source.partition}"
            msg = (
                f"the console's store {store} has read {place} up to {position}, "
                f"which ends at {ends.get(source, 0)}: it was made from other topics; {_MEND}"
            )
            raise StoreMismatchError(msg)


async def _positions(connection: AsyncConnection, topic: str) -> dict[Source, int]:
    asked = select(OFFSETS.c.partition, OFFSETS.c.position).where(OFFSETS.c.topic == topic)
    rows = (await connection.execute(asked)).all()
    return {Source(topic, partition): position for partition, position in rows}


async def _note(connection: AsyncConnection, source: Source, position: int) -> None:
    row = {"topic": source.topic, "partition": source.partition, "position": position}
    key = [OFFSETS.c.topic, OFFSETS.c.partition]
    put = inserting(connection, OFFSETS).values(row)
    await connection.execute(
        put.on_conflict_do_update(index_elements=key, set_={"position": position})
    )
