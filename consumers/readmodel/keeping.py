"""Keeping the read model up to date with the topics, for as long as a console runs or for once.

How far each topic was read is noted in the transaction that takes its records in. So a process may
die at any time, several may share a database, and one that is lost is made again from the topics.
"""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar

import structlog
from sqlalchemy import Connection, Select, delete, select

from consumers import clock
from consumers.console.columns import millis
from consumers.console.database import Database, open_database
from consumers.readmodel.projection import IncompleteError, fold, positions
from consumers.readmodel.tables import CALLS, FACTS, FEEDBACK, OUTCOMES, make_tables
from consumers.runtime.clients import Clients
from consumers.runtime.connection import cluster_of
from consumers.runtime.records import Record, Source
from consumers.runtime.topic_reader import Seen, TopicReader, topic_reader
from schemas.base import EARLIEST
from schemas.errors import TierlineError

__all__ = ["OtherTopicsError", "ReadModel", "opened"]

_log = structlog.get_logger(__name__)

_T = TypeVar("_T")
#: Records of a transaction: many are faster, and hold up others for longer.
_MOST = 1_000
_LOOK_AGAIN_SECONDS = 0.5
_TRY_AGAIN_SECONDS = 1.0
#: So long a view waits for figures that are being made.
_FIRST_LIMIT = 5.0
#: So often the topics are looked at anew: for partitions and topics that are new, or made anew.
_LOOK_ANEW_SECONDS = 15.0
_FORGET_EACH = timedelta(hours=1)
#: Any number that nothing else uses: whoever makes tables or takes records in holds this lock.
_LOCK = 7_202_613


class OtherTopicsError(TierlineError):
    """The store was made from other topics than these."""

    advice = (
        "name another store, or delete this one: it is made again from what the topics still hold"
    )


