"""Whether a deadline can be met is judged by the backlog and by how quickly it is worked off."""

from datetime import datetime, timedelta

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


def a_route(deadline: datetime, tier: Tier = Tier.LOW) -> Route:
    return Route(tier, "answer", "triage", "task triage", "because", "1", deadline)


def test_a_backlog_of_three_hundred_at_ten_a_second_takes_half_a_minute() -> None:
    forecast = heard((0, 0, 500), (20, 200, 300))

    assert forecast.wait(Tier.LOW, at(20)) == timedelta(seconds=30)


def test_what_was_sent_since_counts_as_backlog() -> None:
    forecast = heard((0, 0, 0), (20, 200, 0))
    for _ in range(50):
        assert isinstance(forecast.judged(a_route(at(100)), at(20)), Route)

    assert forecast.wait(Tier.LOW, at(20)) == timedelta(seconds=5)


def test_a_request_whose_turn_would_come_too_late_is_told_so() -> None:
    forecast = heard((0, 0, 500), (20, 200, 300))
    late = forecast.judged(a_route(at(45)), at(20))

    assert isinstance(late, GiveUp)
    assert late.reason is Reason.DEADLINE_UNREACHABLE
    assert late.detail == (
        "low works off its backlog in 30 s at the present rate, and the deadline is in 25 s"
    )
    assert isinstance(forecast.judged(a_route(at(55)), at(20)), Route)


def test_other_tiers_have_backlogs_of_their_own() -> None:
    forecast = heard((0, 0, 500), (20, 200, 300))

    assert forecast.wait(Tier.PREMIUM, at(20)) is None


def test_nothing_is_claimed_of_a_rate_that_is_not_known() -> None:
    """Of a tier that has just begun, one that stands still, and one that is not known any more."""
    new = heard((0, 0, 500), (5, 200, 300))
    still = heard((0, 0, 500), (20, 10, 490))
    silent = heard((0, 0, 500), (20, 200, 300))

    assert new.wait(Tier.LOW, at(5)) is None
    assert still.wait(Tier.LOW, at(20)) is None
    assert silent.wait(Tier.LOW, at(40)) is None


def test_a_group_whose_offsets_were_reset_counts_from_then_on() -> None:
    anew = heard((0, 1_000, 500), (20, 5, 300))

    assert anew.wait(Tier.LOW, at(20)) is None


def test_only_the_last_minute_counts() -> None:
    forecast = heard(*((5.0 * no, 5 * 100 * no, 60) for no in range(20)))
    slower = [(95 + 5.0 * no, 9_500 + 5 * no, 60) for no in range(1, 14)]
    for seconds, passed, lag in slower:
        forecast.noted(Tier.LOW, at(seconds), passed, lag)

    assert forecast.wait(Tier.LOW, at(160)) == timedelta(seconds=60)


def test_the_longest_backlog_is_longer_than_any_deadline() -> None:
    forecast = heard((0, 0, (1 << 63) - 1), (20, 40, (1 << 63) - 1))

    assert forecast.wait(Tier.LOW, at(20)) == timedelta(days=365)
