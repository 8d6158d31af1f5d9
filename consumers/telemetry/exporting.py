"""Traces and metrics that leave the process, by the SDK of OpenTelemetry.

Loading the SDK takes a tenth of a second, so `setup` loads this module only where something is
exported.
"""

import contextlib
import os
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from importlib import metadata

from opentelemetry.metrics import Meter
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
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import Tracer

from consumers.telemetry.environment import Environment, TelemetryError, whole_number
from consumers.telemetry.names import Metric
from consumers.telemetry.tracing import NextTrace

__all__ = ["Exporting", "TraceIds"]

_SCOPE = "tierline"
#: Spans of several thousand requests may wait: the library's default of 2,048 holds those of 300.
_QUEUE, _BATCH, _DELAY_MS = 65_536, 2_048, 1_000
_PROMETHEUS_PORT = 9464
#: The library's switch for metrics about itself.
_OWN_METRICS = "OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED"
_NEEDS_OTLP = "sending to an OTLP endpoint needs: pip install 'tierline[otlp]'"


class TraceIds(RandomIdGenerator):
    """Gives a new trace the id by which it was chosen for sampling."""

    def __init__(self, chosen: NextTrace) -> None:
        self._chosen = chosen

    def generate_trace_id(self) -> int:
        """The chosen id, once; else a random one."""
        trace_id, self._chosen.trace_id = self._chosen.trace_id, None
        return super().generate_trace_id() if trace_id is None else trace_id


class Exporting:
    """The SDK's providers. Their shutdowns send what is left. Raises TelemetryError."""

    def __init__(self, env: Environment) -> None:
        self._env = env
        self._resource = _resource()
        self._meters: MeterProvider | None = None
        self._tracers: TracerProvider | None = None

    def meter(self, exporters: Sequence[str], metrics: Mapping[str, Metric]) -> Meter:
        """A meter whose metrics are exported; needed before the tracer."""
        views = [
            # The request id stays with a bucket's exemplars: as an attribute it would make one
            # series per request.
            View(instrument_name=name, attribute_keys={*metric.by, *metric.always})
            for name, metric in metrics.items()
            if metric.kind == "histogram"
        ]
        with _explained("OTEL_EXPORTER_OTLP_*"):
            readers = [_reader(name, self._env) for name in exporters]
        self._meters = MeterProvider(readers, self._resource, views=views, shutdown_on_exit=False)
        return self._meters.get_meter(_SCOPE, _version())

    def tracer(self, exporters: Sequence[str], chosen: NextTrace) -> Tracer:
        """A tracer whose spans are exported."""
        self._tracers = TracerProvider(
            sampler=ALWAYS_ON,
            resource=self._resource,
            id_generator=TraceIds(chosen),
            shutdown_on_exit=False,
            meter_provider=self._meters,
        )
        with _own_metrics(), _explained("OTEL_EXPORTER_OTLP_*"):
            for name in exporters:
                self._tracers.add_span_processor(_processor(name, self._env, self._meters))
        return self._tracers.get_tracer(_SCOPE, _version())

    def shut_down(self, seconds: float) -> None:
        """Send what is left of both at once, and leave what takes longer."""
        providers = [provider for provider in (self._meters, self._tracers) if provider]
        threads = [
            threading.Thread(target=_shut_down, args=(provider,), daemon=True)
            for provider in providers
        ]
        give_up = time.monotonic() + seconds
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(give_up - time.monotonic(), 0.0))


def _shut_down(provider: MeterProvider | TracerProvider) -> None:
    with contextlib.suppress(Exception):
        provider.shutdown()


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


def _processor(name: str, env: Environment, meters: MeterProvider | None) -> SpanProcessor:
    if name == "console":
        return SimpleSpanProcessor(ConsoleSpanExporter())

    try:  # loaded only where it is used: it brings an HTTP client of its own
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415  an extra
            OTLPSpanExporter,
        )
    except ImportError:
        raise TelemetryError(_NEEDS_OTLP) from None
    queue = whole_number("OTEL_BSP_MAX_QUEUE_SIZE", env, _QUEUE)
    batch = whole_number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", env, _BATCH)
    return BatchSpanProcessor(
        OTLPSpanExporter(meter_provider=meters),
        max_queue_size=queue,
        max_export_batch_size=min(batch, queue),
        schedule_delay_millis=whole_number("OTEL_BSP_SCHEDULE_DELAY", env, _DELAY_MS),
        meter_provider=meters,
    )


def _reader(name: str, env: Environment) -> MetricReader:
    if name == "prometheus":
        return _prometheus(env)
    if name == "console":
        return PeriodicExportingMetricReader(ConsoleMetricExporter())
    try:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import (  # noqa: PLC0415  an extra
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
        from prometheus_client import start_http_server  # noqa: PLC0415  an extra
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


def _version() -> str:
    try:
        return metadata.version("tierline")
    except metadata.PackageNotFoundError:
        return "0"
