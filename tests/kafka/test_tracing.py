"""Whole journeys as traces, read by a backend over OTLP."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import timedelta
from typing import Any

import orjson
import pytest
import typer

from consumers import clock
from consumers.cli.dead_letters import requeue
from consumers.lab.simulator import DEFAULT_MODELS
from consumers.settings import Settings, TelemetrySettings
from consumers.telemetry.setup import open_telemetry
from tests.kafka.flow import Flow, Sent, flow, request
from tests.telemetry.sink import Seen, Sink, otlp_sink

pytestmark = pytest.mark.kafka

_PRODUCER, _CONSUMER, _CLIENT = 4, 5, 3
_GOOD = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
#: The library's own count of spans it let go.
_PROCESSED = "otel.sdk.processor.span.processed"
_CANARY = "canary.person@example.com"


def _models(low: float) -> dict[str, Any]:
    return {
        name: model.model_copy(update={"quality": low if model.tier == "low" else 1, "strain": 0})
        for name, model in DEFAULT_MODELS.items()
    }


@contextlib.asynccontextmanager
async def _traced(
    settings: Settings, sink: Sink, monkeypatch: pytest.MonkeyPatch, **simulated: Any
) -> AsyncIterator[Flow]:
    """The flow with its spans and metrics on their way to the sink; all are there at the end."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", sink.url)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    topics = settings.kafka.topics
    telemetry = open_telemetry(settings.telemetry, topics)
    entered = telemetry.__enter__()
    try:
        async with flow(settings, entered, **simulated) as running:
            yield running
    finally:
        # The backend runs in this loop.
        await asyncio.to_thread(telemetry.__exit__, None, None, None)


def _tree(spans: Sequence[Seen]) -> list[str]:
    """Names, indented by depth, each below its parent."""
    known = {span.span_id for span in spans}

    def below(parent: str, depth: int) -> Iterator[str]:
        for span in spans:
            if span.parent_id == parent or (not depth and span.parent_id not in known):
                yield "  " * depth + span.name
                yield from below(span.span_id, depth + 1)

    return list(below("", 0))


def _one(spans: Sequence[Seen], name: str) -> Seen:
    [found] = [span for span in spans if span.name == name]
    return found


