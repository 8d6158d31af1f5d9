"""Tables that are made from topics, and kept up to date with them.

How far each partition was read is noted in the transaction that takes its records in. So a process
may die at any time, several may share a database, and tables that are lost are made again.
"""

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import datetime

import structlog
from sqlalchemy import Connection, Table, select

from consumers.readmodel.database import Database, inserting, is_away
from consumers.runtime.clients import Clients, administering
from consumers.runtime.connection import CREATE_TOPICS, KafkaUnreachableError, cluster_of, connected
from consumers.runtime.poison import Guard
from consumers.runtime.records import Record, Source, partition_of, record_ref
from consumers.runtime.topic_reader import Seen, TopicReader, topic_reader
from schemas.errors import TierlineError

__all__ = ["IncompleteError", "OtherTopicsError", "Projection", "positions_in"]

_log = structlog.get_logger(__name__)

#: Records of a transaction, and their bytes: many are faster, and hold up others for longer.
_MOST = 1_000
_MOST_BYTES = 8 * 1024 * 1024
_TRY_AGAIN_SECONDS = 1.0
#: So often the topics are opened again: for partitions that are new, and topics created again.
_OPEN_AGAIN_SECONDS = 15.0
_MEND = "name another one with --store, or delete this one: it is made again from the topics"


class OtherTopicsError(TierlineError):
    """The store was made from other topics than these."""


class IncompleteError(TierlineError):
    """The tables are not complete now."""


