"""Overflow: the tier that takes what a request's own tier cannot take in time."""

from router.policy.table import Policy
from router.route.ladders import ceiling_of, plan_named, plan_of
from router.route.routing import Route
from schemas.base import Tier
from schemas.escalation import Assignment
from schemas.reasons import Reason
from schemas.request import Request

__all__ = ["overflow_of", "overflowed"]


def overflow_of(assignment: Assignment, policy: Policy) -> Tier | None:
    """The tier that takes an assignment that its own cannot take; None where no other may."""
    taken, plan = assignment.route, plan_named(assignment.plan, policy)
    if any(Reason.OVERFLOW in (route.moved_by or ()) for route in assignment.routes):
        return None  # only once: it would go back and forth
    # Whether a justification was given is only in the request: without one the plan allows least.
    ceiling, task = ceiling_of(plan, is_justified=False), assignment.task
    return _other(task, taken.tier, ceiling, policy, is_seen=taken.needs_person)


def overflowed(decided: Route, request: Request, policy: Policy) -> Route | None:
    """The route of a request that the tier of its route cannot take; None where no other may."""
    ceiling = ceiling_of(plan_of(request, policy), is_justified=bool(request.justification))
    other = _other(decided.task, decided.tier, ceiling, policy, is_seen=decided.needs_person)
    if other is None or Reason.OVERFLOW in decided.moved_by:
        return None
    return decided._replace(
        tier=other,
        rule="overflow",
        reason=f"{decided.reason}; {decided.tier} could not take it in time",
        moved_by=[*decided.moved_by, Reason.OVERFLOW],
    )


def _other(
    task: str | None, tier: Tier, ceiling: Tier, policy: Policy, *, is_seen: bool
) -> Tier | None:
    row = policy.tasks.get(task or "")
    if row is None or row.overflow in (None, tier) or not row.may_fall_back(is_seen=is_seen):
        return None
    is_allowed = row.overflow in policy.tiers and row.overflow.rank <= ceiling.rank
    return row.overflow if is_allowed else None