async def test_one_request_is_one_trace_from_intake_through_an_escalation_to_its_result(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its producer knows nothing of traces."""
    async with otlp_sink() as sink:
        async with _traced(settings, sink, monkeypatch, models=_models(0)) as running:
            await running.publish(request("one"))
            [result] = await running.terminal(1)
            lines = await running.ledger()
        spans = sink.of_request("one")

    p = settings.kafka.prefix
    assert _tree(spans) == [
        f"process {p}llm.intake",
        "  route",
        f"  send {p}llm.tier.low",
        f"    process {p}llm.tier.low",
        "      chat sim-small",
        "      verify",
        f"      send {p}llm.escalations",
        f"        process {p}llm.escalations",
        "          route",
        f"          send {p}llm.tier.balanced",
        f"            process {p}llm.tier.balanced",
        "              chat sim-medium",
        "              verify",
        f"              send {p}llm.results",
    ]
    assert sink.orphans() == []
    kinds = {span.name.partition(" ")[0]: span.kind for span in spans}
    assert (kinds["send"], kinds["process"], kinds["chat"]) == (_PRODUCER, _CONSUMER, _CLIENT)
    for seen in (result, *lines):
        [parent] = [value for name, value in seen.headers if name == "traceparent"]
        assert parent.decode().split("-")[1] == spans[0].trace_id
    sent = _one(spans, f"send {p}llm.results")
    assert dict(result.headers)["traceparent"].decode().split("-")[2] == sent.span_id
    for span in spans:
        assert span.end_ns >= span.start_ns
        if span.name.startswith("process"):
            linked = () if not span.parent_id else (span.parent_id,)
            assert tuple(span.links) == linked


async def test_spans_and_metrics_say_what_happened_by_the_conventions(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with otlp_sink() as sink:
        async with _traced(settings, sink, monkeypatch, models=_models(0)) as running:
            asked = request("one", f"Which product is it? Ask {_CANARY}", conversation_id="talk-7")
            await running.publish(asked)
            [result] = await running.terminal(1)
        spans, raw = sink.of_request("one"), b"".join(sink.raw)

    p, router = settings.kafka.prefix, result.json["router"]
    first = _one(spans, f"process {p}llm.intake").fields
    assert first["messaging.system"] == "kafka"
    assert first["messaging.operation.type"] == "process"
    assert first["messaging.destination.name"] == f"{p}llm.intake"
    assert first["messaging.consumer.group.name"] == f"{p}route"
    assert first["messaging.kafka.offset"] == 0
    chat = _one(spans, "chat sim-medium").fields
    usage = router["usage"]
    assert chat["gen_ai.operation.name"] == "chat"
    assert chat["gen_ai.provider.name"] == "simulated"
    assert chat["gen_ai.request.model"] == "sim-medium"
    assert chat["gen_ai.response.finish_reasons"] == ["stop"]
    assert len(chat["gen_ai.conversation.id"]) == 24
    assert b"talk-7" not in raw
    assert chat["server.address"] == "127.0.0.1"
    assert chat["tierline.attempt.id"] == "one.1.2"
    chats = [span.fields for span in spans if span.name.startswith("chat")]
    assert sum(one["gen_ai.usage.input_tokens"] for one in chats) == usage["input_tokens"]
    cost = sum(one["gen_ai.usage.cost.amount"] for one in chats)
    assert cost == pytest.approx(router["cost_micros"] / 1e6)
    failed, passed = (span for span in spans if span.name == "verify")
    assert {name for name, _ in (*failed.events, *passed.events)} == {"gen_ai.evaluation.result"}
    labels = {said["gen_ai.evaluation.score.label"] for _, said in passed.events}
    assert labels == {"pass"}
    assert "fail" in {said["gen_ai.evaluation.score.label"] for _, said in failed.events}
    last = _one(spans, f"process {p}llm.tier.balanced").fields
    parts = sum(last[f"tierline.time.{part}"] for part in ("intake", "queue", "model", "own"))
    assert parts == pytest.approx(last["tierline.time.total"], abs=0.001)
    assert last["tierline.queue.seconds"] >= 0

    # Nothing of what was said leaves the process unless somebody asks for it.
    assert _CANARY.encode() not in raw
    assert b"gen_ai.input.messages" not in raw


async def test_metrics_answer_their_questions(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with otlp_sink() as sink:
        async with _traced(settings, sink, monkeypatch, models=_models(0)) as running:
            await running.publish(request("one"))
            [result] = await running.terminal(1)
        spans, router = sink.of_request("one"), result.json["router"]

    assert sink.total("tierline.requests", tierline_outcome="result") == 1
    assert sink.total("tierline.escalations", tierline_tier="low") == 1
    assert sink.total("tierline.route.decisions") == 2
    assert sink.total("tierline.attempts") == 2
    assert sink.total("tierline.cost") == pytest.approx(router["cost_micros"] / 1e6)
    [waited] = sink.metrics["tierline.request.duration"]
    examples = [one for one in waited.exemplars if one.trace_id.hex() == spans[0].trace_id]
    assert [one.filtered_attributes[0].value.string_value for one in examples] == ["one"]
    assert all(point.count for point in sink.metrics["gen_ai.client.operation.duration"])
    assert {"messaging.process.duration", "tierline.commit.duration"} <= sink.metrics.keys()


async def test_a_tracing_producer_is_the_parent_and_nothing_of_the_trace_reaches_a_provider(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace_id, span_id = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    headers = (
        ("traceparent", f"00-{trace_id}-{span_id}-03".encode()),
        ("tracestate", b"vendor=1"),
        ("baggage", f"tenant=acme,secret={_CANARY}".encode()),
        ("x-shop", b"7"),
    )
    kept = settings.model_copy(update={"telemetry": TelemetrySettings(baggage={"tenant"})})
    async with otlp_sink() as sink:
        async with _traced(kept, sink, monkeypatch, models=_models(1)) as running:
            sent = request("one")
            await running.publish(Sent(sent.value, b"k", headers))
            [result] = await running.terminal(1)
            [billed] = running.bill.lines
        [first, *_] = spans = sink.of_request("one")

    assert {span.trace_id for span in spans} == {trace_id}
    assert (first.parent_id, list(first.links)) == (span_id, [span_id])
    carried = Counter(name for name, _ in result.headers)
    assert (carried["traceparent"], carried["tracestate"], carried["baggage"]) == (1, 1, 1)
    assert dict(result.headers)["baggage"] == b"tenant=acme"
    assert dict(result.headers)["x-shop"] == b"7"
    assert not {"traceparent", "tracestate", "baggage"} & set(billed.header_names)


@pytest.mark.parametrize(
    ("headers", "counted"),
    [
        pytest.param(
            (("traceparent", b"00-" + b"0" * 32 + b"-b7ad6b7169203331-01"),), 1, id="zero"
        ),
        pytest.param((("traceparent", _GOOD.upper()),), 1, id="upper case"),
        pytest.param((("traceparent", b"ff" + _GOOD[2:]),), 1, id="version ff"),
        pytest.param((("traceparent", _GOOD * 200),), 1, id="ten thousand bytes"),
        pytest.param((("traceparent", _GOOD), ("TraceParent", _GOOD)), 1, id="two parents"),
        pytest.param((("traceparent", b"\xff\x00"),), 1, id="bytes"),
        pytest.param(tuple((f"h{n}", b"1") for n in range(5_000)), 0, id="five thousand headers"),
        pytest.param((("tracestate", b"a=1"), ("baggage", b"a=1")), 0, id="a state and no parent"),
    ],
)
async def test_a_hostile_context_starts_a_new_trace_and_is_counted(
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    headers: tuple[tuple[str, bytes], ...],
    counted: int,
) -> None:
    async with otlp_sink() as sink:
        async with _traced(settings, sink, monkeypatch, models=_models(1)) as running:
            await running.publish(Sent(request("one").value, b"k", headers))
            [result] = await running.terminal(1)
        [first, *_] = sink.of_request("one")

    assert (first.parent_id, list(first.links)) == ("", [])
    assert first.trace_id != "0af7651916cd43dd8448eb211c80319c"
    parents = [value for name, value in result.headers if name.lower() == "traceparent"]
    assert [value.decode()[3:35] for value in parents] == [first.trace_id]
    assert not {"tracestate", "baggage"} & {name for name, _ in result.headers}
    assert sink.total("tierline.trace.rejected_contexts") == counted


async def test_who_is_sampled_is_our_decision_and_unsampled_requests_leave_no_span(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the traces, by their id; the flag of the producer counts for nothing."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.5")
    low, high = "0af7651916cd43dd1448eb211c80319c", "0af7651916cd43dde448eb211c80319c"
    flags = {low: "00", high: "01"}
    async with otlp_sink() as sink:
        async with _traced(settings, sink, monkeypatch, models=_models(1)) as running:
            for trace_id, flag in flags.items():
                parent = f"00-{trace_id}-b7ad6b7169203331-{flag}".encode()
                sent = request(trace_id)
                await running.publish(Sent(sent.value, b"k", (("traceparent", parent),)))
            results = await running.terminal(2)
        traces = sink.by_trace()

    carried = {seen.json["id"]: dict(seen.headers)["traceparent"] for seen in results}
    assert set(traces) == {low}
    assert carried[low].endswith(b"-01")
    assert carried[high] == f"00-{high}-b7ad6b7169203331-00".encode()
    # Its producer did not keep the parent, so nothing may hang below it.
    assert sink.orphans() == []


async def test_a_producer_may_be_trusted_with_the_sampling(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusting = settings.model_copy(
        update={"telemetry": TelemetrySettings(trust_producer_sampling=True)}
    )
    async with otlp_sink() as sink:
        async with _traced(trusting, sink, monkeypatch, models=_models(1)) as running:
            for name, flag in (("kept", b"01"), ("dropped", b"00")):
                headers = (("traceparent", _GOOD[:-2] + flag),)
                await running.publish(Sent(request(name).value, b"k", headers))
            await running.terminal(2)
        requests = {span.fields.get("messaging.message.conversation_id") for span in sink.spans}
    assert "kept" in requests
    assert "dropped" not in requests


async def test_links_only_makes_every_hop_a_trace_of_its_own(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    linking = settings.model_copy(update={"telemetry": TelemetrySettings(parent_mode="link")})
    async with otlp_sink() as sink:
        async with _traced(linking, sink, monkeypatch, models=_models(1)) as running:
            await running.publish(request("one"))
            await running.terminal(1)
        hops = [span for span in sink.spans if span.name.startswith("process")]
        sends = {span.span_id for span in sink.spans if span.name.startswith("send")}
    assert len({span.trace_id for span in hops}) == len(hops) == 2
    assert all(not span.parent_id for span in hops)
    assert {link for span in hops for link in span.links} <= sends


async def test_a_dead_letter_requeued_days_later_goes_on_in_its_trace(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    p = settings.kafka.prefix
    async with otlp_sink() as sink:
        async with _traced(settings, sink, monkeypatch, faults={"http_403": 1.0}) as running:
            await running.publish(request("one"))
            await running.terminal(1)
        async with _traced(settings, sink, monkeypatch, models=_models(1)) as running:
            later = timedelta(days=3)
            now, now_ns = clock.now, clock.now_ns
            monkeypatch.setattr(clock, "now", lambda: now() + later)
            monkeypatch.setattr(
                clock, "now_ns", lambda: now_ns() + int(later.total_seconds() * 1e9)
            )
            monkeypatch.setenv("TIERLINE_KAFKA__BOOTSTRAP", str(settings.kafka.bootstrap))
            monkeypatch.setenv("TIERLINE_KAFKA__PREFIX", p)
            await asyncio.to_thread(_requeue, "one")
            ends = await running.terminal(2)
        spans = sink.of_request("one")

    assert len({span.trace_id for span in spans}) == 1
    assert sink.orphans() == []
    letter = _one(spans, f"send {p}llm.dead-letters")
    told, taken = _one(spans, f"send {p}llm.review"), _one(spans, f"process {p}llm.review")
    again = _one(spans, f"send {p}llm.escalations")
    assert [one.parent_id for one in (told, taken, again)] == [
        one.span_id for one in (letter, told, taken)
    ]
    assert again.fields["messaging.message.conversation_id"] == "one"
    assert told.start_ns - letter.end_ns > 2.9 * 86_400e9
    assert _one(spans, f"send {p}llm.results").start_ns > again.start_ns
    assert sink.total("tierline.requeues") == 1
    for seen in ends:
        assert [name for name, _ in seen.headers].count("traceparent") == 1


def _requeue(request_id: str) -> None:
    with pytest.raises(typer.Exit) as ended:
        requeue(request_id, deadline="15m", force=False, kafka=None)
    assert ended.value.exit_code == 0


@pytest.mark.parametrize(
    ("mode", "on_span", "in_event"),
    [("SPAN_ONLY", True, False), ("EVENT_ONLY", False, True), ("SPAN_AND_EVENT", True, True)],
)
async def test_content_is_captured_where_the_standard_switch_says_so_and_redacted(
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    mode: str,
    on_span: bool,
    in_event: bool,
) -> None:
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", mode)
    async with otlp_sink() as sink:
        async with _traced(settings, sink, monkeypatch, models=_models(1)) as running:
            await running.publish(request("one", f"The printer of {_CANARY} is out of ink"))
            await running.terminal(1)
        [chat] = [span for span in sink.of_request("one") if span.name.startswith("chat")]
    asked = [chat.fields] if on_span else []
    if in_event:
        asked += [said for name, said in chat.events if name.endswith("operation.details")]
    assert ("gen_ai.input.messages" in chat.fields) is on_span
    assert len(asked) == on_span + in_event
    for fields in asked:
        *_, last = orjson.loads(fields["gen_ai.input.messages"])
        assert "The printer of [email] is out of ink" in last["parts"][0]["content"]
        [answer] = orjson.loads(fields["gen_ai.output.messages"])
        assert answer["role"] == "assistant"
    assert _CANARY.encode() not in b"".join(sink.raw)


@pytest.mark.parametrize("trouble", ["closed", "refusing", "hanging"])
async def test_a_backend_in_trouble_changes_nothing_but_a_counter(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    status, delay = (503, 0.0) if trouble == "refusing" else (200, 30.0)
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "64")
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "200")
    count = 60
    async with otlp_sink() as metrics, otlp_sink(status=status, delay=delay) as bad:
        url = "http://127.0.0.1:9" if trouble == "closed" else bad.url
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"{url}/v1/traces")
        async with _traced(settings, metrics, monkeypatch, models=_models(1)) as running:
            await running.publish(*(request(f"r{number}") for number in range(count)))
            ends = await running.terminal(count)
            async with asyncio.timeout(30):
                while not metrics.total(_PROCESSED, error_type="queue_full"):
                    metrics.came.clear()
                    await metrics.came.wait()
    assert {seen.json["id"] for seen in ends} == {f"r{number}" for number in range(count)}
    assert bad.spans == []
