"""The projection: takes records into the tables, within a transaction.

A record changes the rows of its request; then all calls of that request are judged again, and the
sums change by the difference. So the order of the topics does not matter, and a record that is
taken in twice changes nothing.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

import structlog
from sqlalchemy import Connection, Table, and_, delete, select, tuple_

from consumers.readmodel.columns import millis, stored
from consumers.readmodel.database import insert_new, upsert
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
from consumers.runtime.records import Record, record_ref, told_at, why_not_taken
from router.reports.measures import FIGURES
from router.reports.quality import Call, End, Group, call_of, end_of, group_of, judge, route_of
from schemas.attempt import LedgerEntry
from schemas.codec import dump, read_dead_letter, read_model
from schemas.feedback import Feedback
from schemas.json_numbers import as_json
from schemas.result import Result
from schemas.review import AuditLine
from schemas.topics import Topics

__all__ = ["DAY", "GRAINS", "HOUR", "take"]

_log = structlog.get_logger(__name__)

HOUR, DAY = 3_600_000, 86_400_000
#: The spans of time that calls are summed up for, in milliseconds.
GRAINS = (HOUR, DAY)
#: The same spans for all groups together, which charts over time are read from.
TOTALS = (-HOUR, -DAY)
#: Except by hour and group, so many buckets of latencies are joined: they stay within 2 %.
_WIDER = 4
#: A database accepts only so many values in one statement.
_KEYS_AT_ONCE = 1_000
#: Characters of people's comments that are kept.
_MOST_WORDS = 500
_COLUMNS = tuple(Call.__slots__)
_own, _values = attrgetter(*OWN), attrgetter(*_COLUMNS)

_Key = tuple[str, str]
_Row = Mapping[str, Any]


def take(connection: Connection, records: Iterable[Record], topics: Topics) -> None:
    """Take in records, each partition's in order; those that cannot be read are logged."""
    news = _News()
    readers = news.readers(topics)
    for record in records:
        if (why := why_not_taken(readers[record.topic], record)) is not None:
            _log.warning("not read", place=record_ref(record), detail=why)
    _write(connection, news)


@dataclass(slots=True)
class _News:
    """The rows of some records by their keys: the last record counts."""

    calls: dict[tuple[str, str, str], Call] = field(default_factory=dict)
    groups: dict[int, Group] = field(default_factory=dict)
    outcomes: dict[tuple[Any, ...], _Row] = field(default_factory=dict)
    feedback: dict[tuple[Any, ...], _Row] = field(default_factory=dict)
    reviews: dict[str, _Row] = field(default_factory=dict)

    def readers(self, topics: Topics) -> Mapping[str, Callable[[Record], None]]:
        """The method for the records of each topic, which raises for one that is not ours."""
        return {
            topics.attempts: self._call,
            topics.results: self._result,
            topics.dead_letters: self._letter,
            topics.feedback: self._feedback,
            topics.review: self._review,
        }

    def _call(self, record: Record) -> None:
        entry = read_model(LedgerEntry, record.value)
        if entry.attempt.outcome == "started":
            return
        group = Group._make(map(stored, group_of(entry)))
        call = call_of(entry, group)
        call.detail = stored(call.detail)
        self.groups |= {call.group_id: group, call.route_id: route_of(group)}
        self.calls[call.tenant, call.request_id, call.attempt_id] = call

    def _result(self, record: Record) -> None:
        result = read_model(Result, record.value)
        info = result.router
        if not info.final:
            return
        end = end_of(result)
        self._end(
            {
                "tenant": stored(info.tenant),
                "request_id": result.id,
                "generation": info.generation,
                "is_result": True,
                "ended_at": millis(told_at(record)),
                "letter": info.resolves and stored(info.resolves, 480),
                "published": end.published and stored(end.published),
                "kind": info.kind,
                "total_us": end.total_us,
                "task": stored(info.task),
                "model": stored(info.model),
                "review": info.review,
                "output": as_json(info.output).decode(),
            }
        )

    def _letter(self, record: Record) -> None:
        letter = read_dead_letter(record.headers)
        if letter.request_id is None:
            return
        self._end(
            {
                **dict.fromkeys(("published", "kind", "total_us", "model", "review", "output")),
                "tenant": stored(letter.tenant),
                "request_id": stored(letter.request_id),
                "generation": letter.generation,
                "is_result": False,
                "ended_at": millis(told_at(record)),
                "letter": stored(record_ref(record), 480),
                "task": letter.task and stored(letter.task),
            }
        )

    def _end(self, row: _Row) -> None:
        self.outcomes[_key_of(OUTCOMES, row)] = row

    def _feedback(self, record: Record) -> None:
        feedback = read_model(Feedback, record.value)
        instead = dump(feedback.correction).decode() if feedback.correction else ""
        words = "; instead: ".join(text for text in (feedback.comment, instead) if text)
        row = {
            "tenant": feedback.tenant,
            "request_id": feedback.request_id,
            "generation": feedback.generation,
            "kind": feedback.kind,
            "at": millis(feedback.at),
            "words": stored(words, _MOST_WORDS),
        }
        key = _key_of(FEEDBACK, row)
        self.feedback[key] = _merged(self.feedback.get(key), row)

    def _review(self, record: Record) -> None:
        line = read_model(AuditLine, record.value)
        if (decision := line.decision) is None:
            return
        self.reviews[decision.decision_id] = {
            "decision_id": decision.decision_id,
            "letter": stored(str(decision.letter), 480),
            "action": decision.action,
            "who": line.who,
            "at": millis(line.at),
            "is_example": decision.is_example,
        }

    def requests(self) -> set[_Key]:
        """The requests that the records are about."""
        return {key[:2] for rows in (self.calls, self.outcomes, self.feedback) for key in rows}


