"""Sending a request to route again: for a person, or because nobody has its release any more."""

from datetime import UTC, datetime
from typing import Any

from router.policy.table import Policy
from schemas.base import EARLIEST, LATEST, Tier
from schemas.dead_letter import DeadLetter
from schemas.escalation import Assignment, Escalation, Origin, RouteTaken
from schemas.reasons import Reason

__all__ = ["envelope_fields", "handed_back", "release_in_words", "requeued"]


def requeued(
    letter: DeadLetter, policy: Policy, deadline: datetime, *, tier: Tier | None = None
) -> Escalation:
    """The escalation that starts the request's next generation, with the history it has.

    A person has seen it and asked for it, so it gets a fresh allowance of attempts, in `tier` where
    one is given, else where the policy sends it. `router.review.decisions.refusal_of` checks
    whether it may be requeued.
    """
    return Escalation(
        **envelope_fields(letter),
        generation=letter.generation + 1,
        deadline=deadline,
        attempts_left=policy.limits.attempts,
        routes=[],
        reason=Reason.REQUEUED,
        tier=tier,
        is_seen=True,
    )


def handed_back(assignment: Assignment) -> Escalation:
    """The escalation that takes an assignment's last route back, and keeps all before it."""
    taken, before = assignment.route, assignment.routes[:-1]
    names = type(assignment).model_fields.keys() - {"reservation", "need"}
    fields = {name: getattr(assignment, name) for name in names}
    # The task is found again with the new route, unless an answer was tried for it.
    has_task = bool(before) and before[-1].step == "answer"
    by_person = taken.tier if taken.rule == "review" else None
    return Escalation(
        **{
            **fields,
            "routes": before,
            "task": assignment.task if has_task else None,
            "reason": taken.code or Reason.POLICY_REPLACED,
            "detail": "",
            "tier": taken.wanted if taken.step == "classify" else by_person,
            "replaced_policy": release_in_words(taken),
        }
    )


def release_in_words(taken: RouteTaken) -> str:
    """The version and the digest of a route's release, as people are shown them."""
    digest = f" ({taken.policy_digest})" if taken.policy_digest else ""
    return f"{taken.policy_version}{digest}"


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
