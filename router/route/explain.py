"""The policy in words: its table, and the reasons for one request's route."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from router.policy.table import Policy
from router.request.signals import Signals
from router.route.routing import GiveUp, Route, careful_row, ladder, plan_of
from schemas.request import Request

__all__ = ["COLUMNS", "explain_route", "sections", "table_rows"]

COLUMNS = (
    *("task", "trigger", "model", "backup", "escalation", "format", "failure limit", "reason"),
    "owner",
)


def table_rows(policy: Policy) -> list[dict[str, str]]:
    """One row per task, in the words a product manager would use."""
    rows = []
    for name, task in policy.tasks.items():
        models = policy.models_of(task.tier, name)
        path = " → ".join(task.escalation)
        end = "person approves" if task.approval == "person" else "person"
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
        if name == "tasks":
            rows = [{key: row[key] for key in row if key not in shown} for row in rows]
            rows = [row for row in rows if len(row) > 1]
        columns = list(dict.fromkeys(key for row in rows for key in row))
        yield "what else the tasks say" if name == "tasks" else name, columns, rows


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


def explain_route(
    decided: Route | GiveUp, request: Request, signals: Signals, policy: Policy
) -> str:
    """Which rule, why, which model, and where the request may climb, in a sentence or two."""
    if isinstance(decided, GiveUp):
        return f"Nobody takes it: {decided.reason.meaning} ({decided.detail}). A person decides."

    guessed = f" (estimated: {', '.join(sorted(signals.estimated))})" if signals.estimated else ""
    facts = (
        f"ambiguity {signals.ambiguity:g}, blast radius {signals.blast_radius}, complexity "
        f"{signals.complexity}, about {signals.total_tokens} tokens{guessed}"
    )
    model = policy.models_of(decided.tier, decided.task)[0]
    if decided.task is None:
        first = f"It goes to {decided.tier} ({model}) to be classified first: {decided.reason}."
        if (careful := careful_row(request, policy)) is None:
            return first
        subject, row = careful
        then = "a person approves the answer" if row == "person" else f"no less than {row} counts"
        return f"{first} The text speaks of {subject}, so {then} whatever it is taken for."

    above = ladder(decided.tier, decided.task, request, policy)
    climb = f"may climb to {', then '.join(above)}" if above else "does not climb"
    plan = plan_of(request, policy)
    person = "then a person decides"
    if policy.tasks[decided.task].approval == "person":
        person = "and every answer waits for a person to approve it"
    return (
        f"{decided.task} goes to {decided.tier} ({model}) by {decided.rule}: {decided.reason}. "
        f"It {climb}, {person}; plan: {plan.says}. Signals: {facts}."
    )
