"""The shell around a stage's work: whatever a record holds or leads to, the stage goes on."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import structlog
from aiokafka import TopicPartition

from consumers.records import Record
from schemas.codec import Outgoing
from schemas.errors import ContractError, TierlineError
from schemas.reasons import Reason
from schemas.topics import LARGEST_RECORD

__all__ = ["LastResort", "NotYetError", "Shell", "fits"]

_log = structlog.get_logger(__name__)

#: Bytes for the trace context, which is added later, and for what Kafka writes around a record.
_MARGIN = 16 * 1024


class NotYetError(TierlineError):
    """A record cannot be decided about before something else is here, which is on its way."""


class LastResort(Protocol):
    """What a stage writes for records that it cannot process."""

    def failed(self, record: Record, reason: Reason, detail: str) -> Sequence[Outgoing]:
        """What a record leads to that could not be processed."""

    def poisonous(self, record: Record, deaths: int) -> Sequence[Outgoing]:
        """What stands in for a record at which so many processes have ended."""

    def pointer(
        self, source: TopicPartition, offset: int, reason: Reason, detail: str
    ) -> Sequence[Outgoing]:
        """What stands in for a record whose content is not used: its place, and why."""


class Shell:
    """Turns an error over a record into what its stage writes instead."""

    def __init__(self, last_resort: LastResort) -> None:
        self._last_resort = last_resort

    def decide(
        self, decide: Callable[[Record], Sequence[Outgoing]], record: Record
    ) -> Sequence[Outgoing]:
        """What a record leads to, whatever it holds. Raises NotYetError."""
        try:
            return self._fitting(record, decide(record))
        except NotYetError:
            raise
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
        except Exception as second:  # noqa: BLE001  writing the dead letter has failed too
            _log_failure(record, second)
            return self._pointer(record, reason, detail)

    def _fitting(self, record: Record, led_to: Sequence[Outgoing]) -> Sequence[Outgoing]:
        """What a record leads to, with a pointer in place of records that no topic takes.

        They could never be committed, and the partition would try for ever.
        """
        kept = [outgoing for outgoing in led_to if fits(outgoing)]
        if len(kept) == len(led_to):
            return led_to
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


def fits(outgoing: Outgoing) -> bool:
    """True for a record that is small enough for its topic."""
    size = len(outgoing.value or b"") + len(outgoing.key or b"")
    for name, value in outgoing.headers:
        size += len(name) + len(value or b"")
    return size <= LARGEST_RECORD - _MARGIN
