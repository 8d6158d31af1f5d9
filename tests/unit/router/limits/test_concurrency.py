"""How many calls a model bears at once is found out, and found out again."""

from router.limits.concurrency import Concurrency


def replies(limit: Concurrency, seconds: float, count: int, now: float) -> float:
    """So many replies in good order, one limit's worth per round trip."""
    for _ in range(count):
        now += seconds / limit.limit
        limit.succeeded(seconds, limit.limit, now)
    return now


def grown(limit: int) -> Concurrency:
    """One that has learnt that the model bears so much."""
    found = Concurrency(limit)
    replies(found, 0.1, limit, now=0.0)
    return found


def test_it_begins_low_and_grows_fourfold_with_every_round_trip() -> None:
    limit = Concurrency(1_000)
    rounds = [limit.limit]
    for now in range(3):
        replies(limit, 0.1, limit.limit, now=float(now))
        rounds.append(limit.limit)

    assert rounds == [16, 64, 256, 1_000]


def test_it_does_not_grow_unused() -> None:
    limit = Concurrency(1_000)
    for now in range(100):
        limit.succeeded(0.1, 1, float(now))

    assert limit.limit == 16


def test_after_a_break_it_begins_low_again() -> None:
    limit = grown(100)
    limit.begin()

    assert limit.limit == 16


def test_a_throttle_halves_what_ran_not_what_was_allowed() -> None:
    limit = grown(1_000)
    limit.throttled(40, now=1_000.0)

    assert limit.limit == 20


def test_many_throttles_of_one_moment_halve_once() -> None:
    limit = grown(100)
    for _ in range(30):
        limit.throttled(100, now=1_000.0)

    assert limit.limit == 50


def test_after_a_throttle_it_grows_by_one_per_round_trip() -> None:
    limit = grown(1_000)
    limit.throttled(40, now=1_000.0)
    replies(limit, 0.2, 20 + 21 + 22, now=1_001.0)

    assert limit.limit in (22, 23)


def test_it_never_grows_beyond_what_is_configured() -> None:
    limit = Concurrency(8)
    replies(limit, 0.1, 1_000, now=0.0)

    assert limit.limit == 8


def test_a_brown_out_shrinks_it_within_a_few_round_trips() -> None:
    limit = Concurrency(100)
    now = replies(limit, 0.2, 500, now=0.0)
    replies(limit, 2.0, 300, now=now)

    assert limit.limit <= 30


def test_quick_replies_are_no_brown_out_however_they_vary() -> None:
    limit = grown(100)
    replies(limit, 0.005, 500, now=100.0)
    replies(limit, 0.4, 300, now=200.0)

    assert limit.limit == 100


def test_it_recovers_when_the_model_does() -> None:
    limit = Concurrency(100)
    now = replies(limit, 0.2, 500, now=0.0)
    now = replies(limit, 2.0, 300, now=now)
    replies(limit, 0.2, 10_000, now=now)

    assert limit.limit == 100


def test_a_model_that_is_slower_for_good_is_not_held_back_for_ever() -> None:
    limit = Concurrency(20)
    now = replies(limit, 0.2, 200, now=0.0)
    replies(limit, 2.0, 8_000, now=now)

    assert limit.limit == 20


def test_one_call_is_always_allowed() -> None:
    limit = Concurrency(1)
    for moment in range(10):
        limit.throttled(1, now=10.0 * moment)

    assert limit.limit == 1
