"""The policy in words: its table, and the reasons for one request's route."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from importlib.resources import files
from typing import Any, NamedTuple

from router.errors import did_you_mean
from router.policy.table import Plan, Policy, Rule, Task
from router.policy.yaml_text import read_yaml
from router.request.signals import Signals, measure, signal_facts, signal_words
from router.route.guessing import careful_row
from router.route.ladders import ladder, plan_of
from router.route.overflow import overflowed
from router.route.routing import GiveUp, Route, route
from schemas.request import Request
from schemas.spans import span_text

__all__ = [
    "Section",
    "cap_rows",
    "explain_route",
    "explained",
    "lead",
    "plan_words",
    "rule_words",
    "sections",
    "table_rows",
    "threshold_rows",
    "unknown_names",
]

#: What is said of fields, by their values.
_WORDS = read_yaml(files("router.route").joinpath("words.yaml").read_text("utf-8"))[0]


def table_rows(policy: Policy) -> list[dict[str, str]]:
    """One row per task, in the words a product manager would use."""
    rows = []
    for name, task in policy.tasks.items():
        models = policy.models_of(task.tier, name)
        path = " → ".join(task.escalation)
        end = _WORDS["ends"][task.approval]
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


def lead(policy: Policy) -> str:
    """How the parts of the policy work together."""
    limits, every = policy.limits, policy.review_every
    review = f" It is reviewed every {span_text(every)}." if every else ""
    return (
        "The task decides first, then the first rule that fits, then the plan, which caps the "
        "tier. An answer that cannot be defended climbs; one that no tier can defend goes to a "
        f"person. A request may make {limits.attempts} calls and climb {limits.escalations} times, "
        f"within {span_text(limits.deadline)}.{review}"
    )


class Section(NamedTuple):
    """A part of the policy, as people read it; its rows have the same columns."""

    name: str
    title: str
    rows: Sequence[Mapping[str, Any]]
    note: str = ""


def sections(policy: Policy) -> Iterator[Section]:
    """What a product manager reads of the policy, in this order."""
    shown = ("task", "trigger", "escalation", "reason", "owner")
    table = {row["task"]: {name: row[name] for name in shown} for row in table_rows(policy)}
    for tier, row in policy.tiers.items():
        here = [name for name, task in policy.tasks.items() if task.tier is tier]
        orders = {name: policy.models_of(tier, name) for name in here}
        notes = [f"Asks {', then '.join(row.models)}"]
        notes += [f"{n} {', then '.join(own)}" for n, own in orders.items() if own != row.models]
        title = f"{tier.capitalize()}: {row.job}"
        yield Section("tier", title, [table[name] for name in here], f"{'; '.join(notes)}.")
    beside = {name: words for name, task in policy.tasks.items() if (words := _beside(task))}
    rows = [{"task": name, "what it says": f"It {words}."} for name, words in beside.items()]
    yield Section("beside", "What some tasks have beside their tier", rows)
    rules = [{"rule": rule.name, "what it says": rule_words(rule)} for rule in policy.rules]
    yield Section("rules", "Rules, in the order in which they are tried", rules)
    if (step := policy.classify) is not None:
        subjects = [
            {
                "when the text speaks of": subject,
                "what counts": "a person approves the answer"
                if row == "person"
                else f"{row}, unless the task that is found is as careful",
            }
            for subject, row in step.speaks_of.items()
        ]
        otherwise = f"{step.otherwise} counts" if step.otherwise else "a person decides"
        note = f"Asked at {step.tier}: {step.reason}. Without a usable answer, {otherwise}."
        yield Section("classify", "Requests whose task has to be found out", subjects, note)
    plans = [
        {"plan": name, "what it allows": plan_words(row)} for name, row in policy.plans.items()
    ]
    yield Section("plans", "Plans", plans, f"Without a plan, a request has {policy.default_plan}.")
    if policy.caps:
        note = "A request needs room in each that it falls under, before any call."
        yield Section("caps", "Caps: what may be spent at most", cap_rows(policy), note)
    prices = [
        {
            "model": name if name == model.id else f"{name}: {model.id}",
            "provider": model.provider,
            **{field: getattr(model.price, field) for field in ("input", "output", "source")},
            "as of": model.price.as_of,
        }
        for name, model in policy.models.items()
    ]
    yield Section("prices", "Prices, in US dollars per million tokens", prices)
    note = "A less sure answer climbs. tierline policy calibrate fits thresholds to judged answers."
    yield Section("thresholds", "Thresholds", threshold_rows(policy), note)


def _beside(task: Task) -> str:
    """What a task has beside its tier, in words."""
    usual, words = type(task).model_fields, list[str]()
    for field, says in _WORDS["beside"].items():
        if (value := getattr(task, field)) != usual[field].default:
            words.append(says.format(span_text(value) if field == "deadline" else value))
    return _listed(words, "and")


def cap_rows(policy: Policy) -> list[dict[str, Any]]:
    """One row per cap."""
    return [
        {
            "cap": name,
            "at most": cap.words,
            "per": cap.per if cap.zone == "UTC" else f"{cap.per} ({cap.zone})",
            "for each": ", ".join(cap.kept_by)
            or ("request" if cap.per == "request" else "all together"),
            "where": " and ".join(f"{n} is {' or '.join(v)}" for n, v in cap.where.items()),
            "then": cap.at_cap,
            "because": cap.because,
        }
        for name, cap in policy.caps.items()
    ]


def plan_words(plan: Plan) -> str:
    """A plan as a sentence."""
    words = [f"starts at {plan.start} at least"] if plan.start else []
    if plan.start_at_most is not plan.ceiling:
        words.append(f"starts at {plan.start_at_most} at most")
    words.append(f"goes no higher than {plan.ceiling}")
    if plan.justify_above:
        words.append(f"needs a justification above {plan.justify_above}")
    overs = {str(name): _WORDS["over"][action] for name, action in plan.context.over.items()}
    if sizes := [f"{limit:,} {name}{overs.get(name, '')}" for name, limit in plan.context.given]:
        words.append(f"takes {_listed(sizes, 'and')} tokens at most")
    return f"{plan.says}: {_listed(words, 'and')}."


def threshold_rows(policy: Policy) -> list[dict[str, Any]]:
    """The least confidence with which an answer is published, by tier and where a task differs."""
    rows: list[Sequence[Any]] = [
        (tier, "", row.accept, row.accept_because) for tier, row in policy.tiers.items()
    ]
    rows += [
        (tier, name, least, task.accept_because)
        for name, task in policy.tasks.items()
        for tier, least in task.accept.items()
    ]
    columns = ("tier", "task", "publishes from", "how it came about")
    return [dict(zip(columns, row, strict=True)) for row in rows]


def rule_words(rule: Rule) -> str:
    """A rule as a sentence."""
    asked = [(say, getattr(rule.when, name)) for name, say in _CONDITIONS.items()]
    conditions = _listed([say(value) for say, value in asked if value is not None], "and")
    bound = rule.sets.replace("_", " ")
    where = f"starts at {rule.tier}" if rule.sets == "exactly" else f"starts {bound} at {rule.tier}"
    if rule.tier is None:
        where = "starts where its task says"
    does = [f"{'a' if conditions else 'every'} request {where}", _WORDS["asks"].get(rule.approval)]
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
    "deadline_within": lambda span: f"no more than {span_text(span)} is left until its deadline",
}


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
    spills = ""
    if row.overflow not in (None, decided.tier):
        then = f"it waits: plan, window or `fallback` keep it from {row.overflow}"
        if overflowed(decided, request, policy) is not None:
            then = f"it goes to {row.overflow}"
        spills = f" If {decided.tier} cannot take it in time, {then}."
    return (
        f"{decided.task} goes to {decided.tier} ({model}) by {decided.rule}: {decided.reason}. "
        f"It {climb}, {person}; plan: {plan.says}. Signals: {facts}."
        f"{codes if decided.moved_by else ''}{spills}"
    )
