"""Shares: the part of a model's limit that each tier may use; together they are one."""

from collections.abc import Mapping

from router.policy.table import Policy
from schemas.base import Tier

__all__ = ["shares"]


def shares(
    policy: Policy, given: Mapping[str, Mapping[Tier, float]]
) -> Mapping[tuple[str, Tier], float]:
    """The share of each tier in each model it calls, by model name and tier.

    A tier calls its own models, those of its tasks, and those of the tiers that verify answers,
    which a request may wait for in any tier. `given`: the shares
    that the settings give, by model name; a tier that is left out there may not call the model.
    """
    callers: dict[str, set[Tier]] = {name: set() for name in policy.models}
    for tier in policy.tiers:
        for name in policy.models_by_tier[tier]:
            callers[name].add(tier)
    for task in policy.tasks.values():
        for name in policy.models_of(task.verify.tier) if task.verify else ():
            callers[name].update(policy.tiers)
    return {
        (name, tier): given[name].get(tier, 0.0) if name in given else 1 / len(tiers)
        for name, tiers in callers.items()
        for tier in sorted(tiers)
    }
