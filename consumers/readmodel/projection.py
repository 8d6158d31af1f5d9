"""The projection: takes records into the tables, within a transaction.

A record changes the rows of its request; then all calls of that request are judged again, and the
sums change by the difference. So the order of the topics does not matter, and a record that is
taken in twice changes nothing.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import TypeVar

import sqlalchemy as sa
import structlog

from consumers.readmodel.database import insert_new, upsert
from consumers.readmodel.news import FIRST, Key, News, Row, key_of, merged
from consumers.readmodel.tables import (
    BY_USER,
    CALLS,
    FEEDBACK,
    GROUPS,
    LATENCIES,
    OUTCOMES,
    OWN,
    RECORDS,
    REQUESTS,
    REVIEWS,
    SUMS,
)
from consumers.records import Record, record_ref, why_not_taken
from router.intake.admission import Admission
from router.reports.measures import FIGURES, PAID
from router.reports.quality import Call, End, Group, group_id, judge, surer, trend_of
from schemas.topics import Topics

__all__ = ["DAY", "GRAINS", "HOUR", "pieces", "take"]

_log = structlog.get_logger(__name__)
_Key = TypeVar("_Key")

HOUR, DAY = 3_600_000, 86_400_000
#: The spans of time that calls are summed up for, in milliseconds.
GRAINS = (HOUR, DAY)
#: The same spans for coarser groups, which figures over time are read from.
TRENDS = (-HOUR, -DAY)
#: Except by hour and group, so many buckets of latencies are joined: they stay within 2 %.
_WIDER = 4
#: A power of two. See `pieces`.
_KEYS_AT_ONCE = 128
_COLUMNS = tuple(Call.__slots__)
_own, _values = attrgetter(*OWN), attrgetter(*_COLUMNS)
_paid = attrgetter(*list(PAID.values())[1:])


def take(
    connection: sa.Connection, records: Iterable[Record], topics: Topics, admission: Admission
) -> None:
    """Take in records, each partition's in order; those that cannot be read are logged."""
    news = News(admission)
    readers = news.readers(topics)
    for record in records:
        if (why := why_not_taken(readers[record.topic], record)) is not None:
            _log.warning("not read", place=record_ref(record), detail=why)
    _write(connection, news)


