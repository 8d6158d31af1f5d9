"""`tierline trace`: where one request's time went, as a waterfall from the topics alone."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING

from consumers.cli.common import (
    FAILED,
    AsJson,
    KafkaAddress,
    OfTenant,
    RequestId,
    console,
    print_json,
    print_table,
    read_settings,
    run,
)

if TYPE_CHECKING:
    from consumers.cli.journey import Journey, Stop
    from schemas.attempt import Attempt
    from schemas.topics import Topics

__all__ = ["Bar", "trace", "waterfall"]

#: Columns of the drawing: the first of them for which there is room.
_WIDTHS = (40, 28, 16, 8)
_COLUMNS = ("hop", "from", "took", "", "what")
_BAR, _CUT, _POINT = "━", "┅", "╸"
#: No hop is drawn longer than so many times all the shorter ones together.
_MOST_TIMES = 3.0
#: And shorter ones are drawn as they are.
_CUT_FROM_MS = 5_000.0


@dataclass(frozen=True, slots=True)
class Bar:
    """One line of the waterfall. Milliseconds, from the request's first record."""

    name: str
    depth: int
    start_ms: float
    duration_ms: float
    words: str
    #: A result or a dead letter: the way may end here.
    is_end: bool = False


def trace(
    request_id: RequestId,
    tenant: OfTenant = None,
    kafka: KafkaAddress = None,
    as_json: AsJson = False,
) -> None:
    """Show where a request's time went: every hop and every call, from the topics alone."""

    async def main() -> int:
        from consumers.cli.journey import read_journey
        from consumers.cli.tables import least_width

        settings = read_settings(kafka)
        journey = await read_journey(request_id, settings, tenant)
        bars = waterfall(journey, settings.kafka.topics)
        is_done = bool(journey.results or journey.letters)
        if as_json:
            print_json(
                {
                    "request_id": journey.request_id,
                    "trace_id": journey.trace_id,
                    "done": is_done,
                    "bars": [asdict(bar) for bar in bars],
                }
            )
            return 0 if is_done else FAILED
        ends = [bar.start_ms for bar in bars if bar.is_end] or [
            bar.start_ms + bar.duration_ms for bar in bars
        ]
        total = max(ends, default=0.0)
        drawings = [(scale, _rows(bars, scale)) for scale in (_Scale(bars, n) for n in _WIDTHS)]
        room = console().width
        fits = (one for one in drawings if least_width(one[1], _COLUMNS) <= room)
        scale, rows = next(fits, drawings[-1])
        title = f"{journey.request_id}: {_in_words(total)}, trace {journey.trace_id or 'unknown'}"
        print_table(rows, _COLUMNS, title=title)
        if any(scale.is_cut(bar) for bar in bars):
            console().print(f"{_CUT} is longer than drawn")
        return 0 if is_done else FAILED

    run(main)


def _rows(bars: Sequence[Bar], scale: "_Scale") -> list[dict[str, object]]:
    return [
        {
            "hop": "  " * bar.depth + bar.name,
            "from": _in_words(bar.start_ms),
            "took": _in_words(bar.duration_ms) if bar.duration_ms else "",
            "": _drawn(bar, scale),
            "what": bar.words,
        }
        for bar in bars
    ]


def waterfall(journey: "Journey", topics: "Topics") -> list[Bar]:
    """A line per hop, from its record's append to the next one's, and below it its calls."""
    from consumers.cli.common import dollars

    stops = sorted(journey.stops)
    if not stops:
        return []
    first = stops[0].at
    calls: dict[int, list[Attempt]] = {}
    for attempt in sorted(journey.attempts.values(), key=lambda one: one.attempt_no):
        if (number := _hop_of(attempt, stops, topics)) is not None:
            calls.setdefault(number, []).append(attempt)
    bars = []
    for number, (stop, after) in enumerate(zip(stops, [*stops[1:], stops[-1]], strict=True)):
        took = _ms(after.at, stop.at)
        if stop.topic == topics.results:
            took = 0.0  # what comes later is another way, or a word about this one
        is_end = stop.topic in (topics.results, topics.dead_letters)
        bars.append(Bar(stop.topic, 0, _ms(stop.at, first), took, stop.words, is_end))
        for call in calls.get(number, ()):
            why = f", {call.reason.meaning}" if call.reason else ""
            said = f"{call.outcome}{why}; {call.usage.total_tokens} tokens, "
            said += dollars(call.cost_micros)
            start = _ms(call.started_at, first)
            bars.append(Bar(f"chat {call.model}", 1, start, call.duration_ms, said))
    return bars


def _hop_of(attempt: "Attempt", stops: Sequence["Stop"], topics: "Topics") -> int | None:
    """The hop in which a call was made: the last one to its tier that was there when it began.

    Broker and workers have clocks of their own; a call that seems to come before its hop is its.
    """
    tier = topics.tier(attempt.tier)
    hops = [number for number, stop in enumerate(stops) if stop.topic == tier]
    before = [number for number in hops if stops[number].at <= attempt.started_at]
    return before[-1] if before else next(iter(hops), None)


class _Scale:
    """Where a moment stands in the drawing. Long waits are cut, so that the rest can be seen."""

    def __init__(self, bars: Sequence[Bar], width: int = _WIDTHS[0]) -> None:
        self.width = width
        hops = [bar for bar in bars if bar.depth == 0]
        end = max((bar.start_ms + bar.duration_ms for bar in bars), default=0.0)
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
        """True for a wait that is longer than drawn."""
        end = bar.start_ms + bar.duration_ms
        return any(
            length < until - start and start < end and until > bar.start_ms
            for start, until, length in self._parts
        )


def _ms(later: datetime, earlier: datetime) -> float:
    return max((later - earlier).total_seconds() * 1000, 0.0)


def _in_words(milliseconds: float) -> str:
    if milliseconds < 1_000:
        return f"{milliseconds:.0f} ms"
    seconds = milliseconds / 1_000
    if seconds < 120:
        return f"{seconds:.2f} s"
    hours = seconds / 3_600
    return f"{seconds / 60:.1f} min" if hours < 2 else f"{hours:.1f} h"


def _drawn(bar: Bar, scale: _Scale) -> str:
    start = min(scale.cells(bar.start_ms), scale.width - 1)
    length = min(scale.cells(bar.start_ms + bar.duration_ms), scale.width) - start
    return " " * start + ((_CUT if scale.is_cut(bar) else _BAR) * length or _POINT)
