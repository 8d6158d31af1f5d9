"""Routing: which tier a request goes to, by which rule, and why.

The task decides first, then the rules (context, ambiguity, blast radius, text, deadline), then the
plan, which caps what a customer may use. Everything is an argument, so the same request, policy and
instant always give the same route.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple, TypeVar

from router.policy.table import Plan, Policy, Rule, Task
from router.prompts.chat_fields import check_messages
from router.request.languages import script_of
from router.request.request_schemas import check_schemas
from router.request.signals import Signals, measure, signal_facts
from router.request.subjects import Subject, subjects_of
from schemas.base import Tier
from schemas.errors import ContractError
from schemas.escalation import Assignment, Classification, Escalation, RouteStep
from schemas.reasons import Reason
from schemas.request import Request

__all__ = [
    "GiveUp",
    "Route",
    "ladder",
    "plan_of",
    "route",
    "route_fields",
    "task_of",
    "with_unread_text",
    "within_limits",
]

_E = TypeVar("_E", Assignment, Escalation)


class Route(NamedTuple):
    """A decision: this tier, because of this rule."""

    tier: Tier
    step: RouteStep
    #: None while the classify step has yet to find the task.
    task: str | None
    rule: str
    reason: str
    policy_version: str
    deadline: datetime
    #: The reason code of the escalation that this route answers.
    code: Reason | None = None
    #: A person approves the answer, whatever the task's row says.
    needs_person: bool = False
    #: What the rules were asked about. None: no rule was asked.
    signals: Signals | None = None


@dataclass(frozen=True, slots=True)
class GiveUp:
    """No tier takes the request: it becomes a dead letter."""

    reason: Reason
    detail: str


def route(
    request: Request,
    policy: Policy,
    now: datetime,
    *,
    classification: Classification | None = None,
    accepted_at: datetime | None = None,
) -> Route | GiveUp:
    """Decide where a request goes first.

    `accepted_at` is the broker's append time, from which deadlines count; a deadline of the
    producer's may only shorten the policy's.
    """
    guess = _guess(request, policy, classification)
    name = guess.task if guess else request.task if request.task in policy.tasks else None
    deadline = _deadline(request, policy, accepted_at or now, name)
    if now >= deadline:
        return GiveUp(Reason.DEADLINE_PASSED, f"the deadline was {deadline.isoformat()}")

    plan = plan_of(request, policy)
    signals = _with_classification(measure(request), request, classification)
    if (problem := _over_context(signals, plan)) is not None:
        return problem
    try:
        check_schemas(request)
        check_messages(request.messages)
    except ContractError as error:
        return GiveUp(error.reason, error.detail)

    is_unclassified = False
    if classification is None and _is_scored_first(name, request, policy, signals):
        return _classify(request, policy, signals, deadline)
    if name is None:
        step = policy.classify
        if step is None or not step.otherwise or _fits(signals, step.tier, policy):
            return _classify(request, policy, signals, deadline)
        guess = _guess(request, policy, Classification(task=step.otherwise))
        name = guess.task if guess else step.otherwise
        is_unclassified = True

    plan_name = request.plan if request.plan in policy.plans else policy.default_plan
    facts = _Facts(plan_name, signals, deadline - (accepted_at or now))
    tier, rule, reason = _by_rules(name, facts, policy)
    tier, reason = _by_plan(tier, reason, request, plan)
    fitting = _fitting(tier, policy, signals, _ceiling(request, plan))
    if fitting is None:
        detail = f"{signals.total_tokens} tokens fit no model that the plan allows"
        return GiveUp(Reason.CONTEXT_TOO_LONG, detail)
    if fitting is not tier:
        reason = f"{reason}; raised to {fitting} because {signals.total_tokens} tokens need room"
    if (request.input.model_extra or {}).get("stream"):
        reason = f"{reason}; `stream` is left out, the result is one record"
    decided = Route(
        tier=fitting,
        step="answer",
        task=name,
        rule=rule,
        reason=f"{guess.words}; {reason}" if guess else reason,
        policy_version=policy.version,
        deadline=deadline,
        needs_person=guess is not None and guess.needs_person,
        signals=signals,
    )
    return with_unread_text(decided, request, policy) if is_unclassified else decided


def task_of(
    request: Request, policy: Policy, classification: Classification | None = None
) -> str | None:
    """The request's task if the policy has it, else the task that was guessed for it."""
    if request.task in policy.tasks:
        return request.task
    guess = _guess(request, policy, classification)
    return guess.task if guess else None


class _Guess(NamedTuple):
    """The task of a request whose producer named none that the policy has."""

    task: str
    words: str
    needs_person: bool = False


