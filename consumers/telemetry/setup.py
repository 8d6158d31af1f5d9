"""Telemetry of a process, set up from the standard environment variables of OpenTelemetry.

Nothing is exported unless they name an endpoint or an exporter. A backend that is down, slow or
refusing affects nothing but the library's own counters of what was dropped.
"""

import contextlib
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import metadata
from typing import Literal

from opentelemetry.metrics import Meter, NoOpMeterProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    ConsoleMetricExporter,
    MetricReader,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.metrics.view import View
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    ConsoleSpanExporter,
    SimpleSpanProcessor,
)
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from consumers.addresses import check_url
from consumers.settings import TelemetrySettings
from consumers.telemetry.content import CONTENT_SWITCH, capture_of
from consumers.telemetry.counters import Counters
from consumers.telemetry.names import gen_ai_names, metrics_of
from consumers.telemetry.observer import Observer
from consumers.telemetry.tracing import TraceIds, TraceRules, Tracing
from schemas.errors import TierlineError
from schemas.topics import Topics

__all__ = ["TRACES_ONLY", "Telemetry", "TelemetryError", "open_telemetry"]

_SCOPE = "tierline"
#: Spans of several thousand requests may wait: the library's default of 2,048 holds those of 300.
_QUEUE, _BATCH, _DELAY_MS = 65_536, 2_048, 1_000
#: How long a process waits for the backend before it exits.
_LAST_EXPORT_SECONDS = 5.0
#: The same for a command, for whose end a person waits.
_COMMAND_SECONDS = 1.5
_PROMETHEUS_PORT = 9464
_SAMPLER_OF_PARENTS = "parentbased_"
#: The library's switch for metrics about itself.
_OWN_METRICS = "OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED"

_NEEDS_OTLP = "sending to an OTLP endpoint needs: pip install 'tierline[otlp]'"
_ENDPOINTS = (
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
)
_EXEMPLARS = ("trace_based", "always_on", "always_off")
#: Variables with whole numbers above 0 that the library reads by itself.
_COUNTS = (
    "OTEL_METRIC_EXPORT_INTERVAL",
    "OTEL_METRIC_EXPORT_TIMEOUT",
    "OTEL_BSP_EXPORT_TIMEOUT",
    "OTEL_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT",
    "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT",
    "OTEL_SPAN_EVENT_COUNT_LIMIT",
    "OTEL_SPAN_LINK_COUNT_LIMIT",
    "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_EXPORTER_OTLP_TIMEOUT",
    "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
    "OTEL_EXPORTER_OTLP_METRICS_TIMEOUT",
)

Environment = Mapping[str, str]
_Signal = Literal["TRACES", "METRICS"]
_SIGNALS: Sequence[_Signal] = ("TRACES", "METRICS")
#: What a command exports: the port for Prometheus belongs to the process that keeps running.
TRACES_ONLY: Sequence[_Signal] = ("TRACES",)


class TelemetryError(TierlineError):
    """A setting has no valid value; the message says what was expected."""


@dataclass(frozen=True, slots=True)
class Telemetry:
    """Everything that a process observes itself with. Created without arguments it only counts."""

    counters: Counters = field(default_factory=Counters)
    tracing: Tracing = field(default_factory=lambda: Tracing(Counters()))
    observer: Observer = field(default_factory=Observer)
    meter: Meter = field(default_factory=lambda: NoOpMeterProvider().get_meter(_SCOPE))

    def calling(self, addresses: Mapping[str, tuple[str, int]]) -> Observer:
        """The observer of stages that call these providers."""
        return replace(self.observer, addresses=addresses)


