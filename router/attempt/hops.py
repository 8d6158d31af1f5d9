"""What a result says of the way to it: its hops and how long they took."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Any

from schemas.attempt import Attempt
from schemas.escalation import Assignment, Escalation

__all__ = ["given", "hops_of", "latency_of"]


def given(**fields: Any) -> dict[str, Any]:
    """The fields that are set."""
    return {name: field for name, field in fields.items() if field is not None}


def hops_of(
    envelope: Assignment | Escalation, attempts: Sequence[Attempt]
) -> list[Mapping[str, Any]]:
    """Routes, admissions and attempts in the order in which they happened."""
    hops: list[tuple[datetime, Mapping[str, Any]]] = [
        (
            taken.routed_at,
            {
                "kind": "route",
                "tier": taken.tier,
                "what": taken.rule,
                "why": taken.reason,
                **given(code=taken.code, moved_by=taken.moved_by),
            },
        )
        for taken in envelope.routes
    ]
    hops += [
        (
            admitted.at,
            {
                "kind": "admission",
                "tier": admitted.tier,
                "what": admitted.what,
                "why": admitted.words,
                **given(code=admitted.code),
            },
        )
        for admitted in envelope.admissions or ()
    ]
    hops += [
        (
            attempt.started_at,
            {
                "kind": "attempt",
                "tier": attempt.tier,
                "what": attempt.outcome,
                "why": _why(attempt),
                **given(code=attempt.reason),
                "model": attempt.model,
                "cost_micros": attempt.cost_micros,
                "duration_ms": attempt.duration_ms,
            },
        )
        for attempt in attempts
    ]
    return [hop for _, hop in sorted(hops, key=_FIRST)]


_FIRST = itemgetter(0)


def _why(attempt: Attempt) -> str:
    if attempt.reason is None:
        changed = ", ".join(change.field for change in attempt.changes or ())
        return f"passed every check; changed: {changed}" if changed else "passed every check"
    return (
        f"{attempt.reason.meaning}: {attempt.detail}" if attempt.detail else attempt.reason.meaning
    )


def latency_of(
    assignment: Assignment | Escalation, attempts: Sequence[Attempt], now: datetime, own_ms: float
) -> dict[str, float]:
    appended_at, routed_at = assignment.origin.appended_at, assignment.routes[0].routed_at
    total = max((now - appended_at).total_seconds() * 1000, 0.0)
    # What was sent through again waited for a person before its route, not at intake.
    waited = (routed_at - appended_at) if assignment.generation == 1 else timedelta(0)
    intake = min(max(waited.total_seconds() * 1000, 0.0), total)
    model = min(sum(attempt.duration_ms for attempt in attempts), total - intake)
    own = min(own_ms, total - intake - model)
    return {
        "intake_ms": round(intake, 3),
        "queue_ms": round(max(total - intake - model - own, 0.0), 3),
        "model_ms": round(model, 3),
        "own_ms": round(own, 3),
        "total_ms": round(total, 3),
    }
