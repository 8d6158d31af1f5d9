"""The dead letter: the original bytes as value, the diagnosis in headers."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from schemas.attempt import Attempt
from schemas.base import Contract, Generation, Instant, Name, Offset, PartitionNo, Timestamp, Words
from schemas.reasons import Reason
from schemas.tenancy import DEFAULT_TENANT, RequestKey

__all__ = ["DeadLetter", "Pointer"]


class Pointer(Contract):
    """The place of a record."""

    topic: Name
    partition: PartitionNo
    offset: Offset
    timestamp_ms: Timestamp = -1

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}-{self.offset}"


class DeadLetter(Contract):
    """A request that the machine gave up on.

    The Kafka value is what the producer sent, byte for byte; these fields travel in headers. When
    the record itself could not be read, the value is empty and `source` is the only trace of it.
    """

    #: None when no id could be read.
    request_id: Name | None
    generation: Generation = 1
    #: `_unknown` when the record names no tenant that can be read or believed.
    tenant: Name = DEFAULT_TENANT
    #: The plan that counted, where intake found one.
    plan: Name | None = None
    #: As in the envelope.
    is_unproven: bool = False
    task: Name | None = None
    reason: Reason
    detail: Words
    #: The stage that gave up, for example `route` or `work.low`.
    stage: Name
    #: The intake record whose bytes these are.
    source: Pointer
    failed_at: Instant
    deadline: Instant | None = None
    policy_version: Name | None = None
    #: The digest of the release. None: it was not routed, or a dead letter of earlier software.
    policy_digest: Name | None = None
    path: Annotated[Sequence[Name], Field(max_length=1_000)] = ()
    attempts: Annotated[Sequence[Attempt], Field(max_length=1_000)] = ()

    @property
    def key(self) -> RequestKey | None:
        """The request's key, with its tenant; None where it has no id."""
        return None if self.request_id is None else RequestKey(self.tenant, self.request_id)

    @property
    def cost_micros(self) -> int:
        """What the attempts cost, in micro-dollars."""
        return sum(attempt.cost_micros for attempt in self.attempts)