@contextlib.contextmanager
def open_telemetry(
    settings: TelemetrySettings,
    topics: Topics,
    signals: Sequence[_Signal] = _SIGNALS,
) -> Iterator[Telemetry]:
    """Telemetry until the context closes, which sends what is left. Raises TelemetryError.

    Follows `OTEL_SDK_DISABLED`, `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`,
    `OTEL_TRACES_EXPORTER`, `OTEL_METRICS_EXPORTER`, `OTEL_EXPORTER_OTLP_*`, `OTEL_BSP_*`,
    `OTEL_TRACES_SAMPLER`, `OTEL_METRIC_EXPORT_INTERVAL`, `OTEL_EXPORTER_PROMETHEUS_*`,
    `OTEL_SEMCONV_STABILITY_OPT_IN` and `OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT`.
    """
    # By the specification an empty variable counts as unset.
    env = {name: text for name, text in os.environ.items() if text.strip()}
    gen_ai = gen_ai_names(env.get("OTEL_SEMCONV_STABILITY_OPT_IN", ""))
    metrics = metrics_of(gen_ai)
    counters, ids = Counters(metrics), TraceIds()
    try:
        capture = capture_of(env.get(CONTENT_SWITCH, ""))
    except ValueError as error:
        raise TelemetryError(str(error)) from None
    is_off = env.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    traces = () if is_off else _exporters("TRACES", env, ("otlp", "console"))
    limit = _COMMAND_SECONDS if signals == TRACES_ONLY else _LAST_EXPORT_SECONDS
    metric_exporters: tuple[str, ...] = ()
    if not is_off and "METRICS" in signals:
        metric_exporters = _exporters("METRICS", env, ("otlp", "prometheus", "console"))
    share = 0.0 if is_off else _share(env)
    _check(env, (*traces, *metric_exporters))
    resource = _resource()
    with contextlib.ExitStack() as stack:
        shutdowns: list[Callable[[], object]] = []
        stack.callback(_run_within, shutdowns, limit)
        meter: Meter = NoOpMeterProvider().get_meter(_SCOPE)
        meters: MeterProvider | None = None
        if metric_exporters:
            views = [
                # The request id stays with a bucket's exemplars: as an attribute it would make one
                # series per request.
                View(instrument_name=name, attribute_keys={*metric.by, *metric.always})
                for name, metric in metrics.items()
                if metric.kind == "histogram"
            ]
            with _explained("OTEL_EXPORTER_OTLP_*"):
                readers = [_reader(name, env) for name in metric_exporters]
            meters = MeterProvider(readers, resource, views=views, shutdown_on_exit=False)
            shutdowns.append(meters.shutdown)
            meter = meters.get_meter(_SCOPE, _version())
            counters.export_to(meter)
        tracer = None
        # Traces that producers or other processes have begun to keep go on, whatever the share.
        if traces and (share > 0 or _SAMPLER_OF_PARENTS in env.get("OTEL_TRACES_SAMPLER", "")):
            tracers = TracerProvider(
                sampler=ALWAYS_ON,
                resource=resource,
                id_generator=ids,
                shutdown_on_exit=False,
                meter_provider=meters,
            )
            with _own_metrics(), _explained("OTEL_EXPORTER_OTLP_*"):
                for name in traces:
                    tracers.add_span_processor(_processor(name, env, meters))
            shutdowns.append(tracers.shutdown)
            tracer = tracers.get_tracer(_SCOPE, _version())
        rules = TraceRules(
            intakes=topics.all_intakes,
            quiet=frozenset((topics.attempts,)),
            share=share,
            trusts_producers=settings.trust_producer_sampling,
            parent_mode=settings.parent_mode,
            baggage_names=settings.baggage,
        )
        tracing = Tracing(counters, rules, tracer, ids)
        yield Telemetry(counters, tracing, Observer(counters, gen_ai, capture), meter)


@contextlib.contextmanager
def _own_metrics() -> Iterator[None]:
    """Let what is created here count what it drops and fails to send.

    Only exporters may do so: a tracer that counts its spans takes twice the time for each.
    """
    if _OWN_METRICS in os.environ:
        yield
        return
    os.environ[_OWN_METRICS] = "true"
    try:
        yield
    finally:
        del os.environ[_OWN_METRICS]


@contextlib.contextmanager
def _explained(variables: str) -> Iterator[None]:
    """Turn the library's errors into a TelemetryError: settings are all that it was given."""
    try:
        yield
    except TelemetryError:
        raise
    except (RuntimeError, ValueError, TypeError, LookupError, ImportError, OSError) as error:
        msg = f"{variables}: the exporter cannot be created ({type(error).__name__}: {error})"
        raise TelemetryError(msg) from None


class _Resource(Resource):
    """Hashes itself once: the exporter hashes every span's resource, by way of its JSON text."""

    @cached_property
    def _hashed(self) -> int:
        return super().__hash__()

    def __hash__(self) -> int:
        return self._hashed

    # A class that defines one of the two has to define both.
    def __eq__(self, other: object) -> bool:
        return self is other or super().__eq__(other)


def _resource() -> Resource:
    """Who we are, unless `OTEL_SERVICE_NAME` or `OTEL_RESOURCE_ATTRIBUTES` say otherwise."""
    ours = {
        "service.name": "tierline",
        "service.version": _version(),
        "service.instance.id": str(uuid.uuid4()),
    }
    merged = Resource.create(ours).merge(OTELResourceDetector().detect())
    return _Resource(merged.attributes, merged.schema_url)


