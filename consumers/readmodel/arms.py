"""What the read model says of both arms of a rollout.

An arm's requests are told by the release that decided them first. Of each conversation the first
request since the rollout began counts, in the step in which it was routed. The newest requests are
read at each look, and older ones again only from time to time: what became of them hardly changes.
"""

import contextlib
from bisect import bisect
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa
from pydantic import ValidationError

from consumers.readmodel.columns import millis, stored
from consumers.readmodel.tables import CALLS, OUTCOMES, RECORDS, REQUESTS
from router.policy.table import Policy
from router.releases.canary import Arm, Arms
from schemas.escalation import Classification
from schemas.policy_log import PolicyAct
from schemas.tenancy import RequestKey

__all__ = ["SETTLED", "USUAL_OF", "Compared", "Marks", "Slice", "arms_of", "classified"]
__all__ += ["marks_before"]

#: Requests are compared so long after they were routed: most of both arms have ended by then.
SETTLED = timedelta(minutes=2)
#: So long after a change of the share, processes may still deal by the former one.
_TRANSITION = timedelta(seconds=10)
#: How long before a rollout is usual.
USUAL_OF = timedelta(days=7)
#: By how many milliseconds the clocks of brokers, workers and producers may differ.
_SKEW = 60_000
#: A slice of a rollout is read again once it is so many times as old as when it was read last.
_AGAIN = 1.5
#: The requests before a rollout that say what is usual, and how many of them are too few.
_USUAL, _TOO_FEW = 10_000, 100
_OF_CALLS = ("escalated", "corrected", "refused", "broken_format")
_ALL, _KINDS = ("given", "finished"), ("not_accepted", "person", *_OF_CALLS)
_BY_MARKS = ("slower", "much_slower", "dearer", "much_dearer")


class Compared(NamedTuple):
    """Which requests are compared: those of two releases, since the first step began."""

    active: str
    candidate: str
    #: The shares of the candidate, in order, with when each was set.
    steps: Sequence[tuple[float, datetime]]
    #: What began the rollout, which may be narrowed to tasks and plans.
    start: PolicyAct
    #: Says which plans there are: a request with none of them has the default one.
    policy: Policy


class Marks(NamedTuple):
    """What half, and what nine in ten, of the answers took and cost at most before a rollout."""

    us: tuple[int, int]
    micros: tuple[int, int]


class Slice(NamedTuple):
    """What became of the requests of a span of a rollout, by what was known at its end."""

    since: int
    until: int
    #: By step, whether they are the candidate's, and what is counted.
    counts: Counter[tuple[int, bool, str]]


