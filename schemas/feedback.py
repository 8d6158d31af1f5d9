"""Feedback: what became of a result downstream, or what a reviewer thought of it."""

from typing import Literal

from schemas.base import Contract, Generation, Identifier, Instant, JsonObject, Words
from schemas.tenancy import DEFAULT_TENANT, RequestKey

__all__ = ["Feedback"]


class Feedback(Contract):
    """One observation about one result."""

    request_id: Identifier
    #: Whose request it was: `router.tenant` of its result.
    tenant: Identifier = DEFAULT_TENANT
    generation: Generation = 1
    kind: Literal["accepted", "edited", "regenerated", "complaint", "abandoned"]
    source: Literal["downstream", "reviewer"] = "downstream"
    at: Instant
    #: The answer as somebody corrected it.
    correction: JsonObject | None = None
    comment: Words | None = None

    @property
    def key(self) -> RequestKey:
        return RequestKey(self.tenant, self.request_id)
