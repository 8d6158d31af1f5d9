"""What the read model is asked of single requests: which there are, and where their records lie."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, or_, select, true, tuple_

from consumers.readmodel.columns import instant, millis, stored
from consumers.readmodel.queries import Behind
from consumers.readmodel.tables import CALLS, RECORDS, REQUESTS
from schemas.dead_letter import Pointer
from schemas.tenancy import RequestKey

__all__ = ["MOST_BEHIND", "Asked", "Found", "RequestFilter", "Written", "records_of", "requests"]
__all__ += ["tenants_with"]

#: Calls behind a figure whose requests are searched, the newest.
MOST_BEHIND = 10_000
#: Of an instant in milliseconds, whatever somebody writes in a URL.
_MOST_DIGITS = 15


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

    def conditions(self) -> Sequence[ColumnElement[bool]]:
        """The filter as conditions on the requests."""
        columns = REQUESTS.c
        equal = (
            (columns.request_id, self.id),
            (columns.conversation_id, self.conversation),
            (columns.user, self.user),
            (columns.tenant, self.tenant),
        )
        holds: list[ColumnElement[bool]] = [
            column == stored(value) for column, value in equal if value is not None
        ]
        if self.tenants is not None:
            holds.append(columns.tenant.in_(sorted(self.tenants)))
        if self.text is not None:
            holds.append(columns.words.icontains(stored(self.text), autoescape=True))
        if self.since is not None:
            holds.append(columns.appended_at >= millis(self.since))
        if self.until is not None:
            holds.append(columns.appended_at < millis(self.until))
        if self.behind is not None:
            holds.append(self._has_call(self.behind))
        return holds

    def _has_call(self, figure: Behind) -> ColumnElement[bool]:
        """That one of the newest calls behind a figure is of the request."""
        newest = figure.calls(CALLS.c.request_id, CALLS.c.tenant)
        if self.tenants is not None:
            newest = newest.where(CALLS.c.tenant.in_(sorted(self.tenants)))
        if self.tenant is not None:
            newest = newest.where(CALLS.c.tenant == stored(self.tenant))
        newest = newest.order_by(CALLS.c.started_at.desc()).limit(MOST_BEHIND)
        return tuple_(REQUESTS.c.request_id, REQUESTS.c.tenant).in_(newest)


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


class Found(NamedTuple):
    """A page of requests, the newest first."""

    requests: Sequence[Asked]
    #: What the next page begins after; None on the last one.
    after: str | None


class Written(NamedTuple):
    """A record of a request: when it was appended, and where it lies."""

    at: datetime
    place: Pointer


def requests(
    connection: Connection, wanted: RequestFilter, limit: int, after: str | None = None
) -> Found:
    """Requests that fit, the newest first; `after` is where the page before has ended."""
    columns = REQUESTS.c
    asked = select(REQUESTS).where(*wanted.conditions())
    if after is not None:
        asked = asked.where(_is_behind(after))
    ordered = asked.order_by(
        columns.appended_at.desc(), columns.request_id.desc(), columns.tenant.desc()
    )
    rows = connection.execute(ordered.limit(limit + 1)).mappings().all()
    page = [
        Asked(
            RequestKey(row["tenant"], row["request_id"]),
            instant(row["appended_at"]),
            Pointer(topic=row["topic"], partition=row["partition"], offset=row["offset"]),
            *(row[name] for name in ("task", "plan", "user", "conversation_id", "words")),
        )
        for row in rows[:limit]
    ]
    if len(rows) <= limit:
        return Found(page, None)
    last = rows[limit - 1]
    return Found(page, f"{last['appended_at']} {last['request_id']} {last['tenant']}")


def _is_behind(after: str) -> ColumnElement[bool]:
    """What comes later in the order than the request that a page ended with.

    Neither ids nor tenants hold blanks. What is no such place has everything behind it.
    """
    at, request_id, tenant = [*stored(after).split(" ", 2), "", ""][:3]
    columns = REQUESTS.c
    if not at.isdecimal() or len(at) > _MOST_DIGITS:
        return true()
    key = tuple_(columns.request_id, columns.tenant) < tuple_(request_id, tenant)
    # The first condition is what an index is searched by.
    return and_(columns.appended_at <= int(at), or_(columns.appended_at < int(at), key))


def tenants_with(
    connection: Connection, request_id: str, but: Collection[str], tenants: Collection[str] | None
) -> list[str]:
    """The tenants that have a request of this id, of these tenants; None: of all.

    What `but` is written to proves no tenant.
    """
    columns = RECORDS.c
    holds = [columns.request_id == stored(request_id), columns.topic.not_in(but)]
    if tenants is not None:
        holds.append(columns.tenant.in_(sorted(map(stored, tenants))))
    asked = select(columns.tenant).where(*holds).distinct().order_by(columns.tenant)
    return list(connection.scalars(asked))


def records_of(connection: Connection, request: RequestKey, most: int) -> list[Written]:
    """Where the records of a request lie, the oldest first; no more than `most`."""
    columns = RECORDS.c
    asked = (
        select(columns.at, columns.topic, columns.partition, columns.offset)
        .where(columns.request_id == stored(request.id), columns.tenant == stored(request.tenant))
        .order_by(columns.at, columns.topic, columns.partition, columns.offset)
        .limit(most)
    )
    return [
        Written(instant(at), Pointer(topic=topic, partition=partition, offset=offset))
        for at, topic, partition, offset in connection.execute(asked)
    ]
