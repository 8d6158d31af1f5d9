"""How many calls a model bears at once is found out, and found out again."""

import pytest

from router.limits.concurrency import Concurrency
from tests.unit.router.limits.simulation import (
    Latency,
    Model,
    bimodal,
    drifting,
    lognormal,
    run,
    uniform,
)

_MANY = 10_000
_LATENCIES = {
    "lognormal 0.3": lognormal(0.3),
    "lognormal 0.7": lognormal(0.7),
    "lognormal 1.0": lognormal(1.0),
    "lognormal 1.5": lognormal(1.5),
    "80 % short, 20 % long": bimodal(),
    "uniform": uniform(),
    "three times slower within half a minute": drifting(lognormal(0.5), 3, 60, 90),
    "four times slower at once": drifting(lognormal(0.5), 4, 60, 60.1),
}
of_every_spread = pytest.mark.parametrize("latency", _LATENCIES.values(), ids=_LATENCIES.keys())


def replies(limit: Concurrency, seconds: float, count: int, now: float) -> float:
    """So many replies in good order, one limit's worth per round trip."""
    for _ in range(count):
        now += seconds / limit.limit
        limit.succeeded(seconds, limit.limit, now)
    return now


def refusals(limit: Concurrency, first: int, borne: int, now: float) -> None:
    """A burst: the first call of `first` is refused beside the others, the last beside `borne`."""
    for running in range(first, borne, -1):
        limit.refused(0.05, running, now)


def grown(limit: int) -> Concurrency:
    """One that has learnt that the model bears so much."""
    limiter = Concurrency(limit)
    replies(limiter, 0.1, limit, now=0.0)
    return limiter


@of_every_spread
@pytest.mark.parametrize("rate", [3, 50])
def test_without_a_limit_at_the_provider_it_costs_no_throughput(latency: Latency, rate: int):
    """However far apart replies are: neither spread nor drift is a reason to slow down."""
    limited = run(Model(latency), rate=rate, seconds=150, limit=Concurrency(_MANY))
    free = run(Model(latency), rate=rate, seconds=150)

    assert limited.done >= 0.9 * free.done


@of_every_spread
@pytest.mark.parametrize("most", [2, 5, 20, 100])
def test_a_limit_at_the_provider_is_found_and_used(latency: Latency, most: int):
    flow = run(Model(latency, lambda _: most), rate=3 * most, seconds=240, limit=Concurrency(_MANY))

    assert flow.busy >= 0.9 * most * 240
    assert flow.refused_share <= 0.05


@pytest.mark.parametrize("latency", [*_LATENCIES.values()][:6], ids=[*_LATENCIES][:6])
def test_a_limit_that_falls_and_comes_back_is_followed_within_a_minute(latency: Latency):
    model = Model(latency, lambda now: 5 if 60 <= now < 120 else 60)
    flow = run(model, rate=100, seconds=240, limit=Concurrency(_MANY))

    assert flow.refused_share <= 0.05
    assert max(flow.limits[100:120]) <= 8
    assert max(flow.limits[120:181]) >= 50


@pytest.mark.parametrize("sigma", [0.3, 0.7])
def test_a_line_of_calls_at_the_provider_does_not_grow_for_ever(sigma: float):
    """More at once makes such a model slower and no more productive."""
    model = Model(lognormal(sigma), servers=20)
    limited = run(model, rate=60, seconds=240, limit=Concurrency(_MANY))
    free = run(model, rate=60, seconds=240)

    assert limited.done >= 0.9 * free.done
    assert limited.busy <= 0.2 * free.busy


def test_thirty_requests_a_second_of_very_different_length_are_all_answered():
    """Uniform from 0.05 to 3 s, no fault at all: 46 calls at once are needed, and made."""
    flow = run(Model(uniform()), rate=30, seconds=120, limit=Concurrency(64))

    assert flow.done >= 0.97 * flow.offered
    assert min(flow.limits[10:]) >= 46


@pytest.mark.parametrize("share", [0.4, 0.45, 0.5, 0.55, 0.6])
@pytest.mark.parametrize("rate", [30, 60])
def test_a_median_that_jumps_between_short_and_long_replies_lowers_nothing(share: float, rate: int):
    """Where about half of the replies are long, and more are asked for than can run at once."""
    flow = run(Model(bimodal(0.6, 5.0, share)), rate=rate, seconds=240, limit=Concurrency(48))

    assert flow.busy >= 0.9 * 48 * 240


def test_it_begins_low_and_grows_fourfold_with_every_round_trip() -> None:
    limit = Concurrency(1_000)
    rounds = [limit.limit]
    for now in range(4):
        replies(limit, 0.1, limit.limit, now=float(now))
        rounds.append(limit.limit)

    assert rounds == [4, 16, 64, 256, 1_000]


def test_it_does_not_grow_unused() -> None:
    limit = Concurrency(1_000)
    for now in range(100):
        limit.succeeded(0.1, 1, float(now))

    assert limit.limit == 4


