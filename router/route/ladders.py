"""Ladders: the tiers at which a request may start and to which it may climb, within its plan."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from router.policy.table import Plan, Policy, Task
from schemas.base import Tier
from schemas.escalation import RouteTaken
from schemas.request import Request

__all__ = [
    "Ladder",
    "ceiling_of",
    "climbed_enough",
    "ladder",
    "ladder_notes",
    "ladders",
    "plan_named",
    "plan_of",
    "rungs",
    "within_plan",
]


def plan_of(request: Request, policy: Policy) -> Plan:
    """The request's plan; a plan the policy does not know counts as the default one."""
    return plan_named(request.plan, policy)


def plan_named(name: str | None, policy: Policy) -> Plan:
    """The plan of this name, else the default one."""
    return policy.plans[policy.plan_name(name)]


def ceiling_of(plan: Plan, *, is_justified: bool) -> Tier:
    """The highest tier that the plan allows a request, which may need a justification."""
    if plan.justify_above is None or is_justified:
        return plan.ceiling
    return min(plan.ceiling, plan.justify_above, key=lambda tier: tier.rank)


def within_plan(tier: Tier, plan: Plan, *, is_justified: bool) -> tuple[Tier, str]:
    """Raise a tier to where the plan starts, then cap it; with the words for a route's reason."""
    words = ""
    if plan.start is not None and tier.rank < plan.start.rank:
        tier, words = plan.start, f"; the plan starts at {plan.start}"
    if tier.rank > plan.start_at_most.rank:
        tier, words = plan.start_at_most, f"{words}; the plan allows {plan.start_at_most}"
    if plan.justify_above is not None and tier.rank > plan.justify_above.rank:
        if is_justified:
            return tier, f"{words}; justified by the producer"
        tier, words = plan.justify_above, f"{words}; {tier} needs a justification"
    return tier, words


def rungs(
    task: Task, start: Tier, ceiling: Tier, policy: Policy, wanted: Tier | None = None
) -> list[Tier]:
    """The tiers above `start` that a request of a task may climb to, in order.

    Those that the row names, the row's own, where a rule or the plan has lowered the request, and
    the tier that was `wanted` before the plan lowered it.
    """
    named = {*task.escalation, task.tier, wanted} & policy.tiers.keys()
    return [tier for tier in Tier if tier in named and start.rank < tier.rank <= ceiling.rank]


def ladder(
    start: Tier, task: str, request: Request, policy: Policy, wanted: Tier | None = None
) -> list[Tier]:
    """The tiers that a request may climb to from `start`, in order, within its plan."""
    ceiling = ceiling_of(plan_of(request, policy), is_justified=bool(request.justification))
    return rungs(policy.tasks[task], start, ceiling, policy, wanted)


class Ladder(NamedTuple):
    """What a plan gives the requests of a task that no rule moves and that are justified."""

    task: str
    plan: str
    start: Tier
    #: The tiers that they climb to, as far as the limits of policy and row let them.
    climbs: Sequence[Tier]
    #: The highest tier that the row names and the plan allows, where they never reach it.
    missed: Tier | None
    #: True where a person has them before any model.
    is_for_person: bool

    @property
    def highest(self) -> Tier:
        return self.climbs[-1] if self.climbs else self.start


def ladders(policy: Policy) -> Iterator[Ladder]:
    """The ladder of each task under each plan, by plan."""
    for plan_name, plan in policy.plans.items():
        for name, task in policy.tasks.items():
            start, _ = within_plan(task.tier, plan, is_justified=True)
            above = rungs(task, start, plan.ceiling, policy)
            # Each tier below costs one failed answer at least, the last one all of its calls.
            calls = (task.agreement.samples if task.agreement else 1) + (task.verify is not None)
            left = policy.limits.attempts - calls
            climbs = above[: max(min(policy.limits.escalations, task.failure_limit - 1, left), 0)]
            missed = above[-1] if len(climbs) < len(above) else None
            yield Ladder(name, plan_name, start, climbs, missed, task.approval == "person_first")


def ladder_notes(policy: Policy) -> Iterator[str]:
    """What the plans mean for the tasks, as sentences: who never climbs as far as a plan says."""
    rows = list(ladders(policy))
    for plan_name, plan in policy.plans.items():
        mine = [row for row in rows if row.plan == plan_name]
        served = [row for row in mine if not row.is_for_person]
        plan_says = f"plan {plan_name} ({plan.says})"
        if first := _listed([row for row in mine if row.is_for_person], mine):
            yield f"{plan_says}: a person has {first} before any model"
        for tier in policy.tiers:
            at_once = [row for row in served if row.start is tier and not row.climbs]
            if listed := _listed(at_once, mine):
                yield f"{plan_says}: a person is next when {tier} fails for {listed}"
        short = [row for row in served if row.highest.rank < plan.ceiling.rank]
        if listed := _listed(short, mine):
            yield f"{plan_says}: {plan.ceiling} is never reached by {listed}"


def _listed(rows: Sequence[Ladder], every: Sequence[Ladder]) -> str:
    if rows and len(rows) == len(every):
        return "every task"
    return ", ".join(row.task for row in rows)


def climbed_enough(routes: Sequence[RouteTaken], policy: Policy) -> str | None:
    """The limit in words, once a request has escalated as often as the policy allows; else None."""
    climbed = sum(
        1
        for before, taken in pairwise(routes)
        if before.step == "answer" and taken.code and not taken.code.is_hop
    )
    return f"{climbed} escalations are the limit" if climbed >= policy.limits.escalations else None
