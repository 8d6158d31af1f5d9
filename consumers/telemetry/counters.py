"""Counts of a process, kept as plain numbers and read when somebody asks.

Counting a route through the metrics library costs a tenth of deciding it; adding to a dictionary
costs nothing one can measure.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, Histogram, Meter, Observation
from opentelemetry.trace import Span, set_span_in_context

from consumers.telemetry.names import METRICS, Metric

__all__ = ["Counters"]


class Counters:
    """The counters of a process, and its histograms once there is a meter."""

    def __init__(self, metrics: Mapping[str, Metric] = METRICS) -> None:
        self._metrics = metrics
        self._counts: dict[str, defaultdict[tuple[str, ...], float]] = {
            one.name: defaultdict(float) for one in metrics.values() if one.kind == "counter"
        }
        self._histograms: dict[str, Histogram] = {}

    def add(self, name: str, amount: float, *by: str) -> None:
        """Count, by the values of the metric's attributes in their order."""
        self._counts[name][by] += amount

    def record(
        self, name: str, value: float, fields: Mapping[str, str], span: Span | None = None
    ) -> None:
        """Note one value of a histogram; with a span it may become an example of its bucket."""
        if (histogram := self._histograms.get(name)) is not None:
            context = set_span_in_context(span, Context()) if span is not None else Context()
            histogram.record(value, {**fields, **self._metrics[name].always}, context)

    @property
    def is_recording(self) -> bool:
        """True when somebody collects histograms."""
        return bool(self._histograms)

    def count(self, name: str, *by: str) -> float:
        """What was counted so far."""
        return self._counts[name].get(by, 0)

    def export_to(self, meter: Meter) -> None:
        """Let the meter's readers ask for everything."""
        for one in self._metrics.values():
            if one.kind == "counter":
                meter.create_observable_counter(
                    one.name, [self._observing(one)], unit=one.unit, description=one.question
                )
            elif one.kind == "histogram":
                self._histograms[one.name] = meter.create_histogram(
                    one.name,
                    unit=one.unit,
                    description=one.question,
                    explicit_bucket_boundaries_advisory=one.buckets,
                )

    def _observing(self, one: Metric) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(_: CallbackOptions) -> Sequence[Observation]:
            # A copy in one step: exporters ask from threads of their own.
            counted = list(self._counts[one.name].items())
            return [
                Observation(
                    amount,
                    {
                        **{name: said for name, said in zip(one.by, by, strict=True) if said},
                        **one.always,
                    },
                )
                for by, amount in counted
            ]

        return observe
