"""What happened to a request, in words: each event is a moment."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from consumers.amounts import counted, dollars, in_words, shortened
from schemas.admission import AdmissionTaken
from schemas.attempt import Attempt
from schemas.escalation import Assignment, Escalation, RouteTaken
from schemas.feedback import Feedback
from schemas.json_numbers import exact_json
from schemas.request import Request
from schemas.result import Result
from schemas.review import AuditLine
from schemas.spans import span_text

__all__ = [
    "COLUMNS",
    "Moment",
    "admission_moment",
    "attempt_moment",
    "facts_of",
    "feedback_moment",
    "result_words",
    "review_moment",
    "route_moment",
    "rows_of",
    "still_open",
]

COLUMNS = ("after", "what", "tier", "words")
#: Characters of an answer that are shown.
_ANSWER = 300
_FACTS = ("lane", "plan", "user", "workflow", "conversation_id", "justification")
#: What was published, by the result's kind.
_PUBLISHED = {
    "answer": "{model} answered",
    "tool_calls": "{model} called tools",
    "clarification": "{model} asked for clarification",
    "refusal": "our refusal was published",
    "safe_default": "the safe default was published",
    "in_review": "a notice was published that a person has the request",
    "needs_confirmation": "a confirmation of its price was asked for",
}
_REVIEWED = {
    "approve": "the answer of {model} was published, approved by {who}",
    "edit": "an answer edited by {who} was published",
    "reject": "the safe default was published, the answers rejected by {who}",
}


@dataclass(frozen=True, slots=True)
class Moment:
    """One thing that happened to a request."""

    at: datetime | None
    what: str
    tier: str
    words: str


def result_words(result: Result, who: str | None) -> str:
    """What a result says, and who wrote or approved it."""
    info, answer = result.router, shortened(in_words(result.router.output), _ANSWER)
    if info.review is not None:
        words = _REVIEWED[info.review].format(model=info.model, who=who or "a reviewer")
        return f"{words}: {answer}"
    total, calls = info.latency.total_ms / 1000, info.latency.model_ms / 1000
    words = _PUBLISHED[info.kind].format(model=info.model)
    cost, took = dollars(info.cost_micros), f"{total:.2f} s ({calls:.2f} s in calls)"
    doubt = f" with a caveat ({info.weighed})" if info.caveat else ""
    budget = f" because of {info.budget}" if info.budget else ""
    return f"{words}{doubt}{budget} for {cost} in {took}: {answer}"


def review_moment(line: AuditLine) -> Moment:
    decision = line.decision
    words = f"{decision.action if decision else line.what} by {line.who}"
    if decision is not None:
        spent = decision.seconds_spent
        words += f" to {decision.tier}" if decision.tier else ""
        words += f" after {spent:.0f} s" if spent is not None else ""
        words += ", kept as an example" if decision.is_example else ""
    note = line.note or (decision.reason if decision else "")
    return Moment(line.at, "review", "", words + (f": {note}" if note else ""))


def feedback_moment(feedback: Feedback) -> Moment:
    """What somebody noted about an answer."""
    words = (
        f"{feedback.kind}, says {'a reviewer' if feedback.source == 'reviewer' else 'downstream'}"
    )
    words += f": {feedback.comment}" if feedback.comment else ""
    if feedback.correction:
        words += f"; what was used instead: {shortened(in_words(feedback.correction), _ANSWER)}"
    return Moment(feedback.at, "feedback", "", words)


def facts_of(request: Request) -> str:
    """The fields of a request besides its input, as the end of a sentence."""
    facts = {name: getattr(request, name) for name in _FACTS if name in request.model_fields_set}
    words = [f"{name} {fact}" for name, fact in facts.items() if fact]
    if request.metadata:
        words.append(f"metadata {exact_json(request.metadata, gap=chr(32))}")
    return f", with {shortened(', '.join(words), _ANSWER)}" if words else ""


def route_moment(route: RouteTaken) -> Moment:
    what = "escalated" if route.code and not route.code.is_hop else "routed"
    if route.step == "classify":
        what = "classify"
    codes = f" [{', '.join(route.moved_by)}]" if route.moved_by else ""
    return Moment(route.routed_at, what, route.tier, f"{route.rule}: {route.reason}{codes}")


def admission_moment(taken: AdmissionTaken) -> Moment:
    """What admission did, and which cap was the reason, how full, for whom."""
    return Moment(taken.at, "admission", taken.tier, f"{taken.what}: {taken.words}")


def attempt_moment(attempt: Attempt) -> Moment:
    why = ""
    if attempt.reason is not None:
        detail = f" ({attempt.detail})" if attempt.detail else ""
        why = f", {attempt.reason}: {attempt.reason.meaning}{detail}"
    elif attempt.changes:
        why = f", changed: {', '.join(change.field for change in attempt.changes)}"
    words = (
        f"{attempt.model} {attempt.outcome}{why}; {attempt.usage.total_tokens} tokens, "
        f"{dollars(attempt.cost_micros)}, {attempt.duration_ms:.0f} ms"
    )
    return Moment(attempt.started_at, f"attempt {attempt.attempt_no}", attempt.tier, words)


def still_open(
    since: datetime,
    hop: Assignment | Escalation | None,
    attempts: Sequence[Attempt],
    now: datetime,
    unadmitted: str | None = None,
) -> str:
    """What the topics say of a request that has not ended; `since` is when it was passed on.

    `unadmitted`: what it waits for at admission; None: it is not there.

    A worker announces its calls, but whether one still runs the topics do not say.
    """
    if hop is None:
        return f"It is still open: accepted at {_second(since)}, and not routed yet."
    if isinstance(hop, Escalation):
        words = f"handed back to route at {_second(since)}, and not routed again yet."
    elif unadmitted is not None:
        words = f"routed to {hop.route.tier} at {_second(since)}, under a cap: {unadmitted}."
    else:
        recent = [attempt for attempt in attempts if attempt.started_at >= since]
        running = next((attempt for attempt in recent if attempt.outcome == "started"), None)
        state = "with no attempt noted yet"
        if running is not None:
            state = f"and a call to {running.model} began at {_second(running.started_at)}"
        elif recent:
            state = f"with {counted(len(recent), 'attempt')} noted since then"
        words = (
            f"routed to {hop.route.tier} at {_second(since)}, {state}. It waits for a model or a "
            "worker, or a call is running; the topics do not say which, but `tierline top` shows "
            "which models and tiers are behind."
        )
    finished = [attempt for attempt in attempts if attempt.outcome != "started"]
    if finished:
        cost = dollars(sum(attempt.cost_micros for attempt in finished))
        words += f" So far: {counted(len(finished), 'attempt')}, {cost}."
    left, until = hop.deadline - now, _second(hop.deadline)
    if left <= timedelta(0):
        ended = f"The deadline was {until}: the stage that takes it next hands it to a person."
        return f"It is still open: {words} {ended}"
    rest = span_text(timedelta(seconds=round(left.total_seconds())))
    more = counted(hop.attempts_left, "more attempt")
    return (
        f"It is still open: {words} The deadline is {until}, in {rest}; until then {more} at most."
    )


def _second(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def rows_of(moments: Sequence[Moment]) -> list[dict[str, str]]:
    """Moments as table rows, times counted from the first one."""
    first = next((moment.at for moment in moments if moment.at), None)
    return [
        {
            "after": f"{(moment.at - first).total_seconds():.3f} s" if moment.at and first else "",
            "what": moment.what,
            "tier": moment.tier,
            "words": moment.words,
        }
        for moment in moments
    ]