def test_after_a_break_it_begins_low_again() -> None:
    limit = grown(100)
    limit.begin()

    assert limit.limit == 4


def test_a_burst_of_refusals_says_how_many_calls_were_borne() -> None:
    """The first of 100 calls is refused beside 99, the last beside the 20 that were taken."""
    limit = Concurrency(1_000)
    replies(limit, 0.1, 40, now=0.0)
    refusals(limit, 100, 20, now=1.0)

    assert limit.limit == 18
    assert limit.limited_by == "throttled"


def test_later_bursts_lower_it_by_a_third_at_most() -> None:
    """Refusals that come from too many calls in a time say little about calls at once."""
    limit = grown(100)
    refusals(limit, 110, 100, now=1_000.0)
    before = limit.limit
    refusals(limit, 90, 2, now=1_010.0)

    assert before == 90
    assert 0.6 * before <= limit.limit <= 0.7 * before


def test_who_refuses_although_no_more_was_tried_is_left_alone_for_longer_and_longer() -> None:
    limit = grown(100)
    first = limit.refused(0.05, 100, now=1_000.0)
    pauses = [limit.refused(0.05, 1, now=1_001.0 + second) for second in range(8)]

    assert first == 0
    assert pauses == [0.5, 1, 2, 4, 8, 16, 30, 30]


def test_a_reply_makes_pauses_short_again() -> None:
    limit = grown(100)
    for second in range(5):
        limit.refused(0.05, 1, now=1_000.0 + second)
    limit.succeeded(0.1, 1, now=1_010.0)

    assert limit.refused(0.05, 1, now=1_011.0) == 0.5


def test_more_than_was_refused_is_tried_after_fifty_replies() -> None:
    limit = grown(100)
    refusals(limit, 100, 20, now=1_000.0)
    now = replies(limit, 0.2, 49, now=1_000.0)
    before = limit.limit
    replies(limit, 0.2, 4, now=now)

    assert before == 20
    assert limit.limit == 21


def test_a_refusal_beside_fewer_calls_than_were_borne_costs_a_tenth_and_one_round() -> None:
    limit = Concurrency(100)
    now = replies(limit, 0.1, 100, now=0.0)
    refusals(limit, 110, 100, now)
    now = replies(limit, 0.1, 200, now)
    before = limit.limit
    limit.refused(0.05, 3, now)
    lowered = limit.limit
    replies(limit, 0.1, 40, now)

    assert before == limit.limit == 100
    assert lowered == 90


@pytest.mark.parametrize("share", [0.002, 0.005, 0.01])
@pytest.mark.parametrize("rate", [5, 20])
@pytest.mark.parametrize("seed", [1, 2, 3, 4, 5])
def test_refusals_that_have_nothing_to_do_with_us_cost_no_throughput(
    share: float, rate: int, seed: int
):
    """One call in a hundred or fewer is refused whatever runs, as where others use the account."""
    latency = lognormal(0.5, 1.2)
    flow = run(
        Model(latency, refused_at_random=share),
        rate=rate,
        seconds=180,
        limit=Concurrency(64),
        seed=seed,
    )

    assert flow.done >= 0.97 * flow.offered


@pytest.mark.parametrize(("rate", "used"), [(5, 0.65), (20, 0.8), (60, 0.85)])
def test_a_limit_of_calls_in_a_time_is_found_and_used(rate: int, used: float):
    flow = run(
        Model(lognormal(0.7), rate=rate), rate=1.5 * rate, seconds=240, limit=Concurrency(_MANY)
    )

    assert flow.done >= used * rate * 240
    assert flow.refused_share <= 0.1


def test_it_never_grows_beyond_what_is_configured() -> None:
    limit = Concurrency(8)
    replies(limit, 0.1, 1_000, now=0.0)

    assert limit.limit == 8
    assert limit.limited_by == "most"


def test_quick_replies_are_no_brown_out_however_they_vary() -> None:
    limit = grown(100)
    replies(limit, 0.005, 500, now=100.0)
    replies(limit, 0.4, 300, now=200.0)

    assert limit.limit == 100


def test_a_slower_model_is_asked_less_until_that_proves_to_be_no_help() -> None:
    limit = Concurrency(100)
    now = replies(limit, 0.2, 500, now=0.0)
    lowest = limit.limit
    for _ in range(300):
        now = replies(limit, 2.0, 1, now=now)
        lowest = min(lowest, limit.limit)
    replies(limit, 2.0, 1_000, now=now)

    assert lowest == 70
    assert limit.limit == 100


def test_one_call_is_always_allowed() -> None:
    limit = Concurrency(1)
    for moment in range(10):
        limit.refused(0.05, 1, now=10.0 * moment)

    assert limit.limit == 1


def test_impossible_times_do_no_harm() -> None:
    """A clock that stands still and replies that took no time."""
    limit = Concurrency(100)
    for _ in range(1_000):
        limit.succeeded(0.0, limit.limit, now=5.0)
        limit.refused(0.0, limit.limit, now=5.0)

    assert 1 <= limit.limit <= 100
