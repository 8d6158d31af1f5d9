"""The watchdog's rule: work and no movement for too long, and nothing else."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.runtime.watchdog import Alive, Glance, Pulse, Stuck, Watch, default_patience

PATIENCE = timedelta(seconds=60)
AT_REST = Glance(now=100.0, lag=0, in_flight=0, moved=7)


def _after(*glances: Glance) -> Pulse:
    first, *rest = glances
    watch = Watch.begin(first)
    for glance in rest:
        watch = watch.next(glance, PATIENCE)
    return watch.pulse(glances[-1], PATIENCE)


def _every_five_seconds(glance: Glance, seconds: int) -> list[Glance]:
    return [replace(glance, now=glance.now + passed) for passed in range(0, seconds + 1, 5)]


@pytest.mark.parametrize(
    ("glance", "seconds", "is_stuck"),
    [
        pytest.param(AT_REST, 600, False, id="without work nothing has to move"),
        pytest.param(replace(AT_REST, lag=3), 55, False, id="there is patience left"),
        pytest.param(replace(AT_REST, lag=3), 60, True, id="lag and no movement"),
        pytest.param(replace(AT_REST, in_flight=1), 60, True, id="a call that never ends"),
        pytest.param(
            replace(AT_REST, lag=3, is_kafka_away=True), 600, False, id="Kafka is waited for"
        ),
    ],
)
def test_a_stage_that_does_not_move(glance: Glance, seconds: int, is_stuck: bool) -> None:
    assert isinstance(_after(*_every_five_seconds(glance, seconds)), Stuck) is is_stuck


def test_the_reason_names_how_long_and_what_waits() -> None:
    stuck = _after(*_every_five_seconds(replace(AT_REST, lag=3, in_flight=2), 60))

    assert stuck == Stuck("nothing has moved for 60 s, with 2 in flight and a lag of 3")


@pytest.mark.parametrize(
    "event",
    [
        pytest.param(replace(AT_REST, lag=3, moved=8), id="a commit"),
        pytest.param(replace(AT_REST, lag=0), id="a moment without work"),
        pytest.param(replace(AT_REST, lag=3, is_kafka_away=True), id="Kafka away"),
    ],
)
def test_patience_begins_anew_after(event: Glance) -> None:
    still = _every_five_seconds(replace(AT_REST, lag=3), 55)
    event = replace(event, now=still[-1].now + 5)
    again = replace(still[-1], now=event.now, moved=event.moved)

    assert _after(*still, event, *_every_five_seconds(again, 55)) == Alive()
    assert isinstance(_after(*still, event, *_every_five_seconds(again, 60)), Stuck)


def test_a_process_that_was_stopped_is_not_stuck_when_it_goes_on() -> None:
    waiting = replace(AT_REST, lag=3)

    assert _after(waiting, replace(waiting, now=waiting.now + 3_600)) == Alive()


@pytest.mark.parametrize(("call", "patience"), [(1, 60), (40, 60), (60, 90), (300, 450)])
def test_patience_is_longer_than_a_call(call: int, patience: int) -> None:
    assert default_patience(timedelta(seconds=call)) == timedelta(seconds=patience)


@given(
    st.lists(
        st.tuples(
            st.floats(0.1, 100),
            st.integers(0, 2),
            st.integers(0, 2),
            st.booleans(),
            st.sampled_from([False, False, False, True]),
        ),
        min_size=1,
        max_size=60,
    )
)
def test_only_work_without_movement_over_the_whole_patience_is_stuck(
    steps: list[tuple[float, int, int, bool, bool]],
) -> None:
    now, moved = 0.0, 0
    watch = Watch.begin(Glance(now, 0, 0, moved))
    #: Since when every glance has shown work, no movement and Kafka there.
    still_since: float | None = 0.0
    for passed, lag, in_flight, has_moved, is_kafka_away in steps:
        before, now, moved = now, now + passed, moved + has_moved
        glance = Glance(now, lag, in_flight, moved, is_kafka_away)
        watch = watch.next(glance, PATIENCE)
        if has_moved or is_kafka_away or not (lag or in_flight):
            still_since = None
        elif still_since is None:
            still_since = before

        pulse = watch.pulse(glance, PATIENCE)

        if isinstance(pulse, Stuck):
            assert still_since is not None
            assert now - still_since >= PATIENCE.total_seconds() - 0.001
        else:
            assert watch.still < PATIENCE.total_seconds()
