"""Reads a policy file: into a Policy, or every mistake in it with its line."""

from collections.abc import Collection, Iterable, Iterator
from typing import Any

import orjson
from pydantic import ValidationError

from router.checks import CHECKS, NamedCheck
from router.errors import PolicyError, Problem, did_you_mean
from router.json_schemas.validator import SchemaError, compile_schema
from router.policy.cap_checks import wrong_caps
from router.policy.table import Classify, Policy, Task
from router.policy.yaml_text import Path, read_yaml
from router.request.signals import TEXT_SIGNALS
from schemas.base import Tier

__all__ = ["load_policy"]


#: Words for the bound, and its name in pydantic's context, by pydantic's name for the mistake.
_BOUNDS = {
    "less_than_equal": ("at most", "le"),
    "less_than": ("less than", "lt"),
    "greater_than_equal": ("at least", "ge"),
    "greater_than": ("more than", "gt"),
}


def load_policy(text: str, file: str) -> Policy:
    """Read and validate a policy. Raises PolicyError with all problems at once."""
    value, lines, problems = read_yaml(text)
    if problems:
        raise PolicyError(file, problems)
    try:
        policy = Policy.of_file(value)
    except ValidationError as error:
        raise PolicyError(file, list(_explained(error, value, lines))) from None

    # What a cap covers is known where all names are.
    wrong = list(_wrong(policy)) or wrong_caps(policy)
    problems = [Problem(_line(lines, path), _dotted(path), what) for path, what in wrong]
    if problems:
        raise PolicyError(file, problems)
    return policy


def _explained(error: ValidationError, value: Any, lines: dict[Path, int]) -> Iterator[Problem]:
    for problem in error.errors(include_input=False, include_url=False):
        path: Path = tuple(step for step in problem["loc"] if step != "[key]")
        message = problem["msg"].removeprefix("Value error, ")
        given = path[-1] if problem["loc"][-1:] == ("[key]",) else _value_at(value, path)
        if problem["type"] == "missing":
            message = "is required and missing"
        elif problem["type"] == "extra_forbidden":
            message = "is not a field here" + did_you_mean(str(path[-1]), _fields_at(path[:-1]))
        elif problem["type"] in ("enum", "literal_error"):
            expected = str(problem.get("ctx", {}).get("expected", "")).replace(" or ", ", ")
            options = [option.strip("' ") for option in expected.split(",")]
            message = f"{message}; found {given!r}{did_you_mean(str(given), options)}"
        elif problem["type"] == "is_instance_of" and problem["ctx"]["class"] == "Tier":
            message = _unknown("tier", given, Tier)
        elif problem["type"] == "unknown_check":
            name = next(iter(given)) if isinstance(given, dict) else given
            message = _unknown("check", name, CHECKS)
        elif problem["type"] in _BOUNDS:
            words, name = _BOUNDS[problem["type"]]
            message = f"{words} {problem['ctx'][name]:g} was expected; found {given!r}"
        elif problem["type"] == "too_short":
            message = "at least 1 was expected"
        elif problem["type"] in ("float_type", "int_type"):
            whole = "whole " if problem["type"] == "int_type" else ""
            message = f"a {whole}number was expected; found {given!r}"
        elif problem["type"] == "model_type":
            message = "fields with their values are expected here"
        yield Problem(_line(lines, path), _dotted(path), message)


def _fields_at(path: Path) -> list[str]:
    """The field names of the row at a path, for the nearest-name hint."""
    model: Any = Policy
    for step in path:
        if model is NamedCheck and step in CHECKS:
            model = CHECKS[str(step)].parameters
        if not hasattr(model, "model_fields"):
            continue
        field = model.model_fields.get(step) if isinstance(step, str) else None
        if field is None:
            continue
        model = _row_in(field.annotation)
    return list(getattr(model, "model_fields", {}))


def _row_in(annotation: Any) -> Any:
    if annotation is NamedCheck or hasattr(annotation, "model_fields"):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        if (row := _row_in(inner)) is not None:
            return row
    return None


def _value_at(value: Any, path: Path) -> Any:
    for step in path:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            return step
    return value


def _line(lines: dict[Path, int], path: Path) -> int:
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 1)


def _dotted(path: Path) -> str:
    return ".".join(str(step) for step in path)


