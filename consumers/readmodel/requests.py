"""What the read model is asked of single requests: which there are, and where their records lie."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from consumers.readmodel.columns import instant, millis, stored
from consumers.readmodel.queries import Behind
from consumers.readmodel.tables import CALLS, RECORDS, REQUESTS
from schemas.dead_letter import Pointer
from schemas.tenancy import RequestKey

__all__ = ["MOST_BEHIND", "MOST_SEARCHED", "Asked", "RequestFilter", "RequestPage", "Routed"]
__all__ += ["Written", "records_of", "requests", "routed_by", "tenants_with"]

#: Calls behind a figure whose requests are searched, the newest.
MOST_BEHIND = 10_000
#: Of an instant in milliseconds, whatever somebody writes in a URL.
_MOST_DIGITS = 15
#: Requests that are looked through for words at a time: no index finds a part of a word.
MOST_SEARCHED = 20_000
_ORDER = ("appended_at", "request_id", "tenant")
#: Tenants whose requests are each read from the index, newest first; of more, all are sorted.
_MOST_APART = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFilter:
    """Which requests: every condition given must hold."""

    id: str | None = None
    conversation: str | None = None
    user: str | None = None
    #: Anywhere in the first words of what the customer says, in any case.
    text: str | None = None
    #: Any of these; None: whatever tenant.
    tenants: Collection[str] | None = None
    tenant: str | None = None
    #: When it was appended to intake.
    since: datetime | None = None
    until: datetime | None = None
    #: Of the newest calls behind a figure.
    behind: Behind | None = None

    def conditions(self) -> list[sa.ColumnElement[bool]]:
        """The filter as conditions on the requests, except those on their tenants and words."""
        columns = REQUESTS.c
        equal = (
            (columns.request_id, self.id),
            (columns.conversation_id, self.conversation),
            (columns.user, self.user),
        )
        holds: list[sa.ColumnElement[bool]] = [
            column == stored(value) for column, value in equal if value is not None
        ]
        if self.since is not None:
            holds.append(columns.appended_at >= millis(self.since))
        if self.until is not None:
            holds.append(columns.appended_at < millis(self.until))
        if self.behind is not None:
            holds.append(self._has_call(self.behind))
        return holds

    @property
    def is_narrow(self) -> bool:
        """True where few requests fit, whosever they are."""
        narrow = (self.id, self.conversation, self.user, self.behind)
        return any(condition is not None for condition in narrow)

    def those_of(self) -> list[str] | None:
        """The tenants whose requests fit; None: whatever tenant."""
        if self.tenant is None:
            return None if self.tenants is None else sorted(map(stored, self.tenants))
        is_seen = self.tenants is None or self.tenant in self.tenants
        return [stored(self.tenant)] if is_seen else []

    def _has_call(self, figure: Behind) -> sa.ColumnElement[bool]:
        """That one of the newest calls behind a figure is of the request."""
        newest, tenants = figure.calls(CALLS.c.request_id, CALLS.c.tenant), self.those_of()
        if tenants is not None:
            newest = newest.where(CALLS.c.tenant.in_(tenants))
        newest = newest.order_by(CALLS.c.started_at.desc()).limit(MOST_BEHIND)
        return sa.tuple_(REQUESTS.c.request_id, REQUESTS.c.tenant).in_(newest)


class Asked(NamedTuple):
    """A request, as its record on intake says."""

    key: RequestKey
    appended_at: datetime
    place: Pointer
    task: str | None
    plan: str | None
    user: str | None
    conversation_id: str | None
    #: The beginning of what the customer says, masked.
    words: str


class RequestPage(NamedTuple):
    """A page of requests, the newest first."""

    requests: Sequence[Asked]
    #: What the next page begins after; None on the last one.
    after: str | None
    #: Where the words were looked for in the newest only: when the oldest of those came in.
    until: datetime | None = None


class Written(NamedTuple):
    """A record of a request: when it was appended, and where it lies."""

    at: datetime
    place: Pointer


class Routed(NamedTuple):
    """The requests that one rule has sent to a tier."""

    rule: str
    requests: int
    #: The newest of them.
    examples: Sequence[RequestKey]


def requests(
    connection: sa.Connection,
    wanted: RequestFilter,
    limit: int,
    after: str | None = None,
    most_searched: int = MOST_SEARCHED,
) -> RequestPage:
    """Requests that fit, the newest first; `after` is where the page before has ended.

    Words are looked for in the `most_searched` newest that fit otherwise, so that an answer takes
    a limited time; a page may then be empty, and others follow.
    """
    holds = wanted.conditions()
    if after is not None:
        holds.append(_from(after, is_behind=True))
    last = None
    if wanted.text is not None:
        reached = _newest(wanted, holds, most_searched).offset(most_searched - 1).limit(1)
        if (last := connection.execute(reached).first()) is not None:
            holds.append(_from(_place(last), is_behind=False))
        holds.append(REQUESTS.c.words.icontains(stored(wanted.text), autoescape=True))
    rows = connection.execute(_newest(wanted, holds, limit + 1)).all()
    page = [
        Asked(
            RequestKey(row.tenant, row.request_id),
            instant(row.appended_at),
            Pointer(topic=row.topic, partition=row.partition, offset=row.offset),
            *(row.task, row.plan, row.user, row.conversation_id, row.words),
        )
        for row in rows[:limit]
    ]
    if len(rows) > limit:
        return RequestPage(page, _place(rows[limit - 1]))
    if last is None:
        return RequestPage(page, None)
    return RequestPage(page, _place(last), instant(last[0]))


def _newest(
    wanted: RequestFilter, holds: Sequence[sa.ColumnElement[bool]], count: int
) -> sa.Select[Any]:
    """So many of the newest requests that fit and for which this holds."""

    def ordered(source: sa.FromClause, *conditions: sa.ColumnElement[bool]) -> sa.Select[Any]:
        order = [source.c[name] for name in _ORDER]
        others = [column for column in source.c if column.name not in _ORDER]
        query = sa.select(*order, *others).where(*conditions)
        return query.order_by(*(column.desc() for column in order)).limit(count)

    tenant, tenants = REQUESTS.c.tenant, wanted.those_of()
    if tenants is None:
        return ordered(REQUESTS, *holds)
    if len(tenants) > _MOST_APART or wanted.is_narrow:
        return ordered(REQUESTS, *holds, tenant.in_(tenants))
    by_tenant = [ordered(REQUESTS, *holds, tenant == name) for name in tenants]
    if len(by_tenant) < 2:
        return by_tenant[0] if by_tenant else ordered(REQUESTS, sa.false())
    return ordered(sa.union_all(*(sa.select(newest.subquery()) for newest in by_tenant)).subquery())


def _place(row: sa.Row[Any]) -> str:
    """Where a request is in the order; neither ids nor tenants hold blanks."""
    return " ".join(map(str, row[:3]))


def _from(place: str, *, is_behind: bool) -> sa.ColumnElement[bool]:
    """What comes later in the order than a place, or what does not.

    What is no such place has everything behind it.
    """
    at, request_id, tenant = [*stored(place).split(" ", 2), "", ""][:3]
    columns = REQUESTS.c
    if not at.isdecimal() or len(at) > _MOST_DIGITS:
        return sa.true()
    then, own, key = (
        int(at),
        sa.tuple_(columns.request_id, columns.tenant),
        sa.tuple_(request_id, tenant),
    )
    # The first condition is what an index is searched by.
    if is_behind:
        return sa.and_(columns.appended_at <= then, sa.or_(columns.appended_at < then, own < key))
    return sa.and_(columns.appended_at >= then, sa.or_(columns.appended_at > then, own >= key))


def tenants_with(
    connection: sa.Connection,
    request_id: str,
    but: Collection[str],
    tenants: Collection[str] | None,
) -> list[str]:
    """The tenants that have a request of this id, of these tenants; None: of all.

    What `but` is written to proves no tenant.
    """
    columns = RECORDS.c
    holds = [columns.request_id == stored(request_id), columns.topic.not_in(but)]
    if tenants is not None:
        holds.append(columns.tenant.in_(sorted(map(stored, tenants))))
    asked = sa.select(columns.tenant).where(*holds).distinct().order_by(columns.tenant)
    return list(connection.scalars(asked))


def records_of(connection: sa.Connection, request: RequestKey, most: int) -> list[Written]:
    """Where the records of a request lie, the oldest first; no more than `most`."""
    columns = RECORDS.c
    asked = (
        sa.select(columns.at, columns.topic, columns.partition, columns.offset)
        .where(columns.request_id == stored(request.id), columns.tenant == stored(request.tenant))
        .order_by(columns.at, columns.topic, columns.partition, columns.offset)
        .limit(most)
    )
    return [
        Written(instant(at), Pointer(topic=topic, partition=partition, offset=offset))
        for at, topic, partition, offset in connection.execute(asked)
    ]


def routed_by(
    connection: sa.Connection, since: datetime, tenants: Collection[str] | None, examples: int
) -> list[Routed]:
    """What each rule has done since an instant, for requests of these tenants; None: of all."""
    columns = RECORDS.c
    key = (columns.tenant, columns.request_id)
    holds = [columns.rule.is_not(None), columns.at >= millis(since)]
    if tenants is not None:
        holds.append(columns.tenant.in_(sorted(map(stored, tenants))))
    each = sa.select(columns.rule, *key).where(*holds).distinct().subquery()
    counts = connection.execute(sa.select(each.c.rule, sa.func.count()).group_by(each.c.rule))
    newest = sa.select(*key).where(*holds).order_by(columns.at.desc()).limit(examples)

    def newest_by(rule: str) -> list[RequestKey]:
        rows = connection.execute(newest.where(columns.rule == rule))
        # One request may have come there more than once.
        return [*dict.fromkeys(RequestKey(*row) for row in rows)]

    return [Routed(rule, count, newest_by(rule)) for rule, count in sorted(map(tuple, counts))]
