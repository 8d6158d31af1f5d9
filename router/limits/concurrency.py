"""Adaptive concurrency: how many calls a model takes at once, found by trying."""

import math
import statistics
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from schemas.status import LimitedBy

__all__ = ["Concurrency"]

#: Calls at once to a model that we know nothing about.
_FIRST = 4.0
#: This few calls at once are not what makes a model slow.
_FEW = 8.0
#: How many more for each reply at first, so that a new process is soon at its full width.
_MORE_AT_FIRST = 3.0
#: And later: half as many more with every round of replies.
_MORE = 0.5
#: The part of a limit that is left after it was too high.
_AFTER_REFUSAL, _AFTER_SLOWING = 0.9, 0.7
#: A later burst of refusals lowers it to this part at least, the first burst with each of its
#: refusals.
_LARGEST_CUT = 0.7
#: Replies, or seconds, that earn one refusal: then more is tried than was refused.
_REPLIES_PER_REFUSAL, _SECONDS_PER_REFUSAL = 50, 60.0
#: Seconds to leave a model alone that refuses although no more was tried, first and at most.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
#: Slower by this factor at least, and by so many standard errors of each of the two medians:
#: together four of their difference.
_SLOWER, _STANDARD_ERRORS = 2.0, 4.0 / math.sqrt(2)
#: As usual within this factor.
_LIKE = 1.4
#: How much the median must fall after a cut: half of what it would if load alone were to blame.
_HELPED = math.log(_AFTER_SLOWING) / 2
#: And the part of the throughput that must remain: a model that has a line of waiting calls loses
#: none, any other loses what was cut.
_KEPT = (1 + _AFTER_SLOWING) / 2
#: A model that answers within so many seconds is not overloaded: a busy process adds as much.
_QUICK = 0.5
#: Windows of replies that are remembered.
_WINDOWS = 64
#: And how many tell what is usual: short replies come first, so the first window shows no others.
_FIRST_WINDOWS = 3
#: Seconds of a window at least, so that all together show a minute.
_SHORTEST_WINDOW = 1.0
#: Replies in a window: as many as bring the error of its median to about an eighth.
_SMALLEST_WINDOW, _LARGEST_WINDOW = 20, 400
#: Replies, at least and at most, by which it is judged whether a cut has helped.
_JUDGED_BY = (60, 100)
#: Standard deviation by the median deviation, of a normal distribution (here of the logarithms of
#: latencies).
_DEVIATION = 1.4826


@dataclass(frozen=True, slots=True)
class _Window:
    """Latencies of consecutive replies; median and deviation are of their logarithms."""

    median: float
    deviation: float
    #: Between these the true median lies. They are replies, whatever the distribution is: where
    #: half of them take seconds and half do not, the median itself jumps from window to window.
    low: float
    high: float
    #: Seconds.
    mean: float
    count: int

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "_Window":
        logarithms = sorted(math.log(max(latency, 1e-3)) for latency in seconds)
        count = len(logarithms)
        off = _STANDARD_ERRORS * math.sqrt(count) / 2
        low = logarithms[max(int(count / 2 - off), 0)]
        high = logarithms[min(int(count / 2 + off), count - 1)]
        median = statistics.median(logarithms)
        deviation = _DEVIATION * statistics.median(abs(value - median) for value in logarithms)
        return cls(median, deviation, low, high, statistics.fmean(seconds), count)

    def is_like(self, usual: "_Window") -> bool:
        """True when these latencies are as usual: a slowly growing queue must not become usual."""
        return self.median - usual.median < math.log(_LIKE) or math.exp(self.median) <= _QUICK

    def is_slower(self, usual: "_Window") -> bool:
        """True when the spread of replies does not explain how much slower these are."""
        is_twice = self.median - usual.median > math.log(_SLOWER)
        return is_twice and self.low > usual.high and math.exp(self.median) > _QUICK


