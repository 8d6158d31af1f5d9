"""The store's queries of cases, with their filters and orders."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from consumers.console.tables import CASES, LETTERS, State
from consumers.readmodel.columns import in_millis, millis, stored
from router.review.cases import Risk
from schemas.reasons import Reason

__all__ = ["HOURS", "CaseFilter", "Group", "by_hour", "conditions", "in_order", "is_held"]
__all__ += ["standing_of", "totals"]

_HOUR_MS = 3_600_000
HOURS = 24
_MOST_GROUPS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseFilter:
    """A filter of cases: every condition that is given must hold."""

    state: State | None = "open"
    task: str | None = None
    reason: str | None = None
    model: str | None = None
    tier: str | None = None
    tenant: str | None = None
    #: Any of these tenants; None for all.
    tenants: frozenset[str] | None = None
    risk: Risk | None = None
    error: str | None = None
    request_id: str | None = None
    assigned_to: str | None = None
    #: Anywhere in the key, the headers, the value, the reason and its detail, ignoring case.
    text: str | None = None
    #: True: somebody holds it now. False: it is free.
    held: bool | None = None


#: The conditions that compare a column with a value.
_EQUAL = tuple(field.name for field in fields(CaseFilter) if field.name in CASES.c)


#: The columns in which the cases of a group agree.
_ALIKE = (CASES.c.reason, CASES.c.task, CASES.c.model, CASES.c.error)


@dataclass(frozen=True, slots=True)
class Group:
    """Cases that agree in reason, task, model and error, and probably have one cause."""

    reason: Reason
    task: str | None
    model: str | None
    error: str
    count: int
    first: datetime
    last: datetime
    #: The number of new cases in each of the last 24 hours, the present one last.
    hours: Sequence[int]


def conditions(case_filter: CaseFilter, now: datetime) -> Sequence[sa.ColumnElement[bool]]:
    """The filter as conditions on the cases."""
    holds: list[sa.ColumnElement[bool]] = []
    for name in _EQUAL:
        value = getattr(case_filter, name)
        if value is not None:
            holds.append(CASES.c[name] == value)
    if case_filter.tenants is not None:
        holds.append(CASES.c.tenant.in_(sorted(case_filter.tenants)))
    if case_filter.held is not None:
        holds.append(is_held(now) if case_filter.held else sa.not_(is_held(now)))
    if case_filter.text:
        like = LETTERS.c.words.contains(stored(case_filter.text.lower()), autoescape=True)
        holds.append(CASES.c.place.in_(sa.select(LETTERS.c.place).where(like)))
    return holds


def is_held(now: datetime) -> sa.ColumnElement[bool]:
    """True where somebody has a lease at that time."""
    return sa.and_(CASES.c.held_until.is_not(None), CASES.c.held_until > now)


def standing_of(case_filter: CaseFilter, now: datetime) -> sa.Select[Any, Any, Any, Any]:
    """A row that differs after each change of the matching cases, and when a lease ends."""
    held = sa.func.sum(sa.case((is_held(now), 1), else_=0))
    changes, newest = sa.func.sum(CASES.c.version), sa.func.max(CASES.c.opened_at)
    row = sa.select(sa.func.count(), held, changes, newest)
    return row.where(*conditions(case_filter, now))


def in_order(
    query: sa.Select[Any], case_filter: CaseFilter, now: datetime, after: str | None
) -> sa.Select[Any]:
    """The matching cases: open ones by urgency, others by age; ties by place."""
    at = millis(now)

    def rank(table: sa.FromClause) -> sa.ColumnElement[Any]:
        if case_filter.state == "open":
            return (sa.literal(at, sa.BigInteger) - in_millis(table.c.opened_at)) * table.c.pressure
        return sa.cast(in_millis(table.c.opened_at), sa.Double)

    query = query.where(*conditions(case_filter, now))
    if after is not None:
        last = CASES.alias("last")
        last_rank = sa.select(rank(last)).where(last.c.place == after)
        if case_filter.tenants is not None:  # the rank of another tenant's case must not show
            last_rank = last_rank.where(last.c.tenant.in_(sorted(case_filter.tenants)))
        bound = last_rank.scalar_subquery()
        behind = sa.and_(rank(CASES) == bound, CASES.c.place > after)
        query = query.where(sa.or_(rank(CASES) < bound, behind))
    return query.order_by(sa.desc(rank(CASES)), CASES.c.place)


def totals(case_filter: CaseFilter, now: datetime) -> sa.Select[Any]:
    """Groups of similar cases with their counts and times, the largest group first."""
    opened = CASES.c.opened_at
    return (
        sa.select(
            *_ALIKE,
            sa.func.count().label("count"),
            sa.func.min(opened).label("first"),
            sa.func.max(opened).label("last"),
        )
        .where(*conditions(case_filter, now))
        .group_by(*_ALIKE)
        .order_by(sa.desc(sa.func.count()), sa.desc(sa.func.max(opened)))
        .limit(_MOST_GROUPS)
    )


def by_hour(case_filter: CaseFilter, now: datetime) -> sa.Select[Any]:
    """The number of new cases of each group by the hours since, within the last `HOURS`."""
    present, opened = millis(now) // _HOUR_MS, in_millis(CASES.c.opened_at)
    ago = (sa.literal(present) - opened // _HOUR_MS).label("ago")
    recent = opened >= (present - HOURS + 1) * _HOUR_MS
    query = sa.select(*_ALIKE, ago, sa.func.count()).where(*conditions(case_filter, now), recent)
    return query.group_by(*_ALIKE, ago)
