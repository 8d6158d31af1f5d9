"""The picture that `tierline trace` draws of where a request's time went."""

from collections.abc import Sequence
from itertools import pairwise

from consumers.amounts import duration
from consumers.cli.formats import least_width
from consumers.journeys.waterfall import Bar

__all__ = ["COLUMNS", "CUT", "picture"]

#: Widths of the drawing, of which the first that fits is used.
_WIDTHS = (40, 28, 16, 8)
COLUMNS = ("hop", "from", "took", "", "what")
_BAR, CUT, _POINT = "━", "┅", "╸"
#: A hop is drawn at most so many times as long as all shorter ones together.
_MOST_TIMES = 3.0
#: Hops below this are never cut.
_CUT_FROM_MS = 5_000.0


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
        end = bar.end_ms
        return any(
            length < until - start and start < end and until > bar.start_ms
            for start, until, length in self._parts
        )


def _drawn(bar: Bar, scale: _Scale) -> str:
    start = min(scale.cells(bar.start_ms), scale.width - 1)
    length = min(scale.cells(bar.end_ms), scale.width) - start
    return " " * start + ((CUT if scale.is_cut(bar) else _BAR) * length or _POINT)
