"""A circuit breaker: after enough failures in a row there are no calls but one probe at a time."""

from dataclasses import dataclass

from schemas.status import BreakerState

__all__ = ["Breaker"]

_FAILURES = 5
_MOST_BREAKS = 10
#: Seconds between probes of a model whose provider refuses us altogether (no credit, a bad key).
_REFUSED_BREAK = 60.0


@dataclass(slots=True)
class Breaker:
    """The health of one model at one provider. `now` is in seconds of a monotonic clock.

    It opens after five failures in a row, for `first` seconds, the next time for twice as long,
    then three times, at most ten times; or for as long as the provider asks. Then one probe
    decides. A probe without an outcome is given up after the length of the break.
    """

    first: float = 30.0
    _failures: int = 0
    _breaks: int = 0
    #: No call before this time.
    _until: float = float("-inf")
    #: True until a call has succeeded.
    _is_open: bool = False
    _is_probing: bool = False

    def state(self, now: float) -> BreakerState:
        """Closed: anybody calls. Open: nobody. Half open: one call finds out."""
        if not self._is_open:
            return "closed"
        return "half_open" if self._is_probing or now >= self._until else "open"

    def wait(self, now: float) -> float:
        """Seconds until a call may be made; 0: now."""
        return max(self._until - now, 0.0) if self._is_open else 0.0

    def begin(self, now: float) -> bool:
        """Note that a call starts. True: it is the probe after a break, for which others wait."""
        if self._is_open:
            self._is_probing, self._until = True, now + self._length()
        return self._is_open

    def succeeded(self) -> None:
        if self._is_open and not self._is_probing:
            return  # the call began before the breaker opened, so it tells nothing of now
        self._failures = self._breaks = 0
        self._is_open = self._is_probing = False

    def failed(self, now: float) -> None:
        self._failures += 1
        if self._failures >= _FAILURES or (self._is_probing and self._breaks):
            self._open(now, 0.0)
        elif self._is_probing:
            # The provider had asked for the break, which is over: one failure is bad luck.
            self._is_open = self._is_probing = False

    def refused(self, now: float) -> None:
        """Open for a minute at least: the provider refuses our calls, and will refuse the next."""
        self._open(now, _REFUSED_BREAK)

    def held(self, seconds: float, now: float) -> None:
        """Open for as long as the provider asks, without a break of ours on top."""
        until = self._until if self._is_open and not self._is_probing else float("-inf")
        self._is_open, self._is_probing = True, False
        self._until = max(until, now + seconds)

    def gave_up(self, now: float) -> None:
        """Note that the probe ended without a result: another call may be the probe."""
        if self._is_probing:
            self._is_probing, self._until = False, now

    def _open(self, now: float, least: float) -> None:
        if self._is_open and not self._is_probing and now < self._until:
            return  # calls that had begun before it opened tell nothing new
        self._breaks, self._is_open, self._is_probing = self._breaks + 1, True, False
        self._until = now + max(self._length(), least)

    def _length(self) -> float:
        return self.first * min(max(self._breaks, 1), _MOST_BREAKS)
