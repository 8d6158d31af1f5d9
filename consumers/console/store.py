"""The store: cases, claims, decisions and audit lines.

Claims are arbitrated only here. Everything except claims, sessions and jobs comes from the topics
and can be rebuilt from them.
"""

import contextlib
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple, get_args

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.dml import ReturningUpdate

from consumers.console.audit import Trail, about, settled
from consumers.console.errors import (
    AlreadyDecidedError,
    CaseError,
    LeaseLostError,
    StaleError,
    UndoTooLateError,
    UnknownCaseError,
)
from consumers.console.jobs import Jobs
from consumers.console.kept_filters import KeptFilters
from consumers.console.projection import (
    arrived,
    decided,
    decision_row,
    forget,
    note_given,
    reopened,
    set_undone,
)
from consumers.console.queries import (
    HOURS,
    CaseFilter,
    Group,
    by_hour,
    conditions,
    in_order,
    is_held,
    totals,
)
from consumers.console.rows import Case, LetterRecord, case_of, headers_of
from consumers.console.sessions import Sessions
from consumers.console.tables import (
    BRIEFS,
    BRIEFS_ASKED,
    CASES,
    DECISIONS,
    FACTS,
    LETTERS,
    VERSION,
    make_tables,
)
from consumers.readmodel.database import Database, StoreUnusableError, insert_new, open_database
from consumers.runtime.metrics import ReviewFigures
from router.review.cases import Risk
from schemas.codec import read_dead_letter
from schemas.review import AuditLine, Decision

__all__ = ["Brief", "Case", "CaseFilter", "Held", "LetterRecord", "Store", "StoreUnusableError"]
__all__ += ["open_store"]

_MEND = "delete it or name another: it is rebuilt from the topics"


@dataclass(frozen=True, slots=True)
class Held:
    """Somebody else holds the case until then, unless they release it."""

    by: str
    until: datetime


class Brief(NamedTuple):
    """A summary of a case in a few lines, by a cheap model."""

    words: str
    model: str
    cost_micros: int


