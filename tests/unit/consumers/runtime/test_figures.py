"""Figures as an OpenTelemetry reader gets them."""

from collections.abc import Sequence

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    HistogramDataPoint,
    InMemoryMetricReader,
    Metric,
    NumberDataPoint,
)

from consumers.runtime.metrics import Commit, Instruments, PartitionFigures
from consumers.telemetry import names
from consumers.telemetry.counters import Counters
from schemas.status import ModelStatus

_QUIET = PartitionFigures(
    stage="route",
    topic="llm.intake",
    partition=0,
    lag=0,
    oldest_age_seconds=None,
    in_flight=0,
    unfinished=0,
    last_commit_ms=None,
    committed_offset=None,
)
_BUSY = PartitionFigures(
    stage="route",
    topic="llm.intake",
    partition=1,
    lag=10,
    oldest_age_seconds=2.5,
    in_flight=3,
    unfinished=4,
    last_commit_ms=12.0,
    committed_offset=77,
)


def _read(reader: InMemoryMetricReader) -> dict[str, Metric]:
    data = reader.get_metrics_data()
    assert data is not None
    scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics]
    return {metric.name: metric for scope in scopes for metric in scope.metrics}


def _by_partition(metric: Metric) -> dict[object, float]:
    found: dict[object, float] = {}
    for point in metric.data.data_points:
        assert isinstance(point, NumberDataPoint)
        assert point.attributes is not None
        assert point.attributes["tierline.stage"] == "route"
        assert point.attributes["messaging.destination.name"] == "llm.intake"
        found[point.attributes["messaging.destination.partition.id"]] = point.value
    return found


def test_gauges_say_what_the_last_look_found_and_leave_out_what_is_unknown() -> None:
    latest: Sequence[PartitionFigures] = ()
    reader = InMemoryMetricReader()
    Instruments(MeterProvider([reader]).get_meter("tests"), Counters(), lambda: latest)
    latest = [_QUIET, _BUSY]

    metrics = _read(reader)

    assert {name: _by_partition(metric) for name, metric in metrics.items()} == {
        names.LAG: {"0": 0, "1": 10},
        names.OLDEST_AGE: {"1": 2.5},
        names.IN_FLIGHT: {"0": 0, "1": 3},
        names.UNFINISHED: {"0": 0, "1": 4},
        names.COMMITTED_OFFSET: {"1": 77},
    }
    assert metrics[names.LAG].unit == "{record}"
    assert metrics[names.OLDEST_AGE].unit == "s"


def test_gauges_say_which_models_are_out_and_what_they_bear() -> None:
    reader = InMemoryMetricReader()
    out = ModelStatus(model="a", provider="x", breaker="open", wait_seconds=9, most_running=4)
    well = ModelStatus(model="b", provider="x", breaker="closed", running=3, most_running=16)
    meter = MeterProvider([reader]).get_meter("tests")
    Instruments(meter, Counters(), list, lambda: [out, well])

    found = {
        (name, point.attributes["tierline.model"]): point.value
        for name, metric in _read(reader).items()
        for point in metric.data.data_points
        if isinstance(point, NumberDataPoint) and point.attributes is not None
    }
    assert found == {
        (names.MODEL_OUT, "a"): 1,
        (names.MODEL_OUT, "b"): 0,
        (names.MODEL_RUNNING, "a"): 0,
        (names.MODEL_RUNNING, "b"): 3,
        (names.MODEL_MOST, "a"): 4,
        (names.MODEL_MOST, "b"): 16,
    }


def test_commits_are_counted_by_their_duration_in_seconds() -> None:
    reader = InMemoryMetricReader()
    meter, counters = MeterProvider([reader]).get_meter("tests"), Counters()
    counters.export_to(meter)
    instruments = Instruments(meter, counters, list)

    for seconds in (0.004, 0.03, 200.0):
        commit = Commit("llm.intake", 2, seconds, {"llm.tier.low": 2})
        instruments.committed("route", "tierline.route", commit)

    assert counters.count(names.SENT, "llm.tier.low") == 6
    metric = _read(reader)[names.COMMIT_DURATION]
    (point,) = metric.data.data_points
    assert isinstance(point, HistogramDataPoint)
    assert (metric.unit, point.count) == ("s", 3)
    assert (point.bucket_counts[0], point.bucket_counts[-1]) == (1, 1)
    assert point.attributes == {
        "tierline.stage": "route",
        "messaging.destination.name": "llm.intake",
    }
    (settled,) = _read(reader)[names.CLIENT_DURATION].data.data_points
    assert settled.attributes == {
        "messaging.system": "kafka",
        "messaging.operation.name": "commit",
        "messaging.operation.type": "settle",
        "messaging.consumer.group.name": "tierline.route",
        "messaging.destination.name": "llm.intake",
    }
