"""What `tierline top` and the flow page make of what processes report about themselves."""

from datetime import timedelta
from typing import Any

import pytest

from consumers.records import why_not_taken
from consumers.runtime.processes import Processes
from consumers.runtime.status import pass_on
from schemas.codec import dump
from schemas.status import ModelStatus, StageStatus, Status, TaskBreaker, TopicStatus
from tests.builders import NOON, a_record


def a_model(model: str = "sim-small", **fields: Any) -> ModelStatus:
    return ModelStatus(**{"model": model, "provider": "acme", "breaker": "closed", **fields})


def a_status(process: str = "p-1", **fields: Any) -> Status:
    stage = StageStatus(stage="work.low", partitions=3, lag=7, in_flight=2, free=254)
    plain = {"process": process, "started_at": NOON - timedelta(hours=5), "at": NOON}
    return Status(**{**plain, "stages": [stage], **fields})


def heard(*statuses: Status) -> Processes:
    processes = Processes()
    for status in statuses:
        processes.heard(status)
    return processes


def routing(process: str, **topics: TopicStatus) -> Status:
    stage = StageStatus(
        stage="route", partitions=2, in_flight=0, free=9, topics=list(topics.values())
    )
    return a_status(process, stages=[stage])


def test_the_last_status_of_a_process_counts_until_it_says_that_it_has_ended() -> None:
    processes = Processes()
    for process, lag in (("p-1", 1), ("p-2", 2), ("p-1", 3)):
        stage = StageStatus(stage="route", partitions=3, lag=lag, in_flight=0, free=9)
        value = dump(a_status(process, stages=[stage]).model_dump(mode="json"))
        pass_on(a_record(value, key=process.encode()), processes)
    assert [(row["process"], row["lag"]) for row in processes.process_rows(NOON)] == [
        ("p-1", 3),
        ("p-2", 2),
    ]

    pass_on(a_record(None, key=b"p-1"), processes)
    nonsense = a_record(b"nonsense", key=b"p-3")
    assert why_not_taken(lambda record: pass_on(record, processes), nonsense)
    assert [status.process for status in processes.statuses] == ["p-2"]


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
    [row] = heard(a_status(**fields)).process_rows(NOON + timedelta(seconds=ago))

    assert (row["state"], row["up"]) == (state, "5 h")


def test_who_has_been_silent_for_minutes_is_not_shown() -> None:
    assert heard(a_status()).process_rows(NOON + timedelta(minutes=5)) == []


def test_those_heard_longest_ago_make_room_for_others() -> None:
    seconds = [timedelta(seconds=number) for number in range(1_001)]
    processes = heard(*(a_status(f"p-{at.seconds:04}", at=NOON + at) for at in seconds))

    assert [status.process for status in processes.statuses][:2] == ["p-0001", "p-0002"]


def test_a_model_is_summed_up_over_the_processes_that_are_heard() -> None:
    busy: dict[str, Any] = {
        "running": 3,
        "most_running": 4,
        "calls": 10,
        "failures": 2,
        "throttled": 1,
    }
    out = a_model(**busy, breaker="open", wait_seconds=28.0, calls_per_minute=2.4)
    processes = heard(
        a_status("p-1", models=[out, a_model("sim-large")]),
        a_status(
            "p-2", models=[a_model(running=5, most_running=32, calls=100, calls_per_minute=60.2)]
        ),
        a_status("p-3", models=[a_model(calls=1_000)], at=NOON - timedelta(minutes=1)),
    )

    large, small = processes.model_rows(NOON)

    assert (large["model"], large["state"], large["calls"]) == ("sim-large", "well", 0)
    assert (small["state"], small["running"]) == ("out in 1 of 2, tried in 28 s", 8)
    assert (small["at most"], small["calls/min"]) == (36, 63)
    assert (small["calls"], small["failed"], small["throttled"]) == (110, 2, 1)


def test_a_model_whose_break_is_over_is_tried_by_the_next_request() -> None:
    [row] = heard(a_status(models=[a_model(breaker="half_open")])).model_rows(NOON)

    assert row["state"] == "tried next"


def test_a_model_may_be_out_for_one_task_alone() -> None:
    def seen(apart: str, wait: float = 0, **fields: Any) -> ModelStatus:
        triage = {"task": "triage", "breaker": apart, "wait_seconds": wait}
        routine = TaskBreaker(task="rewrite", breaker="closed")
        return a_model(apart=[TaskBreaker.model_validate(triage), routine], **fields)

    out = seen("open", 20, limited_by="slow")
    [row] = heard(
        a_status("p-1", models=[out]), a_status("p-2", models=[seen("closed")])
    ).model_rows(NOON)
    slow = "replies became slower with more calls at once"
    assert row["state"] == f"well, {slow}; for triage: out in 1 of 2, tried in 20 s"

    [row] = heard(a_status(models=[seen("half_open", breaker="open", wait_seconds=5)])).model_rows(
        NOON
    )
    assert row["state"] == "out, tried in 5 s; for rewrite: well; for triage: tried next"


def test_how_late_the_event_loop_was_is_shown_where_it_is_known() -> None:
    processes = heard(a_status("p-1", loop_lag_ms=41.6), a_status("p-2"))

    assert [row["loop lag"] for row in processes.process_rows(NOON)] == ["42 ms", ""]


def test_what_is_left_to_do_is_summed_up_by_topic() -> None:
    """The oldest of all counts; where one process does not know the lag, nobody does."""

    def part(name: str, lag: int | None, age: float | None) -> TopicStatus:
        return TopicStatus(topic=name, partitions=1, lag=lag, oldest_age_seconds=age)

    processes = heard(
        routing("p-1", intake=part("llm.intake", 3, 4.0), back=part("llm.escalations", 1, None)),
        routing("p-2", intake=part("llm.intake", 2, 90.0), back=part("llm.escalations", None, 5)),
    )

    assert processes.topic_rows(NOON) == [
        {"topic": topic, "stage": "route", "partitions": 2, "lag": lag, "oldest": oldest}
        for topic, lag, oldest in (("llm.escalations", "?", "5 s"), ("llm.intake", 5, "90 s"))
    ]
    assert processes.topic_rows(NOON + timedelta(minutes=1)) == []


def test_a_stage_that_no_process_runs_is_named_with_what_waits_for_it() -> None:
    processes = heard(routing("p-1"), a_status("p-2", at=NOON - timedelta(minutes=1)))

    processes.note_backlog("work.low", NOON, 10, 4)
    processes.note_backlog("review", NOON, 0, 0)  # nobody has ever committed

    processes.needed = ["route", "work.low", "review"]
    assert processes.missing(NOON) == {"work.low": 4, "review": None}
