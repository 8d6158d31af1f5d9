"""The envelopes between stages: an assignment to a tier, and an escalation back to route.

Both end with the request's bytes exactly as they came (`request`, the last field, with its length
in `request_bytes`), so that a dead letter can always hold what the producer sent. The text of a
CloudEvent that is no JSON stands there as a JSON string (`request_is_text`).
"""

from typing import Annotated

from pydantic import Field

from schemas.attempt import Attempt, Step
from schemas.base import Contract, Identifier, Instant, Tier
from schemas.reasons import Reason

__all__ = ["Assignment", "Classification", "Escalation", "Origin", "RouteTaken"]


class Origin(Contract):
    """Where and when the request entered: the intake record."""

    topic: str
    partition: int
    offset: int
    #: The broker's append time.
    appended_at: Instant


class RouteTaken(Contract):
    """A route, as written down: where to, by which rule, and why in words."""

    tier: Tier
    step: Step = "answer"
    rule: str
    reason: str
    #: The reason code when this route follows an escalation.
    code: Reason | None = None
    policy_version: str
    routed_at: Instant


class Classification(Contract):
    """What the classify step found out about a request that came without a known task."""

    task: str
    ambiguity: Annotated[float, Field(ge=0, le=1)] | None = None
    complexity: Annotated[int, Field(ge=1, le=5)] | None = None


class _Envelope(Contract):
    id: Identifier
    #: Whose request it is, as intake found it. None: an old record, whose request says it itself.
    tenant: Identifier | None = None
    #: The plan that counts.
    plan: str | None = None
    #: The producer could not prove who it is, and what it claims may only make us more careful.
    is_unproven: bool = False
    generation: Annotated[int, Field(ge=1)] = 1
    task: str | None = None
    origin: Origin
    deadline: Instant
    #: How many attempts the request may still use, over all tiers.
    attempts_left: Annotated[int, Field(ge=0)]
    classification: Classification | None = None
    #: The routes so far, the last one is current.
    routes: list[RouteTaken]
    attempts: list[Attempt] = Field(default_factory=list)
    #: The length of `request` as it stands here.
    request_bytes: Annotated[int, Field(ge=0)] = 0
    #: What came is no JSON but plain text; `request` is that as a JSON string.
    request_is_text: bool = False


class Assignment(_Envelope):
    """A request given to a tier."""

    @property
    def route(self) -> RouteTaken:
        """The current route."""
        return self.routes[-1]


class Escalation(_Envelope):
    """A request handed back to route, with the reason."""

    reason: Reason
    detail: str = ""
    #: Where a person wants it tried. None: where the policy sends it.
    tier: Tier | None = None
