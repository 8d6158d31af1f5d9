"""Climbing: whether a dearer model is worth its price, by what each way on is expected to cost.

An expected cost is what is spent for certain and, as often as the answer is wrong all the same,
what a wrong answer costs.
"""

from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Literal, NamedTuple

from router.attempt.next_step import (
    Answer,
    Escalate,
    NextStep,
    failed_enough,
    spent,
    untried,
)
from router.attempt.pricing import cost_micros
from router.judge.judging import output_contract
from router.policy.table import Policy, Task
from router.route.ladders import climbed_enough, ladder
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


class Climbs:
    """Which of a process's latest requests have climbed, by task.

    Of any hundred requests of a task in a row, no larger share than the policy allows climbs. Each
    worker counts its own: a new one begins with no requests.
    """

    _SPAN = 100

    def __init__(self) -> None:
        self._latest: dict[str, deque[bool]] = defaultdict(lambda: deque(maxlen=self._SPAN - 1))

    def admit(self, task: str, share: float, *, wants: bool) -> bool:
        """Count a request that has ended in this tier; True when it wants to climb and may."""
        latest = self._latest[task]
        climbs = wants and sum(latest) + 1 <= share * self._SPAN + 1e-9
        latest.append(climbs)
        return climbs


class _Doubt(NamedTuple):
    """An answer that a tier could not defend."""

    step: Escalate
    answer: Attempt
    #: The next tier that can still be asked, with its model. None: there is none.
    above: tuple[Tier, str] | None
    #: True where only its confidence is too low, and neither risk nor policy wants a person.
    is_publishable: bool


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
    task, end = policy.tasks.get(name), step
    if task is None or assignment.route.step != "answer":
        return step
    if isinstance(step, Escalate) and step.reason is Reason.RESERVATION_USED:
        return step  # the tier's work goes on
    doubt = _doubt_of(step, task, assignment, request, attempts, policy)
    if doubt is not None and task.worth is not None:
        ways = _ways(doubt, task, assignment, request, policy)
        cheapest = _cheapest(doubt, ways, task.worth)
        if isinstance(cheapest, AskBack):
            return cheapest
        end = cheapest
    if (most := task.climb_at_most) is None:
        return end
    wants = isinstance(end, Escalate) and doubt is not None and doubt.above is not None
    if climbs.admit(name, most, wants=wants) or not wants or doubt is None:
        return end
    words = f"no more than {most:.0%} of its requests climb, and as many have"
    if task.over_share == "caveat" and doubt.is_publishable:
        return Answer(doubt=words)
    return GiveUp(Reason.NOT_WORTH_CLIMBING, f"{doubt.step.detail}; {words}")


def _doubt_of(
    step: NextStep,
    task: Task,
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
    asked, verdict = [*assignment.own_attempts, *attempts], answers[-1].verdict
    stops = failed_enough(asked, name, policy) or climbed_enough(assignment.routes, policy)
    is_last = stops is not None or spent(attempts) >= assignment.attempts_left
    above = (
        (tier, models[0])
        for tier in ladder(route.tier, name, request, policy, route.wanted)
        if not is_last and (models := untried(tier, name, "answer", asked, policy))
    )
    # A verifier's finding, or a vote, is no matter of confidence.
    is_vague = step.reason is Reason.LOW_CONFIDENCE and answers[-1] is attempts[-1]
    unsure = is_vague and verdict is not None and verdict.output is not None
    failed = {check.reason for check in verdict.checks if not check.passed} if verdict else set()
    needs_person = route.needs_person or task.approval != "none" or task.risk == "risky"
    is_publishable = unsure and failed == {Reason.LOW_CONFIDENCE} and not needs_person
    return _Doubt(step, answers[-1], next(above, None), is_publishable)


def _ways(
    doubt: _Doubt, task: Task, assignment: Assignment, request: Request, policy: Policy
) -> Sequence[Way]:
    """Every way on, a person first: as often right as was fitted, and priced at today's prices."""
    answer, here = doubt.answer, task.right.at(assignment.route.tier) if task.right else None
    ways = [Way("person", policy.costs.person, Decimal(0))]
    if doubt.above is not None:
        tier, model = doubt.above
        # The next model reads and writes about as much as this one has.
        price = Decimal(cost_micros(answer.usage, policy.models[model].price)) / 1_000_000
        ways.append(Way("climb", price, _missing(task.right.at(tier) if task.right else None)))
    if doubt.is_publishable:
        sure = (answer.verdict.confidence if answer.verdict else None) or 0.0
        # A model may be surer than the tier has been right.
        ways.append(Way("caveat", Decimal(0), _missing(min(sure, 1.0 if here is None else here))))
    signals = next((taken.signals for taken in reversed(assignment.routes) if taken.signals), None)
    if signals is not None and signals.ambiguity >= _UNCLEAR:
        if output_contract(request, policy, assignment.task, "answer").may_ask:
            again = policy.costs.question + Decimal(answer.cost_micros) / 1_000_000
            ways.append(Way("ask_back", again, _missing(here)))
    return ways


def _missing(share: float | None) -> Decimal:
    """What a share lacks to 1; nobody knows, then all of it."""
    return 1 - Decimal(str(share or 0.0))


def _cheapest(doubt: _Doubt, ways: Sequence[Way], worth: Decimal) -> NextStep | AskBack:
    """The way on with the least expected cost."""
    chosen = best(ways, worth).kind
    costs = ", ".join(way.words(worth) for way in ways)
    words = f"{_NAMES[chosen]} costs least where a wrong answer costs ${worth}: {costs}"
    if chosen == "caveat":
        return Answer(doubt=words)
    if chosen == "ask_back":
        return AskBack(words)
    if chosen == "person" and doubt.above is not None:
        return GiveUp(Reason.NOT_WORTH_CLIMBING, f"{doubt.step.detail}; {words}")
    return replace(doubt.step, weighed=words)  # where no tier is left, route gives up itself