def _merged(former: _Row | None, row: _Row) -> _Row:
    """Feedback of one kind, given twice: its first time and its last words."""
    if former is None:
        return row
    at = min(former["at"], row["at"])
    return {**row, "at": at, "words": row["words"] or former["words"]}


def _write(connection: Connection, news: _News) -> None:
    keys = sorted(news.requests())
    feedback = {_key_of(FEEDBACK, row): row for row in _rows(connection, FEEDBACK, keys)}
    merged = {key: _merged(feedback.get(key), row) for key, row in news.feedback.items()}
    feedback |= merged
    outcomes = {_key_of(OUTCOMES, row): row for row in _rows(connection, OUTCOMES, keys)}
    outcomes |= news.outcomes
    calls: dict[_Key, dict[str, Call]] = defaultdict(dict)
    before: dict[tuple[_Key, str], Call] = {}
    for row in _rows(connection, CALLS, keys):
        key = row["tenant"], row["request_id"]
        calls[key][row["attempt_id"]] = Call(**row)
        before[key, row["attempt_id"]] = Call(**row)
    for (tenant, request_id, attempt_id), call in news.calls.items():
        calls[tenant, request_id][attempt_id] = call

    ends: dict[_Key, dict[int, End]] = defaultdict(dict)
    for row in outcomes.values():
        if row["is_result"]:
            end = End(row["published"], row["kind"], row["total_us"])
            ends[row["tenant"], row["request_id"]][row["generation"]] = end
    kinds: dict[_Key, dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
    for row in feedback.values():
        kinds[row["tenant"], row["request_id"]][row["generation"]].append(row["kind"])

    changes, changed = _Changes(), []
    for request, attempts in calls.items():
        judge(list(attempts.values()), ends[request], kinds[request])
        for attempt_id, call in attempts.items():
            former = before.get((request, attempt_id))
            if former == call:
                continue
            if former is not None:
                changes.count(former, -1)
            changes.count(call, 1)
            changed.append(dict(zip(_COLUMNS, _values(call), strict=True)))
    upsert(connection, CALLS, changed)
    upsert(connection, OUTCOMES, list(news.outcomes.values()))
    upsert(connection, FEEDBACK, list(merged.values()))
    upsert(connection, REVIEWS, list(news.reviews.values()))
    groups = [{"group_id": id_, **group._asdict()} for id_, group in news.groups.items()]
    insert_new(connection, GROUPS, groups)
    changes.write(connection)


@dataclass(slots=True)
class _Changes:
    """Changes of the sums of each hour."""

    sums: dict[tuple[int, ...], list[int]] = field(
        default_factory=lambda: defaultdict(lambda: [0] * len(FIGURES))
    )
    latencies: dict[tuple[int, ...], list[int]] = field(
        default_factory=lambda: defaultdict(lambda: [0, 0])
    )

    def count(self, call: Call, sign: int) -> None:
        """Add a call to the sums, or subtract it."""
        hour = call.started_at // HOUR * HOUR
        sums = self.sums[hour, call.group_id]
        sums[0] += sign
        for no, figure in enumerate(_own(call), 1):
            if figure:
                sums[no] += sign * figure
        spent = self.sums[hour, call.spent_in]
        spent[-2] += sign
        spent[-1] += sign * call.own_micros
        if call.latency_us is not None and call.bucket is not None:
            latency = self.latencies[hour, call.route_id, call.bucket]
            latency[0] += sign
            latency[1] += sign * call.latency_us

    def write(self, connection: Connection) -> None:
        """Add the changes to the sums."""
        sums = (SUMS, self.sums, FIGURES, and_(SUMS.c.calls == 0, SUMS.c.paid == 0))
        counts = ("count", "sum_us")
        latencies = (LATENCIES, self.latencies, counts, LATENCIES.c.count == 0)
        for table, moved, names, is_empty in (sums, latencies):
            columns, key = table.c.keys(), list(table.primary_key)
            rows = [
                dict(zip(columns, (grain, *place, *changes), strict=True))
                for grain in (*GRAINS, *TOTALS)
                for place, changes in _coarser(moved, grain)
            ]
            upsert(connection, table, rows, adds=names)
            less = [_key_of(table, row) for row in rows if min(row[name] for name in names) < 0]
            for first in range(0, len(less), _KEYS_AT_ONCE):
                among = tuple_(*key).in_(less[first : first + _KEYS_AT_ONCE])
                connection.execute(delete(table).where(among, is_empty))


def _coarser(
    sums: Mapping[tuple[int, ...], list[int]], grain: int
) -> Iterable[tuple[tuple[int, ...], list[int]]]:
    """Changes by hour as changes by a coarser grain, without those that are zero."""
    coarse: dict[tuple[int, ...], list[int]] = {}
    span, width = abs(grain), 1 if grain == HOUR else _WIDER
    for (hour, group, *bucket), changes in sums.items():
        wider = (number // width * width for number in bucket)
        key = (hour // span * span, group if grain > 0 else 0, *wider)
        if (earlier := coarse.get(key)) is None:
            coarse[key] = changes
        else:
            coarse[key] = [a + b for a, b in zip(earlier, changes, strict=True)]
    return ((key, changes) for key, changes in coarse.items() if any(changes))


def _rows(connection: Connection, table: Table, keys: Sequence[_Key]) -> Iterable[_Row]:
    """The rows of these requests."""
    if not keys:
        return []
    is_asked = tuple_(table.c.tenant, table.c.request_id).in_(keys)
    return [row._asdict() for row in connection.execute(select(table).where(is_asked))]


def _key_of(table: Table, row: _Row) -> tuple[Any, ...]:
    return tuple(row[column.name] for column in table.primary_key)
