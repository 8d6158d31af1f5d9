"""Where one request's time went: a line per hop, and below it its calls."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from consumers.amounts import dollars
from consumers.journeys.journey import Journey, Stop
from schemas.attempt import Attempt
from schemas.topics import Topics

__all__ = ["Bar", "total_ms", "waterfall"]


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
    #: The record's place, as `topic-partition-offset`; a call has none.
    place: str = ""

    @property
    def end_ms(self) -> float:
        return self.start_ms + self.duration_ms


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
        start = _ms(stop.at, first)
        bars.append(Bar(stop.topic, 0, start, took, stop.words, is_end, stop.place))
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


def _ms(later: datetime, earlier: datetime) -> float:
    return max((later - earlier).total_seconds() * 1000, 0.0)
