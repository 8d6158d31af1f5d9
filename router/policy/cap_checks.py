"""Caps that no request could use, or that no request can reach; and their budget domains."""

from collections.abc import Collection, Iterator
from decimal import ROUND_CEILING
from operator import attrgetter

from router.errors import did_you_mean
from router.policy.caps import Cap, amount_text, is_by_tenant
from router.policy.table import Policy
from router.policy.yaml_text import Path
from schemas.base import Tier

__all__ = ["cap_notes", "lint_caps", "wrong_caps"]

_RANK = attrgetter("rank")


def wrong_caps(policy: Policy) -> Iterator[tuple[Path, str]]:
    """Caps below one worst-case call of a model that they cover, with the field's place."""
    for name, cap in policy.caps.items():
        if cap.unit == "premium_share":
            continue
        calls = {_least_call(policy, cap, *reached) for reached in _reached(policy, cap)}
        least, model = max(calls, default=(0, ""))
        if cap.limit < least:
            shown = amount_text(least, cap.unit)
            words = f"one call of {model} may take {shown} for its output alone"
            yield ("caps", name, cap.unit), f"{words}; no such call would ever fit: raise the cap"


def lint_caps(policy: Policy) -> Iterator[str]:
    """Warnings about caps that nothing can reach."""
    known: dict[str, Collection[str]]
    known = {"plan": policy.plans, "task": policy.tasks, "tier": policy.tiers}
    for name, cap in policy.caps.items():
        for scope, values in cap.where.items():
            options = known.get(scope, values)
            for value in (value for value in values if value not in options):
                hint = did_you_mean(value, options)
                yield f"cap {name}: the policy has no {scope} {value!r}{hint}"
        if next(_reached(policy, cap), None) is None:
            yield f"nothing can reach cap {name}: its tasks never come to its tiers under its plans"


def cap_notes(policy: Policy) -> Iterator[str]:
    """Which budget domain each cap belongs to."""
    shared = [name for name, cap in policy.caps.items() if not is_by_tenant(cap)]
    for name in policy.caps:
        if not shared:
            yield f"cap {name} belongs to the budget domain of each tenant"
        else:
            because = "it is" if name in shared else f"{shared[0]} is"
            yield f"cap {name} belongs to one budget domain of all, as {because} shared by tenants"


def _reached(policy: Policy, cap: Cap) -> Iterator[tuple[Tier, str | None]]:
    """The tiers that a cap covers, each with a task; None is the classify step."""
    wanted = {scope: cap.where.get(scope) for scope in ("plan", "task", "tier")}
    plans = [row for name, row in policy.plans.items() if name in (wanted["plan"] or [name])]
    ruled = policy.rules_by_task.values()
    steps: list[tuple[str | None, list[Tier | None]]] = [
        (name, [task.tier, *task.escalation, task.overflow, *(rule.tier for rule in rules)])
        for (name, task), rules in zip(policy.tasks.items(), ruled, strict=True)
        if name in (wanted["task"] or [name])
    ]
    if policy.classify is not None and not wanted["task"] and cap.unit != "premium_share":
        steps.append((None, [policy.classify.tier]))
    for name, tiers in steps:
        starts = {min(t, p.start_at_most, key=_RANK) for p in plans for t in tiers if t}
        climbs = {t for p in plans for t in tiers if t and t.rank <= p.ceiling.rank}
        for tier in sorted((starts | climbs) & policy.tiers.keys(), key=_RANK):
            if tier in (wanted["tier"] or [tier]):
                yield tier, name


def _least_call(policy: Policy, cap: Cap, tier: Tier, task: str | None) -> tuple[int, str]:
    """What the dearest model there may write in one call, in the cap's unit, and its name."""
    limit = policy.tasks[task].max_output_tokens if task else None
    calls = []
    for name in policy.models_of(tier, task):
        model = policy.models[name]
        tokens = min(limit or model.max_output_tokens, model.max_output_tokens)
        micros = (tokens * model.price.output).to_integral_value(rounding=ROUND_CEILING)
        calls.append((int(micros) if cap.unit == "dollars" else tokens, name))
    return max(calls)
