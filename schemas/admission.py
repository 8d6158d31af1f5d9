"""Admission: what is on `llm.admission` beside assignments, and what an envelope keeps of it.

The header `tierline-admission` says what a record is. All records of one budget domain are in one
partition, whose owner is the only one to give out the domain's money.
"""

from collections.abc import Sequence
from typing import Literal
from zlib import crc32

from schemas.base import (
    Contract,
    Count,
    Identifier,
    Instant,
    Micros,
    Name,
    PartitionNo,
    Tier,
    Words,
)
from schemas.reasons import Reason
from schemas.tenancy import DEFAULT_TENANT

__all__ = ["ADMISSION", "AdmissionTaken", "Confirmation", "Kind", "Need", "Reservation"]
__all__ += ["Settlement", "Tick", "kind_of", "marked_as", "partition_of_domain"]

ADMISSION = "tierline-admission"
#: What a record on `llm.admission` is.
Kind = Literal["assignment", "settlement", "grant", "confirmation", "tick"]


class Reservation(Contract):
    """Money and tokens that are set aside for an assignment until it is settled."""

    id: Name
    #: None: no cap that touches the request counts that.
    micros: Micros | None = None
    tokens: Count | None = None
    at: Instant
    #: The partition of `llm.admission` in which it was made, and is settled.
    partition: PartitionNo


class Need(Contract):
    """What a tier asks of the next reservation, because the last one does not cover a call."""

    micros: Micros
    tokens: Count
    #: How many of the attempts, from the last one back, belong to the work that goes on there.
    resumes: Count = 0


class Settlement(Contract):
    """The end of a reservation: what the calls of its assignment have used."""

    reservation: Name
    request_id: Identifier
    tenant: Identifier = DEFAULT_TENANT
    micros: Micros
    tokens: Count
    calls: Count
    #: True where nobody can tell what was used: then all that was reserved counts.
    is_estimated: bool = False
    at: Instant


class Confirmation(Contract):
    """Somebody agrees to what a request costs above its cap, at the price that was asked for."""

    request_id: Identifier
    tenant: Identifier = DEFAULT_TENANT
    price_micros: Micros
    at: Instant


class Tick(Contract):
    """Time has passed: what waits or has expired in this partition is looked at again."""

    at: Instant


class AdmissionTaken(Contract):
    """What admission did with an assignment, and why: which cap, how full, for whom."""

    what: Literal["reserved", "held", "cheaper", "asked", "confirmed", "given_up"]
    tier: Tier
    words: Words
    code: Reason | None = None
    #: What was reserved, or is asked for.
    micros: Micros | None = None
    at: Instant


def partition_of_domain(domain: str, partitions: int) -> int:
    """The partition of `llm.admission` that a budget domain's records are in."""
    return crc32(domain.encode("utf-8", "surrogatepass")) % max(partitions, 1)


def marked_as(kind: Kind) -> tuple[str, bytes]:
    """The header that says what a record on `llm.admission` is."""
    return ADMISSION, kind.encode()


def kind_of(headers: Sequence[tuple[str, bytes]]) -> str:
    """What a record on `llm.admission` says that it is; empty where it says nothing."""
    for name, value in headers:
        if name == ADMISSION:
            return (value or b"").decode("utf-8", "replace")
    return ""
