"""A tier run: one assignment on its way through a tier."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from consumers.providers.usage import most
from router.attempt.next_step import CallModel, Escalate, spent
from router.attempt.pricing import most_micros
from router.attempt.question import Question
from router.checks import Asked
from router.policy.caps import dollars_text
from router.policy.table import Policy
from router.releases.bundle import Bundle
from router.reply.reply import Reply
from router.route.capping import caps_touching
from schemas.admission import Need
from schemas.attempt import Attempt
from schemas.escalation import Assignment
from schemas.reasons import Reason
from schemas.request import Request
from schemas.tenancy import RequestKey

__all__ = ["TierRun"]


@dataclass(slots=True)
class TierRun:
    """One assignment on its way through the tier."""

    assignment: Assignment
    request: Request
    raw: bytes
    #: The release that the request has: nothing else decides about it.
    bundle: Bundle
    question: Question
    #: What the checks need of the request, worked out once and only where one asks.
    asked: Asked = field(init=False)
    #: What the request is called where only one text fits, as towards a provider.
    name: str = field(init=False)
    #: Topic and partition where the assignment was read.
    source: tuple[str, int] = ("", 0)
    attempts: list[Attempt] = field(default_factory=list)
    #: How many were made under a former reservation, which has ended.
    resumed: int = 0
    #: True where each call has to be covered by a reservation.
    is_capped: bool = field(init=False)
    #: The reply of the answer, once there is one; until then, of the last call.
    reply: Reply | None = None
    #: What of the producer's chat body was left out of the answer's call, by path.
    left_out: Sequence[str] = ()
    #: What a model that reads the answer is asked, once there is an answer to read.
    verification: Question | None = None
    retry_after: float | None = None
    #: Seconds spent waiting for models, and for the partition to be ours for certain.
    waited: float = 0.0

    def __post_init__(self) -> None:
        self._resume()
        self.asked = Asked(self.request)
        self.name = RequestKey(self.request.tenant, self.assignment.id).text
        self.is_capped = self.assignment.reservation is not None
        if self.policy.caps and not self.is_capped:
            taken, task = self.assignment.route, self.assignment.task
            self.is_capped = bool(caps_touching(self.request, self.policy, task, taken.tier))

    @property
    def policy(self) -> Policy:
        return self.bundle.policy

    @property
    def calls(self) -> Sequence[Attempt]:
        """The attempts of this assignment."""
        return self.attempts[self.resumed :]

    def uncovered(self, call: CallModel, body: Mapping[str, Any]) -> Escalate | None:
        """What follows instead of a call that the reservation does not cover at its dearest."""
        usage, reserved = most(body), self.assignment.reservation
        micros = most_micros(usage, self.policy.models[call.model].price)
        if reserved is not None:
            spent_here = micros + sum(attempt.cost_micros for attempt in self.calls)
            used_here = usage.total_tokens + sum(one.usage.total_tokens for one in self.calls)
            is_paid = reserved.micros is None or spent_here <= reserved.micros
            if is_paid and (reserved.tokens is None or used_here <= reserved.tokens):
                return None
        need = Need(micros=micros, tokens=usage.total_tokens, resumes=len(self.attempts))
        words = f"a call to {call.model} may cost {dollars_text(micros)}"
        return Escalate(Reason.RESERVATION_USED, words, need=need)

    def _resume(self) -> None:
        """Go on with the attempts under a former reservation: they are of the same tier's work."""
        assignment = self.assignment
        resumes = assignment.need.resumes if assignment.need is not None else 0
        former = assignment.own_attempts[-resumes:] if resumes else []
        if former:
            self.attempts, self.resumed = former, len(former)
            left = assignment.attempts_left + spent(former)
            update = {"attempts": assignment.attempts[: -len(former)], "attempts_left": left}
            self.assignment = assignment.model_copy(update=update)

    @property
    def has_paid(self) -> bool:
        """True when a call was paid that whoever takes the request over would pay again."""
        return any(attempt.cost_micros for attempt in self.attempts)

    @property
    def next_attempt(self) -> tuple[int, str]:
        """The next attempt's number over the whole request, and its id."""
        no = len(self.assignment.attempts) + len(self.attempts) + 1
        return no, f"{self.name}.{self.assignment.generation}.{no}"
