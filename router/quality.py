"""Quality: how often an answer had to be fixed, what it cost and how long it took, by route.

An answer was corrected when a check turned it down, when a later model changed it, or when a person
did: an edit, another try, a complaint. So a cheap model that is always escalated has no good rate.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, NamedTuple, get_args

from router.bill import Line
from router.policy.table import Policy
from router.pricing import cost_micros
from schemas.attempt import Attempt, LedgerEntry
from schemas.dead_letter import DeadLetter
from schemas.feedback import Feedback
from schemas.reasons import Reason
from schemas.result import Result

__all__ = [
    "MEASURES",
    "Alarm",
    "By",
    "Fixed",
    "Measure",
    "Quality",
    "Row",
    "alarms",
    "names_of",
    "percentile",
    "told",
    "values_of",
]

By = Literal["task", "tier", "model", "prompt", "reason"]
#: Who fixed an answer.
Fixed = Literal["check", "model", "person"]

#: What a downstream service or a reviewer says when an answer was not good as it was.
_NOT_GOOD = frozenset(("edited", "regenerated", "complaint"))
_UNKNOWN = "unknown"
#: From here on milliseconds are no longer read as such: a person has answered.
_LONG_MS = 60_000
#: Fewer answers say nothing.
_ENOUGH = 20
#: From here on a rule is probably wrong: so many leave their tier, or are fixed by a person.
_MOST_ESCALATED, _MOST_BY_PERSON = 0.4, 0.2


class _Key(NamedTuple):
    """Where a call belongs."""

    task: str
    tier: str
    model: str
    prompt: str
    #: Why the answer was not taken, or the call failed.
    reason: str


@dataclass(slots=True)
class _Call:
    """One call, as the ledger has it."""

    request_id: str
    generation: int
    key: _Key
    at: datetime
    attempt: Attempt
    #: In the order in which it is found out: the first one counts.
    fixed: Fixed | None = None
    #: Milliseconds from intake to the result, where this call's answer is the result.
    latency_ms: float | None = None
    is_completed: bool = False
    was_escalated: bool = False


@dataclass(slots=True)
class Row:
    """The figures of one group. Every count holds the ids of the requests behind it."""

    name: tuple[str, ...]
    calls: list[str] = field(default_factory=list)
    #: Judged answers: what could be right or wrong.
    answers: list[str] = field(default_factory=list)
    corrected: dict[Fixed, list[str]] = field(
        default_factory=lambda: {who: [] for who in get_args(Fixed)}
    )
    escalated: list[str] = field(default_factory=list)
    schema_failures: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    completed: list[str] = field(default_factory=list)
    cost_micros: int = 0
    #: What the same calls would have cost on the strongest tier's first model.
    strongest_micros: int = 0
    latencies_ms: list[float] = field(default_factory=list)

    @property
    def corrections(self) -> list[str]:
        """Every correction, whoever made it."""
        return [one for ids in self.corrected.values() for one in ids]

    @property
    def correction_rate(self) -> float | None:
        """Corrected answers of all answers; None where there is none."""
        return len(self.corrections) / len(self.answers) if self.answers else None

    @property
    def cost_per_completed(self) -> float | None:
        """Micro-dollars per completed action, every call of the group included."""
        return self.cost_micros / len(self.completed) if self.completed else None

    def add(self, other: "Row") -> None:
        """Take another group's figures in."""
        for name in ("calls", "answers", "escalated", "schema_failures", "refusals", "completed"):
            getattr(self, name).extend(getattr(other, name))
        for who, ids in other.corrected.items():
            self.corrected[who].extend(ids)
        self.cost_micros += other.cost_micros
        self.strongest_micros += other.strongest_micros
        self.latencies_ms.extend(other.latencies_ms)


class Measure(NamedTuple):
    """One column of the table: what it says, and the requests behind it."""

    name: str
    value: Callable[[Row], float | None]
    unit: Literal["count", "share", "micros", "ms"]
    ids: Callable[[Row], Sequence[str]]


def _share(part: Callable[[Row], Sequence[str]]) -> Callable[[Row], float | None]:
    return lambda row: len(part(row)) / len(row.answers) if row.answers else None


