"""The further checks, each seen to fail."""

from datetime import UTC, datetime
from typing import Any

import pytest

from schemas.attempt import Attempt
from schemas.dead_letter import DeadLetter, Pointer
from schemas.reasons import Reason
from tests.builders import an_attempt, the_policy
from tests.nemesis.further import (
    Arrival,
    Counted,
    further,
    kept_waiting,
    miscounted,
    out_of_order,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def _attempt(no: int, model: str, outcome: str = "rejected") -> Attempt:
    return an_attempt(attempt_no=no, model=model, outcome=outcome)


def _letter(*attempts: Attempt) -> DeadLetter:
    return DeadLetter(
        request_id="a",
        reason=Reason.NO_TIER_LEFT,
        detail="",
        stage="route",
        source=Pointer(topic="t", partition=0, offset=0),
        failed_at=NOW,
        attempts=list(attempts),
    )


@pytest.mark.parametrize(
    ("letter", "said"),
    [
        (_letter(_attempt(1, "small"), _attempt(2, "small")), "model asked twice"),
        (_letter(*(_attempt(no, f"m{no}") for no in range(1, 30))), "too many attempts"),
    ],
)
def test_what_attempts_tell(letter: DeadLetter, said: str) -> None:
    policy = the_policy()

    [problem] = further([], [letter], [], {}, policy=policy, clock_offset=0.0)

    assert said in problem


def test_a_model_may_be_asked_again_after_a_failed_call() -> None:
    policy = the_policy()
    letter = _letter(_attempt(1, "small", "failed"), _attempt(2, "small"))

    assert further([], [letter], [], {}, policy=policy, clock_offset=0.0) == []


def test_a_call_after_its_deadline_is_seen() -> None:
    policy = the_policy()
    bill = [{"attempt_id": "a.1.1", "request_id": "a", "received": 12.0, "fault": None}]

    [problem] = further([], [], bill, {"a": 100.0}, policy=policy, clock_offset=90.0)

    assert "2.00 s too late" in problem


@pytest.mark.parametrize("again", ["a.1.1", "a.1.2"])
def test_a_parked_request_is_not_called_again(again: str) -> None:
    bill = [
        {"attempt_id": "a.1.1", "request_id": "a", "received": 1.0, "fault": "cut"},
        {"attempt_id": again, "request_id": "a", "received": 2.0, "fault": None},
    ]

    assert further([], [], bill, {}, policy=the_policy(), clock_offset=0.0) == []
    [problem] = further([], [], bill, {}, {"a"}, policy=the_policy(), clock_offset=0.0)
    assert again in problem


def test_one_that_overtakes_another_of_its_key_is_found() -> None:
    kept = [
        Arrival(b"a", "low-0", 1, 5),
        Arrival(b"b", "low-0", 2, 3),
        Arrival(b"a", "low-0", 3, 9),
        Arrival(b"a", "low-1", 4, 2),
    ]

    assert out_of_order(kept) == []
    [problem] = out_of_order([*kept, Arrival(b"a", "low-0", 4, 7)])
    assert problem == "out of order: low-0-4 of key a"


def _called(name: str, received: float) -> dict[str, Any]:
    return {"request_id": name, "received": received}


def test_requests_that_wait_although_nothing_is_wrong_are_seen() -> None:
    sent_at = {"first": 0.0, "quick": 100.0, "slow": 100.0, "never": 100.0}
    bill = [_called("first", 5.0), _called("quick", 107.0), _called("slow", 130.0)]

    assert kept_waiting(sent_at, bill, []) == ["kept waiting: 1 requests, slow for 30 s"]
    assert kept_waiting(sent_at, [*bill, _called("slow", 101.0)], []) == []


def test_requests_may_wait_in_the_beginning_and_for_a_minute_after_a_fault() -> None:
    bill = [_called("first", 5.0), _called("slow", 130.0)]

    assert kept_waiting({"slow": 14.0}, bill, []) == []
    assert kept_waiting({"slow": 100.0}, bill, [(41.0, 50.0)]) == []
    assert kept_waiting({"slow": 100.0}, bill, [(30.0, 39.0)]) != []


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ([(1, 3), (2, 5), (3, 9)], []),
        (
            [(1, 3), (2, 5)],
            ["miscounted: k has 2 counts of 3 records; from 3 on: "],
        ),
        (
            [(1, 3), (2, 5), (2, 9)],
            ["miscounted: k has 3 counts of 3 records; from 3 on: 2 at 9"],
        ),
        (
            [(1, 3), (2, 3), (3, 5), (4, 9)],
            ["miscounted: k has 4 counts of 3 records; from 2 on: 2 at 3, 3 at 5, 4 at 9"],
        ),
    ],
)
def test_every_record_is_counted_once_and_in_its_order(
    counts: list[tuple[int, int]], said: list[str]
) -> None:
    assert miscounted([Counted(b"k", [3, 5, 9], counts)]) == said
