"""Quality figures as a plain walk through all that was ever told: what the tables have to say."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from router.reports.measures import FIGURES
from schemas.attempt import Attempt, CallId, LedgerEntry
from schemas.feedback import Feedback
from schemas.reasons import Reason
from schemas.result import Result
from schemas.tenancy import RequestKey

__all__ = ["Figures", "Plain"]

_NOT_GOOD = {"edited", "regenerated", "complaint"}


@dataclass
class Figures:
    """The figures of a group."""

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(FIGURES, 0))
    latencies_ms: list[float] = field(default_factory=list)
    waits_ms: list[float] = field(default_factory=list)


@dataclass
class _Call:
    entry: LedgerEntry
    fixed: str | None = None
    latency_ms: float | None = None
    is_completed: bool = False
    is_reviewed: bool = False
    is_escalated: bool = False
    is_abandoned: bool = False
    is_handled: bool = False

    @property
    def attempt(self) -> Attempt:
        return self.entry.attempt

    def name(self, by: Sequence[str]) -> tuple[str, ...]:
        attempt = self.attempt
        names = {
            "task": self.entry.task or "unknown",
            "tier": str(attempt.tier),
            "model": attempt.model,
            "prompt": attempt.prompt_version,
            "reason": attempt.reason.value if attempt.reason else attempt.outcome,
            "policy": attempt.policy_version,
        }
        return tuple(names[one] for one in by)


class Plain:
    """Whoever is told everything, each partition in its order, knows this."""

    def __init__(self, told: Iterable[Any]) -> None:
        self._calls: dict[tuple[RequestKey, CallId], _Call] = {}
        self._results: dict[tuple[RequestKey, int], Result] = {}
        self._said: dict[tuple[RequestKey, int], set[str]] = defaultdict(set)
        for what in told:
            if isinstance(what, LedgerEntry) and what.attempt.outcome != "started":
                known = self._calls.get((what.key, what.attempt.call_id))
                if known is None or known.attempt.is_estimated or not what.attempt.is_estimated:
                    self._calls[what.key, what.attempt.call_id] = _Call(what)
            elif isinstance(what, Result) and what.router.final:
                self._results[what.key, what.router.generation] = what
            elif isinstance(what, Feedback):
                self._said[what.key, what.generation].add(what.kind)
        requests: dict[RequestKey, list[_Call]] = defaultdict(list)
        for call in self._calls.values():
            requests[call.entry.key].append(call)
        self._requests = [sorted(calls, key=_order) for calls in requests.values()]
        for calls in self._requests:
            for generation in {one.entry.generation for one in calls}:
                self._judge([one for one in calls if one.entry.generation == generation])

    def _judge(self, calls: Sequence[_Call]) -> None:
        answers = [one for one in calls if one.attempt.step == "answer"]
        if not answers:
            return
        which = answers[0].entry.key, answers[0].entry.generation
        result, said = self._results.get(which), self._said.get(which, set())
        answers[-1].is_handled = bool(_NOT_GOOD & said)
        judged = {one.attempt.attempt_id: one for one in answers if one.attempt.was_judged}
        for no, call in enumerate(answers):
            later = [one.attempt for one in answers[no + 1 :]]
            if not call.attempt.was_judged:
                continue
            call.is_escalated = any(one.tier != call.attempt.tier for one in later)
            if call.attempt.outcome == "rejected":
                call.fixed = "check"
            elif any(one.changes for one in later):
                call.fixed = "model"
            if result and result.response:
                call.is_completed = judged.get(result.response.request_id) is call
        good = [one for one in answers if one.attempt.outcome == "accepted" and not one.fixed]
        for call in good[-1:]:
            call.fixed = "person" if _NOT_GOOD & said else None
            call.is_abandoned = "abandoned" in said
        if result is None:
            return
        if not any(one.is_completed for one in answers):
            is_words = result.router.kind in ("refusal", "safe_default")
            answers[-1].is_completed = not is_words
        for call in answers:
            call.latency_ms = result.router.latency.total_ms if call.is_completed else None
            call.is_reviewed = call.is_completed and result.router.review is not None

    def figures(
        self, by: Sequence[str], since: datetime, until: datetime
    ) -> dict[tuple[str, ...], Figures]:
        """The figures of each group."""
        found: dict[tuple[str, ...], Figures] = defaultdict(Figures)
        for calls in self._requests:
            ends = [one for one in calls if one.attempt.step == "answer"]
            end = max(
                ends or calls, key=lambda one: (one.is_completed, one.entry.generation, _order(one))
            )
            for call in calls:
                if since <= call.attempt.started_at < until:
                    self._count(found[call.name(by)], call)
                if since <= end.attempt.started_at < until:
                    _pay(found[end.name(by)].counts, call.attempt)
            if since <= end.attempt.started_at < until:
                tiers = {(one.entry.generation, one.attempt.tier) for one in ends}
                generations = {generation for generation, _ in tiers}
                counts = found[end.name(by)].counts
                counts["requests"] += 1
                counts["retried"] += len(tiers) < len(ends)
                counts["fell_back"] += len(tiers) > len(generations)
            if ends and since <= ends[0].attempt.started_at < until:
                found[ends[0].name(by)].counts["begun"] += 1
        return found

    @staticmethod
    def _count(figures: Figures, call: _Call) -> None:
        attempt, usage = call.attempt, call.attempt.usage
        is_answer = attempt.step == "answer" and attempt.was_judged
        moved = {
            "calls": 1,
            "handled": call.is_handled,
            "unmeasured": call.is_handled,
            "own_micros": attempt.cost_micros,
            "input_tokens": usage.input_tokens,
            "output_tokens": usage.output_side,
            "unaided": call.is_completed and not call.is_reviewed,
            "reviewed": call.is_reviewed,
        }
        if is_answer:
            moved |= {
                "answers": 1,
                "by_check": call.fixed == "check",
                "by_model": call.fixed == "model",
                "by_person": call.fixed == "person",
                "escalated": call.is_escalated,
                "abandoned": call.is_abandoned,
                "schema_failures": attempt.reason is Reason.SCHEMA_FAILED,
                "refusals": attempt.reason is Reason.REFUSED,
            }
        for name, count in moved.items():
            figures.counts[name] += count
        if call.latency_ms is not None:
            times = figures.waits_ms if call.is_reviewed else figures.latencies_ms
            times.append(call.latency_ms)


def _order(call: _Call) -> tuple[int, str, datetime]:
    return call.attempt.attempt_no, call.attempt.attempt_id, call.attempt.started_at


def _pay(counts: dict[str, int], attempt: Attempt) -> None:
    usage = attempt.usage
    counts["paid"] += 1
    counts["cost_micros"] += attempt.cost_micros
    counts["paid_input_tokens"] += usage.input_tokens
    counts["paid_output_tokens"] += usage.output_side
