"""Repeats: a request id that comes again from the same tenant within one intake partition.

A producer that is not sure of its first send sends again. Whoever pays for calls must see that it
is the same request: a fold over the partition's records, in their order, remembers ids and bodies
for a stated window. It is rebuilt by reading the partition again: nothing has to be stored.
"""

from dataclasses import dataclass, field
from enum import Enum, auto

from schemas.tenancy import RequestKey

__all__ = ["Repeat", "SeenIds"]

_DIGEST_BITS = 64


class Repeat(Enum):
    """What a tenant's request id says about its record."""

    NEW = auto()
    #: The same id and the same bytes: the first one is on its way, or has ended.
    SAME = auto()
    #: The same id with other bytes: which of the two is meant is a guess.
    OTHER_BODY = auto()


@dataclass(slots=True)
class SeenIds:
    """The ids of one intake partition, for `window` seconds or the last `most` requests.

    Whichever of the two is shorter. A repeat does not lengthen the time.
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
        # Python's own keyed hash: it differs between processes, and so does this memory.
        digest = hash(body) & ((1 << _DIGEST_BITS) - 1)
        which = request.text
        known = self._seen.get(which)
        if known is not None:
            same = known & ((1 << _DIGEST_BITS) - 1) == digest
            return Repeat.SAME if same else Repeat.OTHER_BODY

        self._seen[which] = int(at) << _DIGEST_BITS | digest
        if len(self._seen) > self.most:
            del self._seen[next(iter(self._seen))]
        return Repeat.NEW

    def _forget(self, now: float) -> None:
        while self._seen:
            oldest = next(iter(self._seen))
            if (self._seen[oldest] >> _DIGEST_BITS) + self.window > now:
                break
            del self._seen[oldest]