def _exporters(signal: _Signal, env: Environment, available: Sequence[str]) -> tuple[str, ...]:
    chosen = env.get(f"OTEL_{signal}_EXPORTER", "").strip()
    if not chosen:
        endpoints = ("OTEL_EXPORTER_OTLP_ENDPOINT", f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")
        chosen = "otlp" if any(env.get(name) for name in endpoints) else "none"
    listed = tuple(dict.fromkeys(name.strip() for name in chosen.split(",")))
    if listed == ("none",):
        return ()
    for name in listed:
        if name not in available:
            msg = f"OTEL_{signal}_EXPORTER={chosen}: none or {', '.join(available)} was expected"
            raise TelemetryError(msg)
    protocols = ("OTEL_EXPORTER_OTLP_PROTOCOL", f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL")
    for variable in protocols:
        if "otlp" in listed and env.get(variable, "http/protobuf") != "http/protobuf":
            msg = f"{variable}={env[variable]}: http/protobuf was expected, the only one supported"
            raise TelemetryError(msg)
    return listed


def _share(env: Environment) -> float:
    """The share of traces to keep, by the standard variables for samplers."""
    sampler = env.get("OTEL_TRACES_SAMPLER", "parentbased_always_on").strip()
    kind = sampler.removeprefix(_SAMPLER_OF_PARENTS)
    if kind in ("always_on", "always_off"):
        return float(kind == "always_on")
    argument = env.get("OTEL_TRACES_SAMPLER_ARG", "1.0")
    try:
        share = float(argument)
    except ValueError:
        share = -1.0
    if kind != "traceidratio":
        msg = f"OTEL_TRACES_SAMPLER={sampler}: always_on, always_off or traceidratio was expected"
        raise TelemetryError(msg)
    if not 0 <= share <= 1:
        msg = f"OTEL_TRACES_SAMPLER_ARG={argument}: a number from 0 to 1 was expected"
        raise TelemetryError(msg)
    return share


def _processor(name: str, env: Environment, meters: MeterProvider | None) -> SpanProcessor:
    if name == "console":
        return SimpleSpanProcessor(ConsoleSpanExporter())

    try:  # loaded only where it is used: it brings an HTTP client of its own
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
            OTLPSpanExporter,
        )
    except ImportError:
        raise TelemetryError(_NEEDS_OTLP) from None
    queue = _whole("OTEL_BSP_MAX_QUEUE_SIZE", env, _QUEUE)
    return BatchSpanProcessor(
        OTLPSpanExporter(meter_provider=meters),
        max_queue_size=queue,
        max_export_batch_size=min(_whole("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", env, _BATCH), queue),
        schedule_delay_millis=_whole("OTEL_BSP_SCHEDULE_DELAY", env, _DELAY_MS),
        meter_provider=meters,
    )


def _whole(variable: str, env: Environment, default: int, *, least: int = 1) -> int:
    text = env.get(variable, "").strip() or str(default)
    if not text.isdecimal() or int(text) < least:
        msg = f"{variable}={text}: a whole number of at least {least} was expected"
        raise TelemetryError(msg)
    return int(text)


def _reader(name: str, env: Environment) -> MetricReader:
    if name == "prometheus":
        return _prometheus(env)
    if name == "console":
        return PeriodicExportingMetricReader(ConsoleMetricExporter())
    try:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import (  # noqa: PLC0415
            OTLPMetricExporter,
        )
    except ImportError:
        raise TelemetryError(_NEEDS_OTLP) from None
    return PeriodicExportingMetricReader(OTLPMetricExporter())


def _prometheus(env: Environment) -> MetricReader:
    """A page for Prometheus, at the address of the standard variables."""
    try:
        from opentelemetry.exporter.prometheus import (  # noqa: PLC0415  an extra
            PrometheusMetricReader,
        )
        from prometheus_client import start_http_server  # noqa: PLC0415
    except ImportError:
        msg = "OTEL_METRICS_EXPORTER=prometheus needs: pip install 'tierline[prometheus]'"
        raise TelemetryError(msg) from None
    host = env.get("OTEL_EXPORTER_PROMETHEUS_HOST", "localhost")
    port = env.get("OTEL_EXPORTER_PROMETHEUS_PORT", str(_PROMETHEUS_PORT))
    reader: MetricReader = PrometheusMetricReader()
    try:
        start_http_server(int(port), host)
    except (OSError, ValueError, OverflowError) as error:
        where = f"OTEL_EXPORTER_PROMETHEUS_HOST={host}, OTEL_EXPORTER_PROMETHEUS_PORT={port}"
        msg = f"{where}: no page can be served there ({error})"
        raise TelemetryError(msg) from None
    return reader


def _run_within(shutdowns: Sequence[Callable[[], object]], limit: float) -> None:
    """Run the shutdowns, which send what is left, at once; leave those that take too long."""

    def run(shutdown: Callable[[], object]) -> None:
        with contextlib.suppress(Exception):
            shutdown()

    threads = [
        threading.Thread(target=run, args=(shutdown,), daemon=True) for shutdown in shutdowns
    ]
    give_up = time.monotonic() + limit
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(give_up - time.monotonic(), 0.0))


def _check(env: Environment, exporters: Sequence[str]) -> None:
    """Refuse values for which the library would raise an error of its own, or do nothing."""
    for variable in _COUNTS if exporters else ():
        if variable in env:
            _whole(variable, env, 1, least=0 if variable.endswith("_LIMIT") else 1)
    exemplars = env.get("OTEL_METRICS_EXEMPLAR_FILTER", "trace_based").strip()
    if exporters and exemplars not in _EXEMPLARS:
        msg = (
            f"OTEL_METRICS_EXEMPLAR_FILTER={exemplars}: one of {', '.join(_EXEMPLARS)} was expected"
        )
        raise TelemetryError(msg)
    for variable in _ENDPOINTS if "otlp" in exporters else ():
        if url := env.get(variable, "").strip():
            try:
                check_url(url, allow_private=True)  # a collector usually runs in our own network
            except ValueError as error:
                msg = f"{variable}={url}: {error}"
                raise TelemetryError(msg) from None


def _version() -> str:
    try:
        return metadata.version("tierline")
    except metadata.PackageNotFoundError:
        return "0"
