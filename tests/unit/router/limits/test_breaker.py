"""When a model is left alone, for how long, and who finds out that it is back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.limits.breaker import Breaker


def opened(failures: int = 5, now: float = 0.0) -> Breaker:
    breaker = Breaker()
    for _ in range(failures):
        breaker.begin(now)
        breaker.failed(now)
    return breaker


def test_four_failures_in_a_row_are_bad_luck_and_five_are_not() -> None:
    assert opened(4).wait(0.0) == 0
    assert opened(5).wait(0.0) == 30


def test_a_success_in_between_begins_the_count_anew() -> None:
    breaker = opened(4)
    breaker.succeeded()
    breaker.failed(0.0)

    assert breaker.state(0.0) == "closed"


def test_after_the_break_one_probe_is_let_through_and_all_others_wait_for_it() -> None:
    breaker = opened()

    assert (breaker.state(29.9), breaker.state(30.0)) == ("open", "half_open")
    breaker.begin(30.0)
    assert breaker.wait(30.1) > 0
    breaker.succeeded()
    assert (breaker.wait(30.2), breaker.state(30.2)) == (0, "closed")


def test_every_probe_that_fails_makes_the_next_break_longer_up_to_five_minutes() -> None:
    breaker, now, breaks = opened(), 0.0, []
    for _ in range(12):
        now += breaker.wait(now)
        breaker.begin(now)
        breaker.failed(now)
        breaks.append(breaker.wait(now))

    assert breaks[:3] == [60, 90, 120]
    assert breaks[-1] == 300


def test_a_probe_that_nobody_reports_on_is_forgotten_in_time() -> None:
    breaker = opened()
    breaker.begin(30.0)

    assert breaker.wait(31.0) > 0
    assert breaker.wait(61.0) == 0


def test_no_credit_and_no_key_are_asked_about_once_a_minute() -> None:
    breaker, now = Breaker(), 0.0
    breaker.refused(now)
    waits = []
    for _ in range(4):
        waits.append(breaker.wait(now))
        now += breaker.wait(now)
        breaker.begin(now)
        breaker.refused(now)

    assert min(waits) >= 60


def test_a_provider_that_says_when_is_believed() -> None:
    breaker = Breaker()
    breaker.held(5.0, now=0.0)

    assert (breaker.wait(4.9) > 0, breaker.wait(5.0)) == (True, 0)


def test_calls_that_were_under_way_change_nothing_about_a_break() -> None:
    """Neither a late success nor a late failure: both were asked before it."""
    breaker = Breaker()
    breaker.held(5.0, now=0.0)
    breaker.succeeded()
    assert breaker.wait(1.0) == 4
    breaker = opened()
    breaker.failed(1.0)
    assert breaker.wait(1.0) == 29


def test_a_probe_that_is_told_to_wait_a_moment_waits_a_moment() -> None:
    breaker = opened()
    breaker.begin(30.0)
    breaker.held(2.0, now=31.0)

    assert breaker.wait(31.0) == 2


def test_one_failure_after_a_wait_that_was_asked_for_is_bad_luck() -> None:
    """Throttled now and then, failing now and then: neither is a reason for a long break."""
    breaker = Breaker()
    breaker.held(1.0, now=0.0)
    breaker.begin(1.0)
    breaker.failed(1.1)

    assert breaker.state(1.1) == "closed"


def test_a_probe_that_was_given_up_lets_another_one_go_at_once() -> None:
    breaker = opened()
    breaker.begin(30.0)
    breaker.gave_up(31.0)

    assert (breaker.wait(31.0), breaker.state(31.0)) == (0, "half_open")


@pytest.mark.parametrize("seconds", [0.0, 3600.0])
def test_a_wait_of_nothing_and_of_an_hour(seconds: float) -> None:
    breaker = Breaker()
    breaker.held(seconds, now=0.0)

    assert breaker.wait(0.0) == seconds


@given(
    st.lists(
        st.tuples(st.floats(0, 40), st.sampled_from(["failed", "succeeded", "held", "refused"])),
        max_size=80,
    )
)
def test_while_a_break_lasts_at_most_one_call_is_out(events: list[tuple[float, str]]) -> None:
    """Whatever is reported in whatever order: after a break, one probe per break at most."""
    breaker, now = Breaker(), 0.0
    for pause, event in events:
        now += pause
        if breaker.state(now) == "half_open" and breaker.wait(now) == 0:
            breaker.begin(now)
            assert breaker.wait(now) > 0
        if event == "held":
            breaker.held(2.0, now)
        elif event == "succeeded":
            breaker.succeeded()
        else:
            getattr(breaker, event)(now)
        assert 0 <= breaker.wait(now) <= 300
