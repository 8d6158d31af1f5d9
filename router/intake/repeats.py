"""Repeats: a request id that comes again from the same tenant within one intake partition.

A producer that is not sure of its first send sends again, and the request must not be paid for
twice. So the ids and bodies of a partition's records are remembered, in their order, for a window.
Reading the partition again restores them: nothing has to be stored.
"""

from dataclasses import dataclass, field
from enum import Enum, auto

from schemas.tenancy import RequestKey

__all__ = ["Repeat", "SeenIds"]

_DIGEST_BITS = 64


class Repeat(Enum):
    """What a tenant's request id says about its record."""

    NEW = auto()
    #: The same id and the same bytes: the first request is on its way, or has ended.
    SAME = auto()
    #: The same id with other bytes: nobody can say which of the two is meant.
    OTHER_BODY = auto()


@dataclass(slots=True)
class SeenIds:
    """The ids of one intake partition, of the last `most` requests within `window` seconds.

    A repeat does not prolong the time.
    """

    window: float
    most: int
    #: Seconds and a digest of the body in one number, by id, oldest first.
    _seen: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._seen)

    def note(self, request: RequestKey, body: bytes, at: float) -> Repeat:
        """Judge the next record of the partition, appended at `at` seconds, and remember it."""
        self._forget(at)
        # Python's own keyed hash differs between processes; so does what they remember.
        digest = hash(body) & ((1 << _DIGEST_BITS) - 1)
        request_id = request.text
        earlier = self._seen.get(request_id)
        if earlier is not None:
            is_same = earlier & ((1 << _DIGEST_BITS) - 1) == digest
            return Repeat.SAME if is_same else Repeat.OTHER_BODY

        self._seen[request_id] = int(at) << _DIGEST_BITS | digest
        if len(self._seen) > self.most:
            del self._seen[next(iter(self._seen))]
        return Repeat.NEW

    def _forget(self, now: float) -> None:
        while self._seen:
            oldest = next(iter(self._seen))
            if (self._seen[oldest] >> _DIGEST_BITS) + self.window > now:
                break
            del self._seen[oldest]
