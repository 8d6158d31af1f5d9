"""Whether a deadline can be met is judged by the backlog and by how quickly it is worked off."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import NamedTuple

import pytest

from router.limits.forecast import Forecast
from router.route.routing import GiveUp, Route
from schemas.base import Tier
from schemas.reasons import Reason
from tests.builders import NOON


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def heard(*samples: tuple[float, int, int]) -> Forecast:
    """Of the low tier: seconds, offsets finished, offsets that are not."""
    forecast = Forecast()
    for seconds, passed, lag in samples:
        forecast.noted(Tier.LOW, at(seconds), passed, lag)
    return forecast


def steady(rate: int, lag: int, *, until: int = 20) -> Forecast:
    """A tier that had this backlog all the time and worked it off at one rate."""
    return heard(*((second, second * rate, lag) for second in range(0, until + 1, 5)))


def a_route(deadline: datetime, tier: Tier = Tier.LOW) -> Route:
    return Route(tier, "answer", "triage", "task triage", "because", "1", deadline)


def test_a_backlog_of_three_hundred_at_ten_a_second_takes_twenty_seconds_at_least() -> None:
    """It may become faster by half than it ever was."""
    forecast = steady(10, 300)

    assert forecast.wait(Tier.LOW, at(20)) == timedelta(seconds=20)
    assert forecast.wait(Tier.LOW, at(24)) == timedelta(seconds=16)


def test_what_was_sent_since_counts_as_backlog() -> None:
    forecast = steady(10, 150)
    for _ in range(75):
        assert isinstance(forecast.judged(a_route(at(100)), at(20)), Route)

    assert forecast.wait(Tier.LOW, at(20)) == timedelta(seconds=15)


def test_a_request_whose_turn_would_come_too_late_is_told_so() -> None:
    forecast = steady(10, 300)
    late = forecast.judged(a_route(at(35)), at(20))

    assert isinstance(late, GiveUp)
    assert late.reason is Reason.DEADLINE_UNREACHABLE
    assert late.detail == (
        "low needs 20 s for its backlog even at its best rate, and the deadline is in 15 s"
    )
    assert isinstance(forecast.judged(a_route(at(45)), at(20)), Route)


def test_the_best_rate_of_the_last_minute_counts() -> None:
    """A tier that is slow for a moment may be as quick as before in the next one."""
    quick = [(5 * no, 5 * no * 100, 600) for no in range(5)]
    slow = [(20 + 5 * no, 2_000 + 5 * no * 10, 600) for no in range(1, 17)]

    assert heard(*quick, *slow[:6]).wait(Tier.LOW, at(50)) == timedelta(seconds=4)
    assert heard(*quick, *slow).wait(Tier.LOW, at(100)) == timedelta(seconds=40)


class Load(NamedTuple):
    """What a tier gets and does, by second."""

    sent: Callable[[int], int]
    done: Callable[[int], int]
    seconds: int
    #: How long after it was sent each request has to be answered.
    deadline: int


def refusals(load: Load) -> tuple[int, int]:
    """How many requests are refused, and how many of those could have been met."""
    forecast, passed, accepted = Forecast(), 0, 0
    refused: list[tuple[int, int]] = []
    capacity = [0]
    for second in range(load.seconds):
        if second % 5 == 0:
            forecast.noted(Tier.LOW, at(second), passed, accepted - passed)
        for _ in range(load.sent(second)):
            route = a_route(at(second + load.deadline))
            if isinstance(forecast.judged(route, at(second)), Route):
                accepted += 1
            else:
                refused.append((second, accepted))
        passed += min(load.done(second), accepted - passed)
        capacity.append(passed)
    for second in range(load.seconds, load.seconds + load.deadline):
        passed += min(load.done(second), accepted - passed)
        capacity.append(passed)
    in_time = sum(capacity[second + load.deadline] >= before for second, before in refused)
    return len(refused), in_time


def a_file(count: int, *, at_second: int, over: int) -> Callable[[int], int]:
    """That many requests within some seconds."""
    return lambda second: count // over if at_second <= second < at_second + over else 0


@pytest.mark.parametrize(
    "load",
    [
        pytest.param(
            Load(a_file(10_000, at_second=40, over=20), lambda s: 2 * 2 ** (s // 5 - 8), 90, 120),
            id="a first file: the rate doubles each time that it is counted",
        ),
        pytest.param(
            Load(a_file(10_000, at_second=0, over=25), lambda s: 5 + 10 * s, 60, 60),
            id="limits that grow by the same step",
        ),
        pytest.param(
            Load(a_file(9_000, at_second=60, over=3), lambda s: 300, 100, 40),
            id="a file after a minute without any",
        ),
        pytest.param(
            Load(lambda s: 900 if 50 <= s < 54 else 1, lambda s: 100, 100, 60),
            id="a file after a time of few requests",
        ),
        pytest.param(
            Load(lambda s: 100, lambda s: 100 if s % 30 < 15 else 20, 200, 150),
            id="a rate that falls and recovers",
        ),
    ],
)
def test_what_can_be_met_is_never_refused(load: Load) -> None:
    assert refusals(load) == (0, 0)


@pytest.mark.parametrize(
    "load",
    [
        pytest.param(Load(lambda s: 30, lambda s: 10, 240, 60), id="three times what it can do"),
        pytest.param(
            Load(lambda s: 3_000 if s == 0 else 1, lambda s: 10, 120, 60), id="a long backlog"
        ),
    ],
)
def test_what_cannot_be_met_behind_a_steady_backlog_is_refused(load: Load) -> None:
    count, in_time = refusals(load)

    assert count > 0
    assert in_time == 0


def test_other_tiers_have_backlogs_of_their_own() -> None:
    forecast = steady(10, 300)

    assert forecast.wait(Tier.PREMIUM, at(20)) is None


def test_nothing_is_claimed_of_a_rate_that_is_not_known() -> None:
    """Of a tier that has just begun, one that stands still, and one that is not known any more."""
    assert steady(10, 300, until=15).wait(Tier.LOW, at(15)) is None
    assert steady(1, 300, until=15).wait(Tier.LOW, at(20)) is None
    assert steady(10, 300).wait(Tier.LOW, at(35)) is None
    assert Forecast().wait(Tier.LOW, at(0)) is None


def test_a_group_whose_offsets_were_reset_counts_from_then_on() -> None:
    anew = steady(10, 300)
    anew.noted(Tier.LOW, at(25), 5, 300)

    assert anew.wait(Tier.LOW, at(25)) is None


def test_the_longest_backlog_is_longer_than_any_deadline() -> None:
    forecast = steady(10, (1 << 63) - 1)

    assert forecast.wait(Tier.LOW, at(20)) == timedelta(days=365)
