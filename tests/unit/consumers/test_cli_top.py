"""What `tierline top` makes of what processes say of themselves."""

from datetime import timedelta
from typing import Any

import pytest

from consumers.cli.top import models_of, noted, processes_of
from consumers.records import why_not_taken
from schemas.codec import dump
from schemas.status import ModelStatus, StageStatus, Status
from tests.builders import NOON, a_record


def a_model(model: str = "sim-small", **fields: Any) -> ModelStatus:
    return ModelStatus(**{"model": model, "provider": "acme", "breaker": "closed", **fields})


def a_status(process: str = "p-1", **fields: Any) -> Status:
    stage = StageStatus(stage="work.low", partitions=3, lag=7, in_flight=2, free=254)
    plain = {"process": process, "started_at": NOON - timedelta(hours=5), "at": NOON}
    return Status(**{**plain, "stages": [stage], **fields})


def test_the_last_status_of_a_process_counts_until_it_says_that_it_has_ended() -> None:
    said: dict[str, Status] = {}
    for process, lag in (("p-1", 1), ("p-2", 2), ("p-1", 3)):
        stage = StageStatus(stage="route", partitions=3, lag=lag, in_flight=0, free=9)
        value = dump(a_status(process, stages=[stage]).model_dump(mode="json"))
        noted(said, a_record(value, key=process.encode()))
    assert [(row["process"], row["lag"]) for row in processes_of(said.values(), NOON)] == [
        ("p-1", 3),
        ("p-2", 2),
    ]

    noted(said, a_record(None, key=b"p-1"))
    assert why_not_taken(lambda found: noted(said, found), a_record(b"nonsense", key=b"p-3"))
    assert list(said) == ["p-2"]


@pytest.mark.parametrize(
    ("ago", "fields", "state"),
    [
        pytest.param(4, {}, "works", id="a process that does all of its work"),
        pytest.param(4, {"reasons": ["draining"]}, "draining", id="one that says why it does not"),
        pytest.param(40, {}, "silent for 40 s", id="one that was killed, or has no Kafka"),
    ],
)
def test_a_process_works_or_says_why_not_or_is_silent(
    ago: int, fields: dict[str, Any], state: str
) -> None:
    [row] = processes_of([a_status(**fields)], NOON + timedelta(seconds=ago))

    assert (row["state"], row["up"]) == (state, "5 h")


def test_who_has_been_silent_for_minutes_is_not_shown() -> None:
    assert processes_of([a_status()], NOON + timedelta(minutes=5)) == []


def test_a_model_is_summed_up_over_the_processes_that_are_heard() -> None:
    busy: dict[str, Any] = {
        "running": 3,
        "most_running": 4,
        "calls": 10,
        "failures": 2,
        "throttled": 1,
    }
    out = a_model(**busy, breaker="open", wait_seconds=28.0, calls_per_minute=2.4)
    heard = [
        a_status("p-1", models=[out, a_model("sim-large")]),
        a_status(
            "p-2", models=[a_model(running=5, most_running=32, calls=100, calls_per_minute=60.2)]
        ),
    ]
    silent = a_status("p-3", models=[a_model(calls=1_000)], at=NOON - timedelta(minutes=1))

    large, small = models_of([*heard, silent], NOON)

    assert (large["model"], large["state"], large["calls"]) == ("sim-large", "well", 0)
    assert (small["state"], small["running"]) == ("out in 1 of 2, tried in 28 s", 8)
    assert (small["at most"], small["calls/min"]) == (36, 63)
    assert (small["calls"], small["failed"], small["throttled"]) == (110, 2, 1)


def test_a_model_whose_break_is_over_is_tried_by_the_next_request() -> None:
    [row] = models_of([a_status(models=[a_model(breaker="half_open")])], NOON)

    assert row["state"] == "tried next"


def test_how_late_the_event_loop_was_is_shown_where_it_is_known() -> None:
    rows = processes_of([a_status("p-1", loop_lag_ms=41.6), a_status("p-2")], NOON)
    assert [row["loop lag"] for row in rows] == ["42 ms", ""]