def _guess(
    request: Request, policy: Policy, classification: Classification | None
) -> _Guess | None:
    """The guess for a request that was classified; None where it was not.

    A cheap model's classification is not enough where the text speaks of something delicate.
    """
    classified = classification.task if classification else None
    if request.task in policy.tasks or classified not in policy.tasks:
        return None
    careful = careful_row(request, policy)
    plain = _Guess(classified, f"taken as {classified}")
    if careful is None:
        return plain
    row, (subject, name) = policy.tasks[classified], careful
    if name == "person":
        words = f"taken as {classified}, and the text speaks of {subject}, so a person approves"
        return plain if row.approval == "person" else _Guess(classified, words, needs_person=True)
    if _is_as_careful(row, policy.tasks[name]):
        return plain
    return _Guess(name, f"taken as {name}, not as {classified}, for the text speaks of {subject}")


def careful_row(request: Request, policy: Policy) -> tuple[Subject, str] | None:
    """The delicate subject that the text speaks of, and the row that is careful enough for it.

    Of several, the subject that demands most: a row whose answers a person approves, else a person,
    else a risky row.
    """
    rows = policy.classify.speaks_of if policy.classify else {}
    spoken_of = subjects_of(request.text) if rows else ()
    candidates = [(subject, name) for subject, name in rows.items() if subject in spoken_of]
    return max(candidates, key=lambda row: _care(row[1], policy), default=None)


def with_unread_text(decided: Route, request: Request, policy: Policy) -> Route:
    """The route of a request that the classify step found no task for.

    Where no word table can tell what such a text speaks of either, a person approves the answer.
    """
    is_delicate = bool(policy.classify and policy.classify.speaks_of)
    if not is_delicate or decided.needs_person or script_of(request.text) == "latin":
        return decided
    words = "nobody knows what a text in this script speaks of, so a person approves"
    return decided._replace(needs_person=True, reason=f"{decided.reason}; {words}")


def _care(name: str, policy: Policy) -> int:
    if name == "person":
        return 2
    row = policy.tasks[name]
    return 3 if row.approval == "person" else int(row.risk == "risky")


def _is_as_careful(row: Task, other: Task) -> bool:
    return row.approval == "person" or (other.approval == "none" and row.risk == "risky")


def plan_of(request: Request, policy: Policy) -> Plan:
    """The request's plan; a plan the policy does not know counts as the default one."""
    return policy.plans.get(request.plan or "") or policy.plans[policy.default_plan]


def route_fields(decided: Route, policy: Policy, now: datetime) -> dict[str, object]:
    """A route as an assignment holds it: the fields of a `RouteTaken`."""
    return {
        "tier": decided.tier,
        "step": decided.step,
        "rule": decided.rule,
        "reason": decided.reason,
        "code": decided.code,
        **({"needs_person": True} if decided.needs_person else {}),
        **({"signals": signal_facts(decided.signals)} if decided.signals else {}),
        "policy_version": policy.version,
        "policy_digest": policy.digest,
        "routed_at": now,
    }


def ladder(start: Tier, task: str, request: Request, policy: Policy) -> list[Tier]:
    """The tiers an escalation may climb to from `start`, in order, within the plan."""
    ceiling = _ceiling(request, plan_of(request, policy))
    return [
        tier
        for tier in policy.tasks[task].escalation
        if start.rank < tier.rank <= ceiling.rank and tier in policy.tiers
    ]


def within_limits(envelope: _E, policy: Policy, now: datetime) -> _E:
    """The envelope with no more attempts and no more time than the policy gives any request.

    A writer to the topics between stages could give itself any number.
    """
    attempts, latest = policy.limits.attempts, now + policy.longest_deadline
    if envelope.attempts_left <= attempts and envelope.deadline <= latest:
        return envelope
    left, deadline = min(envelope.attempts_left, attempts), min(envelope.deadline, latest)
    return envelope.model_copy(update={"attempts_left": left, "deadline": deadline})


def _is_scored_first(name: str | None, request: Request, policy: Policy, signals: Signals) -> bool:
    """True where the policy asks the classify step how complex a request of this task is."""
    step = policy.classify
    if step is None or name is None or name not in step.complexity_counts_for:
        return False
    return request.complexity is None and _fits(signals, step.tier, policy)


def _classify(
    request: Request, policy: Policy, signals: Signals, deadline: datetime
) -> Route | GiveUp:
    named = request.task is not None
    step, is_known = policy.classify, request.task in policy.tasks
    if step is None or (named and not is_known and step.applies_to == "missing"):
        detail = f"task {request.task!r} is not in the policy" if named else "task: none was given"
        return GiveUp(Reason.UNKNOWN_TASK, detail)
    if not _fits(signals, step.tier, policy):
        detail = f"{signals.total_tokens} tokens fit no model of the classify step"
        return GiveUp(Reason.CONTEXT_TOO_LONG, detail)

    return Route(
        tier=step.tier,
        step="classify",
        task=None,
        rule="classify",
        reason="the policy asks how complex it is" if is_known else step.reason,
        policy_version=policy.version,
        deadline=deadline,
        signals=signals,
    )


