"""Climbing: whether a dearer model is worth its price, by what each way on is expected to cost.

An expected cost is what is spent for certain and, as often as the answer is wrong all the same,
what a wrong answer costs.
"""

from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Literal, NamedTuple

from router.attempt.next_step import Answer, Escalate, NextStep, untried
from router.attempt.pricing import cost_micros
from router.judge.judging import output_contract
from router.policy.table import Policy, Task
from router.request.signals import measure
from router.route.ladders import ladder
from router.route.routing import GiveUp
from schemas.attempt import Attempt
from schemas.base import Tier
from schemas.escalation import Assignment
from schemas.reasons import Reason
from schemas.request import Request

__all__ = ["AskBack", "Climbs", "Way", "best", "weighed"]

#: From this ambiguity on, a question back may be what the answer lacks.
_UNCLEAR = 0.6
_NAMES = {
    "climb": "a dearer model",
    "caveat": "an answer with a caveat",
    "ask_back": "a question back",
    "person": "a person",
}


@dataclass(frozen=True, slots=True)
class AskBack:
    """The task's question back to the user is the result."""

    detail: str


class Way(NamedTuple):
    """A way on from an answer that could not be defended."""

    kind: Literal["climb", "caveat", "ask_back", "person"]
    #: Dollars that are spent for certain.
    price: Decimal
    #: How often a wrong answer is published all the same, from 0 to 1.
    wrong: Decimal

    def expected(self, worth: Decimal) -> Decimal:
        """The expected cost in dollars, where a wrong answer costs `worth`."""
        return self.price + self.wrong * worth

    def words(self, worth: Decimal) -> str:
        """The way and its figures."""
        return f"{_NAMES[self.kind]} ${self.expected(worth):.4f} (wrong {self.wrong:.1%})"


def best(ways: Sequence[Way], worth: Decimal) -> Way:
    """The way with the least expected cost: of equal ones, the one that is least often wrong."""
    return min(ways, key=lambda way: (way.expected(worth), way.wrong))


@dataclass(frozen=True, slots=True)
class _Doubt:
    """An answer that a tier could not defend."""

    step: Escalate
    task: Task
    tier: Tier
    answer: Attempt
    #: The next tier that can still be asked, with its model. None: there is none.
    above: tuple[Tier, str] | None
    #: True where only its confidence is too low, and neither risk nor policy wants a person.
    is_publishable: bool


class Climbs:
    """Which of a process's latest requests have climbed, by task.

    Of any hundred requests of a task in a row, no larger share than the policy allows climbs. Each
    worker counts its own: a new one begins with no requests.
    """

    _SPAN = 100

    def __init__(self) -> None:
        self._latest: dict[str, deque[bool]] = defaultdict(lambda: deque(maxlen=self._SPAN - 1))

    def allow(self, task: str, share: float) -> bool:
        """True when one more request of the task may climb."""
        return sum(self._latest[task]) + 1 <= share * self._SPAN

    def note(self, task: str, *, climbed: bool) -> None:
        """Count a request that has ended in this tier."""
        self._latest[task].append(climbed)


def weighed(
    step: NextStep,
    assignment: Assignment,
    request: Request,
    attempts: Sequence[Attempt],
    policy: Policy,
    climbs: Climbs,
) -> NextStep | AskBack:
    """The end of a tier's work, once it is weighed whether a dearer model should be asked.

    Only answers that were judged are weighed: an outage is no matter of price. A task without
    `worth` and `climb_at_most` climbs as far as it may.
    """
    name = assignment.task or ""
    task = policy.tasks.get(name)
    if task is None or assignment.route.step != "answer":
        return step
    end: NextStep | AskBack = step
    doubt = _doubt_of(step, assignment, request, attempts, policy)
    if doubt is not None and task.worth is not None:
        end = _cheapest(doubt, task.worth, assignment, request, policy)
    if (most := task.climb_at_most) is None:
        return end
    climbs_on = isinstance(end, Escalate) and doubt is not None and doubt.above is not None
    if climbs_on and doubt is not None and not climbs.allow(name, most):
        climbs_on = False
        words = f"no more than {most:.0%} of its requests climb, and as many have"
        publishes = task.over_share == "caveat" and doubt.is_publishable
        reason = Reason.NOT_WORTH_CLIMBING
        end = Answer(doubt=words) if publishes else GiveUp(reason, f"{doubt.step.detail}; {words}")
    climbs.note(name, climbed=climbs_on)
    return end


