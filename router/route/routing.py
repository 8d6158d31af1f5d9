"""Routing: which tier a request goes to, by which rule, and why.

The task decides first, then the rules (context, ambiguity, blast radius, text, deadline), then the
plan, which caps what a customer may use. Everything is an argument, so the same request, policy and
instant always give the same route.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple, TypeVar

from router.policy.table import Approval, Classify, Plan, Policy, Rule
from router.prompts.chat_fields import check_messages
from router.request.languages import script_of
from router.request.request_schemas import check_schemas
from router.request.signals import Signals, measure, signal_facts
from router.route.context import Budgeted, within_budget
from router.route.guessing import guess_of
from router.route.ladders import ceiling_of, plan_of, within_plan
from schemas.base import Tier
from schemas.errors import ContractError
from schemas.escalation import Assignment, Classification, Escalation, RouteStep, Trim
from schemas.reasons import Reason
from schemas.request import Request

__all__ = [
    "GiveUp",
    "Route",
    "route",
    "route_fields",
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
    #: What moved it away from its task's own tier, in order.
    moved_by: Sequence[Reason] = ()
    #: The tier that task and rules wanted, where the plan lowered it.
    wanted: Tier | None = None
    #: What of its context is not rendered.
    trim: Trim | None = None


@dataclass(frozen=True, slots=True)
class GiveUp:
    """No tier takes the request: it becomes a dead letter."""

    reason: Reason
    detail: str
    #: Where it goes if a person sends it through: known where the policy wants the person.
    route: Route | None = None


def route(
    request: Request,
    policy: Policy,
    now: datetime,
    *,
    classification: Classification | None = None,
    accepted_at: datetime | None = None,
    is_seen: bool = False,
    measured: Signals | None = None,
) -> Route | GiveUp:
    """Decide where a request goes first.

    `accepted_at` is the broker's append time, from which deadlines count; a deadline of the
    producer's may only shorten the policy's. `is_seen`: a person has had it and sent it through.
    `measured` are its signals, where they are known already.
    """
    guess = guess_of(request, policy, classification)
    name = guess.task if guess else request.task if request.task in policy.tasks else None
    deadline = _deadline(request, policy, accepted_at or now, name)
    if now >= deadline:
        return GiveUp(Reason.DEADLINE_PASSED, f"the deadline was {deadline.isoformat()}")

    plan = plan_of(request, policy)
    signals = _with_classification(measured or measure(request), request, classification)
    try:
        budget = within_budget(request, signals, plan.context)
        signals = budget.signals
        check_schemas(request)
        check_messages(request.messages)
    except ContractError as error:
        return GiveUp(error.reason, error.detail)

    facts = _Facts(policy.plan_name(request.plan), signals, deadline - (accepted_at or now))
    if _is_classified_first(name, facts, request, policy, classification):
        decided = _classify(request, policy, budget, deadline)
        return decided if is_seen else _for_person(decided, facts, policy)
    is_unclassified = name is None
    if name is None:
        name = (policy.classify.otherwise if policy.classify else None) or ""
        guess = guess_of(request, policy, Classification(task=name))
        name = guess.task if guess else name

    wanted, rule, reason, moved_by, approval, asking = _by_rules(name, facts, policy)
    is_justified, tokens = bool(request.justification), signals.total_tokens
    tier, words = within_plan(wanted, plan, is_justified=is_justified)
    if tier is not wanted:
        moved_by = (*moved_by, Reason.PLAN)
    reason, rooms = f"{reason}{words}", policy.rooms_by_task[name]
    if tokens > rooms.get(tier, 0) or budget.over:
        roomier = _roomier(tier, rooms, budget, plan, is_justified=is_justified)
        if isinstance(roomier, GiveUp):
            return roomier
        (tier, words), moved_by = roomier, (*moved_by, Reason.LONG_CONTEXT)
        reason = f"{reason}; {words}"
    if (request.input.model_extra or {}).get("stream"):
        reason = f"{reason}; `stream` is left out, the result is one record"
    if asking is not None:
        reason = f"{reason}; a person approves the answer by {asking.name}: {asking.reason}"
    decided = Route(
        tier=tier,
        step="answer",
        task=name,
        rule=rule,
        reason=(f"{guess.words}; {reason}" if guess else reason) + budget.words,
        policy_version=policy.version,
        deadline=deadline,
        needs_person=asking is not None or (guess is not None and guess.needs_person),
        signals=signals,
        moved_by=moved_by,
        wanted=wanted if tier.rank < wanted.rank else None,
        trim=budget.trim,
    )
    if approval == "person_first" and not is_seen:
        row = f"task {name}: {policy.tasks[name].reason}"
        by = f"{asking.name}: {asking.reason}" if asking else row
        return GiveUp(Reason.PERSON_FIRST, by, decided)
    return with_unread_text(decided, request, policy) if is_unclassified else decided


def with_unread_text(decided: Route, request: Request, policy: Policy) -> Route:
    """The route of a request that the classify step found no task for.

    Where no word table can tell what such a text speaks of either, a person approves the answer.
    """
    is_delicate = bool(policy.classify and policy.classify.speaks_of)
    if not is_delicate or decided.needs_person or script_of(request.text) == "latin":
        return decided
    words = "nobody knows what a text in this script speaks of, so a person approves"
    return decided._replace(needs_person=True, reason=f"{decided.reason}; {words}")


def route_fields(decided: Route, release: str, now: datetime) -> dict[str, object]:
    """A route as an assignment holds it: the fields of a `RouteTaken`.

    `release` is the digest of the release that decided.
    """
    fields: dict[str, object] = {
        "tier": decided.tier,
        "step": decided.step,
        "rule": decided.rule,
        "reason": decided.reason,
        "code": decided.code,
        "policy_version": decided.policy_version,
        "policy_digest": release,
        "routed_at": now,
    }
    if decided.needs_person:
        fields["needs_person"] = True
    if decided.signals:
        fields["signals"] = signal_facts(decided.signals)
    if decided.moved_by:
        fields["moved_by"] = [*decided.moved_by]
    if decided.wanted:
        fields["wanted"] = decided.wanted
    if decided.trim:
        fields["trim"] = decided.trim.model_dump()
    return fields


def within_limits(envelope: _E, policy: Policy, now: datetime) -> _E:
    """The envelope with no more attempts and no more time than the policy gives any request.

    A writer to the topics between stages could give itself any number.
    """
    left = min(envelope.attempts_left, policy.limits.attempts)
    deadline = policy.bounded(envelope.deadline, now)
    if (left, deadline) == (envelope.attempts_left, envelope.deadline):
        return envelope
    return envelope.model_copy(update={"attempts_left": left, "deadline": deadline})


def _is_classified_first(
    name: str | None,
    facts: "_Facts",
    request: Request,
    policy: Policy,
    classification: Classification | None,
) -> bool:
    """True where the classify step says what a request is, or how complex.

    Where a person has it before any model, no model scores it either.
    """
    step = policy.classify
    if name is None:
        if step is None or not step.otherwise or not _is_for(step, request):
            return True
        return _fits(facts.signals, step.tier, policy)
    if step is None or classification is not None or name not in step.complexity_counts_for:
        return False
    if request.complexity is not None or not _fits(facts.signals, step.tier, policy):
        return False
    *_, approval, _ = _by_rules(name, facts, policy)
    return approval != "person_first"


def _classify(
    request: Request, policy: Policy, budget: Budgeted, deadline: datetime
) -> Route | GiveUp:
    named = request.task is not None
    step, is_known = policy.classify, request.task in policy.tasks
    if step is None or not (is_known or _is_for(step, request)):
        detail = f"task {request.task!r} is not in the policy" if named else "task: none was given"
        return GiveUp(Reason.UNKNOWN_TASK, detail)
    if not _fits(budget.signals, step.tier, policy):
        detail = f"{budget.signals.total_tokens} tokens fit no model of the classify step"
        return GiveUp(Reason.CONTEXT_TOO_LONG, detail)

    return Route(
        tier=step.tier,
        step="classify",
        task=None,
        rule="classify",
        reason=("the policy asks how complex it is" if is_known else step.reason) + budget.words,
        policy_version=policy.version,
        deadline=deadline,
        signals=budget.signals,
        trim=budget.trim,
    )


def _is_for(step: Classify, request: Request) -> bool:
    """True where a request without a task that the policy has may get one."""
    return request.task is None or step.applies_to == "missing_or_unknown"


def _for_person(decided: Route | GiveUp, facts: "_Facts", policy: Policy) -> Route | GiveUp:
    """A person's case before any model classifies it, where a rule about any task says so."""
    for rule in policy.asking_by_task[""]:
        if isinstance(decided, Route) and rule.approval == "person_first" and _holds(rule, facts):
            return GiveUp(Reason.PERSON_FIRST, f"{rule.name}: {rule.reason}", decided)
    return decided


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


