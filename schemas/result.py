"""The result: the OpenAI Batch output shape plus one `router` object that explains everything."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.base import (
    MOST_COUNT,
    Contract,
    Count,
    Generation,
    HttpStatus,
    Identifier,
    Instant,
    JsonObject,
    Many,
    Micros,
    Milliseconds,
    Name,
    Tier,
    Words,
)
from schemas.reasons import Reason
from schemas.tenancy import DEFAULT_TENANT, RequestKey
from schemas.usage import Usage
from schemas.verdict import Change, CheckResult

__all__ = ["Hop", "Latency", "Response", "Result", "RouterInfo"]


class Response(Contract):
    """The reply as the Batch API would give it."""

    status_code: HttpStatus
    request_id: Name
    #: A chat completion.
    body: JsonObject


class Hop(Contract):
    """One step on the way of a request."""

    kind: Literal["route", "attempt", "admission"]
    tier: Tier
    #: The rule that matched, what became of the attempt, or what admission did.
    what: Name
    #: In words.
    why: Words
    code: Reason | None = None
    #: Of a route: what moved the request away from its task's own tier, as codes.
    moved_by: Many[Reason] | None = None
    model: Name | None = None
    cost_micros: Micros = 0
    duration_ms: Milliseconds = 0


class Price(Contract):
    """What a request costs that waits for somebody who agrees to it."""

    #: The most that it costs above the cap: what a confirmation has to name.
    micros: Micros
    #: Without a confirmation it is refused then.
    until: Instant
    #: The lower tier that would take it instead, and what it costs there at most; None: none would.
    cheaper: Tier | None = None
    cheaper_micros: Micros | None = None


class Latency(Contract):
    """Where the time went, in milliseconds. The first four add up to the total."""

    #: Intake append to the first route; 0 for what a person sent through again.
    intake_ms: Milliseconds
    #: Waiting in tier and escalation topics, for models that are throttled or out, for a person.
    queue_ms: Milliseconds
    #: Inside calls to models.
    model_ms: Milliseconds
    #: Ours: rendering, judging, deciding.
    own_ms: Milliseconds
    total_ms: Milliseconds


class RouterInfo(Contract):
    """How a result came about."""

    #: False for notices and interim answers, which another result follows.
    final: bool = True
    #: What the consumer gets: an answer, tools to call, a question back to the user, our text for
    #: a refusal, the safe default because no answer could be defended, a notice that a person has
    #: the request, or a price that somebody has to agree to first.
    kind: Literal[
        "answer",
        "tool_calls",
        "clarification",
        "refusal",
        "safe_default",
        "in_review",
        "needs_confirmation",
    ] = "answer"
    #: The dead letter this result stands in for, as `topic-partition-offset`.
    resolves: Name | None = None
    #: What a person decided, where one did.
    review: Literal["approve", "edit", "reject"] | None = None
    generation: Generation = 1
    #: Whose request it was; ids are unique within a tenant only.
    tenant: Identifier = DEFAULT_TENANT
    task: Name
    tier: Tier
    #: Empty where no model was called.
    model: Name
    path: Many[Tier]
    hops: Annotated[list[Hop], Field(fail_fast=True, max_length=2_000)]
    #: The rule and the reason of the first route.
    rule: Name
    reason: Words
    policy_version: Name
    #: The digest of the release. None: nothing was routed, or a result of earlier software.
    policy_digest: Name | None = None
    prompt_version: Name
    usage: Usage
    #: Of all attempts together.
    cost_micros: Annotated[int, Field(ge=0, le=1_000 * MOST_COUNT)]
    confidence: float | None = None
    checks: Annotated[list[CheckResult], Field(fail_fast=True, max_length=2_000)]
    attempts: Count
    latency: Latency
    #: What this answer changed in that of a weaker model; None where no weaker model answered.
    changes: Annotated[list[Change], Field(fail_fast=True, max_length=10_000)] | None = None
    #: Fields of the producer's chat body that the model was not sent, by path; None: nothing.
    left_out: Many[str] | None = None
    #: About how many tokens of the context the model was not sent, by component; None: none.
    trimmed: Annotated[dict[Name, Count], Field(max_length=20)] | None = None
    #: What the user should be told of an answer that is published in doubt; None: nothing.
    caveat: Words | None = None
    #: The cap that left no money, how full it was, and for whom; None: no cap decided.
    budget: Words | None = None
    #: Why a cap ended the request, as a code.
    code: Reason | None = None
    #: What is to be confirmed; None: nothing.
    price: Price | None = None
    #: Why no dearer model was asked, with the figures; None: none was needed, or one was asked.
    weighed: Words | None = None
    #: The normalised answer in the task's format.
    output: JsonObject


class Result(Contract):
    """What downstream services read. Parsers of Batch output files read it as it is."""

    id: Identifier
    custom_id: Name
    #: What whoever sent the request has to do before it goes on; None: nothing.
    status: Literal["needs_confirmation"] | None = None
    response: Response | None = None
    error: JsonObject | None = None
    router: RouterInfo

    @property
    def key(self) -> RequestKey:
        return RequestKey(self.router.tenant, self.id)