def _doubt_of(
    step: NextStep,
    assignment: Assignment,
    request: Request,
    attempts: Sequence[Attempt],
    policy: Policy,
) -> _Doubt | None:
    """What is in doubt where a judged answer is to climb; None where nothing is to be weighed."""
    name, route = assignment.task or "", assignment.route
    answers = [attempt for attempt in attempts if attempt.step == "answer" and attempt.was_judged]
    if not isinstance(step, Escalate) or not answers or not attempts[-1].was_judged:
        return None
    task, answer, asked = policy.tasks[name], answers[-1], [*assignment.own_attempts, *attempts]
    above = (
        (tier, models[0])
        for tier in ladder(route.tier, name, request, policy, route.wanted)
        if (models := untried(tier, name, "answer", asked, policy))
    )
    verdict = answer.verdict
    is_unsure = verdict is not None and verdict.output is not None
    is_unsure = is_unsure and step.reason is Reason.LOW_CONFIDENCE and answer is attempts[-1]
    failed = [check for check in verdict.checks if not check.passed] if verdict else []
    return _Doubt(
        step,
        task,
        route.tier,
        answer,
        next(above, None),
        is_publishable=is_unsure
        and all(check.reason is Reason.LOW_CONFIDENCE for check in failed)
        and not (route.needs_person or task.approval != "none" or task.risk == "risky"),
    )


def _cheapest(
    doubt: _Doubt, worth: Decimal, assignment: Assignment, request: Request, policy: Policy
) -> NextStep | AskBack:
    """The way on with the least expected cost."""
    ways = _ways(doubt, assignment, request, policy)
    chosen = best(ways, worth)
    costs = ", ".join(way.words(worth) for way in ways)
    words = f"{_NAMES[chosen.kind]} costs least where a wrong answer costs ${worth}: {costs}"
    match chosen.kind:
        case "caveat":
            return Answer(doubt=words)
        case "ask_back":
            return AskBack(words)
        case "person" if doubt.above is not None:
            return GiveUp(Reason.NOT_WORTH_CLIMBING, f"{doubt.step.detail}; {words}")
        case _:  # without a tier above, route gives up in its own words
            return replace(doubt.step, weighed=words)


def _ways(doubt: _Doubt, assignment: Assignment, request: Request, policy: Policy) -> Sequence[Way]:
    """Every way on, a person first: as often right as was fitted, and priced at today's prices."""
    right, usage = doubt.task.right, doubt.answer.usage
    here = right.at(doubt.tier) if right else None
    ways = [Way("person", policy.costs.person, Decimal(0))]
    if doubt.above is not None:
        tier, model = doubt.above
        above = right.at(tier) if right else None
        # The next model reads and writes about as much as this one has.
        price = Decimal(cost_micros(usage, policy.models[model].price)) / 1_000_000
        ways.append(Way("climb", price, _missing(above)))
    if doubt.is_publishable:
        sure = (doubt.answer.verdict.confidence if doubt.answer.verdict else None) or 0.0
        # A model may be surer than the tier has been right.
        ways.append(Way("caveat", Decimal(0), _missing(sure if here is None else min(sure, here))))
    may_ask = output_contract(request, policy, assignment.task, "answer").may_ask
    if may_ask and _ambiguity(assignment, request) >= _UNCLEAR:
        again = Decimal(doubt.answer.cost_micros) / 1_000_000
        ways.append(Way("ask_back", policy.costs.question + again, _missing(here)))
    return ways


def _missing(share: float | None) -> Decimal:
    """What a share lacks to 1; nobody knows, then all of it."""
    return 1 - Decimal(str(share or 0.0))


def _ambiguity(assignment: Assignment, request: Request) -> float:
    """The producer's, else the classify step's, else our own estimate."""
    guessed = assignment.classification.ambiguity if assignment.classification else None
    given = guessed if request.ambiguity is None else request.ambiguity
    return measure(request).ambiguity if given is None else given
