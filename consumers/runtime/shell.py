"""The shell around a stage's own work: whatever a record holds or leads to, the stage goes on."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import structlog
from aiokafka import TopicPartition

from consumers.runtime.records import Record
from schemas.codec import Outgoing
from schemas.errors import ContractError
from schemas.reasons import Reason
from schemas.topics import LARGEST_RECORD

__all__ = ["LastResort", "Shell", "fits"]

_log = structlog.get_logger(__name__)

#: For the trace context, which is added later, and for what Kafka writes around a record.
_MARGIN = 16 * 1024


class LastResort(Protocol):
    """What a stage writes for records that it cannot work on."""

    def failed(self, record: Record, reason: Reason, detail: str) -> Sequence[Outgoing]:
        """What a record leads to that could not be worked on."""

    def poisonous(self, record: Record, deaths: int) -> Sequence[Outgoing]:
        """What stands in for a record at which so many processes have ended."""

    def pointer(
        self, source: TopicPartition, offset: int, reason: Reason, detail: str
    ) -> Sequence[Outgoing]:
        """What stands in for a record of which nothing is read: where it lies, and why."""


class Shell:
    """Turns what goes wrong with a record into what its stage writes instead."""

    def __init__(self, last_resort: LastResort) -> None:
        self._last_resort = last_resort

    def decide(
        self, decide: Callable[[Record], Sequence[Outgoing]], record: Record
    ) -> Sequence[Outgoing]:
        """What a record leads to, whatever it holds."""
        try:
            return self._fitting(record, decide(record))
        except Exception as error:  # noqa: BLE001  one record must not stop the others
            return self._failed(record, error)

    async def handle(
        self, handling: Awaitable[Sequence[Outgoing]], record: Record
    ) -> Sequence[Outgoing]:
        """What a record leads to whose work takes time, whatever it holds."""
        try:
            return self._fitting(record, await handling)
        except Exception as error:  # noqa: BLE001  one record must not stop the others
            return self._failed(record, error)

    def poisonous(self, record: Record, deaths: int) -> Sequence[Outgoing]:
        """What stands in for a record at which so many processes have ended."""
        return self._last_resort.poisonous(record, deaths)

    def unreadable(self, source: TopicPartition, offset: int, why: str) -> Sequence[Outgoing]:
        """What stands in for a record that nobody can parse."""
        return self._last_resort.pointer(source, offset, Reason.UNREADABLE_RECORD, why)

    def _failed(self, record: Record, error: Exception) -> Sequence[Outgoing]:
        if isinstance(error, ContractError):
            reason, detail = error.reason, error.detail
        else:
            reason, detail = Reason.INTERNAL_ERROR, type(error).__name__
            _log_failure(record, error)
        try:
            return self._fitting(record, self._last_resort.failed(record, reason, detail))
        except Exception as again:  # noqa: BLE001  what says why it failed has failed too
            _log_failure(record, again)
            return self._pointer(record, reason, detail)

    def _fitting(self, record: Record, made: Sequence[Outgoing]) -> Sequence[Outgoing]:
        """What a record leads to; a pointer instead of what no topic takes.

        Nobody could commit that, and the partition would try for ever.
        """
        kept = [one for one in made if fits(one)]
        if len(kept) == len(made):
            return made
        detail = f"what followed from it has more than the {LARGEST_RECORD} bytes that Kafka takes"
        return [*kept, *self._pointer(record, Reason.RESULT_TOO_LARGE, detail)]

    def _pointer(self, record: Record, reason: Reason, detail: str) -> Sequence[Outgoing]:
        source = TopicPartition(record.topic, record.partition)
        return self._last_resort.pointer(source, record.offset, reason, detail)


def _log_failure(record: Record, error: Exception) -> None:
    _log.error(
        "record failed",
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        exc_info=error,
    )


def fits(one: Outgoing) -> bool:
    """True for a record that its topic takes."""
    size = len(one.value or b"") + len(one.key or b"")
    for name, value in one.headers:
        size += len(name) + len(value or b"")
    return size <= LARGEST_RECORD - _MARGIN
