"""The policy in words: the plain table, and why one request goes where it goes."""

from router.policy.table import Policy
from router.routing import GiveUp, Route, careful_row, ladder, plan_of
from router.signals import Signals
from schemas.request import Request

__all__ = ["COLUMNS", "explain_route", "table_rows"]

COLUMNS = (
    "task",
    "trigger",
    "model",
    "backup",
    "escalation",
    "format",
    "failure limit",
    "reason",
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
