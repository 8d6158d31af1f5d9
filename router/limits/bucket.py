"""A rate limit per minute: an amount is reserved before a call and settled after it."""

from dataclasses import dataclass, field

__all__ = ["Bucket"]

#: The burst: as much as the limit gives in this many seconds may be used at once.
_BURST_SECONDS = 5.0
_MINUTE = 60.0


@dataclass(slots=True)
class Bucket:
    """Requests or tokens per minute.

    A bucket begins empty: a partition's former owner may just have used up the limit. No minute
    lets more through than the limit and one reservation, so the burst is subtracted from the
    steady rate. `now` is in seconds of a monotonic clock.
    """

    per_minute: float
    now: float
    _level: float = field(init=False, default=0.0)
    _at: float = field(init=False)

    def __post_init__(self) -> None:
        self._at = self.now

    @property
    def capacity(self) -> float:
        """What may be used at once, at least one request."""
        return max(1.0, self.per_minute * _BURST_SECONDS / _MINUTE)

    @property
    def rate(self) -> float:
        """What is added per second."""
        steady = self.per_minute - self.capacity
        return (steady if steady > 0 else self.per_minute) / _MINUTE

    def wait(self, amount: float, now: float) -> float:
        """Seconds until `amount` can be reserved; 0: now.

        An amount larger than the burst is let through from a full bucket, and paid back after it.
        """
        self._fill(now)
        missing = min(amount, self.capacity) - self._level
        return max(missing / self.rate, 0.0) if missing > 1e-9 else 0.0

    def reserve(self, amount: float, now: float) -> None:
        """Take `amount`, which `wait` has allowed."""
        self._fill(now)
        self._level -= amount

    def settle(self, reserved: float, used: float, now: float) -> None:
        """Give back what was reserved and not used, or take what was used beyond it."""
        self._fill(now)
        self._level = min(self._level + reserved - used, self.capacity)

    def _fill(self, now: float) -> None:
        if now > self._at:
            self._level = min(self._level + (now - self._at) * self.rate, self.capacity)
            self._at = now
