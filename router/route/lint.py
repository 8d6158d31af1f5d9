"""What is valid in a policy but probably a mistake, and the policy's own examples as tests."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from difflib import get_close_matches

from router.policy.table import Policy, When
from router.request.subjects import SUBJECTS
from router.route.routing import GiveUp, route
from schemas.base import Tier
from schemas.errors import ContractError
from schemas.intake import read_request_object

__all__ = ["ExampleOutcome", "lint", "run_examples"]

_STALE_AFTER = timedelta(days=180)


@dataclass(frozen=True, slots=True)
class ExampleOutcome:
    """What became of one of the policy's examples."""

    says: str
    passed: bool
    detail: str


def lint(policy: Policy, today: date) -> Iterator[str]:
    """Warnings about rows that are worth a second look, as sentences."""
    for at, rule in enumerate(policy.rules):
        for earlier in policy.rules[:at]:
            if _catches_all(earlier.when, rule.when):
                yield f"rule {rule.name} can never match: {earlier.name} catches all it would"
                break
    used = {name for row in policy.tiers.values() for name in row.models}
    for name in sorted(policy.models.keys() - used):
        yield f"model {name} is in no tier"
    for name, model in policy.models.items():
        if today - date.fromisoformat(model.price.as_of) > _STALE_AFTER:
            yield f"the price of {name} is from {model.price.as_of}; look it up again"
        write, write_1h = model.price.cache_write, model.price.cache_write_1h
        if write is not None and write_1h is not None and write_1h < write:
            yield f"the price of {name}: to cache for an hour costs less than for five minutes"
    formats = {task.format for task in policy.tasks.values()} | {"classify"}
    for name in sorted(policy.formats.keys() - formats):
        yield f"format {name} is used by no task"
    shown = {example.request.get("task") for example in policy.examples}
    for name in (task for task in policy.tasks if task not in shown):
        yield f"task {name} has no example"
    speaks_of = policy.classify.speaks_of if policy.classify else SUBJECTS
    if missing := [subject for subject in SUBJECTS if subject not in speaks_of]:
        yield (
            f"classify.speaks_of leaves out {', '.join(missing)}: a text about it whose task is "
            "only guessed may be answered unseen"
        )
    yield from _lint_tasks(policy)
    yield from _lint_providers(policy)


def _lint_providers(policy: Policy) -> Iterator[str]:
    providers = Counter(model.provider for model in policy.models.values())
    for name, model in policy.models.items():
        others = [other for other in providers if other != model.provider]
        close = get_close_matches(model.provider, others, n=1, cutoff=0.8)
        if close and providers[model.provider] == 1 < providers[close[0]]:
            yield f"model {name} alone has the provider {model.provider}; is it {close[0]}?"


def _lint_tasks(policy: Policy) -> Iterator[str]:
    for name, task in policy.tasks.items():
        if task.backup and policy.tiers[task.tier].models[0] == task.backup:
            yield f"task {name}: its backup {task.backup} is what {task.tier} calls first anyway"
        reaches_top = Tier.PREMIUM in (task.tier, *task.escalation)
        if task.risk == "risky" and task.approval == "none" and not reaches_top:
            yield f"task {name} is risky, yet nobody approves it and it never reaches premium"


def run_examples(policy: Policy, now: datetime) -> list[ExampleOutcome]:
    """Route every example of the policy, and compare with what it expects."""
    outcomes = []
    for example in policy.examples:
        try:
            decided = route(read_request_object(example.request, {}), policy, now)
        except ContractError as error:
            outcomes.append(ExampleOutcome(example.says, passed=False, detail=str(error)))
            continue
        if isinstance(decided, GiveUp):
            outcome, rule = f"gives up: {decided.detail}", None
        else:
            outcome, rule = str(decided.tier), decided.rule
        passed = outcome == example.tier and example.rule in (None, rule)
        expected = f"{example.tier} by {example.rule or 'any rule'}"
        detail = "" if passed else f"expected {expected}, got {outcome} by {rule}"
        outcomes.append(ExampleOutcome(example.says, passed=passed, detail=detail))
    return outcomes


def _catches_all(earlier: When, later: When) -> bool:
    """True when the earlier rule matches whatever the later one does: it asks the same or less."""
    for field in type(earlier).model_fields:
        wide, narrow = getattr(earlier, field), getattr(later, field)
        if wide is None:
            continue
        if narrow is None:
            return False
        if isinstance(wide, list):
            if not set(narrow) <= set(wide):
                return False
        elif field.endswith(("_below", "_at_most", "_within")):
            if narrow > wide:
                return False
        elif narrow < wide:
            return False
    return True
