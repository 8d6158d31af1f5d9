"""The facts of a request's journey, as `tierline explain --json` and the console give them."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from consumers.journeys.journey import Journey
from consumers.journeys.moments import rows_of
from consumers.journeys.waterfall import Bar, waterfall
from router.request.signals import measure, signal_facts
from schemas.topics import Topics

__all__ = ["journey_facts"]


def journey_facts(journey: Journey, topics: Topics, now: datetime) -> dict[str, Any]:
    """All that is known of a request, as values that can be written as JSON."""
    result, still_open = journey.published, journey.open_state(now)
    request = journey.request
    return {
        "request_id": journey.request_id,
        "tenant": next(iter(journey.tenants), journey.tenant),
        "task": journey.task,
        "words": request.text if request else None,
        "done": journey.is_done and still_open is None,
        "open": still_open,
        "cost_micros": journey.cost_micros,
        "published": result
        and {
            "kind": result.router.kind,
            "review": result.router.review,
            "by": journey.decided_by(result),
            "model": result.router.model,
            "output": result.router.output,
            "changes": [change.model_dump() for change in result.router.changes or ()],
            "latency": result.router.latency.model_dump(),
        },
        "moments": rows_of(journey.moments()),
        "routes": [taken.model_dump(exclude_none=True) for taken in journey.routes],
        "signals": _signals(journey),
        "hops": _hops(waterfall(journey, topics)),
        "attempts": [attempt.model_dump(exclude_none=True) for attempt in journey.in_order],
        "trace_id": journey.trace_id,
    }


def _signals(journey: Journey) -> dict[str, Any] | None:
    """The signals of the last decision by rules; of an old record, as they are measured now."""
    recorded = [taken.signals for taken in journey.routes if taken.signals is not None]
    if recorded:
        return recorded[-1].model_dump()
    return signal_facts(measure(journey.request)) if journey.request else None


def _hops(bars: Sequence[Bar]) -> list[dict[str, Any]]:
    """A hop and its calls, with the time that passed in them and beside them."""
    hops: list[dict[str, Any]] = []
    for bar in bars:
        if bar.depth == 0:
            hops.append({**asdict(bar), "model_ms": 0.0, "queue_ms": bar.duration_ms, "calls": []})
        else:
            hop = hops[-1]
            hop["calls"].append(asdict(bar))
            hop["model_ms"] += bar.duration_ms
            hop["queue_ms"] = max(hop["duration_ms"] - hop["model_ms"], 0.0)
    return hops
