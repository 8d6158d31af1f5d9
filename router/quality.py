"""Quality: how often an answer had to be fixed, what it cost and how long it took, by route.

An answer was corrected when a check turned it down, when a later model changed it, or when a person
did: an edit, another try, a complaint. So a cheap model that is always escalated has no good rate.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from router.bill import Line
from router.measures import By, Fixed, Row
from router.policy.table import Policy
from router.pricing import cost_micros
from schemas.attempt import Attempt, LedgerEntry
from schemas.dead_letter import DeadLetter
from schemas.feedback import Feedback
from schemas.reasons import Reason
from schemas.result import Result
from schemas.tenancy import RequestKey

__all__ = ["Quality"]

#: What a downstream service or a reviewer says when an answer was not good as it was.
_NOT_GOOD = frozenset(("edited", "regenerated", "complaint"))
_UNKNOWN = "unknown"


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

    request: RequestKey
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


class Quality:
    """The fold. Records may come in any order, and twice; ask once all are told."""

    def __init__(self) -> None:
        self._calls: dict[tuple[RequestKey, str], _Call] = {}
        self._feedback: dict[tuple[RequestKey, int], list[Feedback]] = defaultdict(list)
        self._results: dict[tuple[RequestKey, int], Result] = {}
        self._letters: dict[tuple[RequestKey, int], DeadLetter] = {}
        #: When each policy version was first used.
        self.policies: dict[str, datetime] = {}

    def attempt(self, entry: LedgerEntry) -> None:
        """A line of the ledger; one that announces a call says nothing yet."""
        one = entry.attempt
        if one.outcome == "started":
            return
        reason = one.reason.value if one.reason else one.outcome
        key = _Key(entry.task or _UNKNOWN, one.tier, one.model, one.prompt_version, reason)
        call = _Call(entry.key, entry.generation, key, one.started_at, one)
        self._calls[entry.key, one.attempt_id] = call
        first = self.policies.get(one.policy_version)
        if first is None or one.started_at < first:
            self.policies[one.policy_version] = one.started_at

    def result(self, result: Result) -> None:
        """A result; what is not final says nothing."""
        if result.router.final:
            self._results[result.key, result.router.generation] = result

    def letter(self, letter: DeadLetter) -> None:
        """A dead letter."""
        if letter.key is not None:
            self._letters[letter.key, letter.generation] = letter

    def feedback(self, feedback: Feedback) -> None:
        """What somebody thought of an answer."""
        known = self._feedback[feedback.key, feedback.generation]
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
                call.request.text,
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

    def failures(self, tiers: Iterable[str]) -> list[tuple[RequestKey, Attempt, Fixed, str]]:
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
        said = [one.kind for one in self._feedback.get(which, ()) if one.kind in _NOT_GOOD]
        if call.fixed == "person":
            return " and ".join(dict.fromkeys(said))
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


def _count(row: Row, call: _Call) -> None:
    id_, attempt = str(call.request), call.attempt
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
