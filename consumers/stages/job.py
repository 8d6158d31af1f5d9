"""The job: one assignment on its way through a tier, and what its steps ask of a model."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from router.judging import OutputContract
from router.policy.table import Model
from router.prompts import Rendered, chat_body
from router.reply import Reply
from schemas.attempt import Attempt, Step
from schemas.base import Tier
from schemas.escalation import Assignment
from schemas.request import Request

__all__ = ["Job", "Question"]


async def _always() -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Question:
    """What one step asks a model, and what a reply must be like."""

    step: Step
    tier: Tier
    contract: OutputContract
    rendered: Rendered
    accept: float
    checks: Sequence[str]
    #: None: as many tokens as the model writes.
    most_tokens: int | None = None

    def body(self, request: Request, model: Model) -> dict[str, Any]:
        """The chat body that asks this model."""
        most = min(self.most_tokens or model.max_output_tokens, model.max_output_tokens)
        return chat_body(self.rendered, request, model.id, most)


@dataclass(slots=True)
class Job:
    """One assignment on its way through the tier."""

    assignment: Assignment
    request: Request
    raw: bytes
    question: Question
    #: Topic and partition where the assignment was read.
    source: tuple[str, int] = ("", 0)
    attempts: list[Attempt] = field(default_factory=list)
    #: The reply of the answer, once there is one.
    reply: Reply | None = None
    retry_after: float | None = None
    #: True while the assignment's partition is ours for certain.
    is_ours: Callable[[], Awaitable[bool]] = _always

    @property
    def next_attempt(self) -> tuple[int, str]:
        """The next attempt's number over the whole request, and its id."""
        no = len(self.assignment.attempts) + len(self.attempts) + 1
        return no, f"{self.assignment.id}.{self.assignment.generation}.{no}"
