"""Forecast: how long a request waits in a tier, by what the tier's group has committed."""

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from router.route.routing import GiveUp, Route
from schemas.base import Tier
from schemas.reasons import Reason

__all__ = ["Forecast"]

#: A rate is measured over this time, over a quarter of it at least.
_WINDOW = timedelta(seconds=60)
#: Fewer offsets in that time give no rate: a tier that stands still may go on soon.
_FEWEST = 20
#: Longer than any deadline, and short enough to be added to any time.
_LONGEST = timedelta(days=365)
#: The most counts that are remembered.
_MOST_COUNTS = 256


@dataclass(slots=True)
class _Progress:
    """The work of one tier, by all of its processes."""

    #: When, and how many offsets were finished.
    counts: deque[tuple[datetime, int]] = field(default_factory=lambda: deque(maxlen=_MOST_COUNTS))
    lag: int = 0
    #: Requests sent to it since the last count.
    sent: int = 0

    def note(self, at: datetime, passed: int, lag: int) -> None:
        if self.counts and passed < self.counts[-1][1]:
            self.counts.clear()
        self.counts.append((at, passed))
        while at - self.counts[0][0] > _WINDOW:
            self.counts.popleft()
        self.lag, self.sent = lag, 0

    def rate(self) -> float:
        """Offsets per second; 0 while too few are known."""
        (since, before), (until, after) = self.counts[0], self.counts[-1]
        if until - since < _WINDOW / 4 or after - before < _FEWEST:
            return 0.0
        return (after - before) / (until - since).total_seconds()


class Forecast:
    """The backlog of every tier, and how quickly it is worked off."""

    def __init__(self) -> None:
        self._tiers = {tier: _Progress() for tier in Tier}

    def noted(self, tier: Tier, now: datetime, passed: int, lag: int) -> None:
        """Note how many offsets of a tier are finished (`passed`) and how many are not (`lag`)."""
        self._tiers[tier].note(now, passed, lag)

    def wait(self, tier: Tier, now: datetime) -> timedelta | None:
        """How long a request that is sent to the tier now will wait; None where it is not known."""
        progress = self._tiers[tier]
        if not progress.counts or now - progress.counts[-1][0] >= _WINDOW / 4:
            return None
        if not (rate := progress.rate()):
            return None
        seconds = (progress.lag + progress.sent) / rate
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
            f"{decided.tier} works off its backlog in {wait.total_seconds():.0f} s at the present "
            f"rate, and the deadline is in {left:.0f} s",
        )
