"""What is valid in a policy but probably a mistake, and the policy's own examples as tests."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from difflib import get_close_matches

from router.policy.cap_checks import lint_caps
from router.policy.table import Example, Policy, Task, When
from router.request.subjects import SUBJECTS
from router.route.ladders import ladders
from router.route.routing import GiveUp, Route, route
from schemas.base import Tier
from schemas.errors import ContractError
from schemas.escalation import Classification
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
    yield from _lint_rules(policy)
    used = {name for models in policy.models_by_tier.values() for name in models}
    for name in sorted(policy.models.keys() - used):
        yield f"model {name} is in no tier"
    for row in ladders(policy):
        if row.missed is not None:
            yield (
                f"task {row.task} never reaches {row.missed} under the plan {row.plan}: its "
                "failure_limit, or the limits of attempts or escalations, end before"
            )
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
    yield from lint_caps(policy)


def _lint_rules(policy: Policy) -> Iterator[str]:
    # What asks for a person holds below other rules, and what asks for nothing else hides none.
    deciding = [rule for rule in policy.rules if rule.tier is not None or rule.approval is None]
    for at, rule in enumerate(deciding):
        for earlier in deciding[:at] if rule.approval is None else ():
            if _catches_all(earlier.when, rule.when):
                yield f"rule {rule.name} can never match: {earlier.name} catches all it would"
                break


def _lint_providers(policy: Policy) -> Iterator[str]:
    providers = Counter(model.provider for model in policy.models.values())
    for name, model in policy.models.items():
        others = [other for other in providers if other != model.provider]
        close = get_close_matches(model.provider, others, n=1, cutoff=0.8)
        if close and providers[model.provider] == 1 < providers[close[0]]:
            yield f"model {name} alone has the provider {model.provider}; is it {close[0]}?"


def _lint_tasks(policy: Policy) -> Iterator[str]:
    for name, task in policy.tasks.items():
        first = task.models or policy.tiers[task.tier].models
        if task.backup and first[0] == task.backup:
            yield f"task {name}: its backup {task.backup} is what {task.tier} calls first anyway"
        if not task.may_fall_back(is_seen=False) and (
            task.backup or task.overflow or task.on_outage == "next_tier" or len(task.models) > 1
        ):
            yield (
                f"task {name} allows no other model to stand in unseen, so its backup or overflow "
                "takes over only where a person approves; write fallback: allowed if it may"
            )
        yield from _lint_prices(policy, name, task)
        reaches_top = Tier.PREMIUM in (task.tier, *task.escalation)
        if task.risk == "risky" and task.approval == "none" and not reaches_top:
            yield f"task {name} is risky, yet nobody approves it and it never reaches premium"


def _lint_prices(policy: Policy, name: str, task: Task) -> Iterator[str]:
    """A model of the task's own that costs more than a dearer tier: plans would pay unawares."""
    for model in task.models:
        price = policy.models[model].price
        for tier, row in policy.tiers.items():
            dearer = policy.models[row.models[0]].price
            if tier.rank > task.tier.rank and price.input + price.output > (
                dearer.input + dearer.output
            ):
                yield (
                    f"task {name}: {model} costs more than {row.models[0]} of {tier}, so a plan "
                    f"that ends at {task.tier} pays more than one that ends at {tier}"
                )
                break


def run_examples(policy: Policy, now: datetime) -> list[ExampleOutcome]:
    """Route every example of the policy, and compare with what it expects."""
    outcomes = []
    for example in policy.examples:
        try:
            request = read_request_object(example.request, {})
            classified = Classification(task=name) if (name := example.classified_as) else None
            decided = route(request, policy, now, classification=classified)
        except ContractError as error:
            outcomes.append(ExampleOutcome(example.says, passed=False, detail=str(error)))
            continue
        outcomes.append(_compared(example, decided, policy))
    return outcomes


def _compared(example: Example, decided: Route | GiveUp, policy: Policy) -> ExampleOutcome:
    """An example's outcome: its route against what it expects."""
    taken = decided.route if isinstance(decided, GiveUp) else decided
    outcome = f"gives up: {decided.detail}" if isinstance(decided, GiveUp) else str(decided.tier)
    actual: dict[str, str | None] = {"tier": outcome, "rule": None}
    if taken is not None:
        row = policy.tasks.get(taken.task or "")
        asks = row.approval if row and not taken.needs_person else "person"
        asks = "person_first" if isinstance(decided, GiveUp) else asks if row else "none"
        actual = {"tier": taken.tier, "rule": taken.rule, "task": taken.task, "approval": asks}
    expected = {name: getattr(example, name) for name in ("tier", "rule", "task", "approval")}
    wrong = [
        name for name, value in expected.items() if value is not None and value != actual.get(name)
    ]
    words = f"expected {example.tier} by {example.rule or 'any rule'}, got {actual['tier']}"
    words += f" by {actual['rule']}"
    for name in ("task", "approval"):
        words += f"; {name} {actual.get(name)}, not {expected[name]}" if name in wrong else ""
    return ExampleOutcome(example.says, passed=not wrong, detail=words if wrong else "")


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
