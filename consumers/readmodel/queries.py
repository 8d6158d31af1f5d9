"""Queries of the read model: figures of groups and over time, and the requests behind them.

Figures of a span come from the sums by day inside it, the sums by hour at its edges, and single
calls where it begins or ends within an hour. So a query takes as long with any history.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from consumers.readmodel.columns import instant, millis, stored
from consumers.readmodel.projection import DAY, GRAINS
from consumers.readmodel.tables import (
    BY_USER,
    CALLS,
    FEEDBACK,
    GROUPS,
    LATENCIES,
    OUTCOMES,
    OWN,
    SUMS,
)
from router.reports.invoice import AMOUNTS, Booked, LineKey
from router.reports.measures import (
    FIGURES,
    OUTCOME_COUNTS,
    PAID,
    QUALITY_GROUPS,
    By,
    Fixed,
    Row,
    dearest_first,
    on_strongest,
)
from router.reports.plots import Period
from router.reports.quality import NOT_GOOD
from schemas.base import LATEST
from schemas.reasons import Reason
from schemas.tenancy import RequestKey

if TYPE_CHECKING:  # it loads every check
    from router.policy.table import Policy

__all__ = [
    "Behind",
    "Failure",
    "booked_by_call",
    "booked_by_day",
    "failures",
    "figures_by",
    "figures_over_time",
    "first_hour",
    "releases",
    "requests_behind",
]


def figures_by(
    connection: sa.Connection,
    by: Sequence[By],
    policy: "Policy",
    since: datetime,
    until: datetime = LATEST,
) -> tuple[list[Row], Row]:
    """The groups' figures, the most expensive first, and their sum.

    Calls count that began at or after `since` and before `until`. Their cost counts in the group
    where their request ended, and when its last call began: an answer costs everything that was
    tried before it. There are latencies by `QUALITY_GROUPS` alone, and no reasons by user.
    """
    of_users = "user" in by
    parts = _cover(millis(since), millis(until), (DAY,) if of_users else GRAINS)
    sums = _sums_of(parts, of_users=of_users)
    rows: dict[tuple[str, ...], Row] = {}
    keys = [sums.c.group_id, *([(sums.c.at // DAY).label("day")] if "day" in by else [])]
    for name, _, figures in _named(connection, by, keys, sums, FIGURES):
        rows.setdefault(name, Row(name)).take(figures)
    if set(QUALITY_GROUPS).issuperset(by):
        latencies = _latencies_of(parts)
        keys = [latencies.c.group_id, latencies.c.reviewed, latencies.c.bucket]
        for name, (reviewed, bucket), latency in _named(connection, by, keys, latencies, _LATENCY):
            rows.setdefault(name, Row(name)).take_latency(bucket, *latency, reviewed=reviewed)
    total = Row(("total",))
    for row in rows.values():
        total.add(row)
    total.strongest_micros = on_strongest(total, policy)
    return dearest_first(rows.values()), total


def figures_over_time(
    connection: sa.Connection, policy: "Policy", since: datetime, until: datetime, step: timedelta
) -> list[Period]:
    """The figures of each span of the length `step` that overlaps with a longer span.

    Spans begin at multiples of their length. The first and the last one count only what lies in the
    longer one, so that all of them add up to its figures.
    """
    length = step // timedelta(milliseconds=1)
    begin, end = millis(since), millis(until)
    first, count = begin // length * length, -(-end // length) - begin // length
    begins = [instant(first + length * no) for no in range(count)]
    periods = [Period(at, max(at, since), min(at + step, until)) for at in begins]
    grains = [grain for grain in GRAINS if length % grain == 0]
    # Negative grains are those of the trends.
    parts = [part._replace(grain=-part.grain) for part in _cover(begin, end, grains)]
    sums, latencies = _sums_of(parts), _latencies_of(parts)
    keys = [sums.c.group_id, (sums.c.at - first) // length]
    for name, [no], figures in _named(connection, ("task", "tier"), keys, sums, FIGURES):
        periods[no].row(*name).take(figures)
        periods[no].total.take(figures)
    of_latency = [(latencies.c.at - first) // length, latencies.c.reviewed, latencies.c.bucket]
    for row in connection.execute(_summed(of_latency, latencies, _LATENCY)):
        no, reviewed, *latency = map(int, row)
        periods[no].total.take_latency(*latency, reviewed=reviewed)
    for period in periods:
        period.total.strongest_micros = on_strongest(period.total, policy)
    return periods


def first_hour(connection: sa.Connection, since: datetime) -> datetime | None:
    """The first hour with a call, of those that end after `since`; None: there was no call."""
    grain = GRAINS[0]
    is_then = sa.and_(SUMS.c.grain == grain, SUMS.c.at > millis(since) - grain, SUMS.c.calls > 0)
    at = connection.scalar(sa.select(sa.func.min(SUMS.c.at)).where(is_then))
    return None if at is None else instant(at)


def releases(
    connection: sa.Connection, begin: datetime, step: timedelta, count: int
) -> list[tuple[str, int]]:
    """Policy versions that were first used in these spans, with the number of the span."""
    first, length = millis(begin), step // timedelta(milliseconds=1)
    sums = _sums_of([_Part(-_grain_of(first, length), first - length, first + count * length)])
    used = sa.select(GROUPS.c.policy, sa.func.min(sums.c.at)).group_by(GROUPS.c.policy)
    query = used.join(sums, sums.c.group_id == GROUPS.c.group_id).where(sums.c.calls > 0)
    uses = [(policy, (at - first) // length) for policy, at in connection.execute(query)]
    return sorted(((policy, no) for policy, no in uses if no >= 0), key=lambda use: use[1])


def _grain_of(begin: int, length: int) -> int:
    """The coarsest grain that divides spans of this length; 0 where none does."""
    return max((grain for grain in GRAINS if begin % grain == length % grain == 0), default=0)


class Behind(NamedTuple):
    """The calls behind a figure: those with an outcome, of a span of time, of one group or all."""

    #: One of `OUTCOME_COUNTS`.
    outcome: str
    #: What the group is, by kind.
    group: Mapping[By, str]
    since: datetime
    until: datetime = LATEST

    def calls(self, *columns: sa.ColumnElement[Any]) -> sa.Select[Any]:
        """A query for columns of these calls, as far as single calls are still kept."""
        names = OUTCOME_COUNTS[self.outcome]
        at = CALLS.c.spent_at if "paid" in names else CALLS.c.started_at
        query = sa.select(*columns).where(at >= millis(self.since), at < millis(self.until))
        # A parameter in place of the number would keep SQLite from using the partial indexes.
        if flags := [CALLS.c[name] > sa.literal_column("0") for name in names if name in OWN]:
            query = query.where(sa.or_(*flags))
        if not self.group:
            return query
        group_id = CALLS.c.spent_in if "paid" in names else CALLS.c.group_id
        fits = (GROUPS.c[kind] == stored(text) for kind, text in self.group.items())
        return query.where(group_id.in_(sa.select(GROUPS.c.group_id).where(*fits)))


def requests_behind(figure: Behind) -> sa.Select[Any]:
    """A query for the tenants and ids of the requests behind a figure, in order."""
    key = (CALLS.c.tenant, CALLS.c.request_id)
    return figure.calls(*key).distinct().order_by(*key)


class Failure(NamedTuple):
    """A cheap answer that had to be fixed, so that its route was too cheap."""

    request: RequestKey
    attempt_id: str
    model: str
    prompt: str
    #: Why it was not accepted; None where it passed every check.
    reason: Reason | None
    detail: str
    fixed: Fixed
    #: What happened afterwards.
    then: str


def failures(
    connection: sa.Connection, tier: str, since: datetime, last: int
) -> tuple[list[Failure], int]:
    """The newest answers of a tier that had to be fixed, the oldest of them first; and how many."""
    is_fixed = sa.or_(CALLS.c.by_check > 0, CALLS.c.by_model > 0, CALLS.c.by_person > 0)
    condition = sa.and_(CALLS.c.started_at >= millis(since), CALLS.c.tier == tier, is_fixed)
    count = connection.scalar(sa.select(sa.func.count()).select_from(CALLS).where(condition)) or 0
    query = (
        sa.select(CALLS, GROUPS.c.model, GROUPS.c.prompt, GROUPS.c.reason)
        .join(GROUPS, GROUPS.c.group_id == CALLS.c.group_id)
        .where(condition)
        .order_by(CALLS.c.started_at.desc(), CALLS.c.attempt_id.desc())
        .limit(last)
    )
    calls = connection.execute(query).mappings().all()
    return [_failure(connection, call) for call in reversed(calls)], count


def _failure(connection: sa.Connection, call: sa.RowMapping) -> Failure:
    fixed: Fixed = "check" if call["by_check"] else "model" if call["by_model"] else "person"
    return Failure(
        request=RequestKey(call["tenant"], call["request_id"]),
        attempt_id=call["attempt_id"],
        model=call["model"],
        prompt=call["prompt"],
        reason=None if call["reason"] == call["outcome"] else Reason(call["reason"]),
        detail=call["detail"],
        fixed=fixed,
        then=_then(connection, call, fixed),
    )


def booked_by_day(
    connection: sa.Connection, policy: "Policy", since: datetime, until: datetime
) -> dict[LineKey, Booked]:
    """What the ledger says by provider, day and model of the policy."""
    rows, _ = figures_by(connection, ("provider", "day", "model"), policy, since, until)
    return {row.name: _booked(row) for row in rows if row.calls}


def booked_by_call(
    connection: sa.Connection, ids: Collection[str], since: datetime, until: datetime
) -> dict[LineKey, Booked]:
    """What the ledger says by provider and id of the calls of a span that are still kept.

    Calls with these `ids` count that began a day before or after it: a provider has its own clock.
    """
    at, first, last = CALLS.c.started_at, millis(since), millis(until)
    query = (
        sa.select(CALLS, GROUPS.c.provider)
        .join(GROUPS, GROUPS.c.group_id == CALLS.c.group_id)
        .where(at >= first - DAY, at < last + DAY)
    )
    lines: dict[LineKey, Booked] = {}
    for call in connection.execute(query.execution_options(yield_per=1_000)):
        if first <= call.started_at < last or call.attempt_id in ids:
            line = lines.setdefault((call.provider, call.attempt_id), Booked())
            line.add(_booked(call, calls=1).amounts)
            line.is_estimated |= bool(call.is_estimated)
    return lines


def _booked(row: Any, calls: int | None = None) -> Booked:
    line, inputs = Booked(), row.input_tokens + row.cache_read_tokens + row.cache_write_tokens
    amounts = (row.calls if calls is None else calls, inputs, row.output_tokens, row.own_micros)
    line.add(dict(zip(AMOUNTS, amounts, strict=True)))
    return line


def _then(connection: sa.Connection, call: sa.RowMapping, fixed: Fixed) -> str:
    """What happened after an answer that was fixed."""

    def same(table: Any) -> sa.ColumnElement[bool]:
        key = ("tenant", "request_id", "generation")
        return sa.and_(*(table.c[column] == call[column] for column in key))

    if fixed == "person":
        query = sa.select(FEEDBACK.c.kind, FEEDBACK.c.words).where(same(FEEDBACK))
        feedback = connection.execute(query.order_by(FEEDBACK.c.at, FEEDBACK.c.kind)).all()
        complaints = [(kind, words) for kind, words in feedback if kind in NOT_GOOD]
        return " and ".join(f"{kind}: {words}" if words else kind for kind, words in complaints)
    if call["escalated"]:
        return "another model was asked"
    is_letter = OUTCOMES.c.is_result.is_(False)
    letter = connection.scalar(sa.select(OUTCOMES.c.letter).where(same(OUTCOMES), is_letter))
    return "a person was asked" if letter else "nothing"


#: The figures that `Row.take_latency` takes besides a bucket.
_LATENCY = ("count", "sum_us")


class _Part(NamedTuple):
    """A span of time, and the grain of the sums that it is read from; 0: the calls themselves."""

    grain: int
    begin: int
    end: int


def _cover(begin: int, end: int, grains: Sequence[int]) -> list[_Part]:
    """A span as parts of the coarsest grains that fit; `grains` are in order, finest first."""
    if not grains:
        return [_Part(0, begin, end)]
    *finer, grain = grains
    first, last = -(-begin // grain) * grain, end // grain * grain
    if first >= last:
        return _cover(begin, end, finer)
    parts = [*_cover(begin, first, finer), _Part(grain, first, last), *_cover(last, end, finer)]
    return [part for part in parts if part.begin < part.end]


def _sums_of(parts: Sequence[_Part], *, of_users: bool = False) -> sa.Subquery:
    """Rows of `at`, a group and all figures; `of_users`: of the groups of users, by day."""
    calls, one, none = CALLS.c, sa.literal(1), sa.literal(0)
    own = {name: calls[name] for name in OWN} | {"calls": one}
    paid = {name: own[figure] for name, figure in PAID.items()}
    groups = (calls.user_id, calls.spent_by) if of_users else (calls.group_id, calls.spent_in)
    queries = [
        sa.select(at.label("at"), group, *(counts.get(name, none) for name in FIGURES))
        for at, group, counts in zip(
            (calls.started_at, calls.spent_at), groups, (own, paid), strict=True
        )
    ]
    sums = sa.select(SUMS.c.at, SUMS.c.group_id, *(SUMS.c[name] for name in FIGURES))
    if of_users:
        parts = [part._replace(grain=BY_USER if part.grain else 0) for part in parts]
    return _union(parts, SUMS, sums, queries)


def _latencies_of(parts: Sequence[_Part]) -> sa.Subquery:
    """Rows of `at`, a group, whether reviewed, a bucket, a count and a sum."""
    group = (CALLS.c.route_id, CALLS.c.reviewed, CALLS.c.bucket)
    columns = (*group, sa.literal(1), CALLS.c.latency_us)
    calls = sa.select(CALLS.c.started_at, *columns).where(CALLS.c.bucket.is_not(None))
    sums = sa.select(*(column for column in LATENCIES.c if column.name != "grain"))
    return _union(parts, LATENCIES, sums, [calls])


def _union(
    parts: Sequence[_Part], table: sa.Table, sums: sa.Select[Any], calls: Sequence[sa.Select[Any]]
) -> sa.Subquery:
    """The rows of these parts, with the column names of the sums."""
    # The first query gives the columns their names.
    queries = [sums.where(sa.false())]
    for grain, begin, end in parts:
        if grain:
            is_part = sa.and_(table.c.grain == grain, table.c.at >= begin, table.c.at < end)
            queries.append(sums.where(is_part))
        else:
            for query in calls:
                at = query.selected_columns[0]
                queries.append(query.where(at >= begin, at < end))
    return sa.union_all(*queries).subquery()


def _named(
    connection: sa.Connection,
    by: Sequence[By],
    keys: Sequence[sa.ColumnElement[Any]],
    source: sa.Subquery,
    names: Sequence[str],
) -> Iterator[tuple[tuple[str, ...], Sequence[int], Sequence[int]]]:
    """Sums by these keys, the group first: the group's name, the other keys, and the sums."""
    sums = _summed(keys, source, names).subquery()
    groups = GROUPS.c.group_id == sums.c.group_id
    names_of = [sums.c.day if kind == "day" else GROUPS.c[kind] for kind in by]
    for row in connection.execute(sa.select(*names_of, sums).join(GROUPS, groups)):
        numbers = [*map(int, row[len(by) + 1 :])]
        name = tuple(
            f"{instant(value * DAY):%Y-%m-%d}" if kind == "day" else value
            for kind, value in zip(by, row, strict=False)
        )
        yield name, numbers[: len(keys) - 1], numbers[len(keys) - 1 :]


def _summed(
    keys: Sequence[sa.ColumnElement[Any]], source: sa.Subquery, names: Sequence[str]
) -> sa.Select[Any]:
    """Sums by these keys; PostgreSQL returns them as decimals."""
    return sa.select(*keys, *(sa.func.sum(source.c[name]).label(name) for name in names)).group_by(
        *keys
    )