@dataclass(slots=True)
class ReadModel:
    """The tables of a database, and the topics that they are made from."""

    database: Database
    clients: Clients
    #: How long single requests are kept; None: for ever.
    keep: timedelta | None = None
    _is_ready: bool = False
    #: True while `run` keeps up.
    _is_kept: bool = False
    #: Why that does not get on, or has not got to the ends of the topics yet.
    _trouble: TierlineError | None = None
    #: Set while it has.
    _is_complete: asyncio.Event = field(default_factory=asyncio.Event)
    #: Where each partition is read on, as this process has committed it.
    _at: dict[Source, int] = field(default_factory=dict)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _forgot_at: datetime = EARLIEST

    async def ask(self, question: Callable[[Connection], _T]) -> _T:
        """What a function of `queries` finds, all of it at one moment. Raises StoreAwayError."""
        async with self.database.reading() as connection:
            return await connection.run_sync(question)

    async def each(self, question: Select[Any]) -> AsyncIterator[tuple[Any, ...]]:
        """The rows of an answer that may be longer than memory. Raises StoreAwayError."""
        async with self.database.reading() as connection:
            async for row in await connection.stream(question):
                yield tuple(row)

    def begin(self, since: datetime, now: datetime) -> datetime:
        """The instant, or the hour that it lies in where single calls are not kept any more."""
        is_kept = self.keep is None or now - self.keep <= since
        return since if is_kept else since.replace(minute=0, second=0, microsecond=0)

    async def refresh(self) -> None:
        """Have the tables as of now, or of a moment ago. Raises what keeps them from that."""
        if not self._is_kept:
            await self.catch_up()
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FIRST_LIMIT):
                await self._is_complete.wait()
        if self._trouble is not None:
            raise self._trouble

    async def catch_up(
        self,
        topics: Sequence[str] | None = None,
        *,
        since: datetime | None = None,
        seen: Seen | None = None,
    ) -> None:
        """Take in what all topics, or these, hold now.

        `since` is where to begin with those that were never read. Raises KafkaUnreachableError,
        OtherTopicsError and StoreAwayError.
        """
        async with self._turn, self._reader(topics, since) as reader:
            await self._take_all(reader, seen)

    async def run(self) -> None:
        """Keep up for ever; while Kafka or the database is away, try again."""
        self._is_kept = True
        self._trouble = IncompleteError("the figures are being made; look again soon")
        self._is_complete.clear()
        try:
            while True:
                try:
                    await self._keep_up()
                    continue
                except TierlineError as error:
                    self._stand_still(error)
                except Exception as error:  # noqa: BLE001  the console goes on, and says why
                    what = f"the figures do not get on: {type(error).__name__}"
                    self._stand_still(IncompleteError(what))
                await asyncio.sleep(_TRY_AGAIN_SECONDS)
        finally:
            self._is_kept = False

    def _stand_still(self, error: TierlineError) -> None:
        if type(error) is not type(self._trouble):
            _log.warning("the figures stand still", why=str(error))
        self._trouble = error
        self._is_complete.clear()

    async def _keep_up(self) -> None:
        """Keep up for a while, with the topics as they are now."""
        anew_at = asyncio.get_running_loop().time() + _LOOK_ANEW_SECONDS
        async with self._turn, self._reader() as reader:
            while asyncio.get_running_loop().time() < anew_at:
                await self._take_all(reader)
                self._trouble = None
                self._is_complete.set()
                await asyncio.sleep(_LOOK_AGAIN_SECONDS)

    @contextlib.asynccontextmanager
    async def _reader(
        self, topics: Sequence[str] | None = None, since: datetime | None = None
    ) -> AsyncIterator[TopicReader]:
        """A reader that goes on where the tables are."""
        names = self.clients.settings.topics
        every = names.attempts, names.results, names.dead_letters, names.feedback, names.review
        await self._prepare()
        at = self._at = await self.ask(positions)
        wanted = topics or every
        async with topic_reader(self.clients, wanted, positions=at, since=since) as reader:
            for source, end in (await reader.ends()).items():
                if at.get(source, 0) > end:
                    place = f"{source.topic}-{source.partition}"
                    msg = f"{self.database.name} has read {place} up to {at[source]}, not {end}"
                    raise OtherTopicsError(msg)
            yield reader

    async def _prepare(self) -> None:
        """Make the tables, and see that they are of this cluster. Raises OtherTopicsError."""
        if self._is_ready:
            return
        cluster = await cluster_of(self.clients)
        known = await self._write(partial(_made_from, cluster=cluster))
        if known != cluster:
            msg = f"{self.database.name} was made from the topics of another cluster"
            raise OtherTopicsError(msg)
        self._is_ready = True

    async def _take_all(self, reader: TopicReader, seen: Seen | None = None) -> None:
        records: list[Record] = []
        async for record in reader.until_end(seen):
            records.append(record)
            if len(records) >= _MOST:
                await self._take(records)
                records = []
        if records:
            await self._take(records)
        now = clock.now()
        if self.keep is not None and now - self._forgot_at > _FORGET_EACH:
            await self._write(partial(_forget, before=now - self.keep))
            self._forgot_at = now

    async def _take(self, records: Sequence[Record]) -> None:
        topics = self.clients.settings.topics
        taken = partial(fold, records=records, topics=topics, at=self._at)
        self._at |= await self._write(taken)

    async def _write(self, act: Callable[[Connection], _T]) -> _T:
        async with self.database.writing(_LOCK) as connection:
            return await connection.run_sync(act)


def _made_from(connection: Connection, cluster: str) -> str:
    """Make the tables where there are none; the cluster whose topics they are made from."""
    make_tables(connection)
    asked = select(FACTS.c.value).where(FACTS.c.name == "cluster")
    if (known := connection.scalar(asked)) is None:
        connection.execute(FACTS.insert().values(name="cluster", value=cluster))
    return known or cluster


def _forget(connection: Connection, before: datetime) -> None:
    """Let single requests go whose figures are in the sums."""
    for at in (CALLS.c.started_at, OUTCOMES.c.ended_at, FEEDBACK.c.at):
        connection.execute(delete(at.table).where(at < millis(before)))


@contextlib.asynccontextmanager
async def opened(
    clients: Clients, url: str | None = None, keep: timedelta | None = None
) -> AsyncIterator[ReadModel]:
    """The read model in a store by its URL; without one, in a file that is gone afterwards.

    Raises StoreUnusableError.
    """
    async with contextlib.AsyncExitStack() as stack:
        if url is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="tierline-"))
            url, keep = f"sqlite:///{folder}/figures.db", None
        yield ReadModel(await stack.enter_async_context(open_database(url)), clients, keep)
