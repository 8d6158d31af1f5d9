"""Escalation: what follows an attempt inside a tier, and where an escalated request goes next.

Two decisions, each a pure function. `next_step` belongs to the worker: call (again), answer, hand
back, or give up. `climb` belongs to route: the next tier, or a dead letter. Both read the limits
from the envelope, so that no memory of a process decides how often a request is tried.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from router.policy.table import Policy
from router.routing import GiveUp, Route, ladder, route, task_of
from schemas.attempt import Attempt, Step
from schemas.base import Tier
from schemas.escalation import Assignment, Classification, Escalation
from schemas.reasons import Reason
from schemas.request import Request

__all__ = ["Answer", "CallModel", "Escalate", "NextStep", "climb", "next_step"]

#: Longest wait before a retry that a worker sits out; anything longer is the backup's turn.
LONGEST_WAIT = timedelta(seconds=30)
_FIRST_WAIT = timedelta(milliseconds=500)

#: The model cannot do this call, however often it is asked.
_DETERMINISTIC = (Reason.PROVIDER_REJECTED, Reason.CONTEXT_OVERFLOW, Reason.UNREADABLE_REPLY)


@dataclass(frozen=True, slots=True)
class CallModel:
    """Call this model, after a wait that the caller may jitter downwards."""

    model: str
    wait: timedelta = timedelta(0)


@dataclass(frozen=True, slots=True)
class Answer:
    """The last attempt is the answer."""


@dataclass(frozen=True, slots=True)
class Escalate:
    """Hand the request back to route."""

    reason: Reason
    detail: str


NextStep = CallModel | Answer | Escalate | GiveUp


def next_step(
    assignment: Assignment,
    attempts: Sequence[Attempt],
    policy: Policy,
    now: datetime,
    *,
    retry_after: float | None = None,
) -> NextStep:
    """Decide what follows the attempts made under this assignment so far.

    A judged reply ends the tier's work: accepted is an answer, rejected climbs. Availability
    failures stay in the tier: one repetition where the task's rule allows it, then the tier's next
    model. Deadline beats budget, budget beats quality. `retry_after`: seconds the provider asked
    us to wait after the last attempt.
    """
    last = attempts[-1] if attempts else None
    current_task = assignment.task if assignment.task in policy.tasks else None
    task = policy.tasks[current_task] if current_task else None
    if last is not None and last.outcome == "accepted":
        return _accepted(assignment, needs_person=bool(task and task.approval == "person"))
    if last is not None and last.outcome == "rejected":
        return Escalate(last.reason or Reason.LOW_CONFIDENCE, last.detail)
    if now >= assignment.deadline:
        return GiveUp(Reason.DEADLINE_PASSED, f"the deadline was {assignment.deadline.isoformat()}")
    if len(attempts) >= assignment.attempts_left:
        return GiveUp(Reason.ATTEMPTS_EXHAUSTED, f"{policy.limits.attempts} attempts were allowed")
    if last is not None and last.reason is Reason.OUTCOME_UNKNOWN and task is not None:
        if task.unknown_outcome == "park":
            return GiveUp(Reason.OUTCOME_UNKNOWN, f"{last.model}: {last.detail}")
    if last is not None and current_task is not None:
        mine = [a for a in assignment.attempts if a.generation == assignment.generation]
        if (stop := _failed_enough([*mine, *attempts], current_task, policy)) is not None:
            return GiveUp(Reason.PROVIDER_UNAVAILABLE, f"{last.model}: {last.detail}; {stop}")
    if last is not None and _may_repeat(last, attempts):
        wait = timedelta(seconds=retry_after) if retry_after is not None else _FIRST_WAIT
        if wait <= LONGEST_WAIT and now + wait < assignment.deadline:
            return CallModel(last.model, wait)

    return _other_model(assignment, attempts, policy, last)


def climb(
    escalation: Escalation, request: Request, policy: Policy, now: datetime
) -> Route | GiveUp:
    """Decide where an escalated request goes: the next tier of its path, or nowhere."""
    if now >= escalation.deadline:
        return GiveUp(Reason.DEADLINE_PASSED, f"the deadline was {escalation.deadline.isoformat()}")
    if escalation.attempts_left == 0:
        return GiveUp(Reason.ATTEMPTS_EXHAUSTED, f"{policy.limits.attempts} attempts were allowed")

    last = escalation.routes[-1] if escalation.routes else None
    known = task_of(request, policy, escalation.classification)
    if known is None and escalation.task in policy.tasks:
        known = escalation.task  # what the policy takes when the classify step fails
    if last is not None and last.step == "classify" and known is None:
        return _unclassified(escalation, request, policy, now)
    if escalation.reason.is_hop or last is None:
        return _first_route(escalation, request, policy, now, escalation.classification)

    if (task := known) is None:
        return GiveUp(Reason.UNKNOWN_TASK, "the policy no longer has the request's task")
    mine = [a for a in escalation.attempts if a.generation == escalation.generation]
    stop = _failed_enough(mine, task, policy) or _climbed_enough(escalation, policy)
    if stop is not None:
        return GiveUp(Reason.NO_TIER_LEFT, f"{escalation.reason.meaning}; {stop}")

    for tier in ladder(last.tier, task, request, policy):
        if _untried(tier, task, "answer", mine, policy):
            return Route(
                tier=tier,
                step="answer",
                task=task,
                rule="escalation",
                reason=f"{last.tier} could not defend its answer: {escalation.reason.meaning}",
                policy_version=policy.version,
                deadline=escalation.deadline,
                code=escalation.reason,
            )

    words = (
        f"{escalation.reason.meaning}, and the task and the plan allow no tier above {last.tier}"
    )
    return GiveUp(Reason.NO_TIER_LEFT, words)


def _failed_enough(attempts: Sequence[Attempt], task: str, policy: Policy) -> str | None:
    """Words, once as many answers have failed as the task's row allows."""
    failures = sum(1 for one in attempts if one.step == "answer" and one.outcome != "accepted")
    limit = policy.tasks[task].failure_limit
    return f"{failures} attempts failed and {limit} are the limit" if failures >= limit else None


