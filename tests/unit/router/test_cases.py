"""How urgent a dead letter is to a person, what it belongs with, and why it is here."""

from datetime import timedelta
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.review.cases import Risk, due_at, error_of, pressure, risk_of, urgency, why
from schemas.base import LATEST, Tier
from schemas.dead_letter import DeadLetter, Pointer
from schemas.reasons import Reason
from schemas.verdict import CheckResult, Verdict
from tests.builders import NOON, an_attempt, the_policy


def a_letter(**fields: Any) -> DeadLetter:
    plain = {
        "request_id": "req-1",
        "task": "support_answer",
        "reason": Reason.NO_TIER_LEFT,
        "detail": "low and balanced were asked",
        "stage": "work.balanced",
        "source": Pointer(topic="llm.intake", partition=1, offset=7),
        "failed_at": NOON,
        "attempts": [an_attempt()],
    }
    return DeadLetter.model_validate({**plain, **fields})


@pytest.mark.parametrize(
    ("fields", "risk"),
    [
        pytest.param({}, "low", id="a routine task that no tier could do"),
        pytest.param({"task": "billing_dispute"}, "high", id="a risky task"),
        pytest.param({"task": "general"}, "medium", id="a task whose risk is unclear"),
        pytest.param({"reason": Reason.APPROVAL_REQUIRED}, "high", id="an answer to be approved"),
        pytest.param({"reason": Reason.OUTCOME_UNKNOWN}, "medium", id="something may have run"),
        pytest.param({"reason": Reason.INTERNAL_ERROR}, "medium", id="a fault of ours"),
        pytest.param({"task": None}, "medium", id="nobody knows what it is about"),
        pytest.param({"task": "no_such_task"}, "medium", id="a task that the policy lacks"),
    ],
)
def test_the_risk_is_the_task_s_or_the_reason_s(fields: dict[str, Any], risk: str) -> None:
    assert risk_of(a_letter(**fields), the_policy()) == risk


def test_a_case_is_due_as_the_task_says_else_as_the_limits_say() -> None:
    policy = the_policy()
    assert due_at(a_letter(), policy) == NOON + policy.limits.review_within

    row = policy.tasks["support_answer"].model_copy(update={"review_within": timedelta(minutes=20)})
    quick = policy.model_copy(update={"tasks": {**policy.tasks, "support_answer": row}})
    assert due_at(a_letter(), quick) == NOON + timedelta(minutes=20)


@pytest.mark.parametrize(
    ("deadline", "due"),
    [
        pytest.param(timedelta(minutes=9), timedelta(minutes=9), id="the client still waits"),
        pytest.param(timedelta(minutes=-1), timedelta(hours=4), id="it waits no longer"),
        pytest.param(timedelta(hours=9), timedelta(hours=4), id="it waits longer than we should"),
    ],
)
def test_a_case_is_due_while_the_client_waits(deadline: timedelta, due: timedelta) -> None:
    assert due_at(a_letter(deadline=NOON + deadline), the_policy()) == NOON + due


def test_the_last_time_that_a_record_may_tell_is_no_trouble() -> None:
    assert due_at(a_letter(failed_at=LATEST), the_policy()) == LATEST + timedelta(hours=4)


def test_urgency_is_the_share_of_the_time_that_has_passed_times_the_risk() -> None:
    due, now = NOON + timedelta(hours=4), NOON + timedelta(hours=2)
    assert [urgency(risk, NOON, due, now) for risk in get_args(Risk)] == pytest.approx(
        [0.5, 1.0, 2.0]
    )


ages = st.integers(0, 10**6).map(lambda seconds: timedelta(seconds=seconds))


@given(age=ages, more=ages, risk=st.sampled_from(get_args(Risk)), within=st.integers(0, 10**6))
def test_who_waits_longer_is_never_less_urgent(
    age: timedelta, more: timedelta, risk: Any, within: int
) -> None:
    due, now = NOON + timedelta(seconds=within), NOON + age
    assert urgency(risk, NOON, due, now + more) >= urgency(risk, NOON, due, now) >= 0
    assert pressure("high", NOON, due) > pressure("medium", NOON, due) > pressure("low", NOON, due)


