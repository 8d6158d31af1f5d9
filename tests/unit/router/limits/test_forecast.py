"""Whether a deadline can be met is judged by the backlog and by how quickly it is worked off."""

from datetime import datetime, timedelta

from router.limits.forecast import Forecast
from router.routing import GiveUp, Route
from schemas.base import Tier
from schemas.reasons import Reason
from schemas.status import StageStatus, Status
from tests.builders import NOON


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def a_status(
    seconds: float, passed: int, lag: int | None, process: str = "p-1", tier: str = "low"
) -> Status:
    stage = StageStatus(
        stage=f"work.{tier}", partitions=1, lag=lag, passed=passed, in_flight=0, free=0
    )
    return Status(process=process, started_at=NOON, at=at(seconds), stages=[stage])


def heard(*statuses: Status) -> Forecast:
    forecast = Forecast()
    for status in statuses:
        forecast.heard(status)
    return forecast


def a_route(deadline: datetime, tier: Tier = Tier.LOW) -> Route:
    return Route(tier, "answer", "triage", "task triage", "because", "1", deadline)


def test_a_backlog_of_three_hundred_at_ten_a_second_takes_half_a_minute() -> None:
    forecast = heard(a_status(0, 0, 500), a_status(20, 200, 300))

    assert forecast.wait(Tier.LOW, at(20)) == timedelta(seconds=30)


def test_processes_add_up() -> None:
    forecast = heard(
        a_status(0, 0, 250),
        a_status(0, 0, 250, "p-2"),
        a_status(20, 100, 150),
        a_status(20, 100, 150, "p-2"),
    )

    assert forecast.wait(Tier.LOW, at(20)) == timedelta(seconds=30)


def test_what_was_sent_since_counts_as_backlog() -> None:
    forecast = heard(a_status(0, 0, 0), a_status(20, 200, 0))
    for _ in range(50):
        assert isinstance(forecast.judged(a_route(at(100)), at(20)), Route)

    assert forecast.wait(Tier.LOW, at(20)) == timedelta(seconds=5)


def test_a_request_whose_turn_would_come_too_late_is_told_so() -> None:
    forecast = heard(a_status(0, 0, 500), a_status(20, 200, 300))
    late = forecast.judged(a_route(at(45)), at(20))

    assert isinstance(late, GiveUp)
    assert late.reason is Reason.DEADLINE_UNREACHABLE
    assert late.detail == (
        "low works off its backlog in 30 s at the present rate, and the deadline is in 25 s"
    )
    assert isinstance(forecast.judged(a_route(at(55)), at(20)), Route)


def test_other_tiers_have_backlogs_of_their_own() -> None:
    forecast = heard(a_status(0, 0, 500), a_status(20, 200, 300))

    assert forecast.wait(Tier.PREMIUM, at(20)) is None


def test_nothing_is_claimed_of_a_rate_that_is_not_known() -> None:
    """A process that has just begun, one that stands still, and one that is silent."""
    new = heard(a_status(0, 0, 500), a_status(5, 200, 300))
    still = heard(a_status(0, 0, 500), a_status(20, 10, 490))
    silent = heard(a_status(0, 0, 500), a_status(20, 200, 300))
    lost = heard(a_status(0, 0, 500), a_status(20, 200, None))

    assert new.wait(Tier.LOW, at(5)) is None
    assert still.wait(Tier.LOW, at(20)) is None
    assert silent.wait(Tier.LOW, at(40)) is None
    assert lost.wait(Tier.LOW, at(20)) is None


def test_a_process_that_has_ended_or_begun_anew_counts_from_then_on() -> None:
    ended = heard(a_status(0, 0, 500), a_status(20, 200, 300))
    ended.ended("p-1")
    anew = heard(a_status(0, 1_000, 500), a_status(20, 5, 300))

    assert ended.wait(Tier.LOW, at(20)) is None
    assert anew.wait(Tier.LOW, at(20)) is None


def test_only_the_last_minute_counts() -> None:
    forecast = heard(*(a_status(5.0 * one, 5 * 100 * one, 60) for one in range(20)))
    slower = [a_status(95 + 5.0 * one, 9_500 + 5 * one, 60) for one in range(1, 14)]
    for status in slower:
        forecast.heard(status)

    assert forecast.wait(Tier.LOW, at(160)) == timedelta(seconds=60)


def test_a_forged_status_refuses_no_request_for_longer_than_it_is_heard() -> None:
    """Nor does what it says overflow, whatever it says."""
    endless = a_status(0, 0, (1 << 63) - 1), a_status(20, 40, (1 << 63) - 1)
    forecast = heard(*endless)
    wait = forecast.wait(Tier.LOW, at(20))
    assert wait == timedelta(days=365)
    assert isinstance(forecast.judged(a_route(at(30)), at(20)), GiveUp)
    assert forecast.wait(Tier.LOW, at(60)) is None

    future = heard(a_status(10**9, 0, 10**6), a_status(10**9 + 20, 40, 10**6))
    assert future.wait(Tier.LOW, at(20)) is None
