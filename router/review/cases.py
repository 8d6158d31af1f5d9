"""Cases: how urgent a dead letter is, which ones it resembles, and why a person has to look."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Literal

from router.policy.table import Policy
from schemas.attempt import Attempt
from schemas.dead_letter import DeadLetter
from schemas.reasons import Reason

__all__ = ["Risk", "due_at", "error_of", "pressure", "risk_of", "urgency", "why"]

#: How bad it is when nobody looks, or looks too briefly.
Risk = Literal["low", "medium", "high"]

_WEIGHT: Mapping[Risk, float] = {"low": 1.0, "medium": 2.0, "high": 4.0}
#: The least time that a case counts as having; one that is late at once is not infinitely urgent.
_SHORTEST = timedelta(minutes=1)
_ERROR_LENGTH = 120
#: Characters of an error that are read for that.
_ERROR_READ = 2_000
#: A call may have run, or an error is ours: a person has to find out.
_UNSETTLED = frozenset((Reason.OUTCOME_UNKNOWN, Reason.ID_REUSED, Reason.INTERNAL_ERROR))
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"|`[^`]*`")
_NUMBER = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}|[0-9]+(?:[.,:][0-9]+)*")


def risk_of(letter: DeadLetter, policy: Policy) -> Risk:
    """The risk of a case, by its task in the policy and by its reason."""
    row = policy.tasks.get(letter.task or "")
    wants_person = row is not None and (row.risk == "risky" or row.approval != "none")
    if wants_person or letter.reason.wants_person:
        return "high"
    if row is None or row.risk == "unclear" or letter.reason in _UNSETTLED:
        return "medium"
    return "low"


def due_at(letter: DeadLetter, policy: Policy) -> datetime:
    """When somebody should have decided: before the deadline, else within the policy's time."""
    row = policy.tasks.get(letter.task or "")
    within = (row.review_within if row else None) or policy.limits.review_within
    due = letter.failed_at + within
    if letter.deadline is not None and letter.failed_at < letter.deadline < due:
        return letter.deadline
    return due


def pressure(risk: Risk, opened_at: datetime, due: datetime) -> float:
    """How much the urgency of a case grows per second."""
    return _WEIGHT[risk] / max(due - opened_at, _SHORTEST).total_seconds()


def urgency(risk: Risk, opened_at: datetime, due: datetime, now: datetime) -> float:
    """The share of its time that a case has waited (1: it is due now), times its risk."""
    return (now - opened_at).total_seconds() * pressure(risk, opened_at, due)


def error_of(letter: DeadLetter) -> str:
    """The last error, without what differs from case to case, so that like cases can be found."""
    failures = [attempt for attempt in letter.attempts if attempt.outcome != "accepted"]
    if not failures:
        return _skeleton(letter.detail)
    last = failures[-1]
    status = f" {last.http_status}" if last.http_status and last.http_status >= 400 else ""
    failed = last.verdict.failed if last.verdict else None
    detail = failed.detail if failed else last.detail
    words = f"{failed.check}: {detail}" if failed else detail
    return f"{last.reason or 'failed'}{status}" + (f": {_skeleton(words)}" if words else "")


def why(letter: DeadLetter, policy: Policy, now: datetime) -> list[str]:
    """Why a person has to look at a case: sentences, the most important one first."""
    meaning = letter.reason.meaning
    sentences = [_sentence(f"{meaning[:1].upper()}{meaning[1:]}", letter.detail)]
    row = policy.tasks.get(letter.task or "")
    if row is not None and row.approval != "none" and letter.reason.wants_person:
        sentences.append(f"The policy says of {letter.task}: {row.reason}.")
    sentences += [_tried(attempt) for attempt in letter.attempts if attempt.step != "classify"]
    if letter.generation > 1:
        times = "once" if letter.generation == 2 else f"{letter.generation - 1} times"
        left = max(policy.limits.requeues - letter.generation + 1, 0)
        sentences.append(f"It was sent through again {times}; {left} more can follow.")
    if letter.deadline is not None:
        is_late = letter.deadline <= now
        sentences.append(
            "Its deadline has passed: the client may have stopped waiting."
            if is_late
            else f"The client waits until {letter.deadline.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC."
        )
    return sentences


def _tried(attempt: Attempt) -> str:
    who = f"{attempt.model} ({attempt.tier})"
    if attempt.step == "verify":
        who += ", which read the answer,"
    if attempt.outcome == "accepted":
        return f"{who} passed every check."
    if attempt.outcome == "started" or attempt.reason is None:
        return f"{who} was called, and nobody knows what came of it."
    verb = "was turned down" if attempt.outcome == "rejected" else "failed"
    return _sentence(f"{who} {verb}: {attempt.reason.meaning}", attempt.detail)


def _sentence(words: str, detail: str) -> str:
    return f"{words} ({detail})." if detail else f"{words}."


def _skeleton(words: str) -> str:
    """The words without quotations and numbers."""
    return _NUMBER.sub("#", _QUOTED.sub("…", words[:_ERROR_READ]))[:_ERROR_LENGTH].strip()