def marks_before(connection: sa.Connection, what: Compared) -> Marks | None:
    """The marks of the week before a rollout; None where it had too few requests."""
    began = what.steps[0][1]
    since, newest = millis(began - USUAL_OF), deque[tuple[int, int]](maxlen=_USUAL)
    for row in _requests(connection, what, since, since, millis(began)):
        if row.is_finished and row.total_us is not None:
            newest.append((int(row.total_us), int(row.micros)))
    if len(newest) < _TOO_FEW:
        return None
    ordered = [sorted(each) for each in zip(*newest, strict=True)]
    return Marks(*((each[len(each) // 2], each[len(each) * 9 // 10]) for each in ordered))


def arms_of(
    connection: sa.Connection,
    what: Compared,
    marks: Marks | None,
    now: datetime,
    known: list[Slice] | None = None,
) -> list[Arms]:
    """Both arms in each step so far.

    `known` holds what earlier looks have read, and then also what this one has.
    """
    known, end = [] if known is None else known, millis(now - SETTLED)
    since = known[-1].until if known else millis(what.steps[0][1])
    for no, part in enumerate(known):
        if end - part.since >= _AGAIN * (part.until - part.since):
            since = part.since  # with all that follows: few slices are held
            del known[no:]
            break
    if end > since:
        known.append(Slice(since, end, _counted(connection, what, marks, since, end)))
    total = sum((part.counts for part in known), Counter[tuple[int, bool, str]]())
    kinds = _KINDS if marks is None else (*_KINDS, *_BY_MARKS)

    def arm(step: int, is_candidate: bool) -> Arm:
        given, finished, *bad = (total[step, is_candidate, what] for what in (*_ALL, *kinds))
        return Arm(given, finished, dict(zip(kinds, bad, strict=True)) if finished else {})

    return [Arms(share, arm(no, False), arm(no, True)) for no, (share, _) in enumerate(what.steps)]


def _counted(
    connection: sa.Connection, what: Compared, marks: Marks | None, since: int, until: int
) -> Counter[tuple[int, bool, str]]:
    """The counts of a span of time."""
    begins, counts = [millis(begin) for _, begin in what.steps], Counter[tuple[int, bool, str]]()
    for row in _requests(connection, what, begins[0], since, until):
        step = bisect(begins, row.at) - 1
        if row.at < begins[step] + _TRANSITION / timedelta(milliseconds=1):
            continue
        count: dict[str, int] = {"given": 1}
        if row.is_finished:
            count |= {"finished": 1, **{name: getattr(row, name) for name in _KINDS}}
        if row.is_finished and marks is not None:
            figures = ((row.total_us or 0, marks.us), (row.micros, marks.micros))
            over = [figure > mark for figure, pair in figures for mark in pair]
            count |= zip(_BY_MARKS, over, strict=True)
        is_candidate = row.release == what.candidate
        counts.update({(step, is_candidate, name): int(number) for name, number in count.items()})
    return counts


def _requests(
    connection: sa.Connection, what: Compared, began: int, since: int, until: int
) -> Iterator[sa.Row[Any]]:
    """The requests of a span that are the first of their conversation since `began`, in order.

    Each with what became of it.
    """
    columns, asked = RECORDS.c, REQUESTS.c
    order = (columns.at, columns.partition, columns.offset)
    no = sa.func.row_number().over(partition_by=asked.unit, order_by=order).label("no")
    picked = (
        sa.select(columns.tenant, columns.request_id, columns.at, columns.release, asked.unit, no)
        .join(REQUESTS, _same(REQUESTS, columns))
        .where(*_dealt(what, RECORDS, REQUESTS, since, until))
        .subquery()
    )
    is_first = [picked.c.no == 1]
    if since > began:
        record, request = RECORDS.alias(), REQUESTS.alias()
        is_same = request.c.unit == picked.c.unit, _same(record, request.c)
        had_one = sa.exists().where(*is_same, *_dealt(what, record, request, began, since))
        is_first.append(~had_one)
    routed = sa.select(picked).where(*is_first).subquery()
    calls, ends, not_before = CALLS.c, OUTCOMES.c, since - _SKEW
    is_accepted = sa.and_(calls.outcome == "accepted", calls.step == "answer")
    by_call = _of_first_generation(
        CALLS,
        sa.func.sum(calls.own_micros).label("micros"),
        sa.func.max(sa.case((is_accepted, 1), else_=0)).label("accepted"),
        sa.func.max(calls.escalated).label("escalated"),
        sa.func.max(calls.by_check + calls.by_model + calls.by_person).label("corrected"),
        sa.func.max(calls.refusals).label("refused"),
        sa.func.max(calls.schema_failures).label("broken_format"),
    ).where(calls.started_at >= not_before)
    by_person = sa.or_(ends.is_result.is_(False), ends.review.is_not(None))
    by_end = _of_first_generation(
        OUTCOMES,
        sa.func.max(sa.case((ends.review.is_(None), ends.total_us))).label("total_us"),
        sa.func.max(sa.case((by_person, 1), else_=0)).label("person"),
    ).where(ends.ended_at >= not_before)
    called, ended = by_call.subquery(), by_end.subquery()
    query = (
        sa.select(
            routed.c.at,
            routed.c.release,
            ended.c.person.is_not(None).label("is_finished"),
            ended.c.total_us,
            sa.func.coalesce(ended.c.person, 0).label("person"),
            sa.func.coalesce(called.c.micros, 0).label("micros"),
            (1 - sa.func.coalesce(called.c.accepted, 0)).label("not_accepted"),
            *(sa.func.coalesce(called.c[name], 0).label(name) for name in _OF_CALLS),
        )
        .outerjoin(called, _same(called, routed.c))
        .outerjoin(ended, _same(ended, routed.c))
        .order_by(routed.c.at)
    )
    yield from connection.execute(query.execution_options(yield_per=1_000))


def _dealt(
    what: Compared, records: sa.FromClause, requests: sa.FromClause, since: int, until: int
) -> Sequence[sa.ColumnElement[bool]]:
    """What holds for the records of a span by which requests were given to either arm."""
    columns, plan = records.c, records.c.plan
    holds = [
        columns.rule.is_not(None),
        columns.release.in_((what.active, what.candidate)),
        columns.at.between(since, until - 1),
    ]
    if what.start.tasks:
        holds.append(requests.c.task.in_(what.start.tasks))
    if what.start.plans:
        is_known = plan.in_(list(what.policy.plans))
        holds.append(
            sa.case((is_known, plan), else_=what.policy.default_plan).in_(what.start.plans)
        )
    return holds


def _same(table: sa.FromClause, key: Any) -> sa.ColumnElement[bool]:
    return sa.and_(table.c.tenant == key.tenant, table.c.request_id == key.request_id)


def _of_first_generation(table: sa.Table, *columns: sa.ColumnElement[Any]) -> sa.Select[Any]:
    key = (table.c.tenant, table.c.request_id)
    return sa.select(*key, *columns).where(table.c.generation == 1).group_by(*key)


def classified(
    connection: sa.Connection, keys: Sequence[RequestKey]
) -> dict[RequestKey, Classification]:
    """What the classify step said of these requests, as far as it was recorded."""
    columns, classifications = RECORDS.c, dict[RequestKey, Classification]()
    wanted = [(stored(key.tenant), stored(key.id)) for key in keys]
    query = sa.select(columns.tenant, columns.request_id, columns.classified).where(
        sa.tuple_(columns.tenant, columns.request_id).in_(wanted),
        columns.request_id.in_([request_id for _, request_id in wanted]),  # for SQLite's index
        columns.classified.is_not(None),
    )
    for *key, text in connection.execute(query):
        with contextlib.suppress(ValidationError):  # anybody may have written the record
            classifications[RequestKey(*key)] = Classification.model_validate_json(text)
    return classifications