class Store:
    """Cases and the acts of people on them. It never reads the clock: times are arguments."""

    def __init__(self, database: Database, writer: str, secret: bytes) -> None:
        self.database = database
        self.trail = Trail(database, writer)
        self.sessions = Sessions(database, secret)
        self.jobs = Jobs(database)
        self.filters = KeptFilters(database)

    async def case(self, place: str, now: datetime) -> Case | None:
        """The case of a dead letter; None where there is none."""
        async with self.database.reading() as connection:
            return await _case(connection, place, now)

    async def cases(
        self, case_filter: CaseFilter, now: datetime, limit: int = 50, after: str | None = None
    ) -> list[Case]:
        """A page of matching cases: open ones by urgency, others by age, the newest first.

        `after` is the place of the last case of the previous page, which needs the same `now`.
        """
        query = in_order(sa.select(CASES), case_filter, now, after).limit(limit)
        return [case_of(row, now) for row in await self.database.read(query)]

    async def next_case(
        self, who: str, case_filter: CaseFilter, now: datetime, after: str | None = None
    ) -> Case | None:
        """The most urgent open case that is free or held by `who`, after another one.

        Cases that are assigned to others are left out, unless the filter asks for them.
        """
        free = sa.or_(sa.not_(is_held(now)), CASES.c.held_by == who)
        query = in_order(sa.select(CASES), replace(case_filter, state="open"), now, after).where(
            free
        )
        if case_filter.assigned_to is None:
            theirs = sa.or_(CASES.c.assigned_to.is_(None), CASES.c.assigned_to == who)
            query = query.where(theirs)
        rows = await self.database.read(query.limit(1))
        return case_of(rows[0], now) if rows else None

    async def count(self, case_filter: CaseFilter, now: datetime) -> int:
        """The number of matching cases."""
        query = sa.select(sa.func.count()).select_from(CASES).where(*conditions(case_filter, now))
        return int(await self.database.value(query) or 0)

    async def oldest(self, case_filter: CaseFilter, now: datetime) -> datetime | None:
        """When the oldest matching case was opened."""
        query = sa.select(sa.func.min(CASES.c.opened_at)).where(*conditions(case_filter, now))
        since: datetime | None = await self.database.value(query)
        return since

    async def standing(self, now: datetime) -> list[ReviewFigures]:
        """The number of waiting and of overdue cases, by risk."""
        late = sa.func.sum(sa.case((CASES.c.due_at < now, 1), else_=0))
        oldest = sa.func.min(CASES.c.opened_at)
        query = sa.select(CASES.c.risk, sa.func.count(), late, oldest).where(
            CASES.c.state == "open"
        )
        standing = {risk: ReviewFigures(risk, 0, 0) for risk in get_args(Risk)}
        for row in await self.database.read(query.group_by(CASES.c.risk)):
            risk, waiting, past_due, since = row.values()
            waited = (now - since).total_seconds()
            standing[risk] = ReviewFigures(risk, waiting, int(past_due), waited)
        return list(standing.values())

    async def values(
        self, name: str, case_filter: CaseFilter, now: datetime
    ) -> list[tuple[str, int]]:
        """The values of a column with their counts, the most frequent first, for filters."""
        column, count = CASES.c[name], sa.func.count()
        query = sa.select(column, count).where(*conditions(case_filter, now), column.is_not(None))
        query = query.group_by(column).order_by(sa.desc(count), column).limit(200)
        rows = (row.values() for row in await self.database.read(query))
        return [(str(value), number) for value, number in rows]

    async def groups(self, case_filter: CaseFilter, now: datetime) -> list[Group]:
        """Groups of cases that agree in reason, task, model and error, the largest first."""
        hours: dict[tuple[Any, ...], list[int]] = {}
        for row in await self.database.read(by_hour(case_filter, now)):
            *alike, ago, count = row.values()
            counts = hours.setdefault(tuple(alike), [0] * HOURS)
            counts[max(min(HOURS - 1 - ago, HOURS - 1), 0)] += count
        groups = await self.database.read(totals(case_filter, now))
        none = [0] * HOURS
        return [
            Group(**group, hours=tuple(hours.get(tuple(group.values())[:4], none)))
            for group in groups
        ]

    async def content(self, place: str) -> LetterRecord | None:
        """The dead letter of a case; None where there is none."""
        query = sa.select(LETTERS).where(LETTERS.c.place == place)
        rows = await self.database.read(query)
        if not rows:
            return None
        [row] = rows
        headers = headers_of(row["headers"])
        return LetterRecord(read_dead_letter(headers), row["key"], row["value"], headers)

    async def brief(self, place: str) -> Brief | None:
        """The brief of a case; None where nobody asked for it, or it is not there yet."""
        query = sa.select(BRIEFS.c.words, BRIEFS.c.model, BRIEFS.c.cost_micros)
        rows = await self.database.read(query.where(BRIEFS.c.place == place))
        return Brief(**rows[0]) if rows else None

    async def ask_brief(self, place: str, now: datetime, again_after: timedelta) -> bool:
        """Note that a brief is requested; False where it was before, and may still come."""
        same_place = BRIEFS_ASKED.c.place == place
        old = sa.delete(BRIEFS_ASKED).where(same_place, BRIEFS_ASKED.c.at < now - again_after)
        async with self.database.writing() as connection:
            await connection.execute(old)
            if await connection.scalar(sa.select(BRIEFS_ASKED.c.at).where(same_place)) is not None:
                return False
            row = {"place": place, "at": now}
            await connection.run_sync(insert_new, BRIEFS_ASKED, [row])
        return True

    async def forget_asked(self, place: str) -> None:
        """Note that the request for a brief did not reach Kafka."""
        await self.database.write(sa.delete(BRIEFS_ASKED).where(BRIEFS_ASKED.c.place == place))

    async def claim(self, place: str, who: str, now: datetime, lease: timedelta) -> Case | Held:
        """Claim a case for the length of the lease, or find out who holds it.

        Claiming a case that one holds renews the lease. Raises UnknownCaseError and
        AlreadyDecidedError.
        """
        free = sa.or_(sa.not_(is_held(now)), CASES.c.held_by == who)
        version = CASES.c.version + sa.case((_is_theirs(who, now), 0), else_=1)
        take = _changed(place, free, held_by=who, held_until=now + lease, version=version)
        async with self.database.writing() as connection:
            row = (await connection.execute(take)).mappings().first()
            if row is not None:
                return case_of(row, now)
            case = await _open(connection, place, now)
        if case.held_by is None or case.held_until is None:  # released just now
            return await self.claim(place, who, now, lease)
        return Held(case.held_by, case.held_until)

    async def renew_lease(self, place: str, who: str, now: datetime, lease: timedelta) -> Case:
        """Renew a lease that has not ended. Raises LeaseLostError."""
        longer = _changed(place, _is_theirs(who, now), held_until=now + lease)
        async with self.database.writing() as connection:
            row = (await connection.execute(longer)).mappings().first()
            if row is None:
                raise LeaseLostError(await _open(connection, place, now))
        return case_of(row, now)

    async def assign(self, place: str, to: str | None) -> None:
        """Note whose case it is; None: anybody's. Nothing that somebody works on gets stale."""
        await self.database.write(
            sa.update(CASES).where(CASES.c.place == place).values(assigned_to=to)
        )

    async def release(self, place: str, who: str, now: datetime) -> bool:
        """Release a case; False where they no longer held it."""
        version = CASES.c.version + 1
        free = _changed(place, _is_theirs(who, now), held_by=None, held_until=None, version=version)
        return bool(await self.database.write(free))

    async def decide(
        self,
        place: str,
        who: str,
        if_version: int,
        now: datetime,
        decision: Decision,
        **fields: Any,
    ) -> tuple[Case, AuditLine]:
        """Decide on a case that `who` holds; the audit line must be sent to the topic.

        `fields` are others of the line: before, after, policy_version, note. Raises
        UnknownCaseError, AlreadyDecidedError, LeaseLostError, StaleError and UsedIdError.
        """
        async with self.trail.adding() as connection:
            is_current = sa.and_(_is_theirs(who, now), CASES.c.version == if_version)
            new = decision_row(decision, who, now, now)
            change = _changed(place, is_current, state="decided", **decided(new))
            row = (await connection.execute(change)).mappings().first()
            if row is None:
                raise await _refusal(connection, place, who, now)
            case = case_of(row, now)
            await note_given(connection, new)
            fields |= {**about(decision), "decision": decision}
            line = await self.trail.added(connection, now, who=who, what="decide", **fields)
        return case, line

    async def undo(self, place: str, who: str, now: datetime) -> tuple[Case, AuditLine]:
        """Undo one's own decision while there is time; the line must be sent to the topic.

        Raises UnknownCaseError and UndoTooLateError.
        """
        async with self.trail.adding() as connection:
            is_own = sa.and_(CASES.c.state == "decided", CASES.c.decided_by == who)
            before = await _case(connection, place, now)
            if before is None:
                raise UnknownCaseError(place)
            back = reopened(CASES.c.place == place, is_own, CASES.c.undo_until >= now)
            row = (await connection.execute(back.returning(CASES))).mappings().first()
            if row is None:
                raise UndoTooLateError(before)
            await set_undone(connection, before.decision_id or "", is_undone=True)
            fields = {**about(before), "undoes": before.decision_id}
            line = await self.trail.added(connection, now, who=who, what="undo", **fields)
        return case_of(row, now), line

    async def arrived(self, line: AuditLine, appended: datetime) -> bool:
        """Note when Kafka appended a line. False for an undo that came too late."""
        await self.trail.sent(line)
        if line.decision is not None:
            async with self.database.writing() as connection:
                await arrived(connection, line.decision, appended)
        if line.undoes is None:
            return True
        closes = sa.select(DECISIONS.c.closes).where(DECISIONS.c.decision_id == line.undoes)
        until = await self.database.value(closes)
        if until is None or appended <= until:
            return True
        await self.not_sent(line, appended, "it came too late")
        return False

    async def not_sent(self, line: AuditLine, now: datetime, note: str) -> AuditLine:
        """Reverse a decision that Kafka refused, or an undo that it did not have in time.

        The line is not sent again. It stays in the trail, and another line says what happened.
        """
        decision, place, before = line.decision, str(line.letter), None
        if decision is None and line.undoes is not None:
            before = await self.trail.decision(place, line.undoes)
        async with self.trail.adding() as connection:
            if decision is not None:
                is_decision = CASES.c.decision_id == decision.decision_id
                back = reopened(CASES.c.place == place, CASES.c.state == "decided", is_decision)
                await connection.execute(back)
                await forget(connection, decision.decision_id)
            elif before is not None and before.decision is not None:
                still = sa.update(CASES).where(CASES.c.place == place, CASES.c.state == "open")
                again = decision_row(before.decision, before.who, before.at, before.at)
                await connection.execute(still.values(state="decided", **decided(again)))
                await set_undone(connection, before.decision.decision_id, is_undone=False)
            await connection.execute(settled(line))
            undoes = decision.decision_id if decision else None
            fields = {**about(line), "undoes": undoes, "note": note}
            return await self.trail.added(connection, now, who=line.who, what="not_sent", **fields)