def _unknown(what: str, name: object, options: Iterable[str]) -> str:
    names = [str(option) for option in options]
    all_names = f"; known are {', '.join(names)}" if len(names) <= 12 else ""
    shown = str(name) if isinstance(name, str) else name  # of an enum, its value
    return f"there is no {what} {shown!r}{did_you_mean(str(name), names) or all_names}"


def _if_unknown(
    path: Path, what: str, name: str, options: Collection[str]
) -> Iterator[tuple[Path, str]]:
    if name not in options:
        yield path, _unknown(what, name, options)


def _wrong(policy: Policy) -> Iterator[tuple[Path, str]]:
    for name, model in policy.models.items():
        if model.context_tokens <= model.max_output_tokens:
            yield (
                ("models", name, "context_tokens"),
                f"must be more than max_output_tokens, which is {model.max_output_tokens}",
            )
    yield from _wrong_tiers(policy)
    for name, task in policy.tasks.items():
        yield from _wrong_task(policy, name, task)
    yield from _wrong_rules(policy)
    yield from _wrong_plans(policy)
    for name, schema in policy.formats.items():
        try:
            compile_schema(orjson.dumps(schema))
        except SchemaError as error:
            yield ("formats", name), str(error)
        except TypeError as error:
            yield ("formats", name), f"not a usable JSON Schema: {error}"
    if policy.classify is not None:
        yield from _wrong_classify(policy, policy.classify)
    yield from _wrong_examples(policy)


def _wrong_classify(policy: Policy, step: Classify) -> Iterator[tuple[Path, str]]:
    here: Path = ("classify",)
    if "classify" not in policy.formats:
        yield here, "needs a format named classify"
    yield from _if_unknown((*here, "tier"), "tier", step.tier, policy.tiers)
    if step.otherwise is not None:
        yield from _if_unknown((*here, "otherwise"), "task", step.otherwise, policy.tasks)
    for index, name in enumerate(step.complexity_counts_for):
        path = (*here, "complexity_counts_for", index)
        yield from _if_unknown(path, "task", name, policy.tasks)
    for subject, row in step.speaks_of.items():
        rows = [*policy.tasks, "person"]
        yield from _if_unknown((*here, "speaks_of", subject), "task", row, rows)


def _wrong_examples(policy: Policy) -> Iterator[tuple[Path, str]]:
    for index, example in enumerate(policy.examples):
        yield from _if_unknown(("examples", index, "tier"), "tier", example.tier, policy.tiers)
        for field, name in (("task", example.task), ("classified_as", example.classified_as)):
            if name is not None:
                yield from _if_unknown(("examples", index, field), "task", name, policy.tasks)
        # An unknown name may be meant, to test what becomes of such requests: unless one is near.
        for what, options in (("task", policy.tasks), ("plan", policy.plans)):
            name = str(example.request.get(what, ""))
            if name and name not in options and did_you_mean(name, options):
                yield ("examples", index, "request", what), _unknown(what, name, options)


def _wrong_tiers(policy: Policy) -> Iterator[tuple[Path, str]]:
    if not policy.tiers:
        yield ("tiers",), "at least one tier was expected"
    homes: dict[str, Tier] = {}
    for tier, row in policy.tiers.items():
        for index, name in enumerate(row.models):
            path = ("tiers", str(tier), "models", index)
            if name not in policy.models:
                yield path, _unknown("model", name, policy.models)
            elif name in homes:
                yield (
                    path,
                    f"{name} is in {homes[name]} already; a model belongs to one tier, once",
                )
            homes.setdefault(name, tier)


