"""What a stage's observer counts and tells of calls and decisions."""

from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from consumers.telemetry import names
from consumers.telemetry.counters import Counters
from consumers.telemetry.exporting import TraceIds
from consumers.telemetry.hops import set_current
from consumers.telemetry.observer import Observer
from consumers.telemetry.tracing import NextTrace, TraceRules, Tracing
from schemas.reasons import Reason
from schemas.verdict import CheckResult, Verdict
from tests.builders import NOON, a_record, a_request, an_attempt

_ACCEPTED: dict[str, Any] = {"outcome": "accepted", "reason": None}
_FAILED: dict[str, Any] = {"outcome": "failed", "reason": Reason.PROVIDER_UNAVAILABLE}


@pytest.mark.parametrize(
    ("former", "attempt", "count"),
    [
        pytest.param(_FAILED, {"model": "other", **_ACCEPTED}, 1, id="the backup after a failure"),
        pytest.param(_FAILED, _ACCEPTED, 0, id="the same model again"),
        pytest.param(_ACCEPTED, {"model": "other", **_ACCEPTED}, 0, id="one more opinion"),
        pytest.param(
            _ACCEPTED, {"model": "other", "step": "verify", **_ACCEPTED}, 0, id="a verifier"
        ),
    ],
)
def test_a_fallback_is_another_model_in_place_of_one_that_failed(
    former: dict[str, Any], attempt: dict[str, Any], count: int
) -> None:
    observer, asked = Observer(), an_attempt(**attempt)

    observer.called(
        asked, [an_attempt(**former)], a_request(), {}, None, read_at=NOON, judged_at=NOON
    )

    counted = observer.counters.count(
        names.FALLBACKS, asked.tier, asked.model, "provider_unavailable"
    )
    assert counted == count
    assert observer.counters.count(names.FALLBACKS, asked.tier, asked.model, "") == 0


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    yield exporter
    set_current(None)


def a_tracing(spans: InMemorySpanExporter, **rules: Any) -> Tracing:
    chosen = NextTrace()
    provider = TracerProvider(id_generator=TraceIds(chosen))
    provider.add_span_processor(SimpleSpanProcessor(spans))
    return Tracing(Counters(), TraceRules(**rules), provider.get_tracer("tests"), chosen)


@pytest.mark.parametrize(
    ("action", "label"),
    [("approve", "pass"), ("edit", "fail"), ("reject", "fail"), ("requeue", None)],
)
def test_a_review_is_an_evaluation_where_it_judges_an_answer(
    spans: InMemorySpanExporter, action: str, label: str | None
) -> None:
    observer = Observer()
    hop = a_tracing(spans).receive(a_record(b"", topic="llm.review"), "review")
    set_current(hop)
    observer.reviewed(action, "triage", "result")
    hop.settled()

    [span] = spans.get_finished_spans()
    assert span.attributes is not None
    assert span.attributes[names.ACTION] == action
    said = [event.attributes for event in span.events if event.name == names.EVALUATION_EVENT]
    assert [one and one[names.EVALUATION_LABEL] for one in said] == ([label] if label else [])
    assert observer.counters.count(names.REVIEW_DECISIONS, action, "triage", "result") == 1


def test_a_check_that_fails_is_no_evaluation_that_failed(spans: InMemorySpanExporter) -> None:
    hop = a_tracing(spans).receive(a_record(b"", topic="llm.tier.low"), "low")
    set_current(hop)
    failed = CheckResult(check="empty", passed=False, reason=Reason.EMPTY)
    attempt = an_attempt(verdict=Verdict(outcome="rejected", checks=[failed]))
    Observer().called(attempt, [], a_request(), {}, None, read_at=NOON, judged_at=NOON)
    hop.settled()

    [verify] = [span for span in spans.get_finished_spans() if span.name == "verify"]
    labels = {
        event.attributes[names.EVALUATION_LABEL]
        for event in verify.events
        if event.attributes and names.ERROR_TYPE not in event.attributes
    }
    assert "fail" in labels


def test_linked_spans_have_traces_of_their_own_on_both_sides_of_kafka(
    spans: InMemorySpanExporter,
) -> None:
    tracing = a_tracing(spans, parent_mode="link", trusts_producers=True)
    theirs = (
        ("traceparent", b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01"),
        ("tracestate", b"vendor=1"),
    )
    received = tracing.receive(a_record(b"", topic="llm.intake", headers=theirs), "route")
    started = tracing.start("llm.escalations", theirs)
    assert started is not None
    for hop in (received, started):
        assert hop.context.trace_id != "a" * 32
        assert not hop.context.state, "another tracer's notes stay with their trace"
        hop.settled()

    for span in spans.get_finished_spans():
        assert span.parent is None
        assert [f"{link.context.trace_id:032x}" for link in span.links] == ["a" * 32]
