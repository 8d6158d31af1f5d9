"""Adaptive concurrency: how many calls a model bears at once, found out by trying."""

from dataclasses import dataclass

__all__ = ["Concurrency"]

#: So many calls at once to a model that we know nothing of.
_FIRST = 16.0
#: How many more for each reply in the beginning: a process that starts is soon at its full width.
_MORE = 3.0
_FACTOR = 0.5
#: A model this much slower than usual is overloaded.
_SLOWER = 4.0
#: Nobody is overloaded who answers within so many seconds: a busy process of ours delays that much.
_QUICK = 0.5
_FAST = 0.2
#: Seconds in which the usual latency may double: a model that has become slower for good is not
#: held back for ever.
_DOUBLES_IN = 300.0


@dataclass(slots=True)
class Concurrency:
    """Additive increase, multiplicative decrease, as TCP does it (Chiu and Jain 1989).

    Begins low and grows fourfold with every round of replies, so that a model which fails
    altogether costs few calls. Halved when the provider throttles, or when replies take four times
    as long as usual, at most once per round trip; one more for every round of replies in good time,
    while it is made use of. `now` is in seconds of a monotonic clock, `running` how many calls are
    under way.
    """

    most: int
    _limit: float = 0.0
    #: True until the model has first been too slow or too busy.
    _is_beginning: bool = True
    _usual: float = 0.0
    _recent: float = 0.0
    _heard_at: float = 0.0
    _cut_at: float = float("-inf")

    def __post_init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Nothing is known of the model, or nothing that still holds."""
        self._limit, self._is_beginning = min(_FIRST, self.most), True

    @property
    def limit(self) -> int:
        """How many calls may run at once."""
        return max(int(self._limit), 1)

    def succeeded(self, seconds: float, running: int, now: float) -> None:
        """A reply came after so many seconds."""
        self._recent += (seconds - self._recent) * (_FAST if self._usual else 1.0)
        forgotten = 2.0 ** min((now - self._heard_at) / _DOUBLES_IN, 8.0)
        self._usual = min(self._usual * forgotten, self._recent) or self._recent
        self._heard_at = now
        if self._recent > max(self._usual * _SLOWER, _QUICK):
            self.throttled(running, now)
        elif 2 * running >= self._limit:
            more = _MORE if self._is_beginning else 1 / self._limit
            self._limit = min(self._limit + more, float(self.most))

    def throttled(self, running: int, now: float) -> None:
        """The provider has asked us to slow down."""
        if now - self._cut_at >= max(self._recent, 1.0):
            self._limit = max(min(self._limit, float(running)) * _FACTOR, 1.0)
            self._cut_at, self._is_beginning = now, False
