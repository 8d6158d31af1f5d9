"""The envelopes between stages: an assignment to a tier, and an escalation back to route.

Both end with the request's bytes exactly as they came (`request`, the last field, with its length
in `request_bytes`), so that a dead letter can always hold what the producer sent. The text of a
CloudEvent that is no JSON stands there as a JSON string (`request_is_text`, `request_is_bytes`).
"""

from typing import Annotated, Literal

from pydantic import Field

from schemas.admission import AdmissionTaken, Need, Reservation
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

__all__ = [
    "Assignment",
    "Classification",
    "Escalation",
    "Origin",
    "RouteStep",
    "RouteTaken",
    "SignalsTaken",
    "Trim",
]

#: What a request is routed for. A verifier is called under the route of the answer.
RouteStep = Literal["classify", "answer"]


class Origin(Contract):
    """Where and when the request entered: the intake record."""

    topic: Name
    partition: PartitionNo
    offset: Offset
    #: The broker's append time.
    appended_at: Instant


class SignalsTaken(Contract):
    """What was known of a request when it was routed: what a policy's rules ask about."""

    ambiguity: Annotated[float, Field(ge=0, le=1)]
    blast_radius: Literal["low", "medium", "high"]
    complexity: Annotated[int, Field(ge=1, le=5)]
    #: Estimated tokens by component; `user` includes the input.
    context_tokens: dict[Name, Count] = Field(default_factory=dict)
    total_tokens: Count
    #: The signals of the text, and whether several sources came with it.
    text: Many[Name] = Field(default_factory=list)
    #: Which of ambiguity, blast radius and complexity are estimates.
    estimated: Many[Name] = Field(default_factory=list)


class Trim(Contract):
    """What is left out of a request's context where its prompt is rendered."""

    #: The most tokens of each component; `total` is all of them.
    most: Annotated[dict[Name, Count], Field(max_length=20)]
    #: About how many tokens that leaves out, by component.
    left_out: Annotated[dict[Name, Count], Field(max_length=20)]


class RouteTaken(Contract):
    """A route as it is recorded: the tier, the rule, and the reason in words."""

    tier: Tier
    step: RouteStep = "answer"
    rule: Name
    reason: Words
    #: True where a person approves the answer, whatever the task's row says.
    needs_person: bool = False
    #: None: the route answers an escalation, or is one of earlier software.
    signals: SignalsTaken | None = None
    #: None: the whole context is rendered.
    trim: Trim | None = None
    #: The reason code when this route follows an escalation.
    code: Reason | None = None
    #: What moved the request away from its task's own tier, in order: `plan`, `task_complexity`,
    #: `long_context` or `rule`; of an escalation the kind of its reason, as `failed_validation`.
    moved_by: Many[Reason] | None = None
    #: The tier that the policy wanted where the plan lowered the request: it may climb back there.
    #: Of a classify step, the tier that a reviewer wants for the answer.
    wanted: Tier | None = None
    policy_version: Name
    #: The digest of the release: of the policy and its prompts. Earlier software wrote that of the
    #: policy alone, or None.
    policy_digest: Name | None = None
    routed_at: Instant


class Classification(Contract):
    """What the classify step found about a request without a known task."""

    task: Name
    ambiguity: Annotated[float, Field(ge=0, le=1)] | None = None
    complexity: Annotated[int, Field(ge=1, le=5)] | None = None


class _Envelope(Contract):
    id: Identifier
    #: Whose request it is, as intake found. None: an old record; then its request counts.
    tenant: Identifier | None = None
    #: The plan that counts.
    plan: Name | None = None
    #: True where nothing proves the tenant: then claims can only make us more careful.
    is_unproven: bool = False
    #: True where a person has seen the request and sent it on.
    is_seen: bool = False
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
    #: What admission did with it so far; None: no cap touches it.
    admissions: Many[AdmissionTaken] | None = None
    #: What its next reservation has to cover; None: admission estimates that.
    need: Need | None = None
    #: The length of `request` in this envelope.
    request_bytes: Count = 0
    #: True where the request came as plain text; `request` is that text as a JSON string.
    request_is_text: bool = False
    #: True where it came in another charset than UTF-8: each character stands for a byte.
    request_is_bytes: bool = False

    @property
    def own_attempts(self) -> list[Attempt]:
        """The attempts of the present generation."""
        return [attempt for attempt in self.attempts if attempt.generation == self.generation]


class Assignment(_Envelope):
    """A request given to a tier."""

    routes: Annotated[Many[RouteTaken], Field(min_length=1)]
    #: What its calls may use in this tier; None: no cap touches it, or it is to be admitted yet.
    reservation: Reservation | None = None

    @property
    def route(self) -> RouteTaken:
        return self.routes[-1]


class Escalation(_Envelope):
    """A request handed back to route, with the reason."""

    reason: Reason
    detail: Words = ""
    #: Why it pays to ask a dearer model, with the figures. None: the task does not ask.
    weighed: Words | None = None
    #: The tier that a person wants. None: where the policy sends it.
    tier: Tier | None = None
    #: The release of a route that is taken back because no process has it any more. That route is
    #: no longer in `routes`, and `reason` is the one for which it was made.
    replaced_policy: Name | None = None