def _write(connection: sa.Connection, news: News) -> None:
    keys = sorted(news.judged())
    feedback = {key_of(FEEDBACK, row): row for row in _rows(connection, FEEDBACK, keys)}
    latest = {key: merged(feedback.get(key), row) for key, row in news.feedback.items()}
    feedback |= latest
    outcomes = {key_of(OUTCOMES, row): row for row in _rows(connection, OUTCOMES, keys)}
    outcomes |= news.outcomes
    decisions = {row["decision_id"]: row for row in _rows(connection, REVIEWS, keys)}
    decisions |= news.reviews
    calls: dict[Key, dict[tuple[str, int], Call]] = defaultdict(dict)
    before: dict[tuple[Key, tuple[str, int]], Call] = {}
    for row in _rows(connection, CALLS, keys):
        key, which = (row["tenant"], row["request_id"]), (row["attempt_id"], row["started_at"])
        calls[key][which] = Call(**row)
        before[key, which] = Call(**row)
    for (tenant, request_id, *_), call in news.calls.items():
        known, which = calls[tenant, request_id], (call.attempt_id, call.started_at)
        known[which] = surer(known.get(which), call)

    ends: dict[Key, dict[int, End]] = defaultdict(dict)
    for row in outcomes.values():
        if row["is_result"]:
            end = End(row["published"], row["kind"], row["total_us"], row["review"] is not None)
            ends[row["tenant"], row["request_id"]][row["generation"]] = end
    kinds: dict[Key, dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
    for row in feedback.values():
        kinds[row["tenant"], row["request_id"]][row["generation"]].append(row["kind"])
    seconds: dict[Key, dict[int, list[int | None]]] = defaultdict(lambda: defaultdict(list))
    for row in decisions.values():
        seconds[row["tenant"], row["request_id"]][row["generation"]].append(row["seconds"])

    changes, changed = _Changes(), []
    for request, attempts in calls.items():
        judge(list(attempts.values()), ends[request], kinds[request], seconds[request])
        for which, call in attempts.items():
            former = before.get((request, which))
            if former == call:
                continue
            if former is not None:
                changes.count(former, -1)
            changes.count(call, 1)
            changed.append(dict(zip(_COLUMNS, _values(call), strict=True)))
    upsert(connection, REQUESTS, list(news.requests.values()), first=FIRST)
    insert_new(connection, RECORDS, list(news.records.values()))
    upsert(connection, CALLS, changed)
    upsert(connection, OUTCOMES, list(news.outcomes.values()))
    upsert(connection, FEEDBACK, list(latest.values()))
    upsert(connection, REVIEWS, list(news.reviews.values()))
    groups = [{"group_id": id_, **group._asdict()} for id_, group in news.groups.items()]
    insert_new(connection, GROUPS, groups)
    changes.write(connection)


#: The figures of latencies.
_COUNTS = ("count", "sum_us")


def _no_figures() -> dict[tuple[int, ...], list[int]]:
    return defaultdict(lambda: [0] * len(FIGURES))


@dataclass(slots=True)
class _Changes:
    """Changes of the sums of each hour."""

    sums: dict[tuple[int, ...], list[int]] = field(default_factory=_no_figures)
    #: The same of each user.
    by_user: dict[tuple[int, ...], list[int]] = field(default_factory=_no_figures)
    latencies: dict[tuple[int, ...], list[int]] = field(
        default_factory=lambda: defaultdict(lambda: [0, 0])
    )

    def count(self, call: Call, sign: int) -> None:
        """Add a call to the sums, or subtract it."""
        hour, ended = call.started_at // HOUR * HOUR, call.spent_at // HOUR * HOUR
        own, paid = _own(call), _paid(call)
        for sums, group, spent_in in (
            (self.sums, call.group_id, call.spent_in),
            (self.by_user, call.user_id, call.spent_by),
        ):
            for counts, first, figures in (
                (sums[hour, group], 0, own),
                (sums[ended, spent_in], len(OWN) + 1, paid),
            ):
                counts[first] += sign
                for no, figure in enumerate(figures, first + 1):
                    if figure:
                        counts[no] += sign * figure
        if call.latency_us is not None and call.bucket is not None:
            latency = self.latencies[hour, call.route_id, call.reviewed, call.bucket]
            latency[0] += sign
            latency[1] += sign * call.latency_us

    def write(self, connection: sa.Connection) -> None:
        """Add the changes to the sums, once their groups are stored."""
        trends = _trends(connection, {group for _, group in self.sums})
        is_empty_sum = sa.and_(SUMS.c.calls == 0, SUMS.c.paid == 0)
        every_group = dict.fromkeys((group for _, group, *_ in self.latencies), 0)
        grains, counts, is_empty_bucket = (*GRAINS, *TRENDS), _COUNTS, LATENCIES.c.count == 0
        sums = (SUMS, self.sums, grains, FIGURES, is_empty_sum, trends)
        by_user = (SUMS, self.by_user, (BY_USER,), FIGURES, is_empty_sum, trends)
        latencies = (LATENCIES, self.latencies, grains, counts, is_empty_bucket, every_group)
        for table, moved, kept, names, is_empty, wider in (sums, by_user, latencies):
            columns, key = table.c.keys(), list(table.primary_key)
            rows = [
                dict(zip(columns, (grain, *place, *changes), strict=True))
                for grain in kept
                for place, changes in _coarser(moved, grain, wider if grain < 0 else {})
            ]
            upsert(connection, table, rows, adds=names)
            less = [row for row in rows if min(row[name] for name in names) < 0]
            keys = [{f"{column.name}_": row[column.name] for column in key} for row in less]
            if keys:
                is_row = (column == sa.bindparam(f"{column.name}_") for column in key)
                connection.execute(sa.delete(table).where(*is_row, is_empty), keys)


def _trends(connection: sa.Connection, groups: Iterable[int]) -> Mapping[int, int]:
    """The coarser groups that these are counted in over time."""
    ids, trends = list(groups), dict[int, int]()
    for piece in pieces(ids):
        among = sa.select(GROUPS).where(GROUPS.c.group_id.in_(piece))
        for number, *names in connection.execute(among):
            trends[number] = group_id(trend_of(Group(*names)))
    return trends


def _coarser(
    sums: Mapping[tuple[int, ...], list[int]], grain: int, wider: Mapping[int, int]
) -> Iterable[tuple[tuple[int, ...], list[int]]]:
    """Changes by hour as changes by a coarser grain, without those that are zero.

    `wider` are the groups that groups are counted in.
    """
    coarse: dict[tuple[int, ...], list[int]] = {}
    span = DAY if grain == BY_USER else abs(grain)
    width = 1 if grain == HOUR else _WIDER
    for (hour, group, *kind), changes in sums.items():
        if kind:
            kind[-1] = kind[-1] // width * width
        key = (hour // span * span, wider.get(group, group), *kind)
        if (earlier := coarse.get(key)) is None:
            coarse[key] = changes
        else:
            coarse[key] = [a + b for a, b in zip(earlier, changes, strict=True)]
    return ((key, changes) for key, changes in coarse.items() if any(changes))


def _rows(connection: sa.Connection, table: sa.Table, keys: Sequence[Key]) -> Iterator[Row]:
    """The rows of these requests."""
    tenant, request_id = table.c.tenant, table.c.request_id
    for piece in pieces(keys):
        # SQLite searches no index for pairs alone: it would read the whole table.
        [tenants] = pieces(sorted({key[0] for key in piece}))
        is_near = tenant.in_(tenants), request_id.in_([key[1] for key in piece])
        is_asked = sa.tuple_(tenant, request_id).in_(piece)
        for row in connection.execute(sa.select(table).where(*is_near, is_asked)):
            yield row._asdict()


def pieces(keys: Sequence[_Key]) -> Iterator[Sequence[_Key]]:
    """The keys in pieces whose lengths are powers of two; the last key is repeated for that.

    Each length is another statement, and drivers keep the last hundred statements compiled: with a
    thousand keys each, those take tens of megabytes.
    """
    for first in range(0, len(keys), _KEYS_AT_ONCE):
        piece = keys[first : first + _KEYS_AT_ONCE]
        missing = (1 << (len(piece) - 1).bit_length()) - len(piece)
        yield [*piece, *[piece[-1]] * missing]
