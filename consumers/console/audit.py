"""The audit trail: lines join this writer's chain, and wait here until Kafka has them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from consumers.console.rows import place_of
from consumers.console.tables import AUDIT, HEADS, UNSENT, Case
from consumers.readmodel.columns import instant, millis
from consumers.readmodel.database import Database, insert_new
from router.review.audit import broken, chained
from schemas.codec import dump
from schemas.review import AuditLine, Decision

__all__ = ["Trail", "about", "received", "settled", "written"]

#: Unsent lines that are read at a time.
_MOST_UNSENT = 100


def written(line: AuditLine) -> bytes:
    """The bytes of a line, in its record and in the store."""
    return dump(line.model_dump(mode="json", exclude_none=True))


class Trail:
    """The audit lines of all writers; this process appends to the chain of `writer`."""

    def __init__(self, database: Database, writer: str) -> None:
        self.writer = writer
        self._database = database
        # Two lines must not follow the same one.
        self._turn = asyncio.Lock()

    async def append(self, now: datetime, **fields: Any) -> AuditLine:
        """Add a line in a transaction of its own. `fields` need `who` and `what` at least."""
        async with self.adding() as connection:
            return await self.added(connection, now, **fields)

    @contextlib.asynccontextmanager
    async def adding(self) -> AsyncIterator[AsyncConnection]:
        """A transaction to add lines in: no other one adds lines before it is committed."""
        async with self._turn, self._database.writing() as connection:
            yield connection

    async def added(self, connection: AsyncConnection, now: datetime, **fields: Any) -> AuditLine:
        """Add a line within a transaction."""
        is_own = AUDIT.c.writer == self.writer
        last = sa.select(AUDIT.c.line).where(is_own).order_by(sa.desc(AUDIT.c.no)).limit(1)
        newest = await connection.scalar(last)
        after = AuditLine.model_validate_json(newest) if newest else None
        line = chained(AuditLine(writer=self.writer, no=1, at=now, **fields), after)
        await connection.execute(sa.insert(AUDIT).values(_row(line)))
        await connection.run_sync(_note_heads, [line])
        await connection.execute(sa.insert(UNSENT).values(writer=line.writer, no=line.no))
        return line

    async def problems(self) -> list[str]:
        """Changes to the trail, in words; empty where it is intact.

        It checks that lines follow from each other, that columns agree with lines, and that no line
        is missing: the length of each chain is stored separately.
        """
        problems: list[str] = []
        async with self._database.reading() as connection:
            if not self._database.is_sqlite:  # SQLite reads everything at one moment anyway
                _ = await connection.execution_options(isolation_level="REPEATABLE READ")
            heads = (await connection.execute(sa.select(HEADS))).mappings().all()
            noted = {row["writer"]: (row["no"], row["hash"], row["lines"]) for row in heads}
            rows = (await connection.execute(sa.select(AUDIT))).mappings().all()
        chains: dict[str, list[AuditLine]] = {writer: [] for writer in noted}
        for row in sorted(rows, key=lambda row: (row["writer"], row["no"])):
            line = AuditLine.model_validate_json(row["line"])
            chains.setdefault(row["writer"], []).append(line)
            if any(row[name] != value for name, value in _row(line).items() if name != "line"):
                problems.append(f"{row['writer']} line {row['no']}: its columns differ from it")
        for writer, lines in chains.items():
            # Another console's lines are read from the topic, which lacks those never sent.
            problems += broken(lines, has_gaps=writer != self.writer)
            last = (lines[-1].no, lines[-1].hash, len(lines)) if lines else (0, "", 0)
            if last != noted.get(writer):
                upto = noted[writer][0] if writer in noted else "none"
                problems.append(
                    f"{writer}: lines were removed or added: the chain ended at line {upto}"
                )
        return problems

    async def decision(self, place: str, decision_id: str) -> AuditLine | None:
        """The line of a decision; None where there is none."""
        query = sa.select(AUDIT.c.line).where(AUDIT.c.place == place, AUDIT.c.what == "decide")
        for line in await self._lines(query):
            if line.decision is not None and line.decision.decision_id == decision_id:
                return line
        return None

    async def is_unsent(self, line: AuditLine) -> bool:
        """True until Kafka has acknowledged a line."""
        return bool(await self._database.read(sa.select(UNSENT.c.no).where(_is(UNSENT, line))))

    async def sent(self, line: AuditLine) -> None:
        """Note that Kafka has acknowledged a line."""
        await self._database.write(settled(line))

    async def unsent(self, before: datetime) -> list[AuditLine]:
        """Lines from before an instant that Kafka has not acknowledged, the oldest first.

        They include those of a console that was killed; sending one twice changes nothing.
        """
        same_line = sa.and_(AUDIT.c.writer == UNSENT.c.writer, AUDIT.c.no == UNSENT.c.no)
        query = (
            sa.select(AUDIT.c.line)
            .join(UNSENT, same_line)
            .where(AUDIT.c.at < before)
            .order_by(AUDIT.c.at, AUDIT.c.writer, AUDIT.c.no)
            .limit(_MOST_UNSENT)
        )
        return await self._lines(query)

    async def lines(
        self,
        *,
        who: str | None = None,
        what: str | None = None,
        place: str | None = None,
        limit: int = 100,
    ) -> list[AuditLine]:
        """The newest lines with these values."""
        query = sa.select(AUDIT.c.line)
        for name, value in (("who", who), ("what", what), ("place", place)):
            if value is not None:
                query = query.where(AUDIT.c[name] == value)
        order = (sa.desc(AUDIT.c.at), AUDIT.c.writer, sa.desc(AUDIT.c.no))
        return await self._lines(query.order_by(*order).limit(limit))

    async def chain(self, writer: str) -> list[AuditLine]:
        """All lines of a writer in order, for `router.review.audit.broken`."""
        query = sa.select(AUDIT.c.line).where(AUDIT.c.writer == writer).order_by(AUDIT.c.no)
        return await self._lines(query)

    async def writers(self) -> list[str]:
        """The writers of all chains."""
        query = sa.select(AUDIT.c.writer).distinct().order_by(AUDIT.c.writer)
        return [row["writer"] for row in await self._database.read(query)]

    async def _lines(self, query: Any) -> list[AuditLine]:
        rows = await self._database.read(query)
        return [AuditLine.model_validate_json(row["line"]) for row in rows]


def received(connection: sa.Connection, lines: Sequence[AuditLine]) -> None:
    """Store lines that were read on the topic, and mark them as sent."""
    new: dict[tuple[str, int], AuditLine] = {}
    for line in lines:
        if connection.scalar(sa.select(AUDIT.c.no).where(_is(AUDIT, line))) is None:
            new.setdefault((line.writer, line.no), line)
    insert_new(connection, AUDIT, [_row(line) for line in new.values()])
    _note_heads(connection, new.values())
    for line in lines:
        connection.execute(settled(line))


def about(subject: Case | Decision | AuditLine) -> dict[str, Any]:
    """The fields of a line that say which dead letter it is about."""
    return {name: getattr(subject, name) for name in ("request_id", "tenant", "letter")}


def settled(line: AuditLine) -> sa.Delete:
    """A statement that marks a line as sent, or as never to be sent."""
    return sa.delete(UNSENT).where(_is(UNSENT, line))


def _note_heads(connection: sa.Connection, lines: Iterable[AuditLine]) -> None:
    """Store the new length of the chains of these new lines."""
    for line in lines:
        of_writer = HEADS.c.writer == line.writer
        head = connection.execute(sa.select(HEADS).where(of_writer)).mappings().first()
        if head is None:
            row = {"writer": line.writer, "no": line.no, "hash": line.hash, "lines": 1}
            connection.execute(sa.insert(HEADS).values(row))
            continue
        further = {"no": line.no, "hash": line.hash} if line.no > head["no"] else {}
        counted = sa.update(HEADS).where(of_writer).values(lines=head["lines"] + 1, **further)
        connection.execute(counted)


def _row(line: AuditLine) -> dict[str, Any]:
    letter = line.letter or (line.decision.letter if line.decision else None)
    names = ("writer", "no", "who", "what", "request_id")
    return {
        **{name: getattr(line, name) for name in names},
        "at": instant(millis(line.at)),  # as precise as the table has it
        "place": place_of(letter) if letter else None,
        "line": written(line),
    }


def _is(table: Any, line: AuditLine) -> Any:
    return sa.and_(table.c.writer == line.writer, table.c.no == line.no)
