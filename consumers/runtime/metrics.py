"""What a process can say about its partitions in numbers, and these numbers as metrics."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from consumers.telemetry import names
from consumers.telemetry.counters import Counters
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
    """What waits for people, by risk."""

    risk: str
    waiting: int
    past_due: int
    #: None: nothing waits.
    oldest_age_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Commit:
    """One transaction of one partition."""

    #: Where the records came from, how many they were, and how many they led to by topic.
    topic: str
    records: int
    seconds: float
    sent: Mapping[str, int]


class Instruments:
    """The metrics of a process.

    Exporters ask from threads of their own, so what they are given does not change any more.
    """

    def __init__(
        self,
        meter: Meter,
        counters: Counters,
        partitions: Callable[[], Sequence[PartitionFigures]],
        models: Callable[[], Sequence[ModelStatus]] = tuple,
        refused: Callable[[], Sequence[RefusedStatus]] = tuple,
    ) -> None:
        self._counters = counters
        of_partition: Mapping[str, Callable[[PartitionFigures], float | None]] = {
            names.LAG: lambda one: one.lag,
            names.OLDEST_AGE: lambda one: one.oldest_age_seconds,
            names.IN_FLIGHT: lambda one: one.in_flight,
            names.UNFINISHED: lambda one: one.unfinished,
            names.COMMITTED_OFFSET: lambda one: one.committed_offset,
        }
        of_model: Mapping[str, Callable[[ModelStatus], float | None]] = {
            names.MODEL_OUT: lambda one: int(one.wait_seconds > 0),
            names.MODEL_RUNNING: lambda one: one.running,
        }
        for name, value in of_partition.items():
            _gauge(meter, name, partitions, value, _where)
        for name, asked in of_model.items():
            _gauge(meter, name, models, asked, _which)
        _gauge(
            meter,
            names.MODEL_MOST,
            models,
            lambda one: one.most_running,
            lambda one: {**_which(one), names.WHY: one.limited_by},
        )

        _gauge(
            meter,
            names.POLICY_REFUSED,
            refused,
            lambda one: one.waiting,
            lambda one: {names.TIER: one.tier.value, names.POLICY_VERSION: one.policy_version},
        )

    def committed(self, stage: str, group: str, commit: Commit) -> None:
        """Note one group commit, and what was written by it."""
        for topic, count in commit.sent.items():
            self._counters.add(names.SENT, count, topic)
        by = {names.DESTINATION: commit.topic}
        self._counters.record(names.COMMIT_DURATION, commit.seconds, {**by, names.STAGE: stage})
        self._counters.record(names.CLIENT_DURATION, commit.seconds, {**by, names.GROUP: group})

    def loop_was_late(self, seconds: float) -> None:
        """Note how late one turn of the event loop was."""
        self._counters.record(names.LOOP_LAG, seconds, {})


def tell_review(meter: Meter, latest: Callable[[], Sequence[ReviewFigures]]) -> None:
    """Have a console say what waits."""

    def by(one: ReviewFigures) -> Mapping[str, str]:
        return {names.RISK: one.risk}

    _gauge(meter, names.REVIEW_WAITING, latest, lambda one: one.waiting, by)
    _gauge(meter, names.REVIEW_PAST_DUE, latest, lambda one: one.past_due, by)
    _gauge(meter, names.REVIEW_OLDEST_AGE, latest, lambda one: one.oldest_age_seconds, by)


def _where(one: PartitionFigures) -> Mapping[str, str]:
    return {
        names.STAGE: one.stage,
        names.DESTINATION: one.topic,
        names.PARTITION: str(one.partition),
    }


def _which(one: ModelStatus) -> Mapping[str, str]:
    return {names.MODEL: one.model, names.GEN_AI_PROVIDER: one.provider}


def _gauge(
    meter: Meter,
    name: str,
    latest: Callable[[], Sequence[_T]],
    value: Callable[[_T], float | None],
    by: Callable[[_T], Mapping[str, str]],
) -> None:
    def observe(_: CallbackOptions) -> Iterable[Observation]:
        for one in latest():
            if (found := value(one)) is not None:
                yield Observation(found, by(one))

    metric = names.METRICS[name]
    meter.create_observable_gauge(name, [observe], unit=metric.unit, description=metric.question)
