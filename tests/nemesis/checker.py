"""The judge of a run: what was published, what came of it, what was booked and what was billed.

It is pure. The harness reads Kafka (with `read_committed`, after the last fault) and the provider's
bill, and hands the facts over; nothing of the product's own account of itself is believed.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from schemas.attempt import LedgerEntry
from schemas.reasons import Reason

__all__ = [
    "ID_REUSED",
    "RESULT",
    "STARTED",
    "BillCall",
    "Facts",
    "LedgerLine",
    "Published",
    "Report",
    "Terminal",
    "check",
]

#: The kind of an answer.
RESULT = "result"

#: The kind of a dead letter for another body under an id that was already used.
ID_REUSED = "id_reused"
#: The outcome of a ledger line that announces a call and books nothing.
STARTED = "started"
_JUDGED = ("accepted", "rejected")
#: How the detail of a call begins whose process was lost.
_LOST = "the call was started"
_SHOWN = 10

_T = TypeVar("_T")


class Published(NamedTuple):
    """One record sent to intake."""

    id: str
    key: str
    #: A hash of the body; records of one id with one body are one request.
    body: str = ""
    #: False when the producer never learned whether the broker has it.
    is_acknowledged: bool = True
    #: Paid calls the request may cost without any kill; None when the harness sets no limit.
    planned_calls: int | None = None


class Terminal(NamedTuple):
    """A result or a dead letter as it lies in its topic, notices left out."""

    id: str
    #: `RESULT`, `ID_REUSED`, or `dead_letter` for every other one.
    kind: str
    partition: int
    offset: int
    #: A hash of a dead letter's bytes, compared with what was published; empty: not compared.
    body: str = ""


class LedgerLine(NamedTuple):
    """One line of the ledger."""

    attempt_id: str
    request_id: str
    cost_micros: int
    #: `accepted`, `rejected`, `STARTED`, or the reason why the call failed.
    outcome: str
    #: True when the provider told no count, so that the cost is our own guess.
    is_estimate: bool = False
    #: When its process started the call: two processes may have made one attempt.
    started_at: str = ""
    #: Booked by the next owner, because the process that made the call was gone.
    is_lost: bool = False

    @classmethod
    def of(cls, entry: LedgerEntry) -> "LedgerLine":
        """The line as the product writes it."""
        attempt = entry.attempt
        failure = attempt.reason if attempt.outcome == "failed" else None
        return cls(
            attempt.attempt_id,
            entry.request_id,
            attempt.cost_micros,
            failure.value if failure else attempt.outcome,
            attempt.is_estimated,
            attempt.started_at.isoformat(),
            failure is Reason.OUTCOME_UNKNOWN and attempt.detail.startswith(_LOST),
        )


class BillCall(NamedTuple):
    """One call as the provider saw it. A call that cost nothing was not paid."""

    attempt_id: str
    request_id: str
    cost_micros: int


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything known about one run."""

    published: Sequence[Published]
    terminals: Sequence[Terminal]
    ledger: Sequence[LedgerLine]
    bill: Sequence[BillCall]
    #: For every instant at which a fault may have cut calls off, those in flight, by request.
    in_flight_at_cuts: Sequence[Mapping[str, int]] = ()
    #: Records that lie unread at the end, or behind an open transaction, by place:
    #: a group's partition, or a topic's. Places with none may be left out.
    standing: Mapping[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What a run broke."""

    #: Acknowledged requests without an end.
    lost: int
    #: Ends beyond the one that a request has.
    duplicates: int
    #: Paid calls beyond one per attempt, or beyond what was planned for the request.
    extra_calls: int
    #: Micro-dollars of what was measured, and of what nobody booked: neither is ever excused.
    ledger_minus_bill: int
    #: Micro-dollars that estimates are above the bill.
    estimates_above_bill: int
    #: Records nobody gets on with.
    stuck: int
    #: Every break in words. Extra calls that faults explain are none.
    problems: tuple[str, ...]
    #: Every estimate that differs from the bill, in words.
    estimates: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """True when nothing is broken."""
        counted = self.lost or self.duplicates or self.ledger_minus_bill or self.stuck
        return not counted and not self.problems

    def line(self) -> str:
        """The counts, for the log."""
        return (
            f"lost={self.lost} duplicates={self.duplicates} extra_calls={self.extra_calls} "
            f"ledger_minus_bill={self.ledger_minus_bill} "
            f"estimates_above_bill={self.estimates_above_bill} stuck={self.stuck}"
        )


def check(facts: Facts) -> Report:
    """Judge a run."""
    problems = _Problems()
    if not facts.published:
        problems.add("blind", "nothing was published")
    lost, duplicates = _ends(facts, problems)
    _places(facts, problems)
    extra_calls, difference, estimates = _money(facts, problems)
    standing = {place: count for place, count in (facts.standing or {}).items() if count}
    for place, count in standing.items():
        problems.add("stuck", f"{count} records stand at {place}")
    return Report(
        lost=lost,
        duplicates=duplicates,
        extra_calls=extra_calls,
        ledger_minus_bill=difference,
        estimates_above_bill=sum(above for _, above in estimates),
        stuck=sum(standing.values()),
        problems=problems.told(),
        estimates=tuple(words for words, _ in estimates),
    )


class _Problems:
    """Breaks by kind, of which the first few are told in full."""

    def __init__(self) -> None:
        self._kinds: defaultdict[str, list[str]] = defaultdict(list)

    def add(self, kind: str, words: str) -> None:
        self._kinds[kind].append(words)

    def told(self) -> tuple[str, ...]:
        lines: list[str] = []
        for kind, found in self._kinds.items():
            lines += (f"{kind}: {words}" for words in found[:_SHOWN])
            if len(found) > _SHOWN:
                lines.append(f"{kind}: and {len(found) - _SHOWN} more")
        return tuple(lines)


def _ends(facts: Facts, problems: _Problems) -> tuple[int, int]:
    """How many requests have no end, and how many ends are too many."""
    published = _grouped((one.id, one) for one in facts.published)
    # A reader that comes by one place twice has still seen one record.
    found = _grouped((one.id, one) for one in dict.fromkeys(facts.terminals))
    called = Counter(call.request_id for call in facts.bill)
    lost = duplicates = 0
    for id_, records in published.items():
        ends = [one for one in found[id_] if one.kind != ID_REUSED]
        refusals = len(found[id_]) - len(ends)
        certain = {one.body for one in records if one.is_acknowledged}
        bodies = {one.body for one in records}
        missing = max(min(len(certain), 1) - len(ends), 0) + max(len(certain) - 1 - refusals, 0)
        most = len(records) - 1 if len(bodies) > 1 else 0
        surplus = max(len(ends) - 1, 0) + max(refusals - most, 0)
        known = f"{id_} (key {records[0].key}, calls {called[id_]}, {_listed(found[id_])})"
        if missing:
            problems.add("lost", known)
        if surplus:
            problems.add("duplicate", known)
        if not called[id_] and any(one.kind == RESULT for one in ends):
            problems.add("answer without a call", known)
        lost, duplicates = lost + missing, duplicates + surplus
    for id_, strangers in found.items():
        if id_ not in published:
            problems.add("from nowhere", f"{id_ or 'no id'} ({_listed(strangers)})")
    return lost, duplicates


def _places(facts: Facts, problems: _Problems) -> None:
    """Ends keep their request's key, and dead letters its bytes."""
    keys: dict[str, str] = {}
    bodies: defaultdict[str, set[str]] = defaultdict(set)
    for one in facts.published:
        keys.setdefault(one.id, one.key)
        bodies[one.id].add(one.body)
    partitions: dict[str, int] = {}
    for end in facts.terminals:
        key = keys.get(end.id)
        if key is None:
            continue
        if partitions.setdefault(key, end.partition) != end.partition:
            where = f"partitions {partitions[key]} and {end.partition}"
            problems.add("torn key", f"{key} ends in {where} (request {end.id})")
        if end.body and end.body not in bodies[end.id]:
            problems.add("bytes changed", f"{end.id} ({_listed([end])})")


def _money(facts: Facts, problems: _Problems) -> tuple[int, int, list[tuple[str, int]]]:
    """Extra calls, what the ledger has more than the bill in micro-dollars, and its estimates."""
    ids = {one.id for one in facts.published}
    calls = _grouped((call.attempt_id, call) for call in facts.bill)
    lines = _grouped((line.attempt_id, line) for line in facts.ledger)
    repeated: Counter[str] = Counter()
    unbooked: defaultdict[str, list[int]] = defaultdict(list)
    difference, estimates = 0, list[tuple[str, int]]()
    for attempt in dict.fromkeys([*lines, *calls]):
        whose = {call.request_id for call in calls[attempt]}
        whose |= {line.request_id for line in lines[attempt]}
        if len(whose) > 1 or not whose <= ids or not attempt:
            problems.add("stray money", f"attempt {attempt or '?'} of {', '.join(sorted(whose))}")
        is_lost = any(line.is_lost for line in lines[attempt])
        counted = _counted(lines[attempt])
        # Who had announced it may have been slower to book it than its next owner to look.
        if any(line.is_lost for line in counted) and not facts.in_flight_at_cuts:
            problems.add("lost without a fault", attempt)
        matched = _match(attempt, counted, calls[attempt], problems)
        difference += matched.difference
        estimates += matched.estimates
        unbooked[min(whose)] += matched.unbooked
        paid = sum(1 for call in calls[attempt] if call.cost_micros)
        # What nobody booked was paid in vain, and so was what died with a process.
        of_use = min(paid - len(matched.unbooked), 0 if is_lost else 1)
        repeated[min(whose)] += paid - of_use

    allowed = Counter[str]()
    for in_flight in facts.in_flight_at_cuts:
        allowed.update(in_flight)
    extra = _extra_calls(facts, repeated, allowed, problems)
    for id_, costs in unbooked.items():
        if costs:
            problems.add("unbooked", f"{id_}: {len(costs)} calls, {sum(costs)} micro-dollars")
            difference -= sum(costs)
    return extra, difference, estimates


def _counted(lines: Sequence[LedgerLine]) -> list[LedgerLine]:
    """The lines that count: for each call the measured ones, else one estimate."""
    counted: list[LedgerLine] = []
    calls = _grouped((line.started_at, line) for line in lines if line.outcome != STARTED)
    for same in calls.values():
        measured = [line for line in same if not line.is_estimate]
        counted += measured or same[:1]
    return counted


def _extra_calls(
    facts: Facts, repeated: Counter[str], allowed: Counter[str], problems: _Problems
) -> int:
    """Calls too many. Only a request that was in flight at a cut may have any."""
    cuts = len(facts.in_flight_at_cuts)
    paid = Counter(call.request_id for call in facts.bill if call.cost_micros)
    planned = {one.id: one.planned_calls for one in facts.published}
    extra = 0
    for id_, count in paid.items():
        limit = planned.get(id_)
        beyond = 0 if limit is None else max(count - limit, 0)
        again = max(repeated[id_], beyond)
        extra += again
        if again > allowed[id_]:
            words = f"{id_}: {again} extra calls, {allowed[id_]} in flight at {cuts} cuts"
            problems.add("paid again", words)
        if beyond > allowed[id_]:
            problems.add("beyond the plan", f"{id_}: {count} paid calls, {limit} planned")
    return extra


class _Matched(NamedTuple):
    difference: int
    #: Costs of paid calls without a line.
    unbooked: list[int]
    #: Estimates that differ from the bill: in words, and by how much.
    estimates: list[tuple[str, int]]


def _match(
    attempt: str, lines: Sequence[LedgerLine], calls: Sequence[BillCall], problems: _Problems
) -> _Matched:
    """Set an attempt's ledger lines against its calls: equal costs, then estimates, then others."""
    left = sorted((call.cost_micros for call in calls), reverse=True)
    estimates: list[LedgerLine] = []
    wrong: list[int] = []
    for line in lines:
        if line.is_estimate:
            estimates.append(line)
        elif line.cost_micros in left:
            left.remove(line.cost_micros)
        elif line.cost_micros or line.outcome in _JUDGED:
            wrong.append(line.cost_micros)
    differences: list[tuple[str, int]] = []
    for line in estimates:
        billed = left.pop(0) if left else 0
        words = f"attempt {attempt}: {line.cost_micros} reserved, {billed} billed"
        # Where nobody knows what a call cost, the most it can have cost is booked.
        if billed > line.cost_micros:
            problems.add("reserve too low", words)
        elif billed < line.cost_micros:
            why = "its process was lost" if line.is_lost else line.outcome
            differences.append((f"{words} ({why})", line.cost_micros - billed))
    against = left[: len(wrong)]
    difference = sum(wrong) - sum(against)
    if wrong:
        words = (
            f"attempt {attempt}: {_costs(wrong)} booked and not billed, {_costs(against)} billed"
        )
        problems.add("ledger", words)
    unbooked = [cost for cost in left[len(wrong) :] if cost]
    return _Matched(difference, unbooked, differences)


def _grouped(pairs: Iterable[tuple[str, _T]]) -> defaultdict[str, list[_T]]:
    groups: defaultdict[str, list[_T]] = defaultdict(list)
    for name, one in pairs:
        groups[name].append(one)
    return groups


def _listed(ends: Iterable[Terminal]) -> str:
    return ", ".join(f"{end.kind}-{end.partition}-{end.offset}" for end in ends) or "no end"


def _costs(costs: Sequence[int]) -> str:
    return " + ".join(str(cost) for cost in costs) or "nothing"