def _rejected(detail: str) -> Verdict:
    return Verdict(
        outcome="rejected",
        checks=[
            CheckResult(check="not_empty", passed=True),
            CheckResult(check="format", passed=False, reason=Reason.SCHEMA_FAILED, detail=detail),
        ],
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(
            {"verdict": _rejected("/items/3/sum: '12.50' is not a number")},
            {"verdict": _rejected("/items/11/sum: 'a lot' is not a number")},
            id="the same check at another place",
        ),
        pytest.param(
            {
                "outcome": "failed",
                "reason": Reason.PROVIDER_ERROR,
                "http_status": 503,
                "detail": "req 81",
            },
            {
                "outcome": "failed",
                "reason": Reason.PROVIDER_ERROR,
                "http_status": 503,
                "detail": "req 9",
            },
            id="the same status for another call",
        ),
    ],
)
def test_like_errors_are_one_group(before: dict[str, Any], after: dict[str, Any]) -> None:
    first, second = (
        error_of(a_letter(attempts=[an_attempt(**fields)])) for fields in (before, after)
    )
    assert first == second


def test_errors_of_other_checks_and_statuses_are_apart() -> None:
    errors = [
        error_of(a_letter(attempts=[an_attempt(**fields)]))
        for fields in (
            {"verdict": _rejected("too short")},
            {"reason": Reason.EMPTY},
            {"outcome": "failed", "reason": Reason.PROVIDER_ERROR, "http_status": 503},
            {"outcome": "failed", "reason": Reason.PROVIDER_ERROR, "http_status": 500},
        )
    ]
    assert len(set(errors)) == len(errors)
    assert errors[0] == "low_confidence: format: too short"
    assert errors[2] == "provider_error 503"


def test_without_a_call_the_detail_is_the_error() -> None:
    broken = a_letter(attempts=[], reason=Reason.NOT_JSON, detail="line 3 column 14: 'x'")
    assert error_of(broken) == "line # column #: …"


def test_why_says_what_happened_and_what_was_tried() -> None:
    accepted = an_attempt(Tier.PREMIUM, attempt_no=3, outcome="accepted", reason=None)
    failed = an_attempt(
        attempt_no=2, outcome="failed", reason=Reason.PROVIDER_ERROR, detail="HTTP 503"
    )
    sentences = why(
        a_letter(
            task="billing_dispute",
            reason=Reason.APPROVAL_REQUIRED,
            detail="",
            generation=3,
            deadline=NOON + timedelta(minutes=5),
            attempts=[an_attempt(), failed, accepted],
        ),
        the_policy(),
        NOON,
    )

    policy = the_policy()
    assert sentences == [
        "The task's policy wants a person to approve this answer.",
        f"The policy says of billing_dispute: {policy.tasks['billing_dispute'].reason}.",
        (
            "sim-medium (balanced) was turned down: the model was less sure of its answer than the "
            "tier demands."
        ),
        "sim-medium (balanced) failed: the provider failed while answering (HTTP 503).",
        f"{accepted.model} (premium) passed every check.",
        "It was sent through again 2 times; 1 more can follow.",
        "The client waits until 2026-03-01 12:05:00 UTC.",
    ]


def test_why_says_that_the_client_may_be_gone() -> None:
    started = an_attempt(outcome="started", reason=None)
    letter = a_letter(deadline=NOON, generation=2, attempts=[started, an_attempt(step="verify")])
    sentences = why(letter, the_policy(), NOON)
    assert sentences[1].endswith("was called, and nobody knows what came of it.")
    assert "which read the answer, was turned down" in sentences[2]
    assert sentences[3].startswith("It was sent through again once;")
    assert sentences[4].startswith("Its deadline has passed")
