"""Quality: how often an answer had to be fixed, what it cost and how long it took, by route.

An answer was corrected when a check turned it down, when a later model changed it, or when a person
did: an edit, another try, a complaint. So a cheap model that is always escalated has no good rate.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from router.attempt.pricing import cost_micros
from router.policy.table import Policy
from router.reports.bill import Line, Spent
from router.reports.measures import By, Fixed, Row
from schemas.attempt import LedgerEntry, Step
from schemas.base import Tier
from schemas.codec import dump
from schemas.dead_letter import DeadLetter
from schemas.feedback import Feedback
from schemas.reasons import Reason
from schemas.result import Result
from schemas.tenancy import RequestKey
from schemas.usage import Usage

__all__ = ["Event", "Quality", "Tried", "event_of"]

#: What a downstream service or a reviewer says when an answer was not good as it was.
_NOT_GOOD = frozenset(("edited", "regenerated", "complaint"))
_UNKNOWN = "unknown"
#: Characters of what people say that are kept.
_MOST_WORDS = 500


class _Key(NamedTuple):
    """Where a call belongs."""

    task: str
    tier: str
    model: str
    prompt: str
    #: Why the answer was not taken, or the call failed.
    reason: str


class Tried(NamedTuple):
    """What the figures take from a line of the ledger."""

    request: RequestKey
    generation: int
    task: str
    attempt_id: str
    attempt_no: int
    step: Step
    tier: Tier
    model: str
    prompt_version: str
    policy_version: str
    started_at: datetime
    outcome: str
    reason: Reason | None
    detail: str
    usage: Usage
    cost_micros: int
    #: True where an accepted answer changed that of a weaker model.
    has_changed: bool

    @property
    def was_judged(self) -> bool:
        """True when the model gave a reply that was judged."""
        return self.outcome in ("accepted", "rejected")


class Ended(NamedTuple):
    """What the figures take from a final result."""

    request: RequestKey
    generation: int
    #: The attempt whose answer it is; None where it is our own words.
    published: str | None
    kind: str
    total_ms: float


class Lettered(NamedTuple):
    """What the figures take from a dead letter."""

    request: RequestKey
    generation: int


class Minded(NamedTuple):
    """What the figures take from feedback."""

    request: RequestKey
    generation: int
    kind: str
    #: Why, and what was used instead, in words.
    words: str


#: What `Quality` folds. All of a request's make its figures, in whatever order they come.
Event = Tried | Ended | Lettered | Minded


def event_of(what: LedgerEntry | Result | DeadLetter | Feedback) -> Event | None:
    """What a record says of quality; None where it says nothing.

    A line that announces a call, a result that is not final and a dead letter without an id say
    nothing.
    """
    if isinstance(what, LedgerEntry):
        return _tried(what)
    if isinstance(what, Result):
        info, response = what.router, what.response
        published = response.request_id if response else None
        ended = Ended(what.key, info.generation, published, info.kind, info.latency.total_ms)
        return ended if info.final else None
    if isinstance(what, DeadLetter):
        return None if what.key is None else Lettered(what.key, what.generation)
    instead = dump(what.correction).decode() if what.correction else ""
    words = "; instead: ".join(one for one in (what.comment, instead) if one)
    return Minded(what.key, what.generation, what.kind, words[:_MOST_WORDS])


def _tried(entry: LedgerEntry) -> Tried | None:
    one = entry.attempt
    if one.outcome == "started":
        return None
    return Tried(
        request=entry.key,
        generation=entry.generation,
        task=entry.task or _UNKNOWN,
        attempt_id=one.attempt_id,
        attempt_no=one.attempt_no,
        step=one.step,
        tier=one.tier,
        model=one.model,
        prompt_version=one.prompt_version,
        policy_version=one.policy_version,
        started_at=one.started_at,
        outcome=one.outcome,
        reason=one.reason,
        detail=one.detail,
        usage=one.usage,
        cost_micros=one.cost_micros,
        has_changed=bool(one.changes),
    )


@dataclass(slots=True)
class _Call:
    """One call, as the ledger has it."""

    request: RequestKey
    generation: int
    key: _Key
    at: datetime
    attempt: Tried
    #: In the order in which it is found out: the first one counts.
    fixed: Fixed | None = None
    #: Milliseconds from intake to the result, where this call's answer is the result.
    latency_ms: float | None = None
    is_completed: bool = False
    was_escalated: bool = False
    was_abandoned: bool = False


class Quality:
    """The fold. Records may come in any order, and twice; ask once all are told."""

    def __init__(self) -> None:
        self._calls: dict[tuple[RequestKey, str], _Call] = {}
        #: Kinds of feedback with their words, in the order in which they came.
        self._feedback: dict[tuple[RequestKey, int], dict[str, str]] = defaultdict(dict)
        self._results: dict[tuple[RequestKey, int], Ended] = {}
        self._letters: set[tuple[RequestKey, int]] = set()
        #: When each policy version was first used.
        self.policies: dict[str, datetime] = {}

    def tell(self, what: Event | LedgerEntry | Result | DeadLetter | Feedback | None) -> None:
        """Take a record in, or what `event_of` has taken from it."""
        if isinstance(what, (LedgerEntry, Result, DeadLetter, Feedback)):
            what = event_of(what)
        if what is None:
            return
        which = what.request, what.generation
        if isinstance(what, Tried):
            self._call(what)
        elif isinstance(what, Ended):
            self._results[which] = what
        elif isinstance(what, Lettered):
            self._letters.add(which)
        else:
            said = self._feedback[which]
            said[what.kind] = what.words or said.get(what.kind, "")

    def _call(self, one: Tried) -> None:
        reason = one.reason.value if one.reason else one.outcome
        key = _Key(one.task, one.tier, one.model, one.prompt_version, reason)
        call = _Call(one.request, one.generation, key, one.started_at, one)
        self._calls[one.request, one.attempt_id] = call
        first = self.policies.get(one.policy_version)
        if first is None or one.started_at < first:
            self.policies[one.policy_version] = one.started_at

    def table(
        self,
        by: Sequence[By],
        policy: Policy,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> tuple[list[Row], Row]:
        """The groups' figures, the dearest first, and their sum.

        Calls count that began at or after `since` and before `until`. What they cost is spent where
        their request ended: an answer costs all that was tried before it, in whatever group.
        """
        strongest = policy.models[policy.models_of(list(policy.tiers)[-1])[0]].price
        rows: dict[tuple[str, ...], Row] = {}

        def row_of(call: _Call) -> Row:
            name = tuple(getattr(call.key, one) for one in by)
            return rows.setdefault(name, Row(name))

        calls = self._judged()
        ends = _ends(calls)
        for call in calls:
            if (since and call.at < since) or (until and call.at >= until):
                continue
            _count(row_of(call), call)
            end = row_of(ends.get(call.request, call))
            end.spend(str(call.request), call.attempt.cost_micros)
            end.strongest_micros += cost_micros(call.attempt.usage, strongest)
        total = Row(("total",))
        for row in rows.values():
            total.add(row)
        return sorted(rows.values(), key=lambda row: (-row.cost_micros, row.name)), total

    def bill(self, since: datetime, until: datetime) -> Spent:
        """Every call that began then, for `router.reports.bill`."""
        return Spent.of(
            Line(
                call.request.text,
                (call.key.task, call.key.tier, call.key.model),
                call.attempt.usage.total_tokens,
                call.attempt.cost_micros,
            )
            for call in self._calls.values()
            if since <= call.at < until
        )

    def over_time(self, edges: Sequence[datetime]) -> list[Row]:
        """The sum's figures between each two edges."""
        rows = [Row((edge.isoformat(),)) for edge in edges[:-1]]
        for call in self._judged():
            for row, begin, end in zip(rows, edges, edges[1:], strict=False):
                if begin <= call.at < end:
                    _count(row, call)
                    row.spend(str(call.request), call.attempt.cost_micros)
        return rows

    def failures(self, tiers: Iterable[str]) -> list[tuple[RequestKey, Tried, Fixed, str]]:
        """Answers of these tiers that had to be fixed: whose, by whom, and what came next.

        The record of where a cheap route was the wrong one.
        """
        wanted = set(tiers)
        found = [
            (call.request, call.attempt, call.fixed, self._next(call))
            for call in self._judged()
            if call.fixed is not None and call.key.tier in wanted
        ]
        return sorted(found, key=lambda one: one[1].started_at)

    def _next(self, call: _Call) -> str:
        """What happened after an answer that was fixed."""
        which = (call.request, call.generation)
        if call.fixed == "person":
            said = self._feedback.get(which, {})
            return " and ".join(
                f"{one}: {words}" if words else one
                for one, words in said.items()
                if one in _NOT_GOOD
            )
        if call.was_escalated:
            return "another model was asked"
        return "a person was asked" if which in self._letters else "nothing"

    def _judged(self) -> list[_Call]:
        """Every call with what became of its answer."""
        requests: dict[tuple[RequestKey, int], list[_Call]] = defaultdict(list)
        for call in self._calls.values():
            requests[call.request, call.generation].append(call)
        for which, calls in requests.items():
            calls.sort(key=lambda one: one.attempt.attempt_no)
            self._judge(which, [one for one in calls if one.attempt.step == "answer"])
        return list(self._calls.values())

    def _judge(self, which: tuple[RequestKey, int], answers: Sequence[_Call]) -> None:
        result = self._results.get(which)
        published = result.published if result else None
        for no, call in enumerate(answers):
            call.fixed, call.latency_ms, call.is_completed = None, None, False
            call.was_abandoned = False
            call.was_escalated = any(later.key.tier != call.key.tier for later in answers[no + 1 :])
            attempt = call.attempt
            if not attempt.was_judged:
                continue
            if attempt.outcome == "rejected":
                call.fixed = "check"
            elif any(later.attempt.has_changed for later in answers[no + 1 :]):
                call.fixed = "model"
            if result is not None and attempt.attempt_id == published:
                call.is_completed = True
                call.latency_ms = result.total_ms
        good = [one for one in answers if one.attempt.outcome == "accepted" and one.fixed is None]
        said = self._feedback.get(which, {})
        if good and not _NOT_GOOD.isdisjoint(said):
            good[-1].fixed = "person"  # it was this one that people saw
        if good and "abandoned" in said:
            good[-1].was_abandoned = True
        if result is not None and not any(one.is_completed for one in answers):
            for call in answers[-1:]:  # our own words, or a person's
                call.is_completed = result.kind not in ("refusal", "safe_default")
                call.latency_ms = result.total_ms


