"""Forecast: when a request's turn comes in a tier, by what the processes say of themselves."""

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from router.routing import GiveUp, Route
from schemas.base import Tier
from schemas.reasons import Reason
from schemas.status import Status

__all__ = ["Forecast"]

#: A rate is measured over this time, over a quarter of it at least.
_WINDOW = timedelta(seconds=60)
#: Fewer offsets in that time tell nothing of a rate: a tier that stands still may go on soon.
_FEWEST = 20
#: Longer than any deadline, and short enough to be added to any time.
_LONGEST = timedelta(days=365)
#: So many counts of one process, and so many processes, are remembered at most.
_MOST_COUNTS, _MOST_STAGES = 256, 10_000


@dataclass(slots=True)
class _Stage:
    """One process's work in one tier, as it was said."""

    #: When, and how many offsets it had passed.
    counts: deque[tuple[datetime, int]] = field(default_factory=lambda: deque(maxlen=_MOST_COUNTS))
    lag: int = 0

    def note(self, at: datetime, passed: int, lag: int) -> None:
        if self.counts and passed < self.counts[-1][1]:
            self.counts.clear()
        self.counts.append((at, passed))
        while at - self.counts[0][0] > _WINDOW:
            self.counts.popleft()
        self.lag = lag

    def rate(self) -> float:
        """Offsets per second; 0 while too few are known."""
        (since, before), (until, after) = self.counts[0], self.counts[-1]
        if until - since < _WINDOW / 4 or after - before < _FEWEST:
            return 0.0
        return (after - before) / (until - since).total_seconds()


class Forecast:
    """What is known of the backlog of every tier and of how quickly it is worked off."""

    def __init__(self) -> None:
        self._stages: dict[tuple[str, str], _Stage] = {}
        #: Requests sent to a tier since one of its processes was last heard.
        self._sent: dict[str, int] = {}

    def heard(self, status: Status) -> None:
        """A process has said how it is."""
        for one in status.stages:
            if one.lag is None:
                continue
            stage = self._stages.pop((one.stage, status.process), _Stage())
            self._stages[one.stage, status.process] = stage
            if len(self._stages) > _MOST_STAGES:
                del self._stages[next(iter(self._stages))]
            stage.note(status.at, one.passed, one.lag)
            self._sent[one.stage] = 0

    def ended(self, process: str) -> None:
        """A process has ended; others take its partitions over."""
        for key in [key for key in self._stages if key[1] == process]:
            del self._stages[key]

    def wait(self, tier: Tier, now: datetime) -> timedelta | None:
        """For how long a request sent to the tier now waits; None where that is not known."""
        name = _stage_of(tier)
        heard = [
            stage
            for (stage_name, _), stage in self._stages.items()
            if stage_name == name and abs(now - stage.counts[-1][0]) < _WINDOW / 4
        ]
        rate = sum(stage.rate() for stage in heard)
        if not rate:
            return None
        seconds = (sum(stage.lag for stage in heard) + self._sent.get(name, 0)) / rate
        return timedelta(seconds=min(seconds, _LONGEST.total_seconds()))

    def judged(self, decided: Route, now: datetime) -> Route | GiveUp:
        """The route, or that its deadline cannot be met.

        A request that is told so now need not wait for its turn to be told that it is too late.
        """
        wait = self.wait(decided.tier, now)
        if wait is None or now + wait <= decided.deadline:
            name = _stage_of(decided.tier)
            self._sent[name] = self._sent.get(name, 0) + 1
            return decided

        left = (decided.deadline - now).total_seconds()
        return GiveUp(
            Reason.DEADLINE_UNREACHABLE,
            f"{decided.tier} works off its backlog in {wait.total_seconds():.0f} s at the present "
            f"rate, and the deadline is in {left:.0f} s",
        )


def _stage_of(tier: Tier) -> str:
    return f"work.{tier}"
