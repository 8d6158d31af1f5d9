"""The figures that a process has of its partitions, and the metrics made of them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from consumers.telemetry import names
from consumers.telemetry.counters import Counters
from router.releases.bundle import Bundle
from schemas.status import ModelStatus, RefusedStatus

__all__ = ["Commit", "Instruments", "PartitionFigures", "ReviewFigures", "tell_review"]

_T = TypeVar("_T")


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


@dataclass(frozen=True, slots=True)
class ReviewFigures:
    """The cases of one risk that wait for a person."""

    risk: str
    waiting: int
    past_due: int
    #: None: nothing waits.
    oldest_age_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Commit:
    """One transaction of one partition."""

    #: The topic that the records were read from.
    topic: str
    records: int
    seconds: float
    #: How many records were written, by topic.
    sent: Mapping[str, int]


class Instruments:
    """The metrics of a process.

    Exporters ask from their own threads, so they are handed values that never change.
    """

    def __init__(
        self,
        meter: Meter,
        counters: Counters,
        partitions: Callable[[], Sequence[PartitionFigures]],
        models: Callable[[], Sequence[ModelStatus]] = tuple,
        refused: Callable[[], Sequence[RefusedStatus]] = tuple,
        released: Callable[[], Sequence[Bundle]] = tuple,
        overdue: Callable[[], Sequence[tuple[str, int]]] = tuple,
    ) -> None:
        self._counters = counters
        of_partition: Mapping[str, Callable[[PartitionFigures], float | None]] = {
            names.LAG: lambda partition: partition.lag,
            names.OLDEST_AGE: lambda partition: partition.oldest_age_seconds,
            names.IN_FLIGHT: lambda partition: partition.in_flight,
            names.UNFINISHED: lambda partition: partition.unfinished,
            names.COMMITTED_OFFSET: lambda partition: partition.committed_offset,
        }
        of_model: Mapping[str, Callable[[ModelStatus], float | None]] = {
            names.MODEL_OUT: lambda model: int(model.wait_seconds > 0),
            names.MODEL_RUNNING: lambda model: model.running,
        }
        for name, of_one_partition in of_partition.items():
            _gauge(meter, name, partitions, of_one_partition, _partition_attributes)
        for name, of_one_model in of_model.items():
            _gauge(meter, name, models, of_one_model, _model_attributes)
        _gauge(
            meter,
            names.MODEL_MOST,
            models,
            lambda model: model.most_running,
            lambda model: {**_model_attributes(model), names.WHY: model.limited_by},
        )
        _gauge(
            meter,
            names.POLICY_REFUSED,
            refused,
            lambda group: group.waiting,
            lambda group: {
                names.TIER: group.tier.value,
                names.POLICY_VERSION: group.policy_version,
            },
        )
        # As a number, so that a change adds no time series, and a mix is seen by their spread.
        _gauge(
            meter,
            names.RELEASE,
            released,
            lambda bundle: int(bundle.digest, 16),
            lambda bundle: {names.POLICY: bundle.policy.name},
        )
        _gauge(
            meter,
            names.OVERDUE,
            overdue,
            lambda late: late[1],
            lambda late: {names.POLICY: late[0]},
        )

    def committed(self, stage: str, group: str, commit: Commit) -> None:
        """Note one group commit, and what was written by it."""
        for sent_to, count in commit.sent.items():
            self._counters.add(names.SENT, count, sent_to)
        source = {names.DESTINATION: commit.topic}
        self._counters.record(names.COMMIT_DURATION, commit.seconds, {**source, names.STAGE: stage})
        self._counters.record(names.CLIENT_DURATION, commit.seconds, {**source, names.GROUP: group})

    def loop_was_late(self, seconds: float) -> None:
        """Note how late one turn of the event loop was."""
        self._counters.record(names.LOOP_LAG, seconds, {})


def tell_review(meter: Meter, latest: Callable[[], Sequence[ReviewFigures]]) -> None:
    """Make the console's figures metrics: the cases that wait, by risk."""

    def risk(figures: ReviewFigures) -> Mapping[str, str]:
        return {names.RISK: figures.risk}

    _gauge(meter, names.REVIEW_WAITING, latest, lambda figures: figures.waiting, risk)
    _gauge(meter, names.REVIEW_PAST_DUE, latest, lambda figures: figures.past_due, risk)
    _gauge(meter, names.REVIEW_OLDEST_AGE, latest, lambda figures: figures.oldest_age_seconds, risk)


def _partition_attributes(figures: PartitionFigures) -> Mapping[str, str]:
    return {
        names.STAGE: figures.stage,
        names.DESTINATION: figures.topic,
        names.PARTITION: str(figures.partition),
    }


def _model_attributes(model: ModelStatus) -> Mapping[str, str]:
    return {names.MODEL: model.model, names.GEN_AI_PROVIDER: model.provider}


def _gauge(
    meter: Meter,
    name: str,
    latest: Callable[[], Sequence[_T]],
    value_of: Callable[[_T], float | None],
    attributes_of: Callable[[_T], Mapping[str, str]],
) -> None:
    def observe(_: CallbackOptions) -> Iterable[Observation]:
        for item in latest():
            if (value := value_of(item)) is not None:
                yield Observation(value, attributes_of(item))

    metric = names.METRICS[name]
    meter.create_observable_gauge(name, [observe], unit=metric.unit, description=metric.question)