def _climbed_enough(escalation: Escalation, policy: Policy) -> str | None:
    """Words, once the request has climbed as often as the policy allows."""
    climbed = sum(
        1
        for before, taken in pairwise(escalation.routes)
        if before.step == "answer" and taken.code and not taken.code.is_hop
    )
    return f"{climbed} escalations are the limit" if climbed >= policy.limits.escalations else None


def _accepted(assignment: Assignment, *, needs_person: bool) -> NextStep:
    if assignment.route.step == "classify":
        return Escalate(Reason.CLASSIFIED, "")
    if needs_person:
        words = f"the policy wants a person to approve answers to {assignment.task}"
        return GiveUp(Reason.APPROVAL_REQUIRED, words)

    return Answer()


def _may_repeat(last: Attempt, attempts: Sequence[Attempt]) -> bool:
    """Once per model: where the call did not run, failed on the way, or may be recalled."""
    same = sum(1 for attempt in attempts if attempt.model == last.model)
    return same == 1 and last.reason not in _DETERMINISTIC


def _other_model(
    assignment: Assignment, attempts: Sequence[Attempt], policy: Policy, last: Attempt | None
) -> NextStep:
    current = assignment.route
    mine = [a for a in assignment.attempts if a.generation == assignment.generation]
    for name in _untried(current.tier, assignment.task, current.step, [*mine, *attempts], policy):
        return CallModel(name)

    if last is None:
        return GiveUp(Reason.NO_TIER_LEFT, f"every model of {current.tier} was tried before")
    task = policy.tasks.get(assignment.task or "")
    if last.reason is Reason.CONTEXT_OVERFLOW or (task and task.on_outage == "next_tier"):
        return Escalate(last.reason or Reason.PROVIDER_UNAVAILABLE, last.detail)
    if current.step == "classify":
        return Escalate(Reason.PROVIDER_UNAVAILABLE, last.detail)
    return GiveUp(Reason.PROVIDER_UNAVAILABLE, f"{last.model}: {last.detail}")


def _untried(
    tier: Tier, task: str | None, step: Step, attempts: Sequence[Attempt], policy: Policy
) -> list[str]:
    """The tier's models that have not been asked in this step."""
    tried = {attempt.model for attempt in attempts if attempt.step == step}
    return [name for name in policy.models_of(tier, task) if name not in tried]


def _first_route(
    escalation: Escalation,
    request: Request,
    policy: Policy,
    now: datetime,
    classification: Classification | None,
) -> Route | GiveUp:
    """A route by the rules, with the deadline the request already has."""
    decided = route(
        request,
        policy,
        now,
        classification=classification,
        accepted_at=escalation.origin.appended_at
        if escalation.reason is not Reason.REQUEUED
        else now,
    )
    if isinstance(decided, GiveUp):
        return decided

    return Route(
        tier=decided.tier,
        step=decided.step,
        task=decided.task,
        rule=decided.rule,
        reason=decided.reason,
        policy_version=decided.policy_version,
        deadline=min(decided.deadline, escalation.deadline),
        code=escalation.reason,
    )


def _unclassified(
    escalation: Escalation, request: Request, policy: Policy, now: datetime
) -> Route | GiveUp:
    """The classify step gave nothing usable: the policy's own guess, or a person."""
    otherwise = policy.classify.otherwise if policy.classify else None
    if otherwise is None:
        words = f"the classify step found no task: {escalation.reason.meaning}"
        return GiveUp(Reason.UNKNOWN_TASK, words)

    return _first_route(escalation, request, policy, now, Classification(task=otherwise))
