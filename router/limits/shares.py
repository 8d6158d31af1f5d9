"""Shares: the part of a model's limit that each tier may use; together they are one."""

from collections.abc import Mapping, Sequence

from router.policy.table import Model, Policy
from schemas.base import Tier

__all__ = ["Account", "account_of", "shares"]


#: A model as its provider counts calls to it: the provider's name and the model's id.
Account = tuple[str, str]


def account_of(model: Model) -> Account:
    return model.provider, model.id


def shares(
    policies: Sequence[Policy], given: Mapping[Account, Mapping[Tier, float]]
) -> Mapping[tuple[Account, Tier], float]:
    """The share of each tier in each model that it calls under any of these policies.

    A tier calls its own models, those of its tasks, and those of the tiers that verify answers,
    which a request may wait for in any tier. `given`: the shares that the settings give; a tier
    that is left out there may not call the model.
    """
    callers: dict[Account, set[Tier]] = {}
    for policy in policies:
        calls = [(name, {tier}) for tier, own in policy.models_by_tier.items() for name in own]
        for task in policy.tasks.values():
            names = policy.models_of(task.verify.tier) if task.verify else ()
            calls += [(name, {*policy.tiers}) for name in names]
        for name, tiers in calls:
            callers.setdefault(account_of(policy.models[name]), set()).update(tiers)
    return {
        (account, tier): given[account].get(tier, 0.0) if account in given else 1 / len(tiers)
        for account, tiers in callers.items()
        for tier in sorted(tiers)
    }
