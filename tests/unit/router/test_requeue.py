"""A person sends a dead letter through again: a new generation with the history of the old ones."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from router.attempt.escalation import climb
from router.policy.table import Policy
from router.review.decisions import refusal_of
from router.route.requeue import handed_back, requeued
from router.route.routing import GiveUp, Route, route, route_fields
from schemas.base import Tier
from schemas.codec import dump_envelope, read_envelope
from schemas.dead_letter import DeadLetter, Pointer
from schemas.escalation import Assignment, Classification, Escalation, RouteTaken
from schemas.reasons import Reason
from schemas.review import Decision
from tests.builders import (
    NOON,
    a_request,
    a_route,
    an_assignment,
    an_attempt,
    an_escalation,
    the_policy,
)

LATER = NOON + timedelta(hours=2)
IN_TIME = LATER + timedelta(minutes=15)
ALLOWED = the_policy().limits.requeues
NEVER = [reason for reason in Reason if reason.is_unreadable or reason.is_refused]
OTHERS = [reason for reason in Reason if reason not in NEVER]


def a_letter(**fields: object) -> DeadLetter:
    """Both models of the balanced tier were asked, then nobody was left to ask."""
    plain = {
        "request_id": "req-1",
        "task": "support_answer",
        "reason": Reason.NO_TIER_LEFT,
        "detail": "no tier above balanced",
        "stage": "route",
        "source": Pointer(
            topic="llm.intake", partition=1, offset=7, timestamp_ms=int(NOON.timestamp() * 1000)
        ),
        "failed_at": NOON + timedelta(minutes=1),
        "attempts": (an_attempt(), an_attempt(attempt_no=2, model="sim-medium-b")),
    }
    return DeadLetter.model_validate({**plain, **fields})


def again(letter: DeadLetter) -> Escalation:
    return requeued(letter, the_policy(), IN_TIME)


def test_the_next_generation_begins_with_the_history_of_the_last() -> None:
    letter = a_letter()
    escalation = again(letter)

    assert (escalation.id, escalation.task, escalation.generation) == ("req-1", letter.task, 2)
    assert escalation.is_seen
    assert escalation.reason is Reason.REQUEUED
    assert escalation.attempts == list(letter.attempts)
    assert escalation.routes == []
    assert escalation.deadline == IN_TIME
    assert escalation.attempts_left == the_policy().limits.attempts


def test_it_still_points_to_the_intake_record() -> None:
    origin = again(a_letter()).origin

    assert (origin.topic, origin.partition, origin.offset) == ("llm.intake", 1, 7)
    assert origin.appended_at == NOON


@pytest.mark.parametrize("timestamp_ms", [-1, 0, -(2**62), 2**62])
def test_a_record_without_a_usable_time_is_requeued_all_the_same(timestamp_ms: int) -> None:
    source = Pointer(topic="llm.intake", partition=1, offset=7, timestamp_ms=timestamp_ms)

    assert again(a_letter(source=source)).origin.appended_at == datetime(1970, 1, 1, tzinfo=UTC)


def test_it_reads_back_from_the_topic_as_it_was_written() -> None:
    escalation, raw = again(a_letter()), b'{ "id":"req-1", "input": "hello" }'
    read, bytes_found = read_envelope(Escalation, dump_envelope(escalation, raw))

    added = {"request", "request_bytes"}
    assert read.model_dump(exclude=added) == escalation.model_dump(exclude=added)
    assert bytes_found == raw


def test_route_takes_it_as_if_nothing_had_been_tried() -> None:
    """The models that failed in the last generation are asked again: a person wanted that."""
    decided = climb(again(a_letter()), a_request(), the_policy(), LATER)

    assert isinstance(decided, Route)
    assert (decided.tier, decided.deadline) == ("balanced", IN_TIME)


def test_a_new_deadline_that_has_passed_ends_it() -> None:
    decided = climb(again(a_letter()), a_request(), the_policy(), IN_TIME)

    assert isinstance(decided, GiveUp)
    assert decided.reason is Reason.DEADLINE_PASSED


def refused(letter: DeadLetter, policy: Policy | None = None) -> str | None:
    decision = Decision(
        decision_id="d-1",
        request_id=letter.request_id or "none",
        generation=letter.generation,
        letter=letter.source,
        action="requeue",
    )
    return refusal_of(decision, letter, policy or the_policy())


@pytest.mark.parametrize("generation", range(1, ALLOWED + 1))
def test_it_goes_through_as_often_as_the_policy_allows(generation: int) -> None:
    letter = a_letter(generation=generation)

    assert refused(letter) is None
    assert again(letter).generation == generation + 1


@pytest.mark.parametrize("generation", [ALLOWED + 1, ALLOWED + 9])
def test_then_it_stays_where_it_is(generation: int) -> None:
    assert f"{ALLOWED} requeues are allowed" in str(refused(a_letter(generation=generation)))


def test_a_policy_may_forbid_requeues() -> None:
    limits = the_policy().limits.model_copy(update={"requeues": 0})

    words = refused(a_letter(), the_policy().model_copy(update={"limits": limits}))

    assert "0 requeues are allowed" in str(words)


@pytest.mark.parametrize("reason", NEVER)
def test_what_was_never_readable_stays(reason: Reason) -> None:
    assert "fix it and publish it to intake" in str(refused(a_letter(reason=reason)))


def test_what_has_no_id_stays() -> None:
    letter = a_letter(request_id=None, reason=Reason.MISSING_FIELD)

    assert "never readable" in str(refused(letter))


@pytest.mark.parametrize("reason", OTHERS)
def test_every_other_reason_may_be_tried_again(reason: Reason) -> None:
    assert refused(a_letter(reason=reason)) is None
    assert again(a_letter(reason=reason)).reason is Reason.REQUEUED


GONE = "2026-10-01 (0123456789ab)"


def _anew(assignment: Assignment, **fields: object) -> Route | GiveUp:
    """Where a request goes whose release nobody has any more."""
    return climb(handed_back(assignment), a_request(**fields), the_policy(), NOON)


def _under(tier: Tier, **fields: object) -> RouteTaken:
    return a_route(tier, policy_digest="0123456789ab", policy_version="2026-10-01", **fields)


def test_a_first_route_that_is_taken_back_is_made_as_at_first() -> None:
    decided = _anew(an_assignment(routes=[_under(Tier.LOW)]))

    assert isinstance(decided, Route)
    first = route(a_request(), the_policy(), NOON)
    assert isinstance(first, Route)
    assert (decided.tier, decided.rule, decided.task) == (first.tier, first.rule, first.task)
    assert decided.reason.endswith(f"no process has release {GONE}")


def test_an_escalation_that_is_taken_back_is_made_from_where_it_came() -> None:
    """It has climbed once, not twice, and what was paid for stays."""
    routes = [
        a_route(Tier.BALANCED),
        _under(Tier.PREMIUM, rule="escalation", code=Reason.LOW_CONFIDENCE),
    ]
    assignment = an_assignment(routes=routes, attempts=[an_attempt()], attempts_left=5)
    back = handed_back(assignment)
    decided = climb(back, a_request(), the_policy(), NOON)

    assert isinstance(decided, Route)
    assert (decided.tier, decided.code) == (Tier.PREMIUM, Reason.LOW_CONFIDENCE)
    assert (back.routes, back.attempts, back.attempts_left) == (routes[:1], [an_attempt()], 5)


def test_a_classified_request_that_is_taken_back_keeps_what_was_found() -> None:
    classification = Classification(task="rewrite", ambiguity=0.2)
    routes = [a_route(Tier.LOW, step="classify"), _under(Tier.LOW, code=Reason.CLASSIFIED)]
    assignment = an_assignment(routes=routes, task="rewrite", classification=classification)
    decided = _anew(assignment, task=None)

    assert isinstance(decided, Route)
    assert (decided.task, decided.code) == ("rewrite", Reason.CLASSIFIED)


def test_what_could_not_be_classified_is_guessed_anew() -> None:
    routes = [a_route(Tier.LOW, step="classify"), _under(Tier.BALANCED, code=Reason.EMPTY)]
    decided = _anew(an_assignment(routes=routes, task="general"), task=None)

    assert isinstance(decided, Route)
    assert (decided.tier, decided.task) == (Tier.BALANCED, "general")


def test_a_reviewers_tier_is_kept_when_its_route_is_taken_back() -> None:
    taken = _under(Tier.PREMIUM, rule="review", code=Reason.REQUEUED)
    decided = _anew(an_assignment(routes=[taken], generation=2))

    assert isinstance(decided, Route)
    assert (decided.tier, decided.rule) == (Tier.PREMIUM, "review")


@pytest.mark.parametrize("found", ["rewrite", None])
def test_a_reviewers_tier_outlasts_the_classify_step(found: str | None) -> None:
    """Whether that finds a task or not, and also where its route is taken back."""
    request, policy = a_request(task=None), the_policy()
    sent = requeued(a_letter(task=None), policy, IN_TIME, tier=Tier.PREMIUM)
    first = climb(sent, request, policy, LATER)
    assert isinstance(first, Route)
    assert (first.tier, first.step) == (Tier.LOW, "classify")

    taken = RouteTaken.model_validate(route_fields(first, "0123456789ab", LATER))
    fields: Any = {"routes": [taken], "task": None, "deadline": IN_TIME, "is_seen": True}
    classification = Classification(task=found) if found else None
    reason = Reason.CLASSIFIED if found else Reason.EMPTY
    back = an_escalation(**fields, attempts=[], reason=reason, classification=classification)
    decided = climb(back, request, policy, LATER)
    assert isinstance(decided, Route)
    assert (decided.tier, decided.rule) == (Tier.PREMIUM, "review")
    assert decided.task == (found or "general")

    anew = handed_back(an_assignment(**fields, generation=2))
    assert (anew.tier, anew.is_seen) == (Tier.PREMIUM, True)


def test_a_deadline_that_passed_meanwhile_says_what_was_waited_for() -> None:
    late = an_assignment(routes=[_under(Tier.LOW)], deadline=NOON - timedelta(seconds=1))
    decided = _anew(late)

    assert isinstance(decided, GiveUp)
    assert decided.reason is Reason.DEADLINE_PASSED
    assert decided.detail.endswith(f"it waited for release {GONE}")