class Projection(ABC):
    """Tables of a database, and the topics that they are made from."""

    #: Seconds between two looks at the topics.
    pause: float
    #: Any number that nothing else uses: whoever takes records into these tables holds this lock.
    lock: int
    #: Where each partition is read on: columns `topic`, `partition` and `position`.
    positions: Table

    def __init__(self, database: Database, clients: Clients, guard: Guard | None = None) -> None:
        """`guard` knows the records that end or hang processes: they are stepped over."""
        self.database = database
        self.clients = clients
        self.guard = guard
        #: Set once everything that the topics held is in the tables.
        self.caught_up = asyncio.Event()
        #: Why it does not get on; None while it does.
        self.trouble: TierlineError | None = None
        #: True while `run` keeps up.
        self.is_running = False
        #: Where each partition is read on, as this process has committed it.
        self._at: dict[Source, int] = {}
        self._turn = asyncio.Lock()

    @abstractmethod
    def topics(self) -> Sequence[Sequence[str]]:
        """The topics; what a record of a later group follows from lies in an earlier one."""

    @abstractmethod
    def origin(self, connection: Connection, cluster: str) -> str:
        """The cluster that the tables are made from: this one, where they are made from none."""

    @abstractmethod
    def take(self, connection: Connection, records: Iterable[Record]) -> None:
        """Take in records, each partition's in its order. Read twice, one changes nothing."""

    async def since(self, topics: Sequence[str]) -> datetime | None:
        """Where to begin with partitions of these topics that were never read; None: at the start.

        The earlier groups have been taken in by then.
        """
        return None

    async def settle(self) -> None:  # noqa: B027  there may be nothing
        """Do what is left to do after a look at the topics."""

    async def run(self) -> None:
        """Keep up until cancelled; while Kafka or the database is away, try again.

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
                    self._stand_still(error)
                except Exception as error:  # noqa: BLE001  the process goes on, and says why
                    msg = f"the tables do not get on: {type(error).__name__}"
                    self._stand_still(IncompleteError(msg))
                await asyncio.sleep(_TRY_AGAIN_SECONDS)
        finally:
            self.is_running = False

    def _stand_still(self, error: TierlineError) -> None:
        if type(error) is not type(self.trouble):
            _log.warning("tables stand still", tables=type(self).__name__, why=str(error))
        self.trouble = error

    async def _keep_up(self) -> None:
        """Keep up for a while, with the topics as they are now."""
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

        `since` is where to begin with those that were never read. Raises KafkaUnreachableError,
        OtherTopicsError and StoreAwayError.
        """
        async with self._readers(only, since) as readers:
            await self._take_all(readers, seen)
        self.caught_up.set()

    async def check(self) -> None:
        """Raises OtherTopicsError for tables that were made from another cluster's topics."""
        cluster = await cluster_of(self.clients)
        async with self.database.writing(self.lock) as connection:
            known = await connection.run_sync(self.origin, cluster)
        if known != cluster:
            msg = (
                f"the console's store {self.database.name} was made from the topics of another "
                f"cluster; {_MEND}"
            )
            raise OtherTopicsError(msg)

    @contextlib.asynccontextmanager
    async def _readers(
        self, only: Sequence[str] | None = None, since: datetime | None = None
    ) -> AsyncIterator[Sequence[TopicReader]]:
        """A reader of each group of topics, which goes on where the tables are."""
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
                wanted = [topic for topic in group if only is None or topic in only]
                begin = since or await self.since(wanted)
                opened = topic_reader(self.clients, wanted, positions=self._at, since=begin)
                reader = await stack.enter_async_context(opened)
                await self._compare(reader, wanted)
                readers.append(reader)
            yield readers

    async def _compare(self, reader: TopicReader, topics: Sequence[str]) -> None:
        """Raises KafkaUnreachableError for a topic that is not there, and OtherTopicsError."""
        ends = await reader.ends()
        if missing := sorted({*topics} - {source.topic for source in ends}):
            msg = f"the topic {missing[0]} does not exist yet"
            raise KafkaUnreachableError(msg, advice=CREATE_TOPICS)
        for source, position in self._at.items():
            if source.topic in topics and position > (end := ends.get(source, 0)):
                msg = (
                    f"the console's store {self.database.name} has read "
                    f"{source.topic}-{source.partition} up to {position}, which ends at {end}: "
                    f"it was made from other topics; {_MEND}"
                )
                raise OtherTopicsError(msg)

    async def _take_all(self, readers: Sequence[TopicReader], seen: Seen | None = None) -> None:
        """Take in what the topics hold by now.

        What follows from a record is written after it. So where the later topics end is asked
        first: up to there, what their records follow from is found in the earlier ones.
        """
        ends = [await reader.ends() for reader in reversed(readers)]
        batch: list[Record] = []
        size = 0
        for reader, upto in zip(readers, reversed(ends), strict=True):
            async for records in reader.batches(upto, _MOST, seen):
                batch += records
                size += sum(len(one.value or b"") for one in records)
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
        self, connection: Connection, records: Sequence[Record], at: Mapping[Source, int]
    ) -> dict[Source, int]:
        """Take in records, and note how far they go; those that are in already are left out.

        `at` is where whoever reads believes the tables to be. Raises IncompleteError where they are
        behind that: somebody made them again, and what lies between would be missing for ever.
        """
        known = positions_in(connection, self.positions)
        for source, position in at.items():
            if known.get(source, 0) < position:
                place = f"{source.topic}-{source.partition}"
                msg = f"the tables of {place} were made again meanwhile"
                raise IncompleteError(msg)
        new = [one for one in records if one.offset >= known.get(partition_of(one), 0)]
        self._take_what_goes(connection, new)
        ends = {partition_of(one): one.offset + 1 for one in new}
        _note_positions(connection, self.positions, ends)
        return ends

    def _take_what_goes(self, connection: Connection, records: Sequence[Record]) -> None:
        """Take in all records but those that cannot be: anybody may have written one.

        Whatever such a record brings about, it stops neither the others nor the process.
        """
        if not records:
            return
        try:
            with connection.begin_nested():
                self.take(connection, self.guard.each(records) if self.guard else records)
        except Exception as error:
            if is_away(error):
                raise
            if len(records) == 1:
                place, why = record_ref(records[0]), type(error).__name__
                _log.error("record not taken in", place=place, why=why)
                return
            half = len(records) // 2
            self._take_what_goes(connection, records[:half])
            self._take_what_goes(connection, records[half:])


def positions_in(connection: Connection, table: Table) -> dict[Source, int]:
    """Where each partition is read on."""
    asked = select(table.c.topic, table.c.partition, table.c.position)
    return {Source(*row[:2]): row[2] for row in connection.execute(asked).all()}


def _note_positions(connection: Connection, table: Table, ends: Mapping[Source, int]) -> None:
    rows = [
        {"topic": source.topic, "partition": source.partition, "position": end}
        for source, end in ends.items()
    ]
    if rows:
        put = inserting(connection, table)
        new = {"position": put.excluded.position}
        key = [table.c.topic, table.c.partition]
        connection.execute(put.on_conflict_do_update(index_elements=key, set_=new), rows)
