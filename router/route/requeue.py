"""Requeueing: a person sends a dead letter through again, as often as the policy allows."""

from datetime import UTC, datetime
from typing import Any

from router.policy.table import Policy
from schemas.base import EARLIEST, LATEST, Tier
from schemas.dead_letter import DeadLetter
from schemas.escalation import Escalation, Origin
from schemas.reasons import Reason

__all__ = ["envelope_fields", "requeued"]


def requeued(
    letter: DeadLetter, policy: Policy, deadline: datetime, *, tier: Tier | None = None
) -> Escalation:
    """The escalation that starts the request's next generation, with the history it has.

    A person asked for it, so it gets a fresh allowance of attempts, in `tier` where one is given,
    else where the policy sends it. `router.review.decisions.refusal_of` checks whether it may be
    requeued.
    """
    return Escalation(
        **envelope_fields(letter),
        generation=letter.generation + 1,
        deadline=deadline,
        attempts_left=policy.limits.attempts,
        routes=[],
        reason=Reason.REQUEUED,
        tier=tier,
    )


def envelope_fields(letter: DeadLetter) -> dict[str, Any]:
    """The fields of an envelope that come from the request's dead letter."""
    source = letter.source
    return {
        "id": letter.request_id or "",
        "tenant": letter.tenant,
        "plan": letter.plan,
        "is_unproven": letter.is_unproven,
        "task": letter.task,
        "attempts": list(letter.attempts),
        "origin": Origin(
            topic=source.topic,
            partition=source.partition,
            offset=source.offset,
            appended_at=_instant(source.timestamp_ms),
        ),
    }


def _instant(timestamp_ms: int) -> datetime:
    """When the record was appended; 1970 where its timestamp is out of range."""
    if not 0 <= timestamp_ms < LATEST.timestamp() * 1000:
        return EARLIEST
    return datetime.fromtimestamp(timestamp_ms / 1000, UTC)
