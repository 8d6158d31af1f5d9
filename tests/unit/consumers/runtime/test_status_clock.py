"""Whose clock is right: ours, or Kafka's, from which deadlines count."""

from datetime import timedelta

import pytest
from aiokafka.structs import RecordMetadata

from consumers.runtime.health import Health
from consumers.runtime.status import ahead_of_kafka


def stamped(at: float, kind: int = 1) -> RecordMetadata:
    return RecordMetadata("llm.status", 0, None, 7, int(at * 1000), kind, 0)


@pytest.mark.parametrize(("at", "ahead"), [(100.5, 0), (100, 0), (102, 0), (70, 30), (162, -60)])
def test_a_time_outside_of_the_two_of_ours_is_a_difference(at: float, ahead: float) -> None:
    assert ahead_of_kafka(100, 102, stamped(at)) == ahead


def test_a_record_that_kafka_does_not_stamp_tells_nothing() -> None:
    assert ahead_of_kafka(100, 102, stamped(70, kind=0)) is None


@pytest.mark.parametrize(
    ("ahead", "words"),
    [(None, ""), (0.0, ""), (4.0, ""), (42.0, "42 s ahead of Kafka's"), (-42.0, "42 s behind")],
)
def test_a_clock_that_differs_is_why_a_process_is_not_ready(ahead: float, words: str) -> None:
    health = Health(lambda: timedelta(seconds=60))
    health.clock_ahead = ahead
    assert [words in one for one in health.not_ready()] == ([True] if words else [])
