"""Where one request's time went, as a waterfall: the drawing of `tierline trace`."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from consumers.cli.formats import dollars, duration, least_width
from consumers.cli.journey import Journey, Stop
from schemas.attempt import Attempt
from schemas.topics import Topics

__all__ = ["COLUMNS", "CUT", "Bar", "picture", "total_ms", "waterfall"]

#: Widths of the drawing, of which the first that fits is used.
_WIDTHS = (40, 28, 16, 8)
COLUMNS = ("hop", "from", "took", "", "what")
_BAR, CUT, _POINT = "━", "┅", "╸"
#: A hop is drawn at most so many times as long as all shorter ones together.
_MOST_TIMES = 3.0
#: Hops below this are never cut.
_CUT_FROM_MS = 5_000.0


@dataclass(frozen=True, slots=True)
class Bar:
    """One line of the waterfall. Milliseconds, from the request's first record."""

    name: str
    depth: int
    start_ms: float
    duration_ms: float
    words: str
    #: A result or a dead letter: the journey may end here.
    is_end: bool = False

    @property
    def end_ms(self) -> float:
        return self.start_ms + self.duration_ms


def picture(bars: Sequence[Bar], width: int) -> tuple[list[dict[str, object]], bool]:
    """The bars as rows of a table that fits, and whether a wait was cut."""
    scales = [_Scale(bars, cells) for cells in _WIDTHS]
    fitting = (scale for scale in scales if least_width(_rows(bars, scale), COLUMNS) <= width)
    scale = next(fitting, scales[-1])
    return _rows(bars, scale), any(scale.is_cut(bar) for bar in bars)


def _rows(bars: Sequence[Bar], scale: "_Scale") -> list[dict[str, object]]:
    return [
        {
            "hop": "  " * bar.depth + bar.name,
            "from": duration(bar.start_ms),
            "took": duration(bar.duration_ms) if bar.duration_ms else "",
            "": _drawn(bar, scale),
            "what": bar.words,
        }
        for bar in bars
    ]


def total_ms(bars: Sequence[Bar]) -> float:
    """From the request's first record to its last result or dead letter, or to its last record."""
    ends = [bar.start_ms for bar in bars if bar.is_end] or [bar.end_ms for bar in bars]
    return max(ends, default=0.0)


def waterfall(journey: Journey, topics: Topics) -> list[Bar]:
    """A line per hop, from its record's append to the next one's, and below it its calls."""
    stops = sorted(journey.stops)
    if not stops:
        return []
    first = stops[0].at
    calls: dict[int, list[Attempt]] = {}
    for attempt in sorted(journey.attempts.values(), key=lambda attempt: attempt.attempt_no):
        if (number := _hop_of(attempt, stops, topics)) is not None:
            calls.setdefault(number, []).append(attempt)
    bars = []
    for number, (stop, after) in enumerate(zip(stops, [*stops[1:], stops[-1]], strict=True)):
        took = _ms(after.at, stop.at)
        if stop.topic == topics.results:
            took = 0.0  # what comes later is another generation, or a notice
        is_end = stop.topic in (topics.results, topics.dead_letters)
        bars.append(Bar(stop.topic, 0, _ms(stop.at, first), took, stop.words, is_end))
        for call in calls.get(number, ()):
            why = f", {call.reason.meaning}" if call.reason else ""
            words = f"{call.outcome}{why}; {call.usage.total_tokens} tokens, "
            words += dollars(call.cost_micros)
            start = _ms(call.started_at, first)
            bars.append(Bar(f"chat {call.model}", 1, start, call.duration_ms, words))
    return bars


def _hop_of(attempt: Attempt, stops: Sequence[Stop], topics: Topics) -> int | None:
    """The hop in which a call was made: the last one to its tier that had begun before the call.

    The clocks of brokers and workers differ: a call that seems older than every hop belongs to the
    first one.
    """
    tier = topics.tier(attempt.tier)
    hops = [number for number, stop in enumerate(stops) if stop.topic == tier]
    before = [number for number in hops if stops[number].at <= attempt.started_at]
    return before[-1] if before else next(iter(hops), None)


class _Scale:
    """Maps time to columns of the drawing. Long waits are cut, so that the rest can be seen."""

    def __init__(self, bars: Sequence[Bar], width: int = _WIDTHS[0]) -> None:
        self.width = width
        hops = [bar for bar in bars if bar.depth == 0]
        end = max((bar.end_ms for bar in bars), default=0.0)
        edges = sorted({0.0, end, *(bar.start_ms for bar in hops)})
        spans = list(pairwise(edges))
        shown, sum_of_shorter = {}, 0.0
        for start, until in sorted(spans, key=lambda span: span[1] - span[0]):
            length = until - start
            if sum_of_shorter and length > _CUT_FROM_MS:
                length = min(length, _MOST_TIMES * sum_of_shorter)
            shown[start] = length
            sum_of_shorter += length
        self._parts = [(start, until, shown[start]) for start, until in spans]
        self._total = sum(shown.values())

    def cells(self, instant: float) -> int:
        """The column of a moment, from 0 to the width."""
        passed = 0.0
        for start, until, length in self._parts:
            share = min(max(instant - start, 0.0), until - start) / (until - start)
            passed += length * share
        return round(passed / self._total * self.width) if self._total else 0

    def is_cut(self, bar: Bar) -> bool:
        """True for a wait that is cut."""
        end = bar.end_ms
        return any(
            length < until - start and start < end and until > bar.start_ms
            for start, until, length in self._parts
        )


def _ms(later: datetime, earlier: datetime) -> float:
    return max((later - earlier).total_seconds() * 1000, 0.0)


def _drawn(bar: Bar, scale: _Scale) -> str:
    start = min(scale.cells(bar.start_ms), scale.width - 1)
    length = min(scale.cells(bar.end_ms), scale.width) - start
    return " " * start + ((CUT if scale.is_cut(bar) else _BAR) * length or _POINT)
