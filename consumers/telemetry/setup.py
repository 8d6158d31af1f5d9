"""Telemetry of a process, set up from the standard environment variables of OpenTelemetry.

Nothing is exported unless they name an endpoint or an exporter. A backend that is down, slow or
refusing affects nothing but the library's own counters of what was dropped.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from opentelemetry.metrics import Meter, NoOpMeterProvider

from consumers.settings import TelemetrySettings
from consumers.telemetry.content import CONTENT_SWITCH, capture_of
from consumers.telemetry.counters import Counters
from consumers.telemetry.environment import (
    SAMPLER_OF_PARENTS,
    Signal,
    TelemetryError,
    check_values,
    exporters_of,
    share_of,
)
from consumers.telemetry.names import gen_ai_names, metrics_of
from consumers.telemetry.observer import Observer
from consumers.telemetry.tracing import NextTrace, TraceRules, Tracing
from schemas.topics import Topics

__all__ = ["TRACES_ONLY", "Telemetry", "open_telemetry"]

#: How long a process waits for the backend before it exits.
_LAST_EXPORT_SECONDS = 5.0
#: The same for a command, for whose end a person waits.
_COMMAND_SECONDS = 1.5

_SIGNALS: Sequence[Signal] = ("TRACES", "METRICS")
#: What a command exports: the port for Prometheus belongs to the process that keeps running.
TRACES_ONLY: Sequence[Signal] = ("TRACES",)


@dataclass(frozen=True, slots=True)
class Telemetry:
    """Everything that a process observes itself with. Created without arguments it only counts."""

    counters: Counters = field(default_factory=Counters)
    tracing: Tracing = field(default_factory=lambda: Tracing(Counters()))
    observer: Observer = field(default_factory=Observer)
    meter: Meter = field(default_factory=lambda: NoOpMeterProvider().get_meter("tierline"))

    def calling(self, addresses: Mapping[str, tuple[str, int]]) -> Observer:
        """The observer of stages that call these providers."""
        return replace(self.observer, addresses=addresses)


@contextlib.contextmanager
def open_telemetry(
    settings: TelemetrySettings,
    topics: Topics,
    signals: Sequence[Signal] = _SIGNALS,
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
    counters, next_trace = Counters(metrics), NextTrace()
    try:
        capture = capture_of(env.get(CONTENT_SWITCH, ""))
    except ValueError as error:
        raise TelemetryError(str(error)) from None
    is_off = env.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    traces = () if is_off else exporters_of("TRACES", env, ("otlp", "console"))
    metric_exporters: tuple[str, ...] = ()
    if not is_off and "METRICS" in signals:
        metric_exporters = exporters_of("METRICS", env, ("otlp", "prometheus", "console"))
    share = 0.0 if is_off else share_of(env)
    check_values(env, (*traces, *metric_exporters))
    # Traces that producers or other processes have begun to keep go on, whatever the share.
    if share == 0 and SAMPLER_OF_PARENTS not in env.get("OTEL_TRACES_SAMPLER", ""):
        traces = ()
    rules = TraceRules(
        intakes=topics.all_intakes,
        quiet=frozenset(
            name for name, spec in topics.all() if name == topics.attempts or not spec.model
        ),
        share=share,
        trusts_producers=settings.trust_producer_sampling,
        parent_mode=settings.parent_mode,
        baggage_names=settings.baggage,
    )
    observer = Observer(counters, gen_ai, capture)
    if not traces and not metric_exporters:
        yield Telemetry(counters, Tracing(counters, rules), observer)
        return
    from consumers.telemetry.exporting import Exporting  # noqa: PLC0415  loads the SDK

    with contextlib.ExitStack() as stack:
        exporting = Exporting(env)
        limit = _COMMAND_SECONDS if signals == TRACES_ONLY else _LAST_EXPORT_SECONDS
        stack.callback(exporting.shut_down, limit)
        telemetry = Telemetry(counters, observer=observer)
        if metric_exporters:
            telemetry = replace(telemetry, meter=exporting.meter(metric_exporters, metrics))
            counters.export_to(telemetry.meter)
        tracer = exporting.tracer(traces, next_trace) if traces else None
        yield replace(telemetry, tracing=Tracing(counters, rules, tracer, next_trace))
