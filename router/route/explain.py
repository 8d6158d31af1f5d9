"""The policy in words: its table, and the reasons for one request's route."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from router.errors import did_you_mean
from router.policy.table import Policy, Rule
from router.request.signals import Signals, measure, signal_facts, signal_words
from router.route.guessing import careful_row
from router.route.ladders import ladder, plan_of
from router.route.routing import GiveUp, Route, route
from schemas.request import Request

__all__ = [
    "COLUMNS",
    "explain_route",
    "explained",
    "rule_words",
    "sections",
    "table_rows",
    "threshold_rows",
    "unknown_names",
]

COLUMNS = (
    *("task", "trigger", "model", "backup", "escalation", "format", "failure limit", "reason"),
    "owner",
)


#: Where a task's requests end, by whether a person approves them.
_ENDS = {"none": "person", "person": "person approves", "person_first": "person before any model"}
#: What a row or rule asks of a person, in words.
_ASKS: Mapping[str | None, str] = {
    "person": "a person approves the answer",
    "person_first": "a person has the request before any model",
}


def table_rows(policy: Policy) -> list[dict[str, str]]:
    """One row per task, in the words a product manager would use."""
    rows = []
    for name, task in policy.tasks.items():
        models = policy.models_of(task.tier, name)
        path = " → ".join(task.escalation)
        end = _ENDS[task.approval]
        rows.append(
            {
                "task": name,
                "trigger": task.trigger,
                "model": f"{models[0]} ({task.tier})",
                "backup": ", ".join(models[1:]) or "—",
                "escalation": f"{path} → {end}" if path else end,
                "format": task.format,
                "failure limit": str(task.failure_limit),
                "reason": task.reason,
                "owner": task.owner,
            }
        )
    return rows


def sections(policy: Policy) -> Iterator[tuple[str, Sequence[str], Sequence[Mapping[str, Any]]]]:
    """The whole policy as tables: for each a title, columns and rows."""
    title = f"{policy.name} {policy.version} ({policy.digest}), decided by {policy.owner}"
    yield title, COLUMNS, table_rows(policy)
    shown = {column.replace(" ", "_") for column in COLUMNS} | {"tier"}
    for name, content in policy.content.items():
        if name in ("name", "version", "owner"):
            continue
        rows = _rows(content, is_table=name in _TABLES)
        if name == "rules":
            rows = [{"name": rule.name, "is": rule_words(rule)} for rule in policy.rules]
        if name == "tasks":
            rows = [{key: row[key] for key in row if key not in shown} for row in rows]
            rows = [row for row in rows if len(row) > 1]
        columns = list(dict.fromkeys(key for row in rows for key in row))
        yield "what else the tasks say" if name == "tasks" else name, columns, rows


def threshold_rows(policy: Policy) -> list[dict[str, Any]]:
    """The least confidence with which an answer is published, by tier and where a task differs."""
    tiers = [
        {"tier": tier, "task": "", "publishes from": row.accept}
        for tier, row in policy.tiers.items()
    ]
    tasks = [
        {"tier": tier, "task": name, "publishes from": least}
        for name, task in policy.tasks.items()
        for tier, least in task.accept.items()
    ]
    return [*tiers, *tasks]


def rule_words(rule: Rule) -> str:
    """A rule as a sentence."""
    asked = [(say, getattr(rule.when, name)) for name, say in _CONDITIONS.items()]
    conditions = _listed([say(value) for say, value in asked if value is not None], "and")
    bound = rule.sets.replace("_", " ")
    where = f"starts at {rule.tier}" if rule.sets == "exactly" else f"starts {bound} at {rule.tier}"
    if rule.tier is None:
        where = "starts where its task says"
    does = [f"{'a' if conditions else 'every'} request {where}", _ASKS.get(rule.approval)]
    if rule.approval is not None and rule.tier is None:
        del does[0]
    words = " and ".join(filter(None, does))
    words = f"when {conditions}, {words}" if conditions else words
    return f"{words[:1].upper()}{words[1:]}: {rule.reason}."


def _listed(words: Sequence[str], last: str) -> str:
    """A few words as a list: `a, b and c`."""
    return f" {last} ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def _one_of(names: Sequence[str]) -> str:
    return _listed([name.replace("_", " ") for name in names], "or")


#: Each condition of a rule in words.
_CONDITIONS: Mapping[str, Callable[[Any], str]] = {
    "tasks": lambda names: f"the task is {_listed(names, 'or')}",
    "plans": lambda names: f"the plan is {_listed(names, 'or')}",
    "blast_radius": lambda words: f"the blast radius is {_one_of(words)}",
    "risk": lambda words: f"the task's risk is {_one_of(words)}",
    "ambiguity_below": lambda bound: f"the ambiguity is below {bound:g}",
    "ambiguity_from": lambda bound: f"the ambiguity is {bound:g} or more",
    "complexity_at_most": lambda bound: f"the complexity is {bound} or less",
    "complexity_from": lambda bound: f"the complexity is {bound} or more",
    "context_tokens_from": lambda bound: f"it has {bound} tokens or more",
    "text": lambda names: f"the text shows {_one_of(names)}",
    "deadline_within": lambda span: f"no more than {_span(span)} is left until its deadline",
}


def _span(span: timedelta) -> str:
    seconds = span.total_seconds()
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= length and not seconds % length:
            return f"{seconds / length:g} {unit}"
    return f"{seconds:g} s"


#: Sections whose entries have fields of the same kind.
_TABLES = ("models", "tiers", "tasks", "plans", "rules", "examples")


def _rows(section: Any, *, is_table: bool) -> list[dict[str, Any]]:
    """A section as rows: one for each name or item, with its fields or as a whole."""
    if not isinstance(section, dict):
        return [_cells(entry) for entry in section] if is_table else [{"is": _cell(section)}]
    if is_table:
        return [{"name": name, **_cells(entry)} for name, entry in section.items()]
    return [{"name": name, "is": _cell(entry)} for name, entry in section.items()]


def _cells(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _cell(value) for name, value in fields.items()}


def _cell(value: Any) -> Any:
    """A value as a cell; nested deeper than a list or an object of plain values, as JSON."""
    if isinstance(value, dict):
        is_deep = any(map(_is_deep, value.values()))
        return json.dumps(value, ensure_ascii=False) if is_deep else value
    if isinstance(value, list):
        return [json.dumps(item, ensure_ascii=False) if _is_deep(item) else item for item in value]
    return value


def _is_deep(value: Any) -> bool:
    return isinstance(value, (dict, list))


def explained(request: Request, policy: Policy, now: datetime) -> dict[str, Any]:
    """Where a request would go and why, as facts: the decision of the route stage, and no call."""
    decided, signals = route(request, policy, now), measure(request)
    words = explain_route(decided, request, signals, policy)
    facts = {"words": words, "signals": signal_facts(signals)}
    if isinstance(decided, GiveUp):
        return {"gives_up": decided.reason, "detail": decided.detail, **facts}
    task = decided.task
    above = ladder(decided.tier, task, request, policy, decided.wanted) if task else []
    return {
        "climbs_to": above,
        "moved_by": list(decided.moved_by),
        "tier": decided.tier,
        "step": decided.step,
        "task": decided.task,
        "rule": decided.rule,
        "reason": decided.reason,
        "policy_version": decided.policy_version,
        **facts,
    }


def unknown_names(policy: Policy, *, task: str | None, plan: str | None) -> Iterator[str]:
    """For each name that the policy does not have, what counts instead."""
    for kind, name, names, instead in (
        ("task", task, policy.tasks, "it counts as untagged"),
        ("plan", plan, policy.plans, f"the plan {policy.default_plan} counts"),
    ):
        if name is not None and name not in names:
            yield f"the policy has no {kind} {name!r}: {instead}{did_you_mean(name, names)}"


def explain_route(
    decided: Route | GiveUp, request: Request, signals: Signals, policy: Policy
) -> str:
    """Which rule, why, which model, and where the request may climb, in a sentence or two."""
    if isinstance(decided, GiveUp) and decided.route is not None:
        sent = explain_route(decided.route, request, signals, policy)
        return f"A person has it before any model, by {decided.detail}. Sent through: {sent}"
    if isinstance(decided, GiveUp):
        return f"Nobody takes it: {decided.reason.meaning} ({decided.detail}). A person decides."

    facts = signal_words(signal_facts(signals))
    model = policy.models_of(decided.tier, decided.task)[0]
    if decided.task is None:
        first = f"It goes to {decided.tier} ({model}) to be classified first: {decided.reason}."
        careful = None if request.task in policy.tasks else careful_row(request, policy)
        if careful is None:
            return f"{first} Signals: {facts}."
        subject, name = careful
        then = "a person approves the answer" if name == "person" else f"no less than {name} counts"
        sure = f"The text speaks of {subject}, so {then} whatever it is taken for."
        return f"{first} {sure} Signals: {facts}."

    row = policy.tasks[decided.task]
    above = ladder(decided.tier, decided.task, request, policy, decided.wanted)
    climb = f"may climb to {', then '.join(above)}" if above else "does not climb"
    plan = plan_of(request, policy)
    person = "then a person decides"
    if decided.needs_person or row.approval != "none":
        person = "and every answer waits for a person to approve it"
    codes = f" Away from its task's own tier by: {', '.join(decided.moved_by)}."
    spills = f" What {decided.tier} cannot take in time goes to {row.overflow}."
    return (
        f"{decided.task} goes to {decided.tier} ({model}) by {decided.rule}: {decided.reason}. "
        f"It {climb}, {person}; plan: {plan.says}. Signals: {facts}."
        f"{codes if decided.moved_by else ''}{spills if row.overflow else ''}"
    )
