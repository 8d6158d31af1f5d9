"""The shell around a stage's own work: whatever a record holds or leads to, the stage goes on."""

from collections.abc import Sequence
from typing import Protocol

import structlog

from consumers.runtime.records import Record
from schemas.codec import Outgoing
from schemas.reasons import Reason
from schemas.topics import LARGEST_RECORD

__all__ = ["Pointing", "failed", "fits", "fitting"]

_log = structlog.get_logger(__name__)

#: For the trace context, which is added later, and for what Kafka writes around a record.
_MARGIN = 16 * 1024


class Pointing(Protocol):
    """A stage, as far as it can put a pointer in a record's place."""

    def pointer(self, record: Record, reason: Reason, detail: str) -> Sequence[Outgoing]:
        """What stands in for a record: where it lies, and why it could not be worked on."""


def failed(stage: Pointing, record: Record, error: Exception) -> Sequence[Outgoing]:
    """What a record leads to whose work has failed in a way that its stage did not foresee."""
    _log.error(
        "record failed",
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        exc_info=error,
    )
    return stage.pointer(record, Reason.INTERNAL_ERROR, type(error).__name__)


def fitting(stage: Pointing, record: Record, made: Sequence[Outgoing]) -> Sequence[Outgoing]:
    """What a record leads to; a pointer instead of what no topic takes.

    Nobody could commit that, and the partition would try for ever.
    """
    for one in made:
        if not fits(one):
            break
    else:
        return made
    kept = [one for one in made if fits(one)]
    detail = f"what followed from it has more than the {LARGEST_RECORD} bytes that Kafka takes"
    return [*kept, *stage.pointer(record, Reason.RESULT_TOO_LARGE, detail)]


def fits(one: Outgoing) -> bool:
    """True for a record that its topic takes."""
    size = len(one.value or b"") + len(one.key or b"")
    for name, value in one.headers:
        size += len(name) + len(value or b"")
    return size <= LARGEST_RECORD - _MARGIN
