"""The queue: opens a case for each dead letter, and follows its decisions and its end."""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from operator import attrgetter

import sqlalchemy as sa

from consumers.console.projection import (
    apply_audit_lines,
    apply_dead_letters,
    apply_results,
    close_discarded,
    discarded,
)
from consumers.console.store import Store
from consumers.console.tables import CASES, FACTS, POSITIONS
from consumers.policies import Policies
from consumers.readmodel.database import StoreAwayError
from consumers.readmodel.following import Projection
from consumers.records import Record
from consumers.runtime.clients import Clients
from consumers.runtime.metrics import ReviewFigures
from consumers.runtime.poison import Guard
from schemas.topics import Topics

__all__ = ["Queue"]

_COUNT_SECONDS = 5.0
#: Results and dead letters have the times of different processes, whose clocks differ.
_CLOCKS = timedelta(minutes=10)


class Queue(Projection):
    """The tables of cases and of decisions on them."""

    pause = 0.2
    lock = 7_202_612
    facts, positions = FACTS, POSITIONS

    def __init__(
        self,
        store: Store,
        clients: Clients,
        policies: Policies,
        topics: Topics,
        clock: Callable[[], datetime],
        guard: Guard | None = None,
    ) -> None:
        super().__init__(store.database, clients, guard)
        self.store = store
        self.policies = policies
        self.names = topics
        self.clock = clock
        #: The counts of waiting cases, a few seconds old.
        self.standing: Sequence[ReviewFigures] = ()

    def topics(self) -> Sequence[Sequence[str]]:
        return [[self.names.dead_letters], [self.names.review], [self.names.results]]

    async def since(self, topics: Sequence[str]) -> datetime | None:
        """Skip the results from before the oldest waiting case, which close none."""
        if self.names.results not in topics:
            return None
        waits = sa.select(sa.func.min(CASES.c.opened_at)).where(CASES.c.state != "closed")
        opened_at = await self.database.value(waits)
        oldest = self.clock() if opened_at is None else min(opened_at, self.clock())
        return oldest - _CLOCKS

    def take(self, connection: sa.Connection, records: Iterable[Record]) -> None:
        for topic, group in groupby(records, attrgetter("topic")):
            batch = self.marked(group)
            if topic == self.names.dead_letters:
                apply_dead_letters(connection, batch, self.policies.active.policy)
            elif topic == self.names.review:
                apply_audit_lines(connection, batch)
            else:
                apply_results(connection, batch)

    async def settle(self) -> None:
        """Close discarded cases whose time for an undo is over."""
        async with self.database.reading() as connection:
            places = await discarded(connection, self.clock())
        if places:
            async with self.database.writing() as connection:
                await close_discarded(connection, places)

    async def look(self) -> None:
        """Count the waiting cases every few seconds, until cancelled."""
        while True:
            with contextlib.suppress(StoreAwayError):
                self.standing = await self.store.standing(self.clock())
            await asyncio.sleep(_COUNT_SECONDS)