#: The columns, for the command line and the page alike.
MEASURES: Sequence[Measure] = (
    Measure("calls", lambda row: len(row.calls), "count", lambda row: row.calls),
    Measure("spend", lambda row: row.cost_micros, "micros", lambda row: row.calls),
    Measure("completed", lambda row: len(row.completed), "count", lambda row: row.completed),
    Measure(
        "per completed", lambda row: row.cost_per_completed, "micros", lambda row: row.completed
    ),
    Measure("p50", lambda row: percentile(row.latencies_ms, 50), "ms", lambda row: row.completed),
    Measure("p95", lambda row: percentile(row.latencies_ms, 95), "ms", lambda row: row.completed),
    Measure("corrected", lambda row: row.correction_rate, "share", lambda row: row.corrections),
    Measure(
        "by check",
        _share(lambda row: row.corrected["check"]),
        "share",
        lambda row: row.corrected["check"],
    ),
    Measure(
        "by model",
        _share(lambda row: row.corrected["model"]),
        "share",
        lambda row: row.corrected["model"],
    ),
    Measure(
        "by person",
        _share(lambda row: row.corrected["person"]),
        "share",
        lambda row: row.corrected["person"],
    ),
    Measure("escalated", _share(lambda row: row.escalated), "share", lambda row: row.escalated),
    Measure(
        "schema", _share(lambda row: row.schema_failures), "share", lambda row: row.schema_failures
    ),
)


