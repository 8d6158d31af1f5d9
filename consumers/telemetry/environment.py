"""The standard environment variables of OpenTelemetry: what they ask for, and mistakes in them."""

from collections.abc import Mapping, Sequence
from typing import Literal

from consumers.addresses import check_url
from schemas.errors import TierlineError

__all__ = [
    "SAMPLER_OF_PARENTS",
    "Environment",
    "Signal",
    "TelemetryError",
    "check_values",
    "exporters_of",
    "share_of",
    "whole_number",
]

SAMPLER_OF_PARENTS = "parentbased_"
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
Signal = Literal["TRACES", "METRICS"]


class TelemetryError(TierlineError):
    """A setting has no valid value; the message says what was expected."""


def exporters_of(signal: Signal, env: Environment, available: Sequence[str]) -> tuple[str, ...]:
    """The exporters of a signal, among those available. Raises TelemetryError."""
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


def share_of(env: Environment) -> float:
    """The share of traces to keep, by the variables for samplers. Raises TelemetryError."""
    sampler = env.get("OTEL_TRACES_SAMPLER", "parentbased_always_on").strip()
    kind = sampler.removeprefix(SAMPLER_OF_PARENTS)
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


def whole_number(variable: str, env: Environment, default: int, *, least: int = 1) -> int:
    """The whole number that a variable holds, or the default. Raises TelemetryError."""
    text = env.get(variable, "").strip() or str(default)
    if not text.isdecimal() or int(text) < least:
        msg = f"{variable}={text}: a whole number of at least {least} was expected"
        raise TelemetryError(msg)
    return int(text)


def check_values(env: Environment, exporters: Sequence[str]) -> None:
    """Refuse values for which the library would raise an error of its own, or do nothing."""
    for variable in _COUNTS if exporters else ():
        if variable in env:
            whole_number(variable, env, 1, least=0 if variable.endswith("_LIMIT") else 1)
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
