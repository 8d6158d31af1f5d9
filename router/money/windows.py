"""The windows of caps: in which hour, day, week or month of a zone an instant lies.

Windows follow each other without gaps. A day with a clock change has 23 or 25 hours, an hour that
occurs twice is two windows, and a week begins on Monday. All instants are in UTC: two times of one
zone would be compared by their clocks, which is wrong where clocks change.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from typing import NamedTuple

from router.policy.caps import Per, zone_named
from schemas.base import EARLIEST, LATEST

__all__ = ["Window", "window_of"]

#: Clocks change on whole quarters of an hour.
_DAY, _QUARTER, _SECOND = timedelta(days=1), timedelta(minutes=15), timedelta(seconds=1)


class Window(NamedTuple):
    """From `start` until just before `end`."""

    start: datetime
    end: datetime


def window_of(per: Per, zone: str, instant: datetime) -> Window:
    """The window in which an instant lies; a request's has no end of its own."""
    if per == "request":
        return Window(EARLIEST, LATEST)
    # Clocks and windows change on whole seconds.
    return _window(per, zone, instant.astimezone(UTC).replace(microsecond=0))


@lru_cache(maxsize=1024)
def _window(per: Per, name: str, instant: datetime) -> Window:
    zone = zone_named(name)
    if per == "hour":
        return _hour(zone, instant)
    first, following = _CALENDAR[per]
    start = first(instant.astimezone(zone).date())
    end = following(start)
    # Clocks that are put back over midnight show a day's first minutes, then the day before again.
    while _midnight(end, zone) <= instant:
        start, end = end, following(end)
    return Window(_midnight(start, zone), _midnight(end, zone))


def _midnight(day: date, zone: tzinfo) -> datetime:
    """When a day begins: its first midnight; where clocks skip it, the moment they do."""
    return datetime.combine(day, time(), zone).astimezone(UTC)


#: The first day of the window that a day is in, and of the window after it.
_CALENDAR: Mapping[Per, tuple[Callable[[date], date], Callable[[date], date]]] = {
    "day": (lambda day: day, lambda first: first + _DAY),
    "week": (lambda day: day - day.weekday() * _DAY, lambda first: first + 7 * _DAY),
    "month": (lambda day: day.replace(day=1), lambda first: (first + 31 * _DAY).replace(day=1)),
}


def _hour(zone: tzinfo, instant: datetime) -> Window:
    """An hour by the clock; it is shorter where the clock changes within it."""
    clock = instant.astimezone(zone)
    start = instant - timedelta(minutes=clock.minute, seconds=clock.second)
    end = start + timedelta(hours=1)
    while start.astimezone(zone).utcoffset() != clock.utcoffset():
        start += _QUARTER
    while (end - _SECOND).astimezone(zone).utcoffset() != clock.utcoffset():
        end -= _QUARTER
    return Window(start, end)