class Quality:
    """The fold. Records may come in any order, and twice; ask once all are told."""

    def __init__(self) -> None:
        self._calls: dict[str, _Call] = {}
        self._feedback: dict[tuple[str, int], list[Feedback]] = defaultdict(list)
        self._results: dict[tuple[str, int], Result] = {}
        self._letters: dict[tuple[str, int], DeadLetter] = {}
        #: When each policy version was first used.
        self.policies: dict[str, datetime] = {}

    def attempt(self, entry: LedgerEntry) -> None:
        """A line of the ledger; one that announces a call says nothing yet."""
        one = entry.attempt
        if one.outcome == "started":
            return
        reason = one.reason.value if one.reason else one.outcome
        key = _Key(entry.task or _UNKNOWN, one.tier, one.model, one.prompt_version, reason)
        call = _Call(entry.request_id, entry.generation, key, one.started_at, one)
        self._calls[one.attempt_id] = call
        first = self.policies.get(one.policy_version)
        if first is None or one.started_at < first:
            self.policies[one.policy_version] = one.started_at

    def result(self, result: Result) -> None:
        """A result; what is not final says nothing."""
        if result.router.final:
            self._results[result.id, result.router.generation] = result

    def letter(self, letter: DeadLetter) -> None:
        """A dead letter."""
        if letter.request_id is not None:
            self._letters[letter.request_id, letter.generation] = letter

    def feedback(self, feedback: Feedback) -> None:
        """What somebody thought of an answer."""
        known = self._feedback[feedback.request_id, feedback.generation]
        if feedback not in known:
            known.append(feedback)

    def table(
        self,
        by: Sequence[By],
        policy: Policy,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> tuple[list[Row], Row]:
        """The groups' figures, the dearest first, and their sum.

        Calls count that began at or after `since` and before `until`.
        """
        strongest = policy.models[policy.models_of(list(policy.tiers)[-1])[0]].price
        rows: dict[tuple[str, ...], Row] = {}
        for call in self._judged():
            if (since and call.at < since) or (until and call.at >= until):
                continue
            name = tuple(getattr(call.key, one) for one in by)
            row = rows.setdefault(name, Row(name))
            _count(row, call)
            row.strongest_micros += cost_micros(call.attempt.usage, strongest)
        total = Row(("total",))
        for row in rows.values():
            total.add(row)
        return sorted(rows.values(), key=lambda row: (-row.cost_micros, row.name)), total

    def bill(self, since: datetime, until: datetime) -> list[Line]:
        """Every call that began then, for `router.bill`."""
        return [
            Line(
                call.request_id,
                (call.key.task, call.key.tier, call.key.model),
                call.attempt.usage.total_tokens,
                call.attempt.cost_micros,
            )
            for call in self._calls.values()
            if since <= call.at < until
        ]

    def over_time(self, edges: Sequence[datetime]) -> list[Row]:
        """The sum's figures between each two edges."""
        rows = [Row((edge.isoformat(),)) for edge in edges[:-1]]
        for call in self._judged():
            for row, begin, end in zip(rows, edges, edges[1:], strict=False):
                if begin <= call.at < end:
                    _count(row, call)
        return rows

    def failures(self, tiers: Iterable[str]) -> list[tuple[str, Attempt, Fixed, str]]:
        """Answers of these tiers that had to be fixed: id, attempt, by whom, and what came next.

        The record of where a cheap route was the wrong one.
        """
        wanted = set(tiers)
        found = [
            (call.request_id, call.attempt, call.fixed, self._next(call))
            for call in self._judged()
            if call.fixed is not None and call.key.tier in wanted
        ]
        return sorted(found, key=lambda one: one[1].started_at)

    def _next(self, call: _Call) -> str:
        """What happened after an answer that was fixed."""
        which = (call.request_id, call.generation)
        said = [one.kind for one in self._feedback.get(which, ()) if one.kind in _NOT_GOOD]
        if call.fixed == "person":
            return " and ".join(dict.fromkeys(said))
        if call.was_escalated:
            return "another model was asked"
        return "a person was asked" if which in self._letters else "nothing"

    def _judged(self) -> list[_Call]:
        """Every call with what became of its answer."""
        requests: dict[tuple[str, int], list[_Call]] = defaultdict(list)
        for call in self._calls.values():
            requests[call.request_id, call.generation].append(call)
        for which, calls in requests.items():
            calls.sort(key=lambda one: one.attempt.attempt_no)
            self._judge(which, [one for one in calls if one.attempt.step == "answer"])
        return list(self._calls.values())

    def _judge(self, which: tuple[str, int], answers: Sequence[_Call]) -> None:
        result = self._results.get(which)
        published = result.response.request_id if result and result.response else None
        for no, call in enumerate(answers):
            call.fixed, call.latency_ms, call.is_completed = None, None, False
            call.was_escalated = any(later.key.tier != call.key.tier for later in answers[no + 1 :])
            attempt = call.attempt
            if not attempt.was_judged:
                continue
            if attempt.outcome == "rejected":
                call.fixed = "check"
            elif any(later.attempt.changes for later in answers[no + 1 :]):
                call.fixed = "model"
            if result is not None and attempt.attempt_id == published:
                call.is_completed = True
                call.latency_ms = result.router.latency.total_ms
        good = [one for one in answers if one.attempt.outcome == "accepted" and one.fixed is None]
        if good and any(one.kind in _NOT_GOOD for one in self._feedback.get(which, ())):
            good[-1].fixed = "person"  # it was this one that people saw
        if result is not None and not any(one.is_completed for one in answers):
            for call in answers[-1:]:  # our own words, or a person's
                call.is_completed = result.router.kind not in ("refusal", "safe_default")
                call.latency_ms = result.router.latency.total_ms


class Alarm(NamedTuple):
    """A figure that somebody should look into."""

    row: Row
    #: The name of the measure.
    measure: str
    words: str


def alarms(rows: Iterable[Row]) -> list[Alarm]:
    """What is wrong with these groups, and what to do about it."""
    found = []
    for row in rows:
        if len(row.answers) < _ENOUGH:
            continue
        name = " at ".join(row.name)
        escalated = len(row.escalated) / len(row.answers)
        by_person = len(row.corrected["person"]) / len(row.answers)
        if escalated >= _MOST_ESCALATED:
            words = (
                f"{escalated:.0%} of the answers of {name} were paid for and not used: mend the "
                f"prompt, or begin a tier higher"
            )
            found.append(Alarm(row, "escalated", words))
        if by_person >= _MOST_BY_PERSON:
            words = (
                f"people fixed {by_person:.0%} of the answers of {name}: tighten its checks or "
                f"raise its threshold"
            )
            found.append(Alarm(row, "by person", words))
    return found


def _count(row: Row, call: _Call) -> None:
    id_, attempt = call.request_id, call.attempt
    row.calls.append(id_)
    row.cost_micros += attempt.cost_micros
    if attempt.step != "answer":
        return
    if attempt.was_judged:
        row.answers.append(id_)
        if call.fixed is not None:
            row.corrected[call.fixed].append(id_)
        if call.was_escalated:
            row.escalated.append(id_)
        if attempt.reason is Reason.SCHEMA_FAILED:
            row.schema_failures.append(id_)
        if attempt.reason is Reason.REFUSED:
            row.refusals.append(id_)
    if call.is_completed:
        row.completed.append(id_)
        if call.latency_ms is not None:
            row.latencies_ms.append(call.latency_ms)


def told(measure: Measure, row: Row) -> str:
    """A figure as people read it; a dash where there is none."""
    value = measure.value(row)
    if value is None:
        return "-"
    if measure.unit == "share":
        return f"{value:.1%}"
    if measure.unit == "micros":
        return f"${value / 1e6:.6f}"
    if measure.unit == "ms" and value >= _LONG_MS:
        return str(timedelta(seconds=round(value / 1000)))
    return f"{value:,.0f} ms" if measure.unit == "ms" else f"{value:,.0f}"


def percentile(values: Iterable[float], share: float) -> float | None:
    """The nearest-rank percentile; None of nothing."""
    ordered = sorted(values)
    if not ordered:
        return None
    return ordered[max(int(-(-len(ordered) * share // 100)) - 1, 0)]


def values_of(row: Row) -> Mapping[str, float | None]:
    """A group's figures by their names."""
    return {one.name: one.value(row) for one in MEASURES}


def names_of(row: Row, by: Sequence[By]) -> Mapping[str, str]:
    """A group's name as fields."""
    return dict(zip(by, row.name, strict=False))
