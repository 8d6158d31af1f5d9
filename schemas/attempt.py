"""The attempt: one call to one model, its cost and its outcome."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.base import (
    AttemptId,
    AttemptNo,
    Contract,
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
from schemas.tenancy import RequestKey
from schemas.usage import Usage
from schemas.verdict import Change, Verdict

__all__ = ["Attempt", "Attempts", "CallId", "LedgerEntry", "Step", "announces", "counted_one"]

#: What identifies a call: its attempt, and when its process started it.
CallId = tuple[str, Instant]
_STARTED = b'"outcome":"started"'

#: What a call is for. No model is called twice within one step.
Step = Literal["classify", "answer", "verify"]


class Attempt(Contract):
    """One call to one model."""

    attempt_id: AttemptId
    #: Counts from 1 over the whole request, all generations and steps included.
    attempt_no: AttemptNo
    generation: Generation = 1
    step: Step = "answer"
    tier: Tier
    model: Name
    provider: Name
    #: The model that answered, as the provider names it.
    served_model: Name | None = None
    #: `task contract @ prompt variant`, fixed as a pair.
    prompt_version: Name
    #: The policy that was applied.
    policy_version: Name
    #: The digest of the release: of the policy and its prompts. Earlier software wrote that of the
    #: policy alone, or None.
    policy_digest: Name | None = None
    started_at: Instant
    #: Milliseconds from sending the call to having read the reply.
    duration_ms: Milliseconds
    #: `started` is written before every call and is no call by itself: another line follows it.
    outcome: Literal["started", "accepted", "rejected", "failed"]
    #: Why it was rejected or failed; None when accepted.
    reason: Reason | None = None
    detail: Words = ""
    http_status: HttpStatus | None = None
    finish_reason: Name | None = None
    #: Of a call that is `started`, the most that it can use.
    usage: Usage = Usage()
    #: What cannot be true about the provider's counts and the model it named; None: nothing.
    oddities: Many[Name] | None = None
    cost_micros: Micros = 0
    #: Of a call that is `started`, the most that it can cost; None: of any other.
    reserve_micros: Micros | None = None
    #: A digest of the price that the cost was worked out with; None: by earlier software.
    price_version: Name | None = None
    #: True where the cost is ours to guess: the provider gave no usable count, or the process
    #: that made the call was lost before it could write down what it cost.
    is_estimated: bool = False
    verdict: Verdict | None = None
    #: What an accepted answer changed in the answer of a weaker model; None where there was none.
    changes: Annotated[list[Change], Field(fail_fast=True, max_length=10_000)] | None = None
    #: The raw reply, at most 64 KiB, for the person who may have to read it.
    reply: Words | None = None

    @property
    def call_id(self) -> CallId:
        """What identifies the call; an attempt that two processes make is two calls."""
        return self.attempt_id, self.started_at

    @property
    def certainty(self) -> int:
        """How much is known of the call: 0: it was started; 1: an estimate; 2: it was measured."""
        return 0 if self.outcome == "started" else 1 if self.is_estimated else 2

    @property
    def was_judged(self) -> bool:
        """True when the model gave a reply that was judged."""
        return self.outcome in ("accepted", "rejected")

    @property
    def answered(self) -> JsonObject | str | None:
        """The model's answer: the normalised object where there is one, else its text."""
        output = self.verdict.output if self.verdict is not None else None
        return self.reply if output is None else output


#: The attempts of one request, all generations of it. The policy allows two hundred or so.
Attempts = Many[Attempt]


class LedgerEntry(Contract):
    """One line of the ledger: an attempt and whom it was for."""

    request_id: Identifier
    generation: Generation
    task: Name | None = None
    tenant: Name
    plan: Name | None = None
    user: Name | None = None
    workflow: Name | None = None
    #: The conversation that the request is part of.
    conversation: Name | None = None
    #: The reservation that the call was paid from, and when that was made: it counts in the
    #: windows of that time. None: no cap touched the request.
    reservation: Name | None = None
    reserved_at: Instant | None = None
    attempt: Attempt

    @property
    def key(self) -> RequestKey:
        return RequestKey(self.tenant, self.request_id)


def announces(value: bytes | None) -> bool:
    """True for the value of a ledger line that announces a call; it is not parsed for that."""
    return _STARTED in (value or b"")


def counted_one(earlier: Attempt | None, later: Attempt) -> Attempt:
    """Which of two records of one call counts: the surer one; of equals, one with the reply."""
    return later if earlier is None or _weight(later) > _weight(earlier) else earlier


def _weight(attempt: Attempt) -> tuple[int, bool]:
    return attempt.certainty, attempt.reply is not None
