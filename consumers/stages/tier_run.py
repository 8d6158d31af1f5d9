"""A tier run: one assignment on its way through a tier."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from router.attempt.question import Question
from router.checks import Asked
from router.policy.table import Policy
from router.releases.bundle import Bundle
from router.reply.reply import Reply
from schemas.attempt import Attempt
from schemas.escalation import Assignment
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
    #: How many of these are in the ledger already.
    booked: int = 0
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
        self.asked = Asked(self.request)
        self.name = RequestKey(self.request.tenant, self.assignment.id).text

    @property
    def policy(self) -> Policy:
        return self.bundle.policy

    @property
    def has_paid(self) -> bool:
        """True when a call was paid that whoever takes the request over would pay again."""
        return any(attempt.cost_micros for attempt in self.attempts)

    @property
    def next_attempt(self) -> tuple[int, str]:
        """The next attempt's number over the whole request, and its id."""
        no = len(self.assignment.attempts) + len(self.attempts) + 1
        return no, f"{self.name}.{self.assignment.generation}.{no}"
