"""What a process can say about its partitions in numbers, and these numbers as metrics."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from consumers.telemetry import names
from consumers.telemetry.tally import Tally

__all__ = ["Instruments", "PartitionFigures"]


@dataclass(frozen=True, slots=True)
class PartitionFigures:
    """One partition of one stage at one moment."""

    stage: str
    topic: str
    partition: int
    #: None: Kafka did not say where the partition ends.
    lag: int | None
    #: None: nothing is unfinished.
    oldest_age_seconds: float | None
    in_flight: int
    unfinished: int
    #: None: nothing was committed by this process yet.
    last_commit_ms: float | None
    #: None: nothing was ever committed.
    committed_offset: int | None


class Instruments:
    """The metrics of a process.

    Exporters ask from threads of their own, so `latest` returns what does not change any more.
    """

    def __init__(
        self, meter: Meter, tally: Tally, latest: Callable[[], Sequence[PartitionFigures]]
    ) -> None:
        self._latest, self._tally = latest, tally
        gauges: Mapping[str, Callable[[PartitionFigures], float | None]] = {
            names.LAG: lambda one: one.lag,
            names.OLDEST_AGE: lambda one: one.oldest_age_seconds,
            names.IN_FLIGHT: lambda one: one.in_flight,
            names.UNFINISHED: lambda one: one.unfinished,
            names.COMMITTED_OFFSET: lambda one: one.committed_offset,
        }
        for name, value in gauges.items():
            metric = names.METRICS[name]
            meter.create_observable_gauge(
                name, [self._observing(value)], unit=metric.unit, description=metric.question
            )

    def committed(self, stage: str, topic: str, seconds: float) -> None:
        """Note one group commit."""
        by = {names.STAGE: stage, names.DESTINATION: topic}
        self._tally.record(names.COMMIT_DURATION, seconds, by)

    def _observing(
        self, value: Callable[[PartitionFigures], float | None]
    ) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(_: CallbackOptions) -> Iterable[Observation]:
            for one in self._latest():
                if (found := value(one)) is not None:
                    where = {
                        names.STAGE: one.stage,
                        names.DESTINATION: one.topic,
                        names.PARTITION: str(one.partition),
                    }
                    yield Observation(found, where)

        return observe
