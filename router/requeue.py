"""Requeueing: a person sends a dead letter through again, as often as the policy allows."""

from datetime import UTC, datetime

from router.policy.table import Policy
from schemas.base import Tier
from schemas.dead_letter import DeadLetter
from schemas.errors import ContractError
from schemas.escalation import Escalation, Origin
from schemas.reasons import Reason

__all__ = ["origin_of", "requeued"]


def requeued(
    letter: DeadLetter, policy: Policy, deadline: datetime, *, tier: Tier | None = None
) -> Escalation:
    """The escalation that starts the request's next generation, with the history it has.

    It gets a fresh allowance of attempts: a person asked for them, in `tier` where one is named,
    else wherever the policy sends it. Raises ContractError when the
    record was never readable, or the request was requeued as often as the policy allows.
    """
    if letter.request_id is None or letter.reason.is_unreadable:
        detail = "the record was never readable; mend it and publish it to intake"
        raise ContractError(Reason.UNREADABLE_RECORD, detail)
    if letter.generation > policy.limits.requeues:
        detail = f"generation {letter.generation}; {policy.limits.requeues} requeues are allowed"
        raise ContractError(Reason.REQUEUE_LIMIT, detail)

    return Escalation(
        id=letter.request_id,
        generation=letter.generation + 1,
        task=letter.task,
        origin=origin_of(letter),
        deadline=deadline,
        attempts_left=policy.limits.attempts,
        routes=[],
        attempts=list(letter.attempts),
        reason=Reason.REQUEUED,
        tier=tier,
    )


def origin_of(letter: DeadLetter) -> Origin:
    """Where and when a dead letter's request entered."""
    source = letter.source
    return Origin(
        topic=source.topic,
        partition=source.partition,
        offset=source.offset,
        appended_at=_instant(source.timestamp_ms),
    )


def _instant(timestamp_ms: int) -> datetime:
    """When the record was appended; 1970 where its time, a producer's own idea, cannot be read."""
    try:
        return datetime.fromtimestamp(max(timestamp_ms, 0) / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(0, UTC)
