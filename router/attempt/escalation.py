"""Escalation: where a request goes that was handed back to route.

Like the worker's decision it takes the limits from the envelope.
"""

from datetime import datetime

from router.attempt.next_step import failed_enough, untried, used_up
from router.policy.table import Policy
from router.route.guessing import care_of, task_of
from router.route.ladders import climbed_enough, ladder
from router.route.overflow import overflowed
from router.route.routing import GiveUp, Route, route, with_unread_text
from schemas.escalation import Classification, Escalation, RouteTaken
from schemas.reasons import Reason
from schemas.request import Request

__all__ = ["climb"]


def climb(
    escalation: Escalation, request: Request, policy: Policy, now: datetime
) -> Route | GiveUp:
    """Decide where an escalated request goes: the next tier of its path, or nowhere."""
    if (over := used_up(escalation, (), policy, now)) is not None:
        decided: Route | GiveUp = over
    elif escalation.reason is Reason.RESERVATION_USED and escalation.routes:
        decided = _again(escalation, policy)
    else:
        decided = _climbed(escalation, request, policy, now)
    if escalation.replaced_policy is None:
        return decided
    if isinstance(decided, GiveUp):
        words = f"it waited for release {escalation.replaced_policy}"
        return GiveUp(decided.reason, f"{decided.detail}; {words}")
    words = f"routed again: no process has release {escalation.replaced_policy}"
    return decided._replace(reason=f"{decided.reason}; {words}")


def _climbed(
    escalation: Escalation, request: Request, policy: Policy, now: datetime
) -> Route | GiveUp:
    last = escalation.routes[-1] if escalation.routes else None
    task = task_of(request, policy, escalation.classification)
    if task is None and escalation.task in policy.tasks:
        task = escalation.task  # the policy's `otherwise`, as the classify step has failed
    if last is not None and last.step == "classify":
        if task is None or not escalation.reason.is_hop:
            return _unclassified(escalation, request, policy, now, task)
    if escalation.reason is Reason.OVERFLOW and last is not None and task is not None:
        first = _passed_on(last, task, escalation, policy, escalation.detail)
        gave_up = GiveUp(Reason.PROVIDER_UNAVAILABLE, escalation.detail)
        return overflowed(first, request, policy) or gave_up
    if escalation.reason.is_hop or last is None:
        return _first_route(escalation, request, policy, now, escalation.classification)

    if task is None:
        return GiveUp(Reason.UNKNOWN_TASK, "the policy no longer has the request's task")
    attempts = escalation.own_attempts
    stop = failed_enough(attempts, task, policy) or climbed_enough(escalation.routes, policy)
    if stop is not None:
        return GiveUp(Reason.NO_TIER_LEFT, f"{escalation.reason.meaning}; {stop}")

    why = f"; {escalation.weighed}" if escalation.weighed else ""
    for tier in ladder(last.tier, task, request, policy, last.wanted):
        if untried(tier, task, "answer", attempts, policy):
            reason = f"{last.tier} could not defend its answer: {escalation.reason.meaning}{why}"
            climbed = _passed_on(last, task, escalation, policy, reason)
            return climbed._replace(tier=tier, moved_by=[escalation.reason.fallback])

    words = (
        f"{escalation.reason.meaning}, and the task and the plan allow no tier above {last.tier}"
    )
    return GiveUp(Reason.NO_TIER_LEFT, words)


def _again(escalation: Escalation, policy: Policy) -> Route:
    """The same tier and step once more, with more money set aside."""
    last = escalation.routes[-1]
    words = f"{last.tier} goes on, with more set aside: {escalation.detail}"
    again = _passed_on(last, escalation.task, escalation, policy, words)
    return again._replace(step=last.step, rule="admission", moved_by=last.moved_by or ())


def _passed_on(
    last: RouteTaken, task: str | None, escalation: Escalation, policy: Policy, reason: str
) -> Route:
    """The route that follows one that was taken, as yet in the same tier."""
    return Route(
        tier=last.tier,
        step="answer",
        task=task,
        rule="escalation",
        reason=reason,
        policy_version=policy.version,
        deadline=escalation.deadline,
        code=escalation.reason,
        needs_person=last.needs_person,
        wanted=last.wanted,
        trim=last.trim,
    )


def _first_route(
    escalation: Escalation,
    request: Request,
    policy: Policy,
    now: datetime,
    classification: Classification | None,
) -> Route | GiveUp:
    """A route by the rules, with the request's deadline."""
    anew = escalation.is_seen or escalation.reason in (Reason.REQUEUED, Reason.ASKED_BY_CONSOLE)
    decided = route(
        request,
        policy,
        now,
        classification=classification,
        accepted_at=now if anew else escalation.origin.appended_at,
        is_seen=escalation.is_seen,
    )
    if isinstance(decided, GiveUp):
        return decided

    last, chosen = escalation.routes[-1] if escalation.routes else None, escalation.tier
    if last is not None and last.step == "classify":
        chosen = chosen or last.wanted
    if chosen in policy.tiers and decided.step == "classify":
        decided = decided._replace(wanted=chosen)
    elif chosen in policy.tiers:
        words = f"a reviewer wants {chosen}"
        decided = decided._replace(tier=chosen, rule="review", reason=words)
    deadline = min(decided.deadline, escalation.deadline)
    return decided._replace(deadline=deadline, code=escalation.reason)


def _unclassified(
    escalation: Escalation, request: Request, policy: Policy, now: datetime, task: str | None
) -> Route | GiveUp:
    """Where a request goes whose classify step failed: the policy's `otherwise`, or a person.

    Where it only was to be scored, its task stays, and our own estimate counts.
    """
    if task is not None:
        return _first_route(escalation, request, policy, now, Classification(task=task))
    otherwise = _in_doubt(escalation, policy)
    if otherwise is None:
        words = f"the classify step found no task: {escalation.reason.meaning}"
        return GiveUp(Reason.UNKNOWN_TASK, words)

    decided = _first_route(escalation, request, policy, now, Classification(task=otherwise))
    return decided if isinstance(decided, GiveUp) else with_unread_text(decided, request, policy)


def _in_doubt(escalation: Escalation, policy: Policy) -> str | None:
    """The task to use when the classify step failed; doubt raises the risk.

    It is the policy's `otherwise`, or a more careful task that any of the rejected replies named.
    """
    verdicts = [a.verdict for a in escalation.own_attempts if a.step == "classify" and a.verdict]
    named = [(verdict.output or {}).get("task") for verdict in verdicts]
    otherwise = policy.classify.otherwise if policy.classify else None
    tasks = [otherwise, *(name for name in named if isinstance(name, str))]
    known = [name for name in tasks if name is not None and name in policy.tasks]
    return max(known, key=lambda name: care_of(policy.tasks[name])) if otherwise else None
