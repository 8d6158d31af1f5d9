"""Filters of the queue that people keep, each under a name."""

import sqlalchemy as sa

from consumers.console.errors import ImpossibleError
from consumers.console.tables import FILTERS
from consumers.readmodel.database import Database

__all__ = ["KeptFilters"]

#: Filters that one person keeps.
_MOST = 20


class KeptFilters:
    """The kept filters of all people: everybody sees their own."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of(self, who: str) -> dict[str, str]:
        """Somebody's filters: the query of a URL by its name."""
        query = sa.select(FILTERS.c.name, FILTERS.c.query).where(FILTERS.c.who == who)
        rows = await self._database.read(query.order_by(FILTERS.c.name))
        return {row["name"]: row["query"] for row in rows}

    async def keep(self, who: str, name: str, query: str) -> None:
        """Keep a filter, in place of an earlier one of this name. Raises ImpossibleError."""
        others = await self.of(who)
        if len(others.keys() - {name}) >= _MOST:
            words = f"you keep {_MOST} filters already; forget one of them first"
            raise ImpossibleError(words)
        async with self._database.writing() as connection:
            await connection.execute(_is(who, name))
            await connection.execute(sa.insert(FILTERS).values(who=who, name=name, query=query))

    async def forget(self, who: str, name: str) -> None:
        await self._database.write(_is(who, name))


def _is(who: str, name: str) -> sa.Delete:
    """A statement that deletes a filter."""
    return sa.delete(FILTERS).where(FILTERS.c.who == who, FILTERS.c.name == name)
