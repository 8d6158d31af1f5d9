"""The queue: turns dead letters into cases, and marks them as they are decided on and end."""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from operator import attrgetter

from sqlalchemy import Connection, func, select

from consumers.console.projection import (
    apply_audit_lines,
    apply_dead_letters,
    apply_results,
    close_discarded,
    discarded,
)
from consumers.console.store import Store
from consumers.console.tables import CASES, OFFSETS, ORIGINS
from consumers.readmodel.database import StoreAwayError
from consumers.readmodel.following import Projection
from consumers.runtime.clients import Clients
from consumers.runtime.metrics import ReviewFigures
from consumers.runtime.poison import Guard
from consumers.runtime.records import Record
from router.policy.table import Policy
from schemas.topics import Topics

__all__ = ["Queue"]

_COUNT_SECONDS = 5.0
#: Results carry the time of the process that wrote them, and dead letters that of another.
_CLOCKS = timedelta(minutes=10)


class Queue(Projection):
    """The tables of cases and what was decided on them."""

    pause = 0.2
    lock = 7_202_612
    positions = OFFSETS

    def __init__(
        self,
        store: Store,
        clients: Clients,
        policy: Policy,
        topics: Topics,
        clock: Callable[[], datetime],
        guard: Guard | None = None,
    ) -> None:
        super().__init__(store.database, clients, guard)
        self.store = store
        self.policy = policy
        self.names = topics
        self.clock = clock
        #: What waits, as of a moment ago.
        self.standing: Sequence[ReviewFigures] = ()

    def topics(self) -> Sequence[Sequence[str]]:
        return [[self.names.dead_letters], [self.names.review], [self.names.results]]

    def origin(self, connection: Connection, cluster: str) -> str:
        topic = self.names.dead_letters
        asked = select(ORIGINS.c.cluster).where(ORIGINS.c.topic == topic)
        if (known := connection.scalar(asked)) is None:
            connection.execute(ORIGINS.insert().values(topic=topic, cluster=cluster))
        return known or cluster

    async def since(self, topics: Sequence[str]) -> datetime | None:
        """Results are many, and those older than the oldest case that waits end none."""
        if self.names.results not in topics:
            return None
        waits = select(func.min(CASES.c.opened_at)).where(CASES.c.state != "closed")
        found = await self.database.value(waits)
        oldest = self.clock() if found is None else min(found, self.clock())
        return oldest - _CLOCKS

    def take(self, connection: Connection, records: Iterable[Record]) -> None:
        for topic, some in groupby(records, attrgetter("topic")):
            if topic == self.names.dead_letters:
                apply_dead_letters(connection, some, self.policy)
            elif topic == self.names.review:
                apply_audit_lines(connection, some)
            else:
                apply_results(connection, some)

    async def settle(self) -> None:
        """Close the cases that were discarded, once nobody can undo that."""
        async with self.database.reading() as connection:
            over = await discarded(connection, self.clock())
        if over:
            async with self.database.writing() as connection:
                await close_discarded(connection, over)

    async def look(self) -> None:
        """Count what waits, again and again until cancelled."""
        while True:
            with contextlib.suppress(StoreAwayError):
                self.standing = await self.store.standing(self.clock())
            await asyncio.sleep(_COUNT_SECONDS)