def _deadline(
    request: Request, policy: Policy, accepted_at: datetime, task: str | None
) -> datetime:
    allowed = policy.tasks[task].deadline if task else None
    latest = accepted_at + (allowed or policy.limits.deadline)
    return min(latest, request.deadline) if request.deadline else latest


def _with_classification(
    signals: Signals, request: Request, classification: Classification | None
) -> Signals:
    """The producer's signals come first, then the classification's, then our estimates."""
    if classification is None:
        return signals

    ambiguity, complexity = signals.ambiguity, signals.complexity
    if request.ambiguity is None and classification.ambiguity is not None:
        ambiguity = classification.ambiguity
    if request.complexity is None and classification.complexity is not None:
        complexity = classification.complexity
    return signals._replace(ambiguity=ambiguity, complexity=complexity)


class _Facts(NamedTuple):
    """What rules may ask about, beside the task and its risk."""

    plan: str
    signals: Signals
    #: Time from acceptance to the deadline.
    left: timedelta


def _by_rules(name: str, facts: _Facts, policy: Policy) -> tuple[Tier, str, str]:
    task = policy.tasks[name]
    for rule in policy.rules_by_task[name]:
        for field, value in rule.when.asked:
            if not _CONDITIONS[field](value, facts):
                break
        else:
            return _moved(task.tier, rule), rule.name, rule.reason

    return task.tier, f"task {name}", task.reason


def _moved(tier: Tier, rule: Rule) -> Tier:
    target = rule.tier
    if target is None:
        return tier
    if rule.sets == "exactly":
        return target
    pick = max if rule.sets == "at_least" else min
    return pick(tier, target, key=lambda candidate: candidate.rank)


#: The test of each condition of a rule. Tasks and risk are tested before, once per policy.
_CONDITIONS: Mapping[str, Callable[[Any, _Facts], bool]] = {
    "plans": lambda plans, facts: facts.plan in plans,
    "blast_radius": lambda radii, facts: facts.signals.blast_radius in radii,
    "ambiguity_below": lambda bound, facts: facts.signals.ambiguity < bound,
    "ambiguity_from": lambda bound, facts: facts.signals.ambiguity >= bound,
    "complexity_at_most": lambda bound, facts: facts.signals.complexity <= bound,
    "complexity_from": lambda bound, facts: facts.signals.complexity >= bound,
    "context_tokens_from": lambda bound, facts: facts.signals.total_tokens >= bound,
    "text": lambda names, facts: not facts.signals.text.isdisjoint(names),
    "deadline_within": lambda bound, facts: facts.left <= bound,
}


def _by_plan(tier: Tier, reason: str, request: Request, plan: Plan) -> tuple[Tier, str]:
    """Raise the tier to where the plan starts, then cap it; the reason says so."""
    if plan.start is not None and tier.rank < plan.start.rank:
        tier, reason = plan.start, f"{reason}; the plan starts at {plan.start}"
    if tier.rank > plan.start_at_most.rank:
        tier, reason = plan.start_at_most, f"{reason}; the plan allows {plan.start_at_most}"
    if plan.justify_above is not None and tier.rank > plan.justify_above.rank:
        if request.justification:
            return tier, f"{reason}; justified by the producer"
        tier, reason = plan.justify_above, f"{reason}; {tier} needs a justification"
    return tier, reason


def _over_context(signals: Signals, plan: Plan) -> GiveUp | None:
    over = []
    for component, limit in plan.context.given:
        tokens = signals.total_tokens
        if component != "total":
            tokens = signals.context_tokens.get(component, 0)
        if tokens > limit:
            over.append(f"{component} {tokens} of {limit}")
    if not over:
        return None

    return GiveUp(Reason.CONTEXT_TOO_LONG, f"tokens over the plan's limit: {', '.join(over)}")


def _ceiling(request: Request, plan: Plan) -> Tier:
    """The highest tier that the plan allows this request, which may need a justification."""
    if plan.justify_above is None or request.justification:
        return plan.ceiling
    return min(plan.ceiling, plan.justify_above, key=lambda tier: tier.rank)


def _fits(signals: Signals, tier: Tier, policy: Policy) -> bool:
    return signals.total_tokens <= policy.room_by_tier.get(tier, 0)


def _fitting(tier: Tier, policy: Policy, signals: Signals, ceiling: Tier) -> Tier | None:
    """The lowest tier from `tier` to `ceiling` with a model that the request fits."""
    for candidate, room in policy.room_by_tier.items():
        if tier.rank <= candidate.rank <= ceiling.rank and signals.total_tokens <= room:
            return candidate

    return None
