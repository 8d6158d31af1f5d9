"""From calls to records: an attempt out of a call's outcome, a result out of the attempts."""

from collections.abc import Sequence
from datetime import datetime

from router.policy.table import Model
from router.pricing import cost_micros
from router.reply import CallFailure, Reply
from schemas.attempt import Attempt
from schemas.base import Tier
from schemas.escalation import Assignment, RouteTaken
from schemas.request import Request
from schemas.result import Hop, Latency, Response, Result, RouterInfo
from schemas.usage import Usage
from schemas.verdict import Verdict

__all__ = ["attempt_of", "result_of"]

#: What of a reply is kept for the person who may have to read it.
_KEPT_REPLY = 64 * 1024


def attempt_of(  # noqa: PLR0913  an attempt has as many parts
    assignment: Assignment,
    outcome: Reply | CallFailure,
    verdict: Verdict | None,
    *,
    attempt_id: str,
    attempt_no: int,
    model_name: str,
    model: Model,
    prompt_version: str,
    started_at: datetime,
    duration_ms: float,
) -> Attempt:
    """Write a call down, whatever became of it."""
    common = {
        "attempt_id": attempt_id,
        "attempt_no": attempt_no,
        "generation": assignment.generation,
        "step": assignment.route.step,
        "tier": assignment.route.tier,
        "model": model_name,
        "provider": model.provider,
        "prompt_version": prompt_version,
        "policy_version": assignment.route.policy_version,
        "started_at": started_at,
        "duration_ms": round(duration_ms, 3),
        "usage": outcome.usage,
        "cost_micros": cost_micros(outcome.usage, model.price),
        "http_status": outcome.http_status,
    }
    if isinstance(outcome, CallFailure):
        return Attempt.model_validate(
            {**common, "outcome": "failed", "reason": outcome.reason, "detail": outcome.detail}
        )

    failed = verdict.failed if verdict else None
    return Attempt.model_validate(
        {
            **common,
            "served_model": outcome.served_model,
            "outcome": "rejected" if failed else "accepted",
            "reason": failed.reason if failed else None,
            "detail": failed.detail if failed else "",
            "finish_reason": outcome.finish_reason,
            "verdict": verdict,
            "reply": outcome.text[:_KEPT_REPLY],
        }
    )


def result_of(
    assignment: Assignment,
    request: Request,
    attempts: Sequence[Attempt],
    reply: Reply,
    *,
    now: datetime,
    own_ms: float,
) -> Result:
    """The result of an assignment whose last attempt was accepted."""
    every = [*assignment.attempts, *attempts]
    last = every[-1]
    verdict = last.verdict or Verdict(outcome="accepted", checks=[])
    first = assignment.routes[0]
    info = RouterInfo(
        generation=assignment.generation,
        task=assignment.task or "",
        tier=last.tier,
        model=last.model,
        path=_path(assignment.routes),
        hops=_hops(assignment.routes, every),
        rule=first.rule,
        reason=first.reason,
        policy_version=last.policy_version,
        prompt_version=last.prompt_version,
        usage=sum((attempt.usage for attempt in every), Usage()),
        cost_micros=sum(attempt.cost_micros for attempt in every),
        confidence=verdict.confidence,
        checks=verdict.checks,
        attempts=len(every),
        latency=_latency(assignment, every, now, own_ms),
        output=verdict.output or {},
    )
    response = Response(status_code=reply.http_status, request_id=last.attempt_id, body=reply.body)
    return Result(
        id=assignment.id,
        custom_id=request.custom_id or assignment.id,
        response=response,
        router=info,
    )


def _path(routes: Sequence[RouteTaken]) -> list[Tier]:
    return [taken.tier for taken in routes]


def _hops(routes: Sequence[RouteTaken], attempts: Sequence[Attempt]) -> list[Hop]:
    """Routes and attempts in the order in which they happened."""
    hops = [
        (
            taken.routed_at,
            Hop(kind="route", tier=taken.tier, what=taken.rule, why=taken.reason, code=taken.code),
        )
        for taken in routes
    ]
    hops += [
        (
            attempt.started_at,
            Hop(
                kind="attempt",
                tier=attempt.tier,
                what=attempt.outcome,
                why=_why(attempt),
                code=attempt.reason,
                model=attempt.model,
                cost_micros=attempt.cost_micros,
                duration_ms=attempt.duration_ms,
            ),
        )
        for attempt in attempts
    ]
    return [hop for _, hop in sorted(hops, key=lambda pair: pair[0])]


def _why(attempt: Attempt) -> str:
    if attempt.reason is None:
        return "passed every check"
    return (
        f"{attempt.reason.meaning}: {attempt.detail}" if attempt.detail else attempt.reason.meaning
    )


def _latency(
    assignment: Assignment, attempts: Sequence[Attempt], now: datetime, own_ms: float
) -> Latency:
    appended_at, routed_at = assignment.origin.appended_at, assignment.routes[0].routed_at
    total = max((now - appended_at).total_seconds() * 1000, 0.0)
    intake = min(max((routed_at - appended_at).total_seconds() * 1000, 0.0), total)
    model = min(sum(attempt.duration_ms for attempt in attempts), total - intake)
    own = min(own_ms, total - intake - model)
    return Latency(
        intake_ms=round(intake, 3),
        model_ms=round(model, 3),
        own_ms=round(own, 3),
        queue_ms=round(total - intake - model - own, 3),
        total_ms=round(total, 3),
    )
