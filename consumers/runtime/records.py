"""A Kafka record as stages see it."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Protocol

__all__ = ["Record", "appended_at", "lies_at"]


class Record(Protocol):
    """One fetched record, in bytes: decoding is the stage's work, failing at it its decision."""

    topic: str
    partition: int
    offset: int
    #: Milliseconds; the broker's append time on the topics of the flow.
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


def appended_at(record: Record, now: datetime) -> datetime:
    """When the broker appended the record; `now` where it cannot have been then.

    Topics that other tools created may carry the producer's own idea of time.
    """
    try:
        instant = datetime.fromtimestamp(record.timestamp / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return now
    return min(instant, now) if record.timestamp > 0 else now


def lies_at(record: Record) -> str:
    """Where a record lies, as people and other records name it: `topic-partition-offset`."""
    return f"{record.topic}-{record.partition}-{record.offset}"
