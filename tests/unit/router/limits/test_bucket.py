"""A limit per minute is never passed, whatever is asked of it and however estimates err."""

from hypothesis import given
from hypothesis import strategies as st

from router.limits.bucket import Bucket


def test_a_bucket_begins_empty() -> None:
    bucket = Bucket(600, now=100.0)

    assert bucket.wait(1, 100.0) > 0
    assert bucket.wait(1, 101.0) == 0


def test_what_was_not_used_is_given_back() -> None:
    bucket = Bucket(60_000, now=0.0)
    bucket.reserve(4_000, 5.0)
    before = bucket.wait(4_000, 5.0)
    bucket.settle(4_000, 500, 5.0)

    assert bucket.wait(4_000, 5.0) < before


def test_what_was_used_beyond_the_estimate_is_paid_back() -> None:
    bucket = Bucket(60_000, now=0.0)
    bucket.reserve(100, 60.0)
    bucket.settle(100, 30_000, 60.0)

    assert bucket.wait(1, 60.0) > 20


def test_a_reservation_larger_than_the_burst_waits_for_a_full_bucket_and_then_goes() -> None:
    bucket = Bucket(600, now=0.0)

    assert bucket.wait(10_000, 0.0) > 0
    assert bucket.wait(10_000, 60.0) == 0


@given(
    per_minute=st.integers(12, 10_000),
    tries=st.lists(st.tuples(st.floats(0, 5), st.floats(0.1, 60)), min_size=1, max_size=200),
)
def test_no_minute_holds_more_than_the_limit_and_one_reservation(
    per_minute: int, tries: list[tuple[float, float]]
) -> None:
    """Any sixty seconds, not only those that begin on the clock's full minute."""
    bucket, now, taken = Bucket(per_minute, now=0.0), 0.0, []
    for pause, amount in tries:
        now += pause
        if bucket.wait(amount, now) == 0:
            bucket.reserve(amount, now)
            taken.append((now, amount))

    largest = max((amount for _, amount in taken), default=0.0)
    for start, _ in taken:
        within = sum(amount for at, amount in taken if start <= at < start + 60)
        assert within <= per_minute + largest + 1e-6


@given(st.lists(st.tuples(st.floats(0, 1_000), st.floats(0, 1_000), st.floats(0, 10)), max_size=50))
def test_settling_never_fills_a_bucket_beyond_its_burst(
    calls: list[tuple[float, float, float]],
) -> None:
    bucket, now = Bucket(600, now=0.0), 0.0
    for reserved, used, pause in calls:
        now += pause
        bucket.reserve(reserved, now)
        bucket.settle(reserved, used, now)
    bucket.reserve(bucket.capacity, now + 1_000)

    assert bucket.wait(1, now + 1_000) > 0
