"""The attempt: one call to one model, what it cost and what came of it."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.base import AttemptId, Contract, Identifier, Instant, Tier
from schemas.reasons import Reason
from schemas.tenancy import RequestKey
from schemas.usage import Usage
from schemas.verdict import Change, Verdict

__all__ = ["Attempt", "LedgerEntry", "Micros", "Step"]

#: Millionths of a US dollar.
Micros = Annotated[int, Field(ge=0)]

#: What a call is for. No model is asked twice within one step.
Step = Literal["classify", "answer", "verify"]


class Attempt(Contract):
    """One call to one model."""

    attempt_id: AttemptId
    #: Counts from 1 over the whole request, all generations and steps included.
    attempt_no: Annotated[int, Field(ge=1)]
    generation: Annotated[int, Field(ge=1)] = 1
    step: Step = "answer"
    tier: Tier
    model: str
    provider: str
    #: The model the provider says has answered.
    served_model: str | None = None
    #: `task contract @ prompt variant`, fixed as a pair.
    prompt_version: str
    policy_version: str
    started_at: Instant
    #: Milliseconds from sending the call to having read the reply.
    duration_ms: Annotated[float, Field(ge=0)]
    #: `started` is written before a call that nobody may pay for twice; another line follows it.
    outcome: Literal["started", "accepted", "rejected", "failed"]
    #: Why it was rejected or failed; None when accepted.
    reason: Reason | None = None
    detail: str = ""
    http_status: int | None = None
    finish_reason: str | None = None
    usage: Usage = Usage()
    #: What about the provider's counts and the model it named cannot be true; None: nothing.
    oddities: list[str] | None = None
    cost_micros: Micros = 0
    verdict: Verdict | None = None
    #: What an accepted answer changed in the answer of a weaker model; None where there was none.
    changes: list[Change] | None = None
    #: The raw reply, at most 64 KiB, for the person who may have to read it.
    reply: str | None = None

    @property
    def was_judged(self) -> bool:
        """True when the model gave a reply that was judged."""
        return self.outcome in ("accepted", "rejected")


class LedgerEntry(Contract):
    """One line of the ledger: an attempt and whom it was for."""

    request_id: Identifier
    generation: int
    task: str | None = None
    tenant: str
    plan: str | None = None
    user: str | None = None
    workflow: str | None = None
    attempt: Attempt

    @property
    def key(self) -> RequestKey:
        """The request among those of all tenants."""
        return RequestKey(self.tenant, self.request_id)
