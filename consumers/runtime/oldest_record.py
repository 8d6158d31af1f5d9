"""How old the oldest unfinished record of a partition is. No I/O."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from consumers.records import Record

__all__ = ["OldestRecord"]

_STEP_MS = 1_000


@dataclass(slots=True)
class OldestRecord:
    """Remembers when unfinished records were appended, to the second.

    One mark stands for all records that follow it within a second of append time, so that a full
    window costs a few marks.
    """

    _marks: deque[tuple[int, int]] = field(default_factory=deque)

    @property
    def oldest_ms(self) -> int | None:
        """When the broker appended the oldest unfinished record; None when nothing is unfinished.

        Milliseconds since 1970, up to a second too early.
        """
        return self._marks[0][1] if self._marks else None

    def receive(self, records: Sequence[Record]) -> None:
        """Note records in the order of their offsets."""
        marks = self._marks
        if marks and abs(records[-1].timestamp - marks[-1][1]) < _STEP_MS:
            return  # append times only grow, so those between are within the second too
        for record in records:
            if not marks or abs(record.timestamp - marks[-1][1]) >= _STEP_MS:
                marks.append((record.offset, record.timestamp))

    def commit(self, watermark: int, unfinished: int) -> None:
        """Forget what lies below the committed watermark; all, when nothing is unfinished."""
        if not unfinished:
            self._marks.clear()
        while len(self._marks) > 1 and self._marks[1][0] <= watermark:
            self._marks.popleft()
