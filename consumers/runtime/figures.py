"""What a process can say about its partitions in numbers, and the names these have as metrics.

The names and units live here and nowhere else. Nothing is exported from here: the instruments are
those of the OpenTelemetry API, which do nothing until a process sets up a provider.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from opentelemetry.metrics import CallbackOptions, Meter, Observation

__all__ = [
    "COMMITTED_OFFSET",
    "COMMIT_DURATION",
    "IN_FLIGHT",
    "LAG",
    "OLDEST_AGE",
    "UNFINISHED",
    "Instruments",
    "PartitionFigures",
]

#: Records whose outcome is not committed, fetched or not; holes between offsets count too.
LAG = "tierline.consumer.lag"
#: Seconds since the broker appended the oldest record that is fetched and not committed.
OLDEST_AGE = "tierline.consumer.oldest_age"
#: Records being processed.
IN_FLIGHT = "tierline.consumer.in_flight"
#: Records fetched and not committed.
UNFINISHED = "tierline.consumer.unfinished"
#: The low watermark: every record below it is committed.
COMMITTED_OFFSET = "tierline.consumer.committed_offset"
#: From the beginning of a group commit to its end, with all that went wrong on the way.
COMMIT_DURATION = "tierline.commit.duration"

_STAGE = "tierline.stage"
_TOPIC = "messaging.destination.name"
_PARTITION = "messaging.destination.partition.id"
_COMMIT_BUCKETS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)


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

    def __init__(self, meter: Meter, latest: Callable[[], Sequence[PartitionFigures]]) -> None:
        self._latest = latest
        self._commits = meter.create_histogram(
            COMMIT_DURATION,
            unit="s",
            description="Duration of a group commit",
            explicit_bucket_boundaries_advisory=_COMMIT_BUCKETS,
        )
        gauges: Sequence[tuple[str, str, str, Callable[[PartitionFigures], float | None]]] = (
            (LAG, "{record}", "Records not committed yet", lambda one: one.lag),
            (OLDEST_AGE, "s", "Age of the oldest record in hand", lambda o: o.oldest_age_seconds),
            (IN_FLIGHT, "{record}", "Records being processed", lambda one: one.in_flight),
            (UNFINISHED, "{record}", "Records fetched, not committed", lambda one: one.unfinished),
            (COMMITTED_OFFSET, "{offset}", "Low watermark", lambda one: one.committed_offset),
        )
        for name, unit, description, value in gauges:
            meter.create_observable_gauge(
                name, callbacks=[self._observing(value)], unit=unit, description=description
            )

    def committed(self, stage: str, topic: str, seconds: float) -> None:
        """Count one group commit."""
        self._commits.record(seconds, {_STAGE: stage, _TOPIC: topic})

    def _observing(
        self, value: Callable[[PartitionFigures], float | None]
    ) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(_: CallbackOptions) -> Iterable[Observation]:
            for one in self._latest():
                if (found := value(one)) is not None:
                    where = {_STAGE: one.stage, _TOPIC: one.topic, _PARTITION: str(one.partition)}
                    yield Observation(found, where)

        return observe
