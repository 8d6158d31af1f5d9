"""What follows from a reviewer's decision, and why it may not be carried out."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from router.attempt.answering import ComposedKind, composed_result, kept_answer
from router.attempt.fallback import canned_output
from router.attempt.pricing import cost_micros
from router.judge.judging import output_contract
from router.policy.table import Policy
from router.prompts.rendering import Prompts
from router.route.ladders import plan_named, rungs
from router.route.requeue import envelope_fields, requeued
from schemas.attempt import Attempt
from schemas.base import Tier
from schemas.dead_letter import DeadLetter
from schemas.errors import ContractError
from schemas.escalation import Assignment, Escalation, RouteTaken
from schemas.feedback import Feedback
from schemas.json_numbers import as_json
from schemas.reasons import Reason
from schemas.request import Request
from schemas.review import Decision
from schemas.usage import Usage

__all__ = [
    "Outcome",
    "answers_of",
    "hash_of_answers",
    "most_price_at",
    "outcome_of",
    "price_at",
    "problems_of",
    "refusal_of",
    "wants_approval",
]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a decision leads to; nothing where it discards: the dead letter stays the end."""

    #: The fields of a result.
    result: Mapping[str, Any] | None = None
    escalation: Escalation | None = None
    feedback: Feedback | None = None


def refusal_of(decision: Decision, letter: DeadLetter, policy: Policy) -> str | None:
    """Why a decision cannot be carried out, in words; None when it can."""
    if letter.request_id is None or letter.reason.is_unreadable or letter.reason.is_refused:
        if decision.action == "discard":
            return None
        what = "admitted" if letter.reason.is_refused else "readable"
        return f"the request was never {what}; fix it and publish it to intake"
    expected, named = (letter.tenant, letter.request_id, letter.generation), decision.tenant
    # An old decision names no tenant: then the tenant of its dead letter counts.
    whose = letter.tenant if named is None else named
    if (whose, decision.request_id, decision.generation) != expected:
        return "the dead letter is of another request"
    if decision.action in ("retry", "requeue"):
        if letter.generation > policy.limits.requeues:
            return f"{policy.limits.requeues} requeues are allowed, and all have been used"
        if decision.action == "retry" and decision.tier not in policy.tiers:
            return "a tier of the policy was expected"
    if decision.action == "approve":
        answers = {attempt.attempt_id for attempt in answers_of(letter)}
        if decision.attempt_id not in answers:
            return "an attempt of this request with an answer was expected"
    if decision.action == "edit" and not decision.output:
        return "an answer was expected"
    return None


def answers_of(letter: DeadLetter) -> list[Attempt]:
    """The attempts whose answer a reviewer may approve."""
    return [
        attempt
        for attempt in letter.attempts
        if attempt.step == "answer" and attempt.was_judged and attempt.reply
    ]


def hash_of_answers(letter: DeadLetter) -> str:
    """SHA-256 of the answers that a reviewer may approve, by which a change is seen."""
    answers = [
        (attempt.attempt_id, attempt.verdict.output if attempt.verdict else None, attempt.reply)
        for attempt in answers_of(letter)
    ]
    return hashlib.sha256(as_json(answers)).hexdigest()


def price_at(letter: DeadLetter, tier: Tier | None, policy: Policy) -> int:
    """What one call of the tier's first model costs, in micro-dollars, by the last call's usage.

    None is the tier where the policy begins with the letter's task.
    """
    if tier is None:
        row = policy.tasks.get(letter.task or "")
        tier = row.tier if row else next(iter(policy.tiers))
    counted = [attempt.usage for attempt in letter.attempts if attempt.usage.total_tokens]
    usage = counted[-1] if counted else Usage(input_tokens=500, output_tokens=500, estimated=True)
    return cost_micros(usage, policy.models[policy.models_of(tier, letter.task)[0]].price)


def most_price_at(letter: DeadLetter, tier: Tier | None, policy: Policy) -> int:
    """What a request costs that climbs as far as its task and its plan allow: a call per tier."""
    row = policy.tasks.get(letter.task or "")
    first = tier or (row.tier if row else next(iter(policy.tiers)))
    above = rungs(row, first, plan_named(letter.plan, policy).ceiling, policy) if row else ()
    climbed = above[: policy.limits.escalations]
    return sum(price_at(letter, each, policy) for each in (first, *climbed))


def wants_approval(letter: DeadLetter, policy: Policy) -> bool:
    """True where a person has to approve the request's answers, whatever the checks say."""
    row = policy.tasks.get(letter.task or "")
    return (row is not None and row.approval != "none") or letter.reason.wants_person


