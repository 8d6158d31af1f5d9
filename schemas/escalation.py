"""The envelopes between stages: an assignment to a tier, and an escalation back to route.

Both end with the request's bytes exactly as they came (`request`, the last field, with its length
in `request_bytes`), so that a dead letter can always hold what the producer sent. The text of a
CloudEvent that is no JSON stands there as a JSON string (`request_is_text`).
"""

from typing import Annotated, Literal

from pydantic import Field

from schemas.attempt import Attempt
from schemas.base import (
    Contract,
    Count,
    Generation,
    Identifier,
    Instant,
    Many,
    Name,
    Offset,
    PartitionNo,
    Tier,
    Words,
)
from schemas.reasons import Reason

__all__ = ["Assignment", "Classification", "Escalation", "Origin", "RouteStep", "RouteTaken"]

#: What a request is routed for. A model that reads an answer is called under the answer's route.
RouteStep = Literal["classify", "answer"]


class Origin(Contract):
    """Where and when the request entered: the intake record."""

    topic: Name
    partition: PartitionNo
    offset: Offset
    #: The broker's append time.
    appended_at: Instant


class RouteTaken(Contract):
    """A route, as written down: where to, by which rule, and why in words."""

    tier: Tier
    step: RouteStep = "answer"
    rule: Name
    reason: Words
    #: A person approves what is answered, whatever the task's row says.
    needs_person: bool = False
    #: The reason code when this route follows an escalation.
    code: Reason | None = None
    policy_version: Name
    #: Stands for the policy's content. None: a route of earlier software.
    policy_digest: Name | None = None
    routed_at: Instant


class Classification(Contract):
    """What the classify step found out about a request that came without a known task."""

    task: Name
    ambiguity: Annotated[float, Field(ge=0, le=1)] | None = None
    complexity: Annotated[int, Field(ge=1, le=5)] | None = None


class _Envelope(Contract):
    id: Identifier
    #: Whose request it is, as intake found it. None: an old record, whose request says it itself.
    tenant: Identifier | None = None
    #: The plan that counts.
    plan: Name | None = None
    #: The producer could not prove who it is, and what it claims may only make us more careful.
    is_unproven: bool = False
    generation: Generation = 1
    task: Name | None = None
    origin: Origin
    deadline: Instant
    #: How many attempts the request may still use, over all tiers.
    attempts_left: Count
    classification: Classification | None = None
    #: The routes so far, the last one is current.
    routes: Many[RouteTaken]
    attempts: Many[Attempt] = Field(default_factory=list)
    #: The length of `request` as it stands here.
    request_bytes: Count = 0
    #: What came is no JSON but plain text; `request` is that as a JSON string.
    request_is_text: bool = False

    @property
    def own_attempts(self) -> list[Attempt]:
        """The attempts of the present generation."""
        return [attempt for attempt in self.attempts if attempt.generation == self.generation]


class Assignment(_Envelope):
    """A request given to a tier."""

    routes: Annotated[Many[RouteTaken], Field(min_length=1)]

    @property
    def route(self) -> RouteTaken:
        return self.routes[-1]


class Escalation(_Envelope):
    """A request handed back to route, with the reason."""

    reason: Reason
    detail: Words = ""
    #: Where a person wants it tried. None: where the policy sends it.
    tier: Tier | None = None
    #: The policy of a route that is taken back, for no router applies it any more. The last of
    #: `routes` is the one before, and `reason` is what the route taken back had followed.
    replaced_policy: Name | None = None
