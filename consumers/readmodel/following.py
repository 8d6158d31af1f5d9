"""Tables that are built from topics, and kept up to date with them.

The position in each partition is stored in the transaction that takes its records in. So a process
may die at any time, several may share a database, and tables that are lost are rebuilt.
"""

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import datetime

import sqlalchemy as sa
import structlog

from consumers.readmodel.database import Database, is_away, upsert
from consumers.records import Record, Source, partition_of, record_ref
from consumers.runtime.clients import Clients, administering
from consumers.runtime.connection import CREATE_TOPICS, KafkaUnreachableError, cluster_of, connected
from consumers.runtime.poison import Guard
from consumers.runtime.topic_reader import Seen, TopicReader, topic_reader
from schemas.errors import TierlineError

__all__ = ["IncompleteError", "OtherTopicsError", "Projection", "positions_in"]

_log = structlog.get_logger(__name__)

#: The most records and bytes of a transaction: larger ones are faster, but block others longer, and
#: what becomes of the records takes several times their bytes in memory.
_MOST = 1_000
_MOST_BYTES = 1024 * 1024
_TRY_AGAIN_SECONDS = 1.0
#: How often the topics are opened again, to notice new partitions and recreated topics.
_OPEN_AGAIN_SECONDS = 15.0
_MEND = "name another one with --store, or delete this one: it is rebuilt from the topics"


class OtherTopicsError(TierlineError):
    """The store was built from other topics."""


class IncompleteError(TierlineError):
    """The tables are not complete at the moment."""