def problems_of(
    output: Mapping[str, Any], letter: DeadLetter, request: Request, policy: Policy
) -> list[tuple[str, str]]:
    """Where and how an edited answer breaks its task's format: JSON pointers with words."""
    contract = output_contract(request, policy, letter.task, "answer")
    if contract.validator is None or "tool_calls" in output:
        is_text = isinstance(output.get("answer"), str) or "tool_calls" in output
        return [] if is_text else [("/answer", "a text was expected")]
    return [
        ("".join(f"/{str(step).replace('~', '~0').replace('/', '~1')}" for step in path), words)
        for path, words in contract.validator.problems(dict(output))
    ]


def outcome_of(
    decision: Decision,
    letter: DeadLetter,
    request: Request | None,
    policy: Policy,
    prompts: Prompts,
    *,
    decided_at: datetime,
    now: datetime,
) -> Outcome:
    """Carry out a decision that stands. Raises ContractError where that is not possible.

    The request keeps its id, its history and, unless it is sent through again, its generation.
    """
    if (problem := refusal_of(decision, letter, policy)) is not None:
        raise ContractError(Reason.INVALID_FIELD, problem)
    if decision.action == "discard" or request is None:
        return Outcome()
    if decision.action in ("retry", "requeue"):
        row = policy.tasks.get(letter.task or "")
        allowed = (row.deadline if row else None) or policy.limits.deadline
        sent = requeued(letter, policy, decision.deadline or now + allowed, tier=decision.tier)
        return Outcome(escalation=sent, feedback=_feedback(decision, request.tenant, now))

    if decision.action == "edit" and (
        problems := problems_of(decision.output or {}, letter, request, policy)
    ):
        where, words = problems[0]
        raise ContractError(Reason.INVALID_FIELD, f"output{where}: {words}")
    envelope = _envelope(letter, policy, decided_at)
    answer: Attempt | None = None
    kind: ComposedKind | None = None
    if decision.action == "reject":
        contract = output_contract(request, policy, letter.task, "answer")
        text, kind = prompts.text(letter.task or "", "safe_default") or "", "safe_default"
        output = canned_output(text, contract.schema)
    elif decision.action == "edit":
        output = decision.output or {}
        text = _text_of(output)
    else:
        answer = next(a for a in letter.attempts if a.attempt_id == decision.attempt_id)
        kind, text, output = kept_answer(answer)
    kind = kind or ("tool_calls" if output.get("tool_calls") else "answer")
    result = composed_result(envelope, request, (), kind, text, output, answer=answer, now=now)
    result["router"] |= {"resolves": str(decision.letter), "review": decision.action}
    correction = output if decision.action == "edit" else None
    return Outcome(result, feedback=_feedback(decision, request.tenant, now, correction))


def _text_of(output: Mapping[str, Any]) -> str:
    """An edited answer as the text that a model would have written: an `answer` alone as it is."""
    if output.keys() == {"answer"} and isinstance(output["answer"], str):
        return output["answer"]
    return as_json(output).decode()


_KINDS: Mapping[str, Any] = {
    "approve": "accepted",
    "edit": "edited",
    "retry": "regenerated",
    "requeue": "regenerated",
    "reject": "complaint",
}


def _feedback(
    decision: Decision, tenant: str, now: datetime, correction: Mapping[str, Any] | None = None
) -> Feedback:
    return Feedback(
        request_id=decision.request_id,
        tenant=tenant,
        generation=decision.generation,
        kind=_KINDS[decision.action],
        source="reviewer",
        at=now,
        correction=dict(correction) if correction is not None else None,
        comment=decision.reason or None,
    )


def _envelope(letter: DeadLetter, policy: Policy, decided_at: datetime) -> Assignment:
    """The request's last assignment, as far as its dead letter holds it.

    The dead letter holds only the tiers of its routes. A request that was never routed gets the
    tier in which it would have begun, because a result has to name one.
    """
    row = policy.tasks.get(letter.task or "")
    tiers = [Tier(tier) for tier in letter.path] or [row.tier if row else next(iter(policy.tiers))]
    begun = letter.attempts[0].started_at if letter.attempts else letter.failed_at
    routes = [
        RouteTaken(
            tier=tier,
            rule="review",
            reason=f"{letter.reason.meaning}; a person decided",
            policy_version=letter.policy_version or policy.version,
            policy_digest=letter.policy_digest,
            routed_at=begun,
        )
        for tier in tiers
    ]
    return Assignment(
        **envelope_fields(letter),
        generation=letter.generation,
        deadline=letter.deadline or decided_at,
        attempts_left=0,
        routes=routes,
    )
