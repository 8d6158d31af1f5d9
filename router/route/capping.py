"""Capping: which caps touch a route, and where a request goes that its tier has no money for."""

from collections.abc import Iterable, Sequence

from router.policy.caps import Facts, NamedCap, caps_of
from router.policy.table import Policy
from router.route.ladders import plan_of
from schemas.attempt import Attempt
from schemas.base import Tier
from schemas.escalation import Assignment, RouteTaken
from schemas.reasons import Reason
from schemas.request import Request

__all__ = ["caps_touching", "cheaper_tiers", "facts_of", "lowered"]


def facts_of(
    request: Request, policy: Policy, task: str | None, tier: Tier, attempts: Iterable[Attempt] = ()
) -> Facts:
    """What caps ask about a route; `attempts` are those of the present generation."""
    return Facts(
        tenant=request.tenant,
        plan=policy.plan_name(request.plan),
        tier=tier,
        request=request.key.text,
        user=request.user,
        task=task,
        workflow=request.workflow,
        conversation=request.conversation_id or request.id,
        was_at=frozenset(attempt.tier for attempt in attempts if attempt.step == "answer"),
    )


def caps_touching(
    request: Request, policy: Policy, task: str | None, tier: Tier
) -> Sequence[NamedCap]:
    """The caps that touch a route."""
    return caps_of(policy, facts_of(request, policy, task, tier)) if policy.caps else ()


def cheaper_tiers(assignment: Assignment, request: Request, policy: Policy) -> Sequence[Tier]:
    """The lower tiers that may take an assignment that its own has no money for, the next first.

    They are those that its task names, its overflow included, and that the plan lets begin. A tier
    that has tried and could not defend its answer is none of them.
    """
    taken, name = assignment.route, assignment.task or ""
    row, plan = policy.tasks.get(name), plan_of(request, policy)
    # A person has chosen that tier, or nobody may get another model's words unseen.
    if row is None or taken.step != "answer" or taken.rule == "review":
        return ()
    if not row.may_fall_back(is_seen=taken.needs_person):
        return ()
    measured = (route.signals for route in reversed(assignment.routes) if route.signals)
    tokens = next((signals.total_tokens for signals in measured), 0)
    tried = {attempt.model for attempt in assignment.own_attempts if attempt.step == "answer"}
    named = {row.tier, *row.escalation, row.overflow} & policy.tiers.keys()
    return [
        tier
        for tier in reversed(Tier)
        if tier in named
        and (plan.start.rank if plan.start else 0) <= tier.rank < taken.tier.rank
        and tokens <= policy.rooms_by_task[name][tier]
        and not tried.issuperset(policy.models_of(tier, name))
    ]


def lowered(taken: RouteTaken, tier: Tier, why: str) -> RouteTaken:
    """The route in a lower tier; `why` says which cap has no money for the other one."""
    return taken.model_copy(
        update={
            "tier": tier,
            "rule": "budget",
            "reason": f"{taken.reason}; {tier} instead of {taken.tier}: {why}",
            "moved_by": [*(taken.moved_by or ()), Reason.BUDGET],
        }
    )
