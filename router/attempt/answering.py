"""From calls to records: attempts from calls, results and ledger lines from attempts.

Results and ledger lines are fields written by hand, as `schemas.result.Result` and
`schemas.attempt.LedgerEntry` have them: they are written for every call, and building and dumping
the models takes longer than judging the reply. Tests read every one of them back.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from router.attempt.hops import given, hops_of, latency_of
from router.attempt.model_quirks import charged, price_of
from router.attempt.next_step import answer_of
from router.attempt.pricing import cost_micros, most_micros
from router.policy.table import Policy
from router.prompts.files import CannedReply
from router.reply.changes import changes_between, weaker_answer
from router.reply.normalise import asks_back, normalise_text
from router.reply.reply import CallFailure, Reply
from schemas.attempt import Attempt, Step
from schemas.base import Tier
from schemas.escalation import Assignment, Escalation
from schemas.request import Request
from schemas.tenancy import RequestKey
from schemas.usage import Usage
from schemas.verdict import Verdict

__all__ = [
    "ComposedKind",
    "attempt_of",
    "composed_result",
    "kept_answer",
    "ledger_lines",
    "result_of",
]

#: The kinds of results we compose: one of our own texts, or an answer that a person chose.
ComposedKind = CannedReply | Literal["answer", "tool_calls", "needs_confirmation"]

#: Characters of a reply that are kept for the person who may have to read it.
_KEPT_REPLY = 64 * 1024


def attempt_of(  # noqa: PLR0913  an attempt has as many parts
    assignment: Assignment,
    outcome: Reply | CallFailure | Usage,
    verdict: Verdict | None,
    *,
    attempt_id: str,
    attempt_no: int,
    model_name: str,
    policy: Policy,
    release: str,
    prompt_version: str,
    started_at: datetime,
    duration_ms: float,
    step: Step | None = None,
    tier: Tier | None = None,
) -> Attempt:
    """The attempt that records a call. In place of an outcome, a usage is the most that a call can
    use that is about to start.

    `release` is the digest of the release that is applied. `step` and `tier` are those of the
    assignment where none are given.
    """
    model = policy.models[model_name]
    tier, step = tier or assignment.route.tier, step or assignment.route.step
    common = {
        "attempt_id": attempt_id,
        "attempt_no": attempt_no,
        "generation": assignment.generation,
        "step": step,
        "tier": tier,
        "model": model_name,
        "provider": model.provider,
        "prompt_version": prompt_version,
        "policy_version": policy.version,
        "policy_digest": release,
        "started_at": started_at,
        "duration_ms": round(duration_ms, 3),
    }
    if isinstance(outcome, Usage):
        most = {"usage": outcome, "reserve_micros": most_micros(outcome, model.price)}
        common |= {"price_version": model.price.version, "is_estimated": True}
        return Attempt.model_validate({**common, **most, "outcome": "started"})

    price, usage = model.price, outcome.usage
    if isinstance(outcome, Reply):
        price = price_of(outcome, model, policy)
        cost, oddities = charged(outcome, model, policy)
    else:
        # Where nobody knows whether the call ran, the most that it can have cost is booked.
        costing, oddities = most_micros if usage.estimated else cost_micros, ()
        cost = costing(usage, price)
    common |= {"usage": usage, "cost_micros": cost, "http_status": outcome.http_status}
    common |= {"price_version": price.version, "is_estimated": usage.estimated}
    if isinstance(outcome, CallFailure):
        return Attempt.model_validate(
            {**common, "outcome": "failed", "reason": outcome.reason, "detail": outcome.detail}
        )

    failed = verdict.failed if verdict else None
    changes = None
    if assignment.attempts and step == "answer" and failed is None:
        before = weaker_answer(assignment.attempts, tier, assignment.generation)
        changes = changes_between(before, (verdict.output if verdict else None) or {})
    if verdict is not None and failed is not None and len(outcome.text) > _KEPT_REPLY:
        # The reply is shortened; its parsed form would keep all of it.
        verdict = verdict.model_copy(update={"output": None})
    return Attempt.model_validate(
        {
            **common,
            "served_model": outcome.served_model,
            "outcome": "rejected" if failed else "accepted",
            "reason": failed.reason if failed else None,
            "detail": failed.detail if failed else "",
            "finish_reason": outcome.finish_reason,
            "oddities": list(oddities) or None,
            "verdict": verdict,
            "changes": changes,
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
    may_ask: bool = False,
    left_out: Sequence[str] = (),
) -> dict[str, Any]:
    """The fields of the result of an assignment with an accepted attempt, the answer.

    `reply` is that of the answer. `may_ask`: the task allows a question back to the user as its
    result. `left_out`: fields of the producer's chat body that the model was not sent.
    """
    every = [*assignment.attempts, *attempts]
    answer = answer_of(attempts) or every[-1]
    verdict = answer.verdict or Verdict(outcome="accepted", checks=[])
    output = verdict.output or {}
    response = {
        "status_code": reply.http_status,
        "request_id": answer.attempt_id,
        "body": reply.body,
    }
    details = {
        **given(confidence=verdict.confidence),
        "checks": [*_checks(verdict), *_further_checks(attempts)],
        "output": output,
    }
    if left_out:
        details["left_out"] = list(left_out)
    if answer.changes is not None:
        details["changes"] = [given(**change.__dict__) for change in answer.changes]
    kind = _kind(reply, output, may_ask)
    return _result(
        assignment, request, every, answer, response, kind, details, now=now, own_ms=own_ms
    )


def composed_result(  # noqa: PLR0913  a result has as many parts
    envelope: Assignment | Escalation,
    request: Request,
    attempts: Sequence[Attempt],
    kind: ComposedKind,
    text: str,
    output: Mapping[str, Any],
    *,
    answer: Attempt | None = None,
    now: datetime,
    own_ms: float = 0.0,
) -> dict[str, Any]:
    """The fields of a result without a call of its own: our own text, or a person's choice.

    `answer`: the attempt that the person chose. The result lists all attempts.
    """
    every = [*envelope.attempts, *attempts]
    last = answer or (every[-1] if every else None)
    message: dict[str, Any] = {"content": text}
    if kind == "refusal":
        message = {"content": None, "refusal": text}
    elif kind == "tool_calls":
        message = {"content": None, "tool_calls": output["tool_calls"]}
    body = {
        "id": f"{RequestKey(request.tenant, envelope.id).text}.{envelope.generation}",
        "object": "chat.completion",
        "created": int(now.timestamp()),
        "model": last.model if last else "",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", **message},
                "finish_reason": "tool_calls" if kind == "tool_calls" else "stop",
            }
        ],
    }
    response = {"status_code": 200, "request_id": body["id"], "body": body}
    verdict = last.verdict if last else None
    details = {"checks": _checks(verdict) if verdict else [], "output": output}
    if answer is not None and verdict is not None:
        details |= given(confidence=verdict.confidence)
    return _result(envelope, request, every, last, response, kind, details, now=now, own_ms=own_ms)


def kept_answer(answer: Attempt) -> tuple[ComposedKind, str, dict[str, Any]]:
    """Kind, text and output of an attempt's answer, for a result without its reply."""
    text = answer.reply or ""
    output = dict(answer.verdict.output or {}) if answer.verdict else {}
    kind: ComposedKind = "tool_calls" if output.get("tool_calls") else "answer"
    return kind, text, output or normalise_text(text)