@dataclass(slots=True)
class Concurrency:
    """A limit on calls at once that refusals and a slowing model lower and replies raise.

    It begins low and grows fourfold with every round of replies, so that a model that always fails
    costs few calls. A refusal lowers it to the calls that ran beside the refused one; if more calls
    than those were served since the last refusal, only by a tenth, which a round makes good. More
    is tried only when replies have earned it, in steps that double. Latency is compared as in
    Netflix's concurrency-limits (Gradient2), but by medians and their standard errors: a window of
    replies whose median is twice the usual, beyond what their spread explains, lowers the limit,
    though never below what the present throughput needs at usual latency (Little's law). If the
    next window shows that fewer calls did not make the model faster, our calls are not the cause:
    the limit is restored, and the new latency counts as usual.

    `now` is in seconds of a monotonic clock, `running` how many calls are under way, the one that
    has just ended included.
    """

    most: int
    #: Why the limit is not higher.
    limited_by: LimitedBy = "demand"
    _limit: float = 0.0
    #: True until the model has first been too slow or too busy.
    _is_beginning: bool = True
    #: The most that was not refused when more was; None: no refusal yet, or long ago.
    _ceiling: float | None = None
    #: How much more than the ceiling may be tried.
    _step: float = 0.0
    #: The refusals that may be risked, as replies have earned them.
    _earned: float = 0.0
    #: The most calls under way at a reply to a call that began after the last refusal.
    _borne: int = 0
    #: When it was last lowered, and what the refusals of one burst may lower it to.
    _cut_at: float = float("-inf")
    _floor: float = 1.0
    _is_first_burst: bool = False
    #: Refusals since the last reply that fewer calls at once would not have avoided.
    _in_a_row: int = 0
    _heard_at: float = 0.0
    #: The latest windows; what is usual is in their first quartile.
    _windows: deque[_Window] = field(default_factory=lambda: deque(maxlen=_WINDOWS))
    #: Latencies of the window that is being filled, and since when.
    _seconds: list[float] = field(default_factory=list)
    _filled_from: float = float("-inf")
    #: Limit, median and throughput before a cut for slowness that has not been judged yet.
    _before_cut: tuple[float, float, float] | None = None
    #: Only calls begun after this show what the cut did: until then those before it are served.
    _judged_from: float = float("-inf")

    def __post_init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Forget what was learnt about the model."""
        self._limit, self._is_beginning = min(_FIRST, self.most), True
        self._ceiling = self._before_cut = None
        self._step = self._earned = 0.0
        self._borne = 0
        self._windows.clear()
        self._seconds.clear()
        self.limited_by = "demand"

    @property
    def limit(self) -> int:
        """How many calls may run at once."""
        return max(int(self._limit), 1)

    def succeeded(self, seconds: float, running: int, now: float) -> None:
        """Note a reply that came after so many seconds."""
        self._in_a_row = 0
        waited, self._heard_at = (now - self._heard_at) / _SECONDS_PER_REFUSAL, now
        self._earned = min(self._earned + max(1 / _REPLIES_PER_REFUSAL, waited), 1.0)
        if now - seconds > self._cut_at:
            self._borne = max(self._borne, running)
        if self._before_cut is None:
            if 2 * running >= self._limit:
                self._grow()
        elif now - seconds < self._judged_from:
            return
        if not self._seconds:
            self._filled_from = now
        self._seconds.append(seconds)
        is_long = now - self._filled_from >= _SHORTEST_WINDOW
        if is_long and len(self._seconds) >= self._window_size():
            self._judge(_Window.of(self._seconds), running, now)
            self._seconds.clear()

    def refused(self, seconds: float, running: int, now: float) -> float:
        """Note that the provider refused a call after so many seconds because there are too many.

        Returns for how many seconds not to call the model; 0 where fewer calls at once are enough.
        """
        ran, pause = max(running - 1.0, 1.0), 0.0
        if now - seconds < self._cut_at and (self._is_first_burst or self._ceiling is not None):
            # Part of the same burst, whose last refusal tells best how many calls ran.
            ran = min(ran, self._ceiling or ran)
            if self._is_first_burst:
                self._floor *= _LARGEST_CUT
        else:
            self._is_first_burst = self._is_beginning
            if running == 1 or (self._ceiling is not None and self._limit <= self._ceiling):
                # No more than before was tried: there are too many calls in a time, not at once.
                pause = min(_FIRST_PAUSE * 2.0 ** min(self._in_a_row, 10), _LONGEST_PAUSE)
                self._in_a_row += 1
            # As many calls were served since the last refusal: their number is not the reason.
            is_at_random = running <= self._borne
            self._floor = self._limit * (1.0 if is_at_random else _LARGEST_CUT)
            self._borne = 0
            self._earned = max(self._earned - 1.0, 0.0)
            self._cut_at = self._heard_at = now
            if self._is_first_burst:
                # A single refusal of a model that is not known yet does not end the fast growth.
                self._limit = max(self._limit * _AFTER_REFUSAL, 1.0)
                self.limited_by = "throttled"
                return pause
        self._ceiling = max(ran, self._floor)
        self._cut(self._ceiling * _AFTER_REFUSAL, "throttled")
        return pause

    def _cut(self, limit: float, why: LimitedBy) -> None:
        self._limit = max(min(self._limit, limit), 1.0)
        self._is_beginning, self._step, self.limited_by = False, 0.0, why

    def _grow(self) -> None:
        """Raise the limit: a good reply came while at least half of the limit was in use."""
        top = float(self.most)
        if self._ceiling is not None:
            if self._earned >= 1.0:
                self._step = max(2 * self._step, 1.0)
                # A step is followed by the next after a round of replies without a refusal.
                self._earned -= (self._ceiling + self._step) / _REPLIES_PER_REFUSAL
                self._earned = max(self._earned, 0.0)
            top = min(top, self._ceiling + self._step)
            if self._step > self._ceiling:
                self._ceiling = None
        more = _MORE_AT_FIRST if self._is_beginning else _MORE
        self._limit = max(self._limit, min(self._limit + more, top))
        if self._ceiling is None:
            self.limited_by = "most" if self._limit >= self.most else "demand"

    def _judge(self, window: _Window, running: int, now: float) -> None:
        """Judge the last cut by a full window, and cut the limit where the window is too slow."""
        throughput = (window.count - 1) / max(now - self._filled_from, 1e-3)
        if self._before_cut is not None:
            limit, median, before = self._before_cut
            self._before_cut = None
            if window.median < median + _HELPED and throughput > before * _KEPT:
                self._ceiling = self._limit
            else:
                self._limit, self._ceiling = max(self._limit, limit), None
                self.limited_by = "demand"
                self._windows.clear()
        usual = self._usual()
        if usual is None or window.is_like(usual):
            self._windows.append(window)
        ran = min(self._limit, float(running))
        if usual is None or not window.is_slower(usual) or ran <= _FEW:
            return

        # By Little's law, how long the calls under way now will take: replies tell of earlier ones.
        mean = max(ran / throughput, window.mean)
        median = window.median + math.log(mean / window.mean)
        self._before_cut, self._cut_at = (self._limit, median, throughput), now
        self._judged_from = now + mean
        self._ceiling = ran
        self._cut(max(ran * _AFTER_SLOWING, throughput * usual.mean, _FEW), "slow")

    def _usual(self) -> _Window | None:
        """The first quartile of the windows: the lowest median of a few replies may be chance."""
        by_median = sorted(self._windows, key=lambda window: window.median)
        return by_median[len(by_median) // 4] if len(by_median) >= _FIRST_WINDOWS else None

    def _window_size(self) -> int:
        deviation = self._windows[-1].deviation if self._windows else 0.0
        by_deviation = int(100 * deviation**2)
        if self._before_cut is not None:
            return min(max(_JUDGED_BY[0], by_deviation), _JUDGED_BY[1])
        return min(max(_SMALLEST_WINDOW, by_deviation), _LARGEST_WINDOW)
