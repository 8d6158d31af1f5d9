"""The brief of a case: the request to a cheap model for a summary in a few lines."""

from datetime import datetime

import orjson

from consumers.console.rows import LetterRecord, request_of
from consumers.console.tables import pointer_of
from router.policy.table import Policy
from router.review.cases import why
from schemas.codec import dump_envelope
from schemas.escalation import Escalation, Origin
from schemas.reasons import Reason
from schemas.tenancy import BRIEF_IDS

__all__ = ["brief_request"]

#: Characters of each text in the request for a brief.
_BRIEF_PART = 4000


def brief_request(
    place: str, record: LetterRecord, policy: Policy, task: str, deadline: datetime, now: datetime
) -> bytes:
    """The request for a case's brief, by the case's tenant, as an escalation for route."""
    tenant, id_ = record.letter.tenant, f"{BRIEF_IDS}{place}"
    body = {
        "id": id_,
        "task": task,
        "input": brief_of(record, policy),
        # Whatever the case is about, a summary is a small and harmless task.
        "blast_radius": "low",
        "ambiguity": 0.0,
        "complexity": 1,
    }
    origin = Origin(**pointer_of(place).model_dump(), appended_at=now)
    escalation = Escalation(
        id=id_,
        tenant=tenant,
        task=task,
        origin=origin,
        deadline=deadline,
        attempts_left=policy.limits.attempts,
        routes=[],
        reason=Reason.ASKED_BY_CONSOLE,
    )
    return dump_envelope(escalation, orjson.dumps(body))


def brief_of(record: LetterRecord, policy: Policy) -> str:
    """A case as text for a model: why it is here, what was asked, what was answered."""
    request = request_of(record)
    text = request.text if request else (record.value or b"").decode("utf-8", "replace")
    answers = [
        f"{attempt.model} answered: {(attempt.reply or '')[:_BRIEF_PART]}"
        for attempt in record.letter.attempts
        if attempt.step == "answer" and attempt.reply
    ]
    reasons = why(record.letter, policy, record.letter.failed_at)
    return "\n\n".join(
        (
            "A person has to decide on this request. Put the case into three lines.",
            "Why it is here: " + " ".join(reasons)[:_BRIEF_PART],
            f"The request: {text[:_BRIEF_PART]}",
            *answers,
        )
    )
