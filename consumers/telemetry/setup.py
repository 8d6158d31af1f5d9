"""Telemetry of a process, set up from the standard environment variables of OpenTelemetry.

Nothing is exported unless somebody says where to: an endpoint, or an exporter by name. A backend
that is away, slow or refuses changes nothing but the library's own counters of what was dropped.
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
#: Spans of some thousand requests may wait: the library's 2,048 are those of 300.
_QUEUE, _BATCH, _DELAY_MS = 65_536, 2_048, 1_000
#: How long the end of a process waits for the backend.
_LAST_EXPORT_SECONDS = 5.0
#: For a command, at whose end a person waits.
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
#: Whole numbers above 0 that the library reads by itself.
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
#: What a command exports: the page for Prometheus is that of the process that stays.
TRACES_ONLY: Sequence[_Signal] = ("TRACES",)


class TelemetryError(TierlineError):
    """A setting that nobody can follow; the message says what was expected."""


@dataclass(frozen=True, slots=True)
class Telemetry:
    """What a process observes itself with. Made without arguments it only counts."""

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
    """Telemetry until the context closes; what is collected by then is sent. Raises TelemetryError.

    Follows `OTEL_SDK_DISABLED`, `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`,
    `OTEL_TRACES_EXPORTER`, `OTEL_METRICS_EXPORTER`, `OTEL_EXPORTER_OTLP_*`, `OTEL_BSP_*`,
    `OTEL_TRACES_SAMPLER`, `OTEL_METRIC_EXPORT_INTERVAL`, `OTEL_EXPORTER_PROMETHEUS_*`,
    `OTEL_SEMCONV_STABILITY_OPT_IN` and `OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT`.
    """
    # By the specification an empty variable is one that is not set.
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
    kinds = ("otlp", "prometheus", "console")
    limit = _COMMAND_SECONDS if signals == TRACES_ONLY else _LAST_EXPORT_SECONDS
    is_silent = is_off or "METRICS" not in signals
    measures = () if is_silent else _exporters("METRICS", env, kinds)
    share = 0.0 if is_off else _share(env)
    _check(env, (*traces, *measures))
    resource = _resource()
    with contextlib.ExitStack() as stack:
        ends: list[Callable[[], object]] = []
        stack.callback(_within_limit, ends, limit)
        meter: Meter = NoOpMeterProvider().get_meter(_SCOPE)
        meters: MeterProvider | None = None
        if measures:
            views = [
                # The request id stays with the examples of a bucket: as an attribute it would make
                # one series per request.
                View(instrument_name=one.name, attribute_keys={*one.by, *one.always})
                for one in metrics.values()
                if one.kind == "histogram"
            ]
            with _explained("OTEL_EXPORTER_OTLP_*"):
                readers = [_reader(name, env) for name in measures]
            meters = MeterProvider(readers, resource, views=views, shutdown_on_exit=False)
            ends.append(meters.shutdown)
            meter = meters.get_meter(_SCOPE, _version())
            counters.export_to(meter)
        tracer = None
        # What producers or other processes have begun to keep goes on here with any share.
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
            ends.append(tracers.shutdown)
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
    """What is made here counts what it drops and fails to send.

    Only what exports may do so: a tracer that counts its spans takes twice the time for each.
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
    """What the library refuses is a setting's fault: there is nothing else it was given."""
    try:
        yield
    except TelemetryError:
        raise
    except (RuntimeError, ValueError, TypeError, LookupError, ImportError, OSError) as error:
        msg = f"{variables}: the exporter cannot be made ({type(error).__name__}: {error})"
        raise TelemetryError(msg) from None


class _Resource(Resource):
    """The exporter hashes the resource of every span, which the library does by writing JSON."""

    @cached_property
    def _hashed(self) -> int:
        return super().__hash__()

    def __hash__(self) -> int:
        return self._hashed

    # A class that defines one of the two has to define both.
    def __eq__(self, other: object) -> bool:
        return self is other or super().__eq__(other)


def _resource() -> Resource:
    """Who we are, unless `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` say it otherwise."""
    ours = {
        "service.name": "tierline",
        "service.version": _version(),
        "service.instance.id": str(uuid.uuid4()),
    }
    made = Resource.create(ours).merge(OTELResourceDetector().detect())
    return _Resource(made.attributes, made.schema_url)


def _exporters(signal: _Signal, env: Environment, known: Sequence[str]) -> tuple[str, ...]:
    chosen = env.get(f"OTEL_{signal}_EXPORTER", "").strip()
    if not chosen:
        endpoints = ("OTEL_EXPORTER_OTLP_ENDPOINT", f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")
        chosen = "otlp" if any(env.get(name) for name in endpoints) else "none"
    listed = tuple(dict.fromkeys(name.strip() for name in chosen.split(",")))
    if listed == ("none",):
        return ()
    for name in listed:
        if name not in known:
            msg = f"OTEL_{signal}_EXPORTER={chosen}: none or {', '.join(known)} was expected"
            raise TelemetryError(msg)
    protocols = ("OTEL_EXPORTER_OTLP_PROTOCOL", f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL")
    for variable in protocols:
        if "otlp" in listed and env.get(variable, "http/protobuf") != "http/protobuf":
            msg = f"{variable}={env[variable]}: http/protobuf was expected, the one we speak"
            raise TelemetryError(msg)
    return listed


def _share(env: Environment) -> float:
    """The share of traces to keep, by the standard samplers."""
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


def _whole(variable: str, env: Environment, otherwise: int, *, least: int = 1) -> int:
    text = env.get(variable, "").strip() or str(otherwise)
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


def _within_limit(ends: Sequence[Callable[[], object]], limit: float) -> None:
    """Send what is left, of every kind at once, but do not wait for a backend that hangs."""

    def ended(end: Callable[[], object]) -> None:
        with contextlib.suppress(Exception):
            end()

    threads = [threading.Thread(target=ended, args=(end,), daemon=True) for end in ends]
    give_up = time.monotonic() + limit
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(give_up - time.monotonic(), 0.0))


def _check(env: Environment, exporters: Sequence[str]) -> None:
    """Refuse what the library would meet with an exception of its own, or with silence."""
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
                check_url(url, allow_private=True)  # a collector is at home as a rule
            except ValueError as error:
                msg = f"{variable}={url}: {error}"
                raise TelemetryError(msg) from None


def _version() -> str:
    try:
        return metadata.version("tierline")
    except metadata.PackageNotFoundError:
        return "0"
