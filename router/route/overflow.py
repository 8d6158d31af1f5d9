"""Overflow: the tier that takes what a request's own tier cannot take in time."""

from collections.abc import Iterable, Sequence

from router.policy.table import Policy
from router.route.ladders import ceiling_of, plan_named, plan_of
from router.route.routing import Route
from schemas.attempt import Attempt
from schemas.base import Tier
from schemas.escalation import Assignment, RouteTaken
from schemas.reasons import Reason
from schemas.request import Request

__all__ = ["may_overflow", "overflow_of", "overflowed"]


def may_overflow(routes: Iterable[RouteTaken], attempts: Iterable[Attempt]) -> bool:
    """True for a request that has neither overflowed nor had an answer judged.

    It overflows once, or it would go back and forth; and what a tier could not defend climbs.
    """
    has_overflowed = any(Reason.OVERFLOW in (route.moved_by or ()) for route in routes)
    was_answered = any(attempt.step == "answer" and attempt.was_judged for attempt in attempts)
    return not has_overflowed and not was_answered


def overflow_of(assignment: Assignment, attempts: Sequence[Attempt], policy: Policy) -> Tier | None:
    """The tier that takes an assignment that its own cannot take; None where no other may."""
    taken, plan = assignment.route, plan_named(assignment.plan, policy)
    is_ours = taken.step == "answer" and taken.rule != "review"  # a person has chosen that tier
    if not is_ours or not may_overflow(assignment.routes, [*assignment.own_attempts, *attempts]):
        return None
    # Whether a justification was given is only in the request: without one the plan allows least.
    ceiling, task = ceiling_of(plan, is_justified=False), assignment.task
    measured = (route.signals for route in reversed(assignment.routes) if route.signals)
    tokens = next((signals.total_tokens for signals in measured), 0)
    return _other(task, taken.tier, ceiling, tokens, policy, is_seen=taken.needs_person)


def overflowed(decided: Route, request: Request, policy: Policy) -> Route | None:
    """The route of a request that the tier of its route cannot take; None where no other may."""
    ceiling = ceiling_of(plan_of(request, policy), is_justified=bool(request.justification))
    tokens = decided.signals.total_tokens if decided.signals else 0
    is_seen = decided.needs_person
    other = _other(decided.task, decided.tier, ceiling, tokens, policy, is_seen=is_seen)
    if other is None or decided.rule == "review" or Reason.OVERFLOW in decided.moved_by:
        return None
    return decided._replace(
        tier=other,
        rule="overflow",
        reason=f"{decided.reason}; {decided.tier} could not take it in time",
        moved_by=[*decided.moved_by, Reason.OVERFLOW],
    )


def _other(
    task: str | None, tier: Tier, ceiling: Tier, tokens: int, policy: Policy, *, is_seen: bool
) -> Tier | None:
    row = policy.tasks.get(task or "")
    if row is None or row.overflow in (None, tier) or not row.may_fall_back(is_seen=is_seen):
        return None
    is_allowed = row.overflow in policy.tiers and row.overflow.rank <= ceiling.rank
    return row.overflow if is_allowed and tokens <= policy.room_by_tier[row.overflow] else None
