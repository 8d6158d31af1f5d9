"""Forecast: how long a request waits in a tier, by what the tier's group has committed."""

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise, starmap, takewhile
from typing import NamedTuple

from router.route.routing import GiveUp, Route
from schemas.base import Tier
from schemas.reasons import Reason

__all__ = ["Forecast"]

#: The best rate of this time counts: whoever refuses must be sure.
_WINDOW = timedelta(seconds=60)
#: A tier may become faster than it ever was in that time, by this much.
_MARGIN = 1.5
#: A tier has to have had about as much to do as now for this long: at first it only starts.
_BUSY = timedelta(seconds=20)
#: A tier whose rate grew by more than this, from one half of that time to the other, still starts.
_GROWTH = 1.25
#: Fewer offsets in either half give no rate: a tier that stands still may go on soon.
_FEWEST = 10
#: Older counts say nothing.
_OLDEST = timedelta(seconds=15)
#: Longer than any deadline, and short enough to be added to any time.
_LONGEST = timedelta(days=365)
#: The most counts that are remembered.
_MOST_COUNTS = 256


class _Count(NamedTuple):
    """What a tier had finished, and what it had not, at an instant."""

    at: datetime
    passed: int
    lag: int


def _rate(since: _Count, until: _Count) -> float:
    """Offsets per second."""
    return (until.passed - since.passed) / (until.at - since.at).total_seconds()


@dataclass(slots=True)
class _Progress:
    """The work of one tier, by all of its processes."""

    counts: deque[_Count] = field(default_factory=lambda: deque(maxlen=_MOST_COUNTS))
    #: Requests sent to it since the last count.
    sent: int = 0

    def note(self, count: _Count) -> None:
        if self.counts and (
            count.passed < self.counts[-1].passed or count.at <= self.counts[-1].at
        ):
            self.counts.clear()
        self.counts.append(count)
        while count.at - self.counts[0].at > _WINDOW:
            self.counts.popleft()
        self.sent = 0

    def wait(self, now: datetime) -> float | None:
        """Seconds until the present backlog is done, at the best rate; None: not known."""
        if not self.counts or now - self.counts[-1].at >= _OLDEST:
            return None
        backlog = self.counts[-1].lag + self.sent
        if not self._is_steady(backlog):
            return None
        best = max(starmap(_rate, pairwise(self.counts)))
        since = (now - self.counts[-1].at).total_seconds()
        return max(backlog / (best * _MARGIN) - since, 0.0)

    def _is_steady(self, backlog: int) -> bool:
        """True where a backlog like this one has been worked off at a rate that grows no longer.

        What was done while there was less to do says nothing of what the tier can do: it waited
        for requests, or has just begun to raise its limits.
        """
        busy = list(takewhile(lambda count: 2 * count.lag >= backlog, reversed(self.counts)))
        if len(busy) < 3 or busy[0].at - busy[-1].at < _BUSY:
            return False
        last, middle, first = busy[0], busy[len(busy) // 2], busy[-1]
        if min(last.passed - middle.passed, middle.passed - first.passed) < _FEWEST:
            return False
        return _rate(middle, last) <= _GROWTH * _rate(first, middle)


class Forecast:
    """The backlog of every tier, and how quickly it is worked off."""

    def __init__(self) -> None:
        self._tiers = {tier: _Progress() for tier in Tier}

    def noted(self, tier: Tier, now: datetime, passed: int, lag: int) -> None:
        """Note how many offsets of a tier are finished (`passed`) and how many are not (`lag`)."""
        self._tiers[tier].note(_Count(now, passed, lag))

    def wait(self, tier: Tier, now: datetime) -> timedelta | None:
        """How long a request that is sent to the tier now waits at least; None: not known."""
        if (seconds := self._tiers[tier].wait(now)) is None:
            return None
        return timedelta(seconds=min(seconds, _LONGEST.total_seconds()))

    def judged(self, decided: Route, now: datetime) -> Route | GiveUp:
        """The route, or that its deadline cannot be met.

        So the request gets its answer now, instead of waiting until it is too late.
        """
        wait = self.wait(decided.tier, now)
        if wait is None or now + wait <= decided.deadline:
            self._tiers[decided.tier].sent += 1
            return decided

        left = (decided.deadline - now).total_seconds()
        return GiveUp(
            Reason.DEADLINE_UNREACHABLE,
            f"{decided.tier} needs {wait.total_seconds():.0f} s for its backlog even at its best "
            f"rate, and the deadline is in {left:.0f} s",
        )