def _ends(calls: Iterable[_Call]) -> dict[RequestKey, _Call]:
    """Where each request ended, over all its generations: at its answer, else at the last try."""
    ends: dict[RequestKey, _Call] = {}
    for call in calls:
        last = ends.get(call.request)
        if call.attempt.step == "answer" and (last is None or _rank(call) > _rank(last)):
            ends[call.request] = call
    return ends


def _rank(call: _Call) -> tuple[bool, int, int]:
    return call.is_completed, call.generation, call.attempt.attempt_no


def _count(row: Row, call: _Call) -> None:
    id_, attempt = str(call.request), call.attempt
    row.calls.append(id_)
    row.own_micros += attempt.cost_micros
    if attempt.step != "answer":
        return
    if attempt.was_judged:
        row.answers.append(id_)
        if call.fixed is not None:
            row.corrected[call.fixed].append(id_)
        if call.was_escalated:
            row.escalated.append(id_)
        if call.was_abandoned:
            row.abandoned.append(id_)
        if attempt.reason is Reason.SCHEMA_FAILED:
            row.schema_failures.append(id_)
        if attempt.reason is Reason.REFUSED:
            row.refusals.append(id_)
    if call.is_completed:
        row.completed.append(id_)
        if call.latency_ms is not None:
            row.took(call.latency_ms)