def _result(  # noqa: PLR0913  a result has as many parts
    envelope: Assignment | Escalation,
    request: Request,
    every: Sequence[Attempt],
    answer: Attempt | None,
    response: Mapping[str, Any],
    kind: str,
    details: Mapping[str, Any],
    *,
    now: datetime,
    own_ms: float,
) -> dict[str, Any]:
    first, current = envelope.routes[0], envelope.routes[-1]
    usages = [attempt.usage for attempt in every]
    usage = usages[0] if len(usages) == 1 else sum(usages, Usage())
    return {
        "id": envelope.id,
        "custom_id": request.custom_id or envelope.id,
        "response": response,
        "router": {
            "final": True,
            "kind": kind,
            "generation": envelope.generation,
            "tenant": request.tenant,
            "task": envelope.task or "",
            "tier": answer.tier if answer else current.tier,
            "model": answer.model if answer else "",
            "path": [taken.tier for taken in envelope.routes],
            "hops": hops_of(envelope, every),
            "rule": first.rule,
            "reason": first.reason,
            "policy_version": current.policy_version,
            **given(policy_digest=current.policy_digest),
            "prompt_version": answer.prompt_version if answer else "",
            "usage": usage.__dict__,
            "cost_micros": sum(attempt.cost_micros for attempt in every),
            "attempts": len(every),
            "latency": latency_of(envelope, every, now, own_ms),
            **({"trimmed": current.trim.left_out} if current.trim else {}),
            **details,
        },
    }


def _kind(reply: Reply, output: Mapping[str, Any], may_ask: bool) -> str:
    """The result's kind: a question back to the user counts where the task allows one."""
    if "tool_calls" in output and reply.tool_calls:
        return "tool_calls"
    return "clarification" if may_ask and asks_back(output) else "answer"


def ledger_lines(
    assignment: Assignment, request: Request, attempts: Sequence[Attempt]
) -> list[dict[str, Any]]:
    """The fields of one ledger line per attempt.

    Replies and changed values are left out: they stay in the result and the dead letter.
    """
    reserved = assignment.reservation
    whom = {
        "request_id": assignment.id,
        "generation": assignment.generation,
        "tenant": request.tenant,
        **given(
            task=assignment.task,
            plan=request.plan,
            user=request.user,
            workflow=request.workflow,
            conversation=request.conversation_id,
            reservation=reserved and reserved.id,
            reserved_at=reserved and reserved.at,
        ),
    }
    return [{**whom, "attempt": _counted(attempt)} for attempt in attempts]


def _counted(attempt: Attempt) -> dict[str, Any]:
    fields = given(**attempt.__dict__)
    fields.pop("reply", None)
    fields["usage"] = attempt.usage.__dict__
    if attempt.changes is not None:
        fields["changes"] = [{"field": change.field} for change in attempt.changes]
    if (verdict := attempt.verdict) is not None:
        fields["verdict"] = {
            "outcome": verdict.outcome,
            "checks": _checks(verdict),
            **given(confidence=verdict.confidence),
        }
    return fields


def _further_checks(attempts: Sequence[Attempt]) -> list[dict[str, Any]]:
    """The checks that further calls made: agreement of several answers, and verification."""
    answers = sum(1 for attempt in attempts if attempt.step == "answer" and attempt.was_judged)
    checks = [{"check": "agreement", "passed": True}] if answers > 1 else []
    return checks + [
        {"check": "verifier", "passed": True}
        for attempt in attempts
        if attempt.step == "verify" and attempt.outcome == "accepted"
    ]


def _checks(verdict: Verdict) -> list[dict[str, Any]]:
    return [
        {"check": check.check, "passed": True} if check.passed else given(**check.__dict__)
        for check in verdict.checks
    ]
