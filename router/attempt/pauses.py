"""Pauses: how long a model that throttled its last call is left alone."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import takewhile

from schemas.attempt import Attempt, Step
from schemas.escalation import Assignment
from schemas.reasons import Reason

__all__ = ["LONGEST_WAIT", "waits_of"]

#: The longest wait before a retry; with a longer one it is the backup's turn.
LONGEST_WAIT = timedelta(seconds=30)
#: The first pause after a model has throttled a call and named no time. It doubles each time, up to
#: `LONGEST_WAIT` or a quarter of the time waited so far: some 40 attempts in a day of throttling.
_FIRST_PAUSE = timedelta(seconds=2)


def waits_of(
    step: Step,
    assignment: Assignment,
    attempts: Sequence[Attempt],
    now: datetime,
    retry_after: float | None,
) -> dict[str, timedelta]:
    """The models that throttled their last call of this step, with the wait before the next.

    The shortest wait comes first; waits beyond the deadline are left out.
    """
    asked = [attempt for attempt in attempts if attempt.step == step]
    latest = {attempt.model: attempt for attempt in asked}
    left = assignment.deadline - now
    waits: dict[str, timedelta] = {}
    for model, last in latest.items():
        if last.reason is not Reason.THROTTLED:
            continue
        ended = last.started_at + timedelta(milliseconds=last.duration_ms)
        mine = [again for again in asked if again.model == model]
        pause = _pause(mine, ended) - (now - ended)
        # Near the deadline it is called more often instead of being given up.
        pause = max(min(pause, max(left / 2, _FIRST_PAUSE)), timedelta(0))
        if last is attempts[-1] and retry_after is not None:
            requested = timedelta(seconds=retry_after)
            # A provider that asks for a short wait each time is still called less often.
            is_repeated = len(mine) > 1 and mine[-2].reason is Reason.THROTTLED
            pause = max(requested, pause) if is_repeated else requested
        waits[model] = pause
    shortest = sorted(waits, key=waits.__getitem__)
    return {model: waits[model] for model in shortest if waits[model] < left}


def _pause(asked: Sequence[Attempt], ended: datetime) -> timedelta:
    """The pause that follows a model's latest attempts in a row that it throttled."""
    throttled = list(takewhile(lambda attempt: attempt.reason is Reason.THROTTLED, reversed(asked)))
    most = max(LONGEST_WAIT, (ended - throttled[-1].started_at) / 4)
    return min(_FIRST_PAUSE * 2.0 ** min(len(throttled) - 1, 30), most)