@contextlib.asynccontextmanager
async def open_store(url: str) -> AsyncIterator[Store]:
    """Open the store at a URL. Raises StoreUnusableError.

    Each time it begins a new chain of the audit trail: processes must not share one, and the end of
    an old one may have been lost with a store.
    """
    async with open_database(url, make_tables) as database:
        facts = {row["name"]: row["value"] for row in await database.read(sa.select(FACTS))}
        if facts.get("version") != VERSION:
            msg = f"{database.name}: this store is from another version of Tierline; {_MEND}"
            raise StoreUnusableError(msg)
        secret = bytes.fromhex(facts["secret"])
        yield Store(database, f"console-{secrets.token_hex(6)}", secret)


def _is_theirs(who: str, now: datetime) -> sa.ColumnElement[bool]:
    return sa.and_(CASES.c.held_by == who, is_held(now))


def _changed(place: str, condition: sa.ColumnElement[bool], **fields: Any) -> ReturningUpdate[Any]:
    """A change of an open case, where the condition holds."""
    waits = (CASES.c.place == place, CASES.c.state == "open", condition)
    return sa.update(CASES).where(*waits).values(**fields).returning(CASES)


async def _case(connection: AsyncConnection, place: str, now: datetime) -> Case | None:
    query = sa.select(CASES).where(CASES.c.place == place)
    row = (await connection.execute(query)).mappings().first()
    return case_of(row, now) if row else None


async def _open(connection: AsyncConnection, place: str, now: datetime) -> Case:
    """The case, if it is still open. Raises UnknownCaseError and AlreadyDecidedError."""
    case = await _case(connection, place, now)
    if case is None:
        raise UnknownCaseError(place)
    if case.state != "open":
        raise AlreadyDecidedError(case)
    return case


async def _refusal(connection: AsyncConnection, place: str, who: str, now: datetime) -> CaseError:
    """The error for a decision that was not accepted."""
    try:
        case = await _open(connection, place, now)
    except CaseError as error:
        return error
    return LeaseLostError(case) if case.held_by != who else StaleError(case)