class Projection(ABC):
    """Tables of a database, and the topics that they are built from."""

    #: Seconds between two reads of the topics.
    pause: float
    #: An arbitrary number that nothing else uses: the lock of whoever writes these tables.
    lock: int
    #: Made by `facts_table` and by `positions_table`.
    facts: sa.Table
    positions: sa.Table

    def __init__(self, database: Database, clients: Clients, guard: Guard | None = None) -> None:
        """`guard` knows the records that kill or hang processes, which are skipped."""
        self.database = database
        self.clients = clients
        self.guard = guard
        #: Set once everything that the topics held is in the tables.
        self.caught_up = asyncio.Event()
        #: Why the tables are not up to date; None while they are.
        self.trouble: TierlineError | None = None
        #: True while `run` keeps up.
        self.is_running = False
        #: The next offset of each partition, as this process has committed it.
        self._at: dict[Source, int] = {}
        self._turn = asyncio.Lock()

    @abstractmethod
    def topics(self) -> Sequence[Sequence[str]]:
        """The topics in groups; records of a later group depend on those of earlier ones."""

    def origin(self, connection: sa.Connection, cluster: str) -> str:
        """The cluster that the tables were built from; stores this one where there is none."""
        query = sa.select(self.facts.c.value).where(self.facts.c.name == "cluster")
        if (built_from := connection.scalar(query)) is None:
            connection.execute(self.facts.insert().values(name="cluster", value=cluster))
        return built_from or cluster

    @abstractmethod
    def take(self, connection: sa.Connection, records: Iterable[Record]) -> None:
        """Take in records, each partition's in order. A record taken in again changes nothing.

        What is `marked` is read before anything is written: a process has one mark for all tables.
        """

    def marked(self, records: Iterable[Record]) -> Iterable[Record]:
        """Those of these records that may be read, each marked while it is."""
        return records if self.guard is None else self.guard.each(records)

    async def since(self, topics: Sequence[str]) -> datetime | None:
        """Where to begin with partitions of these topics that were never read; None: at the start.

        It is called when the earlier groups have been taken in.
        """
        return None

    async def settle(self) -> None:  # noqa: B027  most have nothing to do
        """Do what remains after all topics were read."""

    async def run(self) -> None:
        """Keep up until cancelled; retry while Kafka or the database does not answer.

        Raises OtherTopicsError.
        """
        self.is_running = True
        try:
            while True:
                try:
                    await self._keep_up()
                    continue
                except OtherTopicsError:
                    raise
                except TierlineError as error:
                    self._note_trouble(error)
                except Exception as error:  # noqa: BLE001  the process goes on, and logs why
                    msg = f"the tables could not be updated: {type(error).__name__}"
                    self._note_trouble(IncompleteError(msg))
                await asyncio.sleep(_TRY_AGAIN_SECONDS)
        finally:
            self.is_running = False

    def _note_trouble(self, error: TierlineError) -> None:
        if type(error) is not type(self.trouble):
            _log.warning("tables not updated", tables=type(self).__name__, why=str(error))
        self.trouble = error

    async def _keep_up(self) -> None:
        """Keep up for a while, with the partitions that there are now."""
        open_again_at = asyncio.get_running_loop().time() + _OPEN_AGAIN_SECONDS
        async with self._readers() as readers:
            while asyncio.get_running_loop().time() < open_again_at:
                await self._take_all(readers)
                self.trouble = None
                self.caught_up.set()
                await asyncio.sleep(self.pause)

    async def catch_up(
        self,
        only: Sequence[str] | None = None,
        *,
        since: datetime | None = None,
        seen: Seen | None = None,
    ) -> None:
        """Take in what all topics, or these, hold now.

        `since` is where to begin with partitions that were never read. Raises
        KafkaUnreachableError, OtherTopicsError and StoreAwayError.
        """
        async with self._readers(only, since) as readers:
            await self._take_all(readers, seen)
        self.caught_up.set()

    async def check(self) -> None:
        """Raise OtherTopicsError for tables that were built from another cluster's topics."""
        cluster = await cluster_of(self.clients)
        async with self.database.writing(self.lock) as connection:
            origin = await connection.run_sync(self.origin, cluster)
        if origin != cluster:
            msg = (
                f"the store {self.database.name} was built from the topics of another cluster; "
                f"{_MEND}"
            )
            raise OtherTopicsError(msg)

    @contextlib.asynccontextmanager
    async def _readers(
        self, only: Sequence[str] | None = None, since: datetime | None = None
    ) -> AsyncIterator[Sequence[TopicReader]]:
        """A reader of each group of topics, which continues where the tables are."""
        async with self._turn, contextlib.AsyncExitStack() as stack:
            await self.check()
            if self.guard is not None:
                async with connected(self.clients), administering(self.clients) as admin:
                    await self.guard.learn(self.clients, admin)
            async with self.database.reading() as connection:
                self._at = await connection.run_sync(positions_in, self.positions)
            readers: list[TopicReader] = []
            for group in self.topics():
                if readers:
                    await self._take_all(readers)
                topics = [topic for topic in group if only is None or topic in only]
                begin = since or await self.since(topics)
                opened = topic_reader(self.clients, topics, positions=self._at, since=begin)
                reader = await stack.enter_async_context(opened)
                await self._compare(reader, topics)
                readers.append(reader)
            yield readers

    async def _compare(self, reader: TopicReader, topics: Sequence[str]) -> None:
        """Raise KafkaUnreachableError for a missing topic, OtherTopicsError for a shorter one."""
        ends = await reader.ends()
        if missing := sorted({*topics} - {source.topic for source in ends}):
            msg = f"the topic {missing[0]} does not exist yet"
            raise KafkaUnreachableError(msg, advice=CREATE_TOPICS)
        for source, position in self._at.items():
            if source.topic in topics and position > (end := ends.get(source, 0)):
                msg = (
                    f"the store {self.database.name} has read {source.topic}-{source.partition} up "
                    f"to {position}, but it ends at {end}: the store was built from other topics; "
                    f"{_MEND}"
                )
                raise OtherTopicsError(msg)

    async def _take_all(self, readers: Sequence[TopicReader], seen: Seen | None = None) -> None:
        """Take in what the topics hold by now.

        A record is written after those that it depends on. So the ends of the later topics are read
        first: everything that records before them depend on is then before the ends of the earlier
        topics.
        """
        ends = [await reader.ends() for reader in reversed(readers)]
        batch: list[Record] = []
        size = 0
        for reader, upto in zip(readers, reversed(ends), strict=True):
            async for records in reader.batches(upto, _MOST, seen):
                batch += records
                size += sum(map(_bytes_of, records))
                if len(batch) >= _MOST or size >= _MOST_BYTES:
                    await self._take(batch)
                    batch, size = [], 0
        if batch:
            await self._take(batch)
        await self.settle()

    async def _take(self, records: Sequence[Record]) -> None:
        async with self.database.writing(self.lock) as connection:
            self._at |= await connection.run_sync(self.take_in, records, self._at)

    def take_in(
        self, connection: sa.Connection, records: Sequence[Record], at: Mapping[Source, int]
    ) -> dict[Source, int]:
        """Take in records and store the positions after them; skip those that are in already.

        `at` is where the reader believes the tables to be. Raises IncompleteError where they are
        behind that: they were rebuilt, and the records between would be missing for ever.
        """
        positions = positions_in(connection, self.positions)
        for source, position in at.items():
            if positions.get(source, 0) < position:
                place = f"{source.topic}-{source.partition}"
                msg = f"the tables of {place} were rebuilt in the meantime"
                raise IncompleteError(msg)
        new = [
            record for record in records if record.offset >= positions.get(partition_of(record), 0)
        ]
        self._take_possible(connection, new)
        ends = {partition_of(record): record.offset + 1 for record in new}
        rows = [
            {"topic": source.topic, "partition": source.partition, "position": end}
            for source, end in ends.items()
        ]
        upsert(connection, self.positions, rows)
        return ends

    def _take_possible(self, connection: sa.Connection, records: Sequence[Record]) -> None:
        """Take in all records except those that fail: any client may have written one.

        Whatever a record causes, it stops neither the others nor the process.
        """
        if not records:
            return
        try:
            with connection.begin_nested():
                self.take(connection, records)
        except Exception as error:
            if is_away(error):
                raise
            if len(records) == 1:
                place, why = record_ref(records[0]), type(error).__name__
                _log.error("record not taken in", place=place, why=why)
                return
            half = len(records) // 2
            self._take_possible(connection, records[:half])
            self._take_possible(connection, records[half:])


def _bytes_of(record: Record) -> int:
    parts = (record.value, *(value for _, value in record.headers))
    return sum(len(part or b"") for part in parts)


def positions_in(connection: sa.Connection, table: sa.Table) -> dict[Source, int]:
    """The next offset of each partition."""
    query = sa.select(table.c.topic, table.c.partition, table.c.position)
    return {Source(*row[:2]): row[2] for row in connection.execute(query).all()}
