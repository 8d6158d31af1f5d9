"""Requests, calls, their outcomes and the feedback on them, for queries in SQL."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy as sa

from consumers import clock
from consumers.readmodel.columns import millis
from consumers.readmodel.database import Database, open_database
from consumers.readmodel.following import IncompleteError, Projection
from consumers.readmodel.projection import DAY, take
from consumers.readmodel.queries import figures_over_time
from consumers.readmodel.requests import Written, records_of
from consumers.readmodel.tables import (
    BY_USER,
    CALLS,
    FACTS,
    FEEDBACK,
    GROUPS,
    OUTCOMES,
    POSITIONS,
    RECORDS,
    REQUESTS,
    SUMS,
    make_tables,
)
from consumers.records import Record
from consumers.runtime.clients import Clients
from consumers.runtime.poison import Guard
from router.intake.admission import Admission
from router.reports.plots import Period, step_of
from schemas.base import EARLIEST, Tier
from schemas.tenancy import RequestKey

if TYPE_CHECKING:  # it loads every check
    from router.policy.table import Policy

__all__ = ["ReadModel", "opened"]

_T = TypeVar("_T")
#: Seconds that a page waits for the tables to be complete.
_FIRST_LIMIT = 5.0
#: Records of one request that are read.
_MOST_RECORDS = 500
#: The shortest period of a time of which sums alone are kept; and how often rows are forgotten.
_HOUR = timedelta(hours=1)


class ReadModel(Projection):
    """The tables of requests, calls, outcomes, feedback and reviews, with their sums."""

    pause = 0.5
    lock = 7_202_613
    facts, positions = FACTS, POSITIONS

    def __init__(
        self,
        database: Database,
        clients: Clients,
        keep: timedelta | None = None,
        admission: Admission | None = None,
        guard: Guard | None = None,
    ) -> None:
        """`keep` is how long single requests are kept; None: for ever.

        `admission` says whose the requests on intake are, as it does there.
        """
        super().__init__(database, clients, guard)
        self.admission = admission or Admission()
        self.keep = keep
        self._forgot_at = EARLIEST

    def topics(self) -> Sequence[Sequence[str]]:
        names = self.clients.settings.topics
        way = (*names.all_intakes, *map(names.tier, Tier), names.escalations)
        return [(*way, *names.of_figures)]

    def origin(self, connection: sa.Connection, cluster: str) -> str:
        make_tables(connection)
        return super().origin(connection, cluster)

    def take(self, connection: sa.Connection, records: Iterable[Record]) -> None:
        take(connection, self.marked(records), self.clients.settings.topics, self.admission)

    async def settle(self) -> None:
        """Delete single requests that are kept no longer; their figures stay in the sums."""
        now = clock.now()
        if self.keep is not None and now - self._forgot_at > _HOUR:
            async with self.database.writing(self.lock) as connection:
                await connection.run_sync(partial(_forget, before=now - self.keep))
            self._forgot_at = now

    async def ask(self, question: Callable[[sa.Connection], _T]) -> _T:
        """The answer of a function of `queries`, all of one moment. Raises StoreAwayError."""
        async with self.database.reading() as connection:
            return await connection.run_sync(question)

    async def records(self, request: RequestKey) -> list[Written]:
        """Where the records of a request lie, as far as a page reads them."""
        return await self.ask(lambda tables: records_of(tables, request, _MOST_RECORDS))

    async def each(self, question: sa.Select[Any]) -> AsyncIterator[tuple[Any, ...]]:
        """The rows of an answer that may not fit into memory. Raises StoreAwayError."""
        async with self.database.reading() as connection:
            async for row in await connection.stream(question):
                yield tuple(row)

    def begin(self, since: datetime, now: datetime, *, of_users: bool = False) -> datetime:
        """The instant, or its full hour or day where single calls are no longer kept."""
        if self.keeps_calls(since, now):
            return since
        return since.replace(hour=0 if of_users else since.hour, minute=0, second=0, microsecond=0)

    async def periods(
        self, policy: "Policy", since: datetime, until: datetime, now: datetime, *, is_open: bool
    ) -> tuple[list[Period], timedelta]:
        """The figures of the periods of a span, and their length; `is_open`: it ends now."""
        step = step_of(until - since)
        if not self.keeps_calls(since, now):
            step = max(step, _HOUR)
        if is_open:  # the last period has not ended yet
            until = EARLIEST + -((EARLIEST - until) // step) * step
        return (
            await self.ask(lambda tables: figures_over_time(tables, policy, since, until, step)),
            step,
        )

    def keeps_calls(self, since: datetime, now: datetime) -> bool:
        """True where single calls since that instant are still kept."""
        return self.keep is None or now - self.keep <= since

    async def refresh(self) -> None:
        """Bring the tables up to date, or wait until they are. Raises what prevents that."""
        if not self.is_running:
            await self.catch_up()
            return
        if self.trouble is None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_FIRST_LIMIT):
                    await self.caught_up.wait()
        if self.trouble is not None:
            raise self.trouble
        if not self.caught_up.is_set():
            msg = "the figures are being read from the topics; try again in a moment"
            raise IncompleteError(msg)


def _forget(connection: sa.Connection, before: datetime) -> None:
    past = millis(before)
    for at in (OUTCOMES.c.ended_at, FEEDBACK.c.at, REQUESTS.c.appended_at, RECORDS.c.at):
        connection.execute(sa.delete(at.table).where(at < past))
    is_past = CALLS.c.started_at < past, CALLS.c.spent_at < past
    connection.execute(sa.delete(CALLS).where(*is_past))
    # Sums stay, except those of single users: of each whole day.
    of_users = SUMS.c.grain == BY_USER
    connection.execute(sa.delete(SUMS).where(of_users, SUMS.c.at <= past - DAY))
    kept = sa.select(SUMS.c.group_id).where(of_users)
    connection.execute(sa.delete(GROUPS).where(GROUPS.c.user != "", GROUPS.c.group_id.not_in(kept)))


@contextlib.asynccontextmanager
async def opened(
    clients: Clients,
    url: str | None = None,
    keep: timedelta | None = None,
    admission: Admission | None = None,
) -> AsyncIterator[ReadModel]:
    """The read model in the store of a URL; without one, in a file that is deleted afterwards.

    Raises StoreUnusableError.
    """
    async with contextlib.AsyncExitStack() as stack:
        if url is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="tierline-"))
            url, keep = f"sqlite:///{folder}/figures.db", None
        database = await stack.enter_async_context(open_database(url, make_tables))
        yield ReadModel(database, clients, keep, admission=admission)
