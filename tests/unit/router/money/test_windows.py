"""The windows of caps, where clocks change and where they do not."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.money.windows import window_of

ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Havana",  # clocks are put back from 1:00 to midnight
    "America/Santiago",  # clocks skip midnight
    "Asia/Kathmandu",  # 5:45 before UTC
    "Australia/Lord_Howe",  # its clock changes by half an hour
    "Pacific/Apia",
    "Africa/Casablanca",
    "America/St_Johns",
)
PERS = ("hour", "day", "week", "month")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


@pytest.mark.parametrize(
    ("per", "zone", "instant", "start", "end"),
    [
        ("hour", "UTC", "2026-03-29T01:59:59.999999+00:00", "2026-03-29T01Z", "2026-03-29T02Z"),
        # 2:00 to 3:00 occurs twice on this day: two windows of one hour.
        *(
            ("hour", "Europe/Berlin", f"2026-10-25T0{h}:30+00:00", f"2026-10-25T0{h}Z", end)
            for h, end in ((0, "2026-10-25T01Z"), (1, "2026-10-25T02Z"))
        ),
        ("hour", "Asia/Kathmandu", "2026-05-05T00:10Z", "2026-05-04T23:15Z", "2026-05-05T00:15Z"),
        # From 2:00 back to 1:30, at 15:00 UTC: an hour, half an hour, an hour.
        *(
            ("hour", "Australia/Lord_Howe", f"2026-04-04T{now}Z", f"2026-04-04T{a}Z", end)
            for now, a, end in (
                ("14:59:59", "14:00", "2026-04-04T15:00Z"),
                ("15:00", "15:00", "2026-04-04T15:30Z"),
                ("15:30", "15:30", "2026-04-04T16:30Z"),
            )
        ),
        # Days of 23 and of 25 hours.
        ("day", "Europe/Berlin", "2026-03-29T12Z", "2026-03-28T23Z", "2026-03-29T22Z"),
        ("day", "Europe/Berlin", "2026-10-25T12Z", "2026-10-24T22Z", "2026-10-25T23Z"),
        ("day", "UTC", "2026-12-31T23:59:59Z", "2026-12-31T00Z", "2027-01-01T00Z"),
        # The day begins at 1:00 where clocks skip midnight, and at the first of two midnights.
        ("day", "America/Santiago", "2026-09-06T12Z", "2026-09-06T04Z", "2026-09-07T03Z"),
        ("day", "America/Havana", "2026-11-01T05:30Z", "2026-11-01T04Z", "2026-11-02T05Z"),
        # A day that a zone has left out.
        ("day", "Pacific/Apia", "2011-12-30T09Z", "2011-12-29T10Z", "2011-12-30T10Z"),
        ("day", "Pacific/Apia", "2011-12-30T12Z", "2011-12-30T10Z", "2011-12-31T10Z"),
        ("week", "Europe/Berlin", "2026-03-29T21:59Z", "2026-03-22T23Z", "2026-03-29T22Z"),
        ("week", "Europe/Berlin", "2026-03-29T22:00Z", "2026-03-29T22Z", "2026-04-05T22Z"),
        ("month", "America/New_York", "2026-03-01T04:59Z", "2026-02-01T05Z", "2026-03-01T05Z"),
        ("month", "America/New_York", "2026-03-01T05:00Z", "2026-03-01T05Z", "2026-04-01T04Z"),
        ("month", "UTC", "2028-02-29T12Z", "2028-02-01T00Z", "2028-03-01T00Z"),
    ],
)
def test_an_instant_has_its_window(per, zone, instant, start, end):
    assert window_of(per, zone, at(instant)) == (at(start), at(end))


@given(
    st.sampled_from(PERS),
    st.sampled_from(ZONES),
    st.integers(0, 28 * 365 * 86_400).map(lambda s: at("2012-01-01T00Z") + timedelta(seconds=s)),
)
def test_windows_follow_each_other_without_gaps(per, zone, instant):
    window = window_of(per, zone, instant)

    assert window.start <= instant < window.end
    assert window_of(per, zone, window.start) == window
    assert window_of(per, zone, window.end - timedelta(seconds=1)) == window
    assert window_of(per, zone, window.end).start == window.end
    assert window_of(per, zone, window.start - timedelta(seconds=1)).end == window.start


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize(("per", "most"), [("hour", 3_600), ("day", 25 * 3_600)])
def test_no_quarter_of_an_hour_is_in_two_windows(zone, per, most):
    """Over the weeks in which most clocks change."""
    moment, end, windows = at("2026-10-20T00Z"), at("2026-11-05T00Z"), []
    while moment < end:
        windows.append(window_of(per, zone, moment))
        moment += timedelta(minutes=15)

    for before, after in pairwise(dict.fromkeys(windows)):
        assert before.end == after.start
        assert before.end - before.start <= timedelta(seconds=most)


def test_zone_and_clock_of_the_instant_itself_do_not_count():
    instant = at("2026-10-25T00:30Z")

    elsewhere = instant.astimezone(datetime.fromisoformat("2026-01-01T00:00+09:00").tzinfo)

    assert window_of("day", "Europe/Berlin", elsewhere) == window_of(
        "day", "Europe/Berlin", instant
    )
