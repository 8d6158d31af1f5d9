"""What the read model is asked: figures of groups and over time, and the requests behind them.

Figures of a span come from the sums by day inside of it, those by hour at its edges, and single
calls where it begins or ends within an hour. So asking takes as long whatever the history.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    RowMapping,
    Select,
    Subquery,
    Table,
    and_,
    false,
    func,
    literal,
    or_,
    select,
    tuple_,
    union_all,
)

from consumers.readmodel.columns import millis
from consumers.readmodel.projection import GRAINS
from consumers.readmodel.tables import (
    CALLS,
    FEEDBACK,
    GROUPS,
    LATENCIES,
    OUTCOMES,
    OWN,
    REVIEWS,
    SUMS,
)
from router.attempt.pricing import cost_micros
from router.policy.table import Policy
from router.reports.measures import FIGURES, By, Fixed, Measure, Row, dearest_first
from router.reports.quality import NOT_GOOD
from router.reports.samples import Draw
from schemas.base import LATEST
from schemas.json_numbers import read_exact
from schemas.reasons import Reason
from schemas.tenancy import RequestKey
from schemas.usage import Usage

__all__ = [
    "Answered",
    "Behind",
    "Failure",
    "KeptAnswer",
    "answered",
    "failures",
    "figures_by",
    "figures_over_time",
    "kept_answers",
    "newest_behind",
    "releases",
    "requests_behind",
]


def figures_by(
    connection: Connection,
    by: Sequence[By],
    policy: Policy,
    since: datetime,
    until: datetime = LATEST,
) -> tuple[list[Row], Row]:
    """The groups' figures, the dearest first, and their sum.

    Calls count that began at or after `since` and before `until`. What they cost is spent where
    their request ended: an answer costs all that was tried before it, in whatever group.
    """
    parts = _cover(millis(since), millis(until), GRAINS)
    sums, latencies = _sums_of(parts), _latencies_of(parts)
    rows: dict[tuple[str, ...], Row] = {}
    for name, figures in _named(connection, by, [sums.c.group_id], sums, FIGURES):
        rows.setdefault(name, Row(name)).take(figures)
    which = [latencies.c.group_id, latencies.c.bucket]
    for name, latency in _named(connection, by, which, latencies, _LATENCY):
        rows.setdefault(name, Row(name)).take_latency(*latency)
    total = Row(("total",))
    for row in rows.values():
        total.add(row)
    names = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens")
    usage = Usage.model_construct(**{name: getattr(total, name) for name in names})
    strongest = policy.models[policy.models_of(list(policy.tiers)[-1])[0]].price
    total.strongest_micros = cost_micros(usage, strongest)
    return dearest_first(rows.values()), total


def figures_over_time(
    connection: Connection, begin: datetime, step: timedelta, count: int
) -> list[Row]:
    """The sum's figures of so many spans of one length."""
    rows = [Row(((begin + step * no).isoformat(),)) for no in range(count)]
    first, length = millis(begin), step // timedelta(milliseconds=1)
    parts = [_Part(-_grain_of(first, length), first, first + count * length)]
    sums, latencies = _sums_of(parts), _latencies_of(parts)
    no = (sums.c.at - first) // length
    for number, *figures in connection.execute(_summed([no], sums, FIGURES)):
        rows[number].take(map(int, figures))
    which = [(latencies.c.at - first) // length, latencies.c.bucket]
    for number, *latency in connection.execute(_summed(which, latencies, _LATENCY)):
        rows[number].take_latency(*map(int, latency))
    return rows


def releases(
    connection: Connection, begin: datetime, step: timedelta, count: int
) -> list[tuple[str, int]]:
    """Policy versions of which there is nothing before, and in which of these spans they begin."""
    first, length = millis(begin), step // timedelta(milliseconds=1)
    sums = _sums_of([_Part(_grain_of(first, length), first - length, first + count * length)])
    used = select(GROUPS.c.policy, func.min(sums.c.at)).group_by(GROUPS.c.policy)
    asked = used.join(sums, sums.c.group_id == GROUPS.c.group_id).where(sums.c.calls > 0)
    found = [(policy, (at - first) // length) for policy, at in connection.execute(asked)]
    return sorted(((policy, no) for policy, no in found if no >= 0), key=lambda use: use[1])


def _grain_of(begin: int, length: int) -> int:
    """The coarsest grain that spans of this length are made of; 0: none, but single calls."""
    return max((grain for grain in GRAINS if begin % grain == length % grain == 0), default=0)


class Behind(NamedTuple):
    """Calls that a figure is made of: those of a measure, of one group or of all, since then."""

    measure: Measure
    by: Sequence[By]
    #: The group; None: all of them.
    name: Sequence[str] | None
    since: datetime

    def calls(self, *columns: ColumnElement[Any]) -> Select[Any]:
        """What is asked of these calls, as far as single ones are still kept."""
        asked = select(*columns).where(CALLS.c.started_at >= millis(self.since))
        if flags := [CALLS.c[name] > 0 for name in self.measure.of if name in OWN]:
            asked = asked.where(or_(*flags))
        if self.name is None:
            return asked
        group_id = CALLS.c.spent_in if "paid" in self.measure.of else CALLS.c.group_id
        fits = (GROUPS.c[one] == text for one, text in zip(self.by, self.name, strict=True))
        groups = select(GROUPS.c.group_id).where(*fits)
        return asked.where(group_id.in_(groups))


def requests_behind(figure: Behind) -> Select[Any]:
    """Asks for the tenants and ids of the requests behind a figure, in their order."""
    key = (CALLS.c.tenant, CALLS.c.request_id)
    return figure.calls(*key).distinct().order_by(*key)


def newest_behind(connection: Connection, figure: Behind, most: int) -> list[RequestKey]:
    """The newest of the requests behind a figure."""
    asked = figure.calls(CALLS.c.tenant, CALLS.c.request_id).order_by(CALLS.c.started_at.desc())
    found: dict[RequestKey, None] = {}
    for row in connection.execute(asked.execution_options(yield_per=1_000)):
        found[RequestKey(*row)] = None
        if len(found) == most:
            break
    return list(found)


class Failure(NamedTuple):
    """A cheap answer that had to be fixed: the record of where a cheap route was the wrong one."""

    request: RequestKey
    attempt_id: str
    model: str
    prompt: str
    #: Why it was not taken; None where it passed every check.
    reason: Reason | None
    detail: str
    fixed: Fixed
    #: What happened afterwards.
    then: str


def failures(
    connection: Connection, tier: str, since: datetime, last: int
) -> tuple[list[Failure], int]:
    """The newest answers of a tier that had to be fixed, the oldest of them first; and how many."""
    is_fixed = or_(CALLS.c.by_check > 0, CALLS.c.by_model > 0, CALLS.c.by_person > 0)
    which = and_(CALLS.c.started_at >= millis(since), CALLS.c.tier == tier, is_fixed)
    count = connection.scalar(select(func.count()).select_from(CALLS).where(which)) or 0
    asked = (
        select(CALLS, GROUPS.c.model, GROUPS.c.prompt, GROUPS.c.reason)
        .join(GROUPS, GROUPS.c.group_id == CALLS.c.group_id)
        .where(which)
        .order_by(CALLS.c.started_at.desc(), CALLS.c.attempt_id.desc())
        .limit(last)
    )
    found = connection.execute(asked).mappings().all()
    return [_failure(connection, call) for call in reversed(found)], count


def _failure(connection: Connection, call: RowMapping) -> Failure:
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


def _then(connection: Connection, call: RowMapping, fixed: Fixed) -> str:
    """What happened after an answer that was fixed."""

    def same(table: Any) -> ColumnElement[bool]:
        return and_(*(table.c[one] == call[one] for one in ("tenant", "request_id", "generation")))

    if fixed == "person":
        asked = select(FEEDBACK.c.kind, FEEDBACK.c.words).where(same(FEEDBACK))
        said = connection.execute(asked.order_by(FEEDBACK.c.at, FEEDBACK.c.kind)).all()
        minded = [(kind, words) for kind, words in said if kind in NOT_GOOD]
        return " and ".join(f"{kind}: {words}" if words else kind for kind, words in minded)
    if call["escalated"]:
        return "another model was asked"
    is_letter = OUTCOMES.c.is_result.is_(False)
    letter = connection.scalar(select(OUTCOMES.c.letter).where(same(OUTCOMES), is_letter))
    return "a person was asked" if letter else "nothing"


class Answered(NamedTuple):
    """A request that was answered, and how."""

    request: RequestKey
    task: str
    model: str
    output: Mapping[str, Any]


def answered(
    connection: Connection, week: str, count: int, since: datetime, until: datetime
) -> tuple[list[Answered], int]:
    """A sample of the requests that were answered then, and how many there were."""
    draw = Draw(week, count)
    is_then = OUTCOMES.c.ended_at.between(millis(since), millis(until) - 1)
    key, last = (OUTCOMES.c.tenant, OUTCOMES.c.request_id), OUTCOMES.c.ended_at
    which = select(*key, OUTCOMES.c.task).where(OUTCOMES.c.is_result, is_then).order_by(last)
    # A week is more than memory should hold.
    for tenant, request_id, task in connection.execute(which.execution_options(yield_per=1_000)):
        draw.offer(RequestKey(tenant, request_id), task, None)
    drawn = [request for request, _ in draw.drawn()]
    asked = select(OUTCOMES).where(OUTCOMES.c.is_result, is_then, tuple_(*key).in_(drawn))
    found = connection.execute(asked.order_by(last)).mappings()
    rows = {RequestKey(row["tenant"], row["request_id"]): row for row in found}
    sample = [
        Answered(request, row["task"], row["model"], read_exact(row["output"]))
        for request in drawn
        for row in (rows[request],)
    ]
    return sample, draw.offered


class KeptAnswer(NamedTuple):
    """An answer that a person stands for."""

    request: RequestKey
    task: str
    review: str
    output: Mapping[str, Any]


def kept_answers(connection: Connection, *, every: bool) -> dict[str, KeptAnswer]:
    """Approved and edited answers, kept as examples or `every` one, by their dead letter's place.

    Of a request that was decided on more than once, the last decision that is a result counts.
    """
    decided = select(REVIEWS.c.letter)
    kept = decided if every else decided.where(REVIEWS.c.is_example)
    is_kept = and_(OUTCOMES.c.review.in_(("approve", "edit")), OUTCOMES.c.letter.in_(kept))
    asked = select(OUTCOMES).where(OUTCOMES.c.is_result, is_kept).order_by(OUTCOMES.c.ended_at)
    return {
        row["letter"]: KeptAnswer(
            RequestKey(row["tenant"], row["request_id"]),
            row["task"],
            row["review"],
            read_exact(row["output"]),
        )
        for row in connection.execute(asked).mappings()
    }


#: What `Row.take_latency` wants besides a bucket.
_LATENCY = ("count", "sum_us")


class _Part(NamedTuple):
    """A span of time, and the grain of the sums that it is read from; 0: the calls themselves."""

    grain: int
    begin: int
    end: int


def _cover(begin: int, end: int, grains: Sequence[int]) -> list[_Part]:
    """A span as parts of the coarsest grains that fit into it; `grains` from fine to coarse."""
    if not grains:
        return [_Part(0, begin, end)]
    *finer, grain = grains
    first, last = -(-begin // grain) * grain, end // grain * grain
    if first >= last:
        return _cover(begin, end, finer)
    parts = [*_cover(begin, first, finer), _Part(grain, first, last), *_cover(last, end, finer)]
    return [part for part in parts if part.begin < part.end]


def _sums_of(parts: Sequence[_Part]) -> Subquery:
    """Rows of `at`, a group and all figures."""
    at, one = CALLS.c.started_at.label("at"), literal(1)
    own = {"calls": one, **{name: CALLS.c[name] for name in OWN}}
    spent = {"paid": one, "cost_micros": CALLS.c.own_micros}
    places = ((CALLS.c.group_id, own), (CALLS.c.spent_in, spent))
    calls = [
        select(at, group.label("group_id"), *(counts.get(name, literal(0)) for name in FIGURES))
        for group, counts in places
    ]
    sums = select(SUMS.c.at, SUMS.c.group_id, *(SUMS.c[name] for name in FIGURES))
    return _union(parts, SUMS, sums, calls)


def _latencies_of(parts: Sequence[_Part]) -> Subquery:
    """Rows of `at`, a group, a bucket, a count and a sum."""
    known = (CALLS.c.route_id, CALLS.c.bucket, literal(1), CALLS.c.latency_us)
    calls = select(CALLS.c.started_at, *known).where(CALLS.c.bucket.is_not(None))
    sums = select(*(column for column in LATENCIES.c if column.name != "grain"))
    return _union(parts, LATENCIES, sums, [calls])


def _union(
    parts: Sequence[_Part], table: Table, sums: Select[Any], calls: Sequence[Select[Any]]
) -> Subquery:
    """The rows of these parts, named as the sums are."""
    # The first one names the columns.
    asked = [sums.where(false())]
    for grain, begin, end in parts:
        if grain:
            is_part = and_(table.c.grain == grain, table.c.at >= begin, table.c.at < end)
            asked.append(sums.where(is_part))
        else:
            is_then = and_(CALLS.c.started_at >= begin, CALLS.c.started_at < end)
            asked += [one.where(is_then) for one in calls]
    return union_all(*asked).subquery()


def _named(
    connection: Connection,
    by: Sequence[By],
    keys: Sequence[ColumnElement[Any]],
    source: Subquery,
    names: Sequence[str],
) -> Iterator[tuple[tuple[str, ...], Sequence[int]]]:
    """Sums by groups and what else the keys are, each with its group's name."""
    sums = _summed(keys, source, names).subquery()
    groups = GROUPS.c.group_id == sums.c.group_id
    asked = select(*(GROUPS.c[one] for one in by), sums).join(GROUPS, groups)
    for row in connection.execute(asked):
        yield tuple(row[: len(by)]), [*map(int, row[len(by) + 1 :])]


def _summed(
    keys: Sequence[ColumnElement[Any]], source: Subquery, names: Sequence[str]
) -> Select[Any]:
    """Sums by these keys. PostgreSQL sums to decimals."""
    return select(*keys, *(func.sum(source.c[name]).label(name) for name in names)).group_by(*keys)
