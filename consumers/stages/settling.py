"""Settling: what ends the reservation of an assignment, whatever its end is."""

from collections.abc import Sequence
from datetime import datetime

from schemas.admission import Settlement, marked_as
from schemas.attempt import Attempt
from schemas.codec import Outgoing, dump
from schemas.escalation import Assignment
from schemas.tenancy import DEFAULT_TENANT, RequestKey
from schemas.topics import Topics

__all__ = ["settled"]


def settled(
    topics: Topics, assignment: Assignment, attempts: Sequence[Attempt] | None, now: datetime
) -> list[Outgoing]:
    """The settlement of an assignment that has a reservation.

    `attempts` are the calls under it. None: nobody can tell, and all that was reserved counts.
    """
    if (reservation := assignment.reservation) is None:
        return []
    calls, tenant = attempts or (), assignment.tenant or DEFAULT_TENANT
    micros = sum(attempt.cost_micros for attempt in calls)
    tokens = sum(attempt.usage.total_tokens for attempt in calls)
    settlement = Settlement(
        reservation=reservation.id,
        request_id=assignment.id,
        tenant=tenant,
        micros=micros if attempts is not None else reservation.micros or 0,
        tokens=tokens if attempts is not None else reservation.tokens or 0,
        calls=len(calls),
        is_estimated=attempts is None,
        at=now,
    )
    key, value = RequestKey(tenant, assignment.id).text.encode(), dump(settlement.model_dump())
    headers = [marked_as("settlement")]
    return [Outgoing(topics.admission, key, value, headers, reservation.partition)]
