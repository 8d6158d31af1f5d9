"""Which cases, and in which order: what the store is asked, as statements."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Double,
    FromClause,
    Select,
    and_,
    cast,
    desc,
    func,
    literal,
    not_,
    or_,
    select,
)

from consumers.console.tables import CASES, LETTERS, State
from consumers.readmodel.columns import in_millis, millis, stored
from router.review.cases import Risk
from schemas.reasons import Reason

__all__ = ["HOURS", "CaseFilter", "Group", "by_hour", "conditions", "in_order", "is_held", "totals"]

_HOUR_MS = 3_600_000
HOURS = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseFilter:
    """Which cases: every condition given must hold."""

    state: State | None = "open"
    task: str | None = None
    reason: str | None = None
    model: str | None = None
    tier: str | None = None
    tenant: str | None = None
    #: Any of these; None: whatever tenant.
    tenants: frozenset[str] | None = None
    risk: Risk | None = None
    error: str | None = None
    stage: str | None = None
    request_id: str | None = None
    #: Anywhere in the key, the headers, the value, the reason and its detail, in any case.
    text: str | None = None
    #: True: somebody holds it now. False: it is free.
    held: bool | None = None
    held_by: str | None = None
    decided_by: str | None = None
    #: When the dead letter was written, exclusive and inclusive.
    before: datetime | None = None
    since: datetime | None = None


#: Conditions that a column has just this value.
_EQUAL = tuple(field.name for field in fields(CaseFilter) if field.name in CASES.c)


#: By what cases are alike.
_ALIKE = (CASES.c.reason, CASES.c.task, CASES.c.model, CASES.c.error)


@dataclass(frozen=True, slots=True)
class Group:
    """Cases that are alike, probably for one cause."""

    reason: Reason
    task: str | None
    model: str | None
    error: str
    count: int
    first: datetime
    last: datetime
    #: How many came in each of the last 24 hours, the present one last.
    hours: Sequence[int]


def conditions(wanted: CaseFilter, now: datetime) -> Sequence[ColumnElement[bool]]:
    """The filter as conditions on the cases."""
    holds: list[ColumnElement[bool]] = []
    for name in _EQUAL:
        value = getattr(wanted, name)
        if value is not None:
            holds.append(CASES.c[name] == value)
    if wanted.tenants is not None:
        holds.append(CASES.c.tenant.in_(sorted(wanted.tenants)))
    if wanted.held is not None:
        holds.append(is_held(now) if wanted.held else not_(is_held(now)))
    if wanted.held_by is not None:
        holds.append(is_held(now))
    if wanted.before is not None:
        holds.append(CASES.c.opened_at < wanted.before)
    if wanted.since is not None:
        holds.append(CASES.c.opened_at >= wanted.since)
    if wanted.text:
        like = LETTERS.c.words.contains(stored(wanted.text.lower()), autoescape=True)
        holds.append(CASES.c.place.in_(select(LETTERS.c.place).where(like)))
    return holds


def is_held(now: datetime) -> ColumnElement[bool]:
    """True where somebody's lease runs at that time."""
    return and_(CASES.c.held_until.is_not(None), CASES.c.held_until > now)


def in_order(
    asked: Select[Any], wanted: CaseFilter, now: datetime, after: str | None
) -> Select[Any]:
    """The cases that fit: open ones by urgency, others by age; equal ones by their place."""
    at = millis(now)

    def rank(table: FromClause) -> ColumnElement[Any]:
        if wanted.state == "open":
            return (literal(at, BigInteger) - in_millis(table.c.opened_at)) * table.c.pressure
        return cast(in_millis(table.c.opened_at), Double)

    asked = asked.where(*conditions(wanted, now))
    if after is not None:
        last = CASES.alias("last")
        known = select(rank(last)).where(last.c.place == after)
        if wanted.tenants is not None:  # where others' cases lie in the order is theirs
            known = known.where(last.c.tenant.in_(sorted(wanted.tenants)))
        bound = known.scalar_subquery()
        behind = and_(rank(CASES) == bound, CASES.c.place > after)
        asked = asked.where(or_(rank(CASES) < bound, behind))
    return asked.order_by(desc(rank(CASES)), CASES.c.place)


def totals(wanted: CaseFilter, now: datetime, limit: int) -> Select[Any]:
    """Cases that are alike, how many and since when, the largest group first."""
    opened = CASES.c.opened_at
    return (
        select(
            *_ALIKE,
            func.count().label("count"),
            func.min(opened).label("first"),
            func.max(opened).label("last"),
        )
        .where(*conditions(wanted, now))
        .group_by(*_ALIKE)
        .order_by(desc(func.count()), desc(func.max(opened)))
        .limit(limit)
    )


def by_hour(wanted: CaseFilter, now: datetime) -> Select[Any]:
    """How many of those came so many hours ago, within the last `HOURS`."""
    present, opened = millis(now) // _HOUR_MS, in_millis(CASES.c.opened_at)
    ago = (literal(present) - opened // _HOUR_MS).label("ago")
    recent = opened >= (present - HOURS + 1) * _HOUR_MS
    asked = select(*_ALIKE, ago, func.count()).where(*conditions(wanted, now), recent)
    return asked.group_by(*_ALIKE, ago)