#: Tier, rule, reason, what moved the tier, whether a person is asked, and the rule that asks for
#: more than the task's row does. A plain tuple: this runs for every request.
_Ruled = tuple[Tier, str, str, Sequence[Reason], Approval, Rule | None]


def _by_rules(name: str, facts: _Facts, policy: Policy) -> _Ruled:
    """The first rule that matches decides the tier; whether a person is asked, all that match."""
    task, asking = policy.tasks[name], None
    approval = task.approval
    for rule in policy.asking_by_task[name]:
        is_stricter = asking is None or rule.approval == "person_first"
        if rule.approval and is_stricter and approval != "person_first" and _holds(rule, facts):
            approval, asking = rule.approval, rule
    for rule in policy.rules_by_task[name]:
        for field, value in rule.when.asked:
            if not _CONDITIONS[field](value, facts):
                break
        else:
            tier = _moved(task.tier, rule)
            codes = (rule.moves_by,) if tier is not task.tier else ()
            return tier, rule.name, rule.reason, codes, approval, asking
    return task.tier, f"task {name}", task.reason, (), approval, asking


def _holds(rule: Rule, facts: _Facts) -> bool:
    return all(_CONDITIONS[field](value, facts) for field, value in rule.when.asked)


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


def _fits(signals: Signals, tier: Tier, policy: Policy) -> bool:
    return signals.total_tokens <= policy.room_by_tier.get(tier, 0)


def _roomier(
    tier: Tier, rooms: Mapping[Tier, int], budget: Budgeted, plan: Plan, *, is_justified: bool
) -> tuple[Tier, str] | GiveUp:
    """The lowest tier from `tier` to the plan's ceiling that has room, and why it is needed."""
    ceiling, tokens, room = (
        ceiling_of(plan, is_justified=is_justified),
        budget.signals.total_tokens,
        rooms.get(tier, 0),
    )
    least = max(tokens, room + 1)
    for candidate, larger in rooms.items():
        if tier.rank <= candidate.rank <= ceiling.rank and least <= larger:
            why = f"{tokens} tokens need room"
            if budget.over:
                why = f"a larger window is asked for {budget.over}"
            return candidate, f"raised to {candidate} because {why}"

    detail = f"{tokens} tokens fit no model that the plan allows"
    if budget.over:
        detail = f"{budget.over}, and the plan allows no larger window than {tier} has"
    return GiveUp(Reason.CONTEXT_TOO_LONG, detail)
