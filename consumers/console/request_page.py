"""What the page of a request shows: its journey, with what looks like personal data hidden."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from consumers.console.exports import row_of
from consumers.console.rows import Case
from consumers.console.showing import (
    AttemptView,
    Shown,
    attempt_views,
    hidden,
    messages_of,
    pretty,
    sources_of,
)
from consumers.journeys.facts import journey_facts
from consumers.journeys.journey import Journey
from consumers.readmodel.requests import Asked, Written
from consumers.telemetry.redaction import redact
from schemas.topics import Topics

__all__ = ["RequestView", "request_json", "request_view"]


@dataclass(frozen=True, slots=True)
class RequestView:
    """One request on one screen."""

    #: As `explain` prints them, masked.
    facts: Mapping[str, Any]
    #: Its record on intake, as the read model has it; None where none is its.
    asked: Asked | None
    #: What the customer says; None where nothing has it any more.
    words: Shown | None
    #: Everything else that was said, by who said it, and what stood beside it.
    beside: Sequence[tuple[str, Shown]]
    attempts: Sequence[AttemptView]
    output: Shown | None
    #: From the first record to the last, for bars.
    total_ms: float
    records: Sequence[Written]
    cases: Sequence[Case]


def request_view(
    journey: Journey,
    asked: Asked | None,
    records: Sequence[Written],
    cases: Sequence[Case],
    topics: Topics,
    now: datetime,
) -> RequestView:
    """Everything that is known of a request."""
    facts, request = journey_facts(journey, topics, now), journey.request
    # Ids stand as they are, on this page as on all others.
    own = {name: facts[name] for name in ("request_id", "tenant", "trace_id")}
    words = Shown.of(request.text, redact) if request else asked and Shown(asked.words)
    beside = [*messages_of(request, redact), *sources_of(request, redact)] if request else ()
    result = journey.published
    ends = [hop["start_ms"] + hop["duration_ms"] for hop in facts["hops"]]
    return RequestView(
        facts={**hidden(facts, redact), **own},
        asked=asked,
        words=words,
        beside=beside,
        attempts=attempt_views(journey.in_order, set(), redact),
        output=Shown.of(pretty(result.router.output), redact) if result else None,
        total_ms=max(ends, default=0.0) or 1.0,
        records=records,
        cases=cases,
    )


def request_json(view: RequestView) -> dict[str, Any]:
    """The same for programs."""
    return {
        **view.facts,
        "records": [{"at": record.at, **record.place.model_dump()} for record in view.records],
        "cases": [{**row_of(case), "detail": redact(case.detail)} for case in view.cases],
    }
