"""Telemetry is set up from the standard environment variables, or says what it expected."""

import socket
import sys
import time
import urllib.request

import pytest

from consumers.settings import TelemetrySettings
from consumers.telemetry import names
from consumers.telemetry.content import Capture, capture_of
from consumers.telemetry.environment import TelemetryError
from consumers.telemetry.names import METRICS, gen_ai_names, metrics_of
from consumers.telemetry.setup import open_telemetry
from schemas.topics import Topics
from tests.builders import a_record


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("OTEL_TRACES_EXPORTER", "zipkin", "none or otlp, console was expected"),
        ("OTEL_METRICS_EXPORTER", "statsd", "none or otlp, prometheus, console was expected"),
        ("OTEL_TRACES_SAMPLER", "rate", "always_on, always_off or traceidratio was expected"),
        ("OTEL_TRACES_SAMPLER_ARG", "2", "a number from 0 to 1 was expected"),
        ("OTEL_TRACES_SAMPLER_ARG", "half", "a number from 0 to 1 was expected"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "http/protobuf was expected"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "many", "a whole number of at least 1 was expected"),
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "abc", "a whole number of at least 0 was expected"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "0", "a whole number of at least 1 was expected"),
        ("OTEL_METRICS_EXEMPLAR_FILTER", "bogus", "one of trace_based"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318", "a URL such as"),
        ("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "yes", "NO_CONTENT, SPAN_ONLY"),
    ],
)
def test_a_setting_nobody_can_follow_is_one_clear_line(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "traceidratio")
    monkeypatch.setenv(variable, value)

    with pytest.raises(TelemetryError, match=said) as told, open_telemetry(_SETTINGS, Topics()):
        pass
    assert f"{variable}={value}" in str(told.value)


@pytest.mark.parametrize("signal", ["trace", "metric"])
def test_an_exporter_that_is_not_installed_is_named(
    monkeypatch: pytest.MonkeyPatch, signal: str
) -> None:
    monkeypatch.setenv(f"OTEL_{signal.upper()}S_EXPORTER", "otlp")
    module = f"opentelemetry.exporter.otlp.proto.http.{signal}_exporter"
    monkeypatch.setitem(sys.modules, module, None)

    with (
        pytest.raises(TelemetryError, match=r"pip install 'tierline\[otlp\]'"),
        open_telemetry(_SETTINGS, Topics()),
    ):
        pass


def test_an_end_waits_once_for_a_backend_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        with open_telemetry(_SETTINGS, Topics()) as telemetry:
            hop = telemetry.tracing.start("llm.intake")
            assert hop is not None
            hop.settled()
            telemetry.counters.add(names.REQUESTS, 1, "result", "triage", "low")
            began = time.monotonic()
        assert time.monotonic() - began < 8, "five seconds for both kinds, not for each"


def test_what_others_keep_goes_on_where_we_begin_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "console")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_always_off")
    parent = b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01"
    with open_telemetry(_SETTINGS, Topics()) as telemetry:
        receive = telemetry.tracing.receive
        assert receive(
            a_record(b"", topic="llm.tier.low", headers=(("traceparent", parent),)), "g"
        ).span
        assert not receive(a_record(b"", topic="llm.intake"), "g").is_recording


def test_a_switched_off_process_asks_nothing_of_its_sampler(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "something_new")
    with open_telemetry(_SETTINGS, Topics()) as telemetry:
        assert not telemetry.counters.is_recording


def test_nothing_is_exported_unless_somebody_says_where_to() -> None:
    with open_telemetry(_SETTINGS, Topics()) as telemetry:
        assert telemetry.tracing.start("llm.intake") is None
        assert not telemetry.counters.is_recording


def test_one_variable_turns_everything_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    with open_telemetry(_SETTINGS, Topics()) as telemetry:
        assert telemetry.tracing.start("llm.intake") is None
        assert not telemetry.counters.is_recording


def test_prometheus_finds_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "prometheus")
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_HOST", "127.0.0.1")
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_PORT", str(port))
    with open_telemetry(_SETTINGS, Topics()) as telemetry:
        telemetry.counters.add(names.REQUESTS, 3, "result", "triage", "low")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as page:
            lines = page.read().decode().splitlines()
    [found] = [line for line in lines if line.startswith("tierline_requests_total{")]
    assert found.endswith(" 3.0")
    assert 'tierline_outcome="result"' in found


@pytest.mark.parametrize(
    ("switch", "capture"),
    [
        ("", Capture()),
        ("NO_CONTENT", Capture()),
        ("span_only", Capture(on_spans=True)),
        ("EVENT_ONLY", Capture(in_events=True)),
        ("SPAN_AND_EVENT", Capture(on_spans=True, in_events=True)),
    ],
)
def test_content_is_captured_only_where_the_switch_says_so(switch: str, capture: Capture) -> None:
    assert capture_of(switch) == capture


def test_the_newer_names_are_used_where_they_are_asked_for() -> None:
    newer = gen_ai_names("http,gen_ai_latest_experimental")

    assert gen_ai_names("http").duration == "gen_ai.client.operation.duration"
    assert newer.duration == "gen_ai.client.inference.duration"
    assert "gen_ai.client.inference.usage.input_tokens" in metrics_of(newer)
    assert "gen_ai.client.token.usage" not in metrics_of(newer)


def test_every_metric_has_a_question_a_unit_and_fitting_buckets() -> None:
    for metric in METRICS.values():
        assert metric.question.endswith(("?", ".", ")"))
        assert metric.unit
        assert bool(metric.buckets) is (metric.kind == "histogram")
        # One series per request would end every backend.
        assert not {names.REQUEST_ID, names.ATTEMPT_ID, names.CONVERSATION} & set(metric.by)


_SETTINGS = TelemetrySettings()
