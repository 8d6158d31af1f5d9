"""Calls whose outcome nobody knows: what those of lost processes count as, and who repeats them."""

from collections.abc import Sequence

from schemas.attempt import Attempt, Step
from schemas.reasons import Reason

__all__ = ["attempt_lost", "repeated_id"]


def attempt_lost(started: Attempt) -> Attempt:
    """The attempt of a call whose process was lost: it may have run, at its highest cost."""
    return started.model_copy(
        update={
            "outcome": "failed",
            "reason": Reason.OUTCOME_UNKNOWN,
            "detail": "the call was started, and the process that made it is gone",
            "cost_micros": started.reserve_micros or 0,
            "reserve_micros": None,
        }
    )


def repeated_id(former: Sequence[Attempt], model: str, step: Step) -> str | None:
    """The id of the first of the attempts that a call repeats, as nobody knows whether they ran.

    None where it repeats none.
    """
    first = None
    for attempt in reversed(former):
        is_same = (attempt.model, attempt.step) == (model, step)
        if not is_same or attempt.reason is not Reason.OUTCOME_UNKNOWN:
            break
        first = attempt.attempt_id
    return first
