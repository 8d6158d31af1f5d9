"""`tierline trace`: where one request's time went, as a waterfall from the topics alone."""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from consumers.cli.common import (
    FAILED,
    AsJson,
    KafkaAddress,
    print_json,
    print_table,
    read_settings,
    run,
)

if TYPE_CHECKING:
    from consumers.cli.journey import Journey
    from schemas.topics import Topics

__all__ = ["Bar", "trace", "waterfall"]

_WIDTH = 40
_BAR, _POINT = "━", "╸"


@dataclass(frozen=True, slots=True)
class Bar:
    """One line of the waterfall. Milliseconds, from the request's first record."""

    name: str
    depth: int
    start_ms: float
    duration_ms: float
    words: str


def trace(
    request_id: Annotated[str, typer.Argument(help="The id of the request.")],
    kafka: KafkaAddress = None,
    as_json: AsJson = False,
) -> None:
    """Show where a request's time went: every hop and every call, from the topics alone."""

    async def main() -> int:
        from consumers.cli.journey import read_journey

        settings = read_settings(kafka)
        journey = await read_journey(request_id, settings)
        bars = waterfall(journey, settings.kafka.topics)
        is_done = bool(journey.results or journey.letters)
        if as_json:
            print_json(
                {
                    "request_id": request_id,
                    "trace_id": journey.trace_id,
                    "done": is_done,
                    "bars": [asdict(bar) for bar in bars],
                }
            )
            return 0 if is_done else FAILED
        total = max((bar.start_ms + bar.duration_ms for bar in bars), default=0.0)
        rows = [
            {
                "hop": "  " * bar.depth + bar.name,
                "from": _in_words(bar.start_ms),
                "took": _in_words(bar.duration_ms) if bar.duration_ms else "",
                "": _drawn(bar, total),
                "what": bar.words,
            }
            for bar in bars
        ]
        title = f"{request_id}: {_in_words(total)}, trace {journey.trace_id or 'unknown'}"
        print_table(rows, ("hop", "from", "took", "", "what"), title=title)
        return 0 if is_done else FAILED

    run(main)


def waterfall(journey: "Journey", topics: "Topics") -> list[Bar]:
    """A line per hop, from its record's append to the next one's, and below it its calls."""
    from consumers.cli.journey import dollars

    stops = sorted(journey.stops)
    if not stops:
        return []
    first = stops[0][0]
    attempts = sorted(journey.attempts.values(), key=lambda one: one.attempt_no)
    routes = sorted(journey.routes, key=lambda taken: taken.routed_at)
    bars = []
    for number, (at, topic) in enumerate(stops):
        is_last = number + 1 == len(stops)
        until = at if is_last else stops[number + 1][0]
        words = _LAST.get(topic.removeprefix(topics.prefix), "")
        calls = []
        if topic == topics.dead_letters and journey.letters:
            given = [one for _, one in journey.letters if one.failed_at <= at] or [
                journey.letters[0][1]
            ]
            words = f"{words}: {given[-1].reason.meaning}"
        if topic.startswith(topics.name("llm.tier.")):
            taken = [one for one in routes if one.routed_at <= at]
            words = f"{taken[-1].rule}: {taken[-1].reason}" if taken else ""
            calls = [one for one in attempts if _is_within(one.started_at, at, until, is_last)]
        bars.append(Bar(topic, 0, _ms(at, first), _ms(until, at), words))
        for call in calls:
            why = f", {call.reason.meaning}" if call.reason else ""
            said = f"{call.outcome}{why}; {call.usage.total_tokens} tokens, "
            said += dollars(call.cost_micros)
            start = _ms(call.started_at, first)
            bars.append(Bar(f"chat {call.model}", 1, start, call.duration_ms, said))
    return bars


_LAST = {
    "llm.results": "answered",
    "llm.dead-letters": "waits for a person",
    "llm.escalations": "handed back to route",
    "llm.intake": "accepted",
}


def _is_within(instant: datetime, start: datetime, end: datetime, is_last: bool) -> bool:
    # The broker's clock may differ a little from ours.
    return start <= instant and (is_last or instant < end)


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


def _drawn(bar: Bar, total: float) -> str:
    if not total:
        return _POINT
    start = round(bar.start_ms / total * _WIDTH)
    length = round(bar.duration_ms / total * _WIDTH)
    start = min(start, _WIDTH - 1)
    return " " * start + (_BAR * min(length, _WIDTH - start) or _POINT)