def _wrong_task(policy: Policy, name: str, task: Task) -> Iterator[tuple[Path, str]]:
    here: Path = ("tasks", name)
    yield from _if_unknown((*here, "tier"), "tier", task.tier, policy.tiers)
    yield from _wrong_escalation(policy, (*here, "escalation"), task)
    yield from _wrong_opinions(policy, name, task)
    for tier in task.accept:
        yield from _if_unknown((*here, "accept", str(tier)), "tier", tier, policy.tiers)
    for index, model in enumerate(task.models):
        yield from _if_unknown((*here, "models", index), "model", model, policy.models)
        if model in task.models[:index]:
            yield (*here, "models", index), f"{model} is named twice"
    if task.overflow is not None:
        yield from _if_unknown((*here, "overflow"), "tier", task.overflow, policy.tiers)
        if task.overflow == task.tier:
            yield (*here, "overflow"), f"another tier than {task.tier} was expected"
    models = policy.models_of(task.tier, name)
    if task.backup is not None and task.backup not in models:
        whose = "the task's models" if task.models else f"the {task.tier} tier"
        yield (*here, "backup"), f"must be a model of {whose}{did_you_mean(task.backup, models)}"
    checks = [each.check.name for each in task.checks]
    for index, check in enumerate(checks):
        if check in checks[:index]:
            yield (*here, "checks", index), f"the check {check} is named twice"
    formats = [*policy.formats, "text"]
    yield from _if_unknown((*here, "format"), "format", task.format, formats)
    tiers = (task.tier, *task.escalation)
    unknown = [tier for tier in tiers if task.right is None or task.right.at(tier) is None]
    if task.worth is not None and unknown:
        words = f"`right` must say how often {' and '.join(unknown)} is right"
        yield (*here, "worth"), f"{words}; `tierline policy advise` prints it"


def _wrong_opinions(policy: Policy, name: str, task: Task) -> Iterator[tuple[Path, str]]:
    """Agreements and verifications that the tiers cannot provide."""
    here: Path = ("tasks", name)
    schema = policy.formats.get(task.format, {})
    properties = schema.get("properties", {})
    if (agreement := task.agreement) is not None:
        for index, field in enumerate(agreement.fields):
            path = (*here, "agreement", "fields", index)
            yield from _if_unknown(path, f"field of {task.format}", field, properties)
        for tier in (task.tier, *task.escalation):
            models = policy.models_of(tier, name)
            if agreement.of == "others" and 0 < len(models) < agreement.samples:
                what = f"{tier} has {len(models)} models; {agreement.samples} answers were expected"
                yield (*here, "agreement", "samples"), what
    if task.verify is not None:
        yield from _if_unknown((*here, "verify", "tier"), "tier", task.verify.tier, policy.tiers)


def _wrong_escalation(policy: Policy, here: Path, task: Task) -> Iterator[tuple[Path, str]]:
    last = task.tier
    for index, tier in enumerate(task.escalation):
        if tier not in policy.tiers:
            yield (*here, index), _unknown("tier", tier, policy.tiers)
        elif tier.rank <= last.rank:
            message = f"{tier} is not above {last}; an escalation only climbs"
            yield (*here, index), message
        last = tier
    climbs, most = len(task.escalation), policy.limits.escalations
    if climbs > most:
        yield here, f"climbs {climbs} times; limits.escalations allows {most}"


def _wrong_rules(policy: Policy) -> Iterator[tuple[Path, str]]:
    seen: set[str] = set()
    for index, rule in enumerate(policy.rules):
        here: Path = ("rules", index)
        if rule.name in seen:
            yield (*here, "name"), f"two rules are named {rule.name}"
        seen.add(rule.name)
        if rule.tier is not None:
            yield from _if_unknown((*here, "tier"), "tier", rule.tier, policy.tiers)
        checks = (
            ("tasks", "task", policy.tasks),
            ("plans", "plan", policy.plans),
            ("text", "text signal", TEXT_SIGNALS),
        )
        for field, what, options in checks:
            for at, name in enumerate(getattr(rule.when, field) or ()):
                yield from _if_unknown((*here, "when", field, at), what, name, options)


def _wrong_plans(policy: Policy) -> Iterator[tuple[Path, str]]:
    yield from _if_unknown(("default_plan",), "plan", policy.default_plan, policy.plans)
    for name, plan in policy.plans.items():
        for field in ("start", "start_at_most", "ceiling", "justify_above"):
            tier = getattr(plan, field)
            if tier is not None:
                yield from _if_unknown(("plans", name, field), "tier", tier, policy.tiers)
        limited = dict(plan.context.given)
        for component, action in plan.context.over.items():
            path: Path = ("plans", name, "context", "over", component)
            if component not in limited:
                yield path, f"{component} has no limit here"
            elif action == "trim" and component in ("system", "user"):
                words = "only history, retrieved, tools and total can be trimmed"
                yield path, f"{words}; what the user asks and instructions never are"
        if plan.start_at_most.rank > plan.ceiling.rank:
            yield ("plans", name, "ceiling"), "is below start_at_most"
        if plan.start is not None and plan.start.rank > plan.start_at_most.rank:
            yield ("plans", name, "start"), "is above start_at_most"
