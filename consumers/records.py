"""A Kafka record as stages see it."""

import json
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Protocol

from aiokafka import TopicPartition

from schemas.base import EARLIEST, LATEST
from schemas.errors import ContractError

__all__ = [
    "Record",
    "Source",
    "appended_at",
    "mentions",
    "partition_of",
    "pattern_of",
    "record_ref",
    "told_at",
    "why_not_taken",
]


#: A topic and a partition of it.
Source = TopicPartition


class Record(Protocol):
    """One fetched record, as bytes: the stage decodes it, and decides what follows if it cannot."""

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
    return min(told_at(record), now) if record.timestamp > 0 else now


def told_at(record: Record) -> datetime:
    """The record's own timestamp, moved into the range of times that we take for possible."""
    first, last = EARLIEST.timestamp() * 1000, LATEST.timestamp() * 1000
    return datetime.fromtimestamp(min(max(record.timestamp, first), last) / 1000, UTC)


def record_ref(record: Record) -> str:
    """Where a record is, as people and other records name it: `topic-partition-offset`."""
    return f"{record.topic}-{record.partition}-{record.offset}"


@lru_cache(8)
def pattern_of(ids: tuple[str, ...]) -> re.Pattern[bytes]:
    """A pattern that finds any of these ids, as it is or with the escapes of JSON."""
    forms = {form for text in ids for form in (text, json.dumps(text)[1:-1])}
    return re.compile(b"|".join(re.escape(form.encode()) for form in sorted(forms)))


def mentions(record: Record, pattern: re.Pattern[bytes]) -> bool:
    """True where the value of a record, or of one of its headers, holds what a pattern finds."""
    texts = (record.value, *(value for _, value in record.headers))
    return any(pattern.search(text) for text in texts if text)


def why_not_taken(take: Callable[[Record], object], record: Record) -> str | None:
    """Have a reader take a record; why it cannot, in words, or None where it has.

    For readers outside of the stages: anybody may have written the record, and it must not stop
    them.
    """
    try:
        take(record)
    except ContractError as error:
        return error.detail
    except Exception as error:  # noqa: BLE001  whatever a forged record brings about
        return type(error).__name__
    return None


class _Placed(Protocol):
    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...


def partition_of(record: _Placed) -> TopicPartition:
    """The partition that a record or a pointer is in."""
    return TopicPartition(record.topic, record.partition)
