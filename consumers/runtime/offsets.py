"""Which offsets of one input partition are done, and how that is written down. No I/O.

Calls finish out of order, so a committed offset alone would forget everything that finished above
it. The commit therefore carries, beside the low watermark, the short list of offsets above it that
are *not* finished: finished is the normal state, so the list grows with the calls in flight and not
with the window. Offsets are never assumed to be contiguous, because transaction markers, aborted
records and compaction leave holes.

A commit also carries its own identity: two owners that finish the same records leave equal lists,
and one must not take the other's commit, and what it has booked, for its own.
"""

import base64
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

__all__ = ["MAX_UNFINISHED", "OWNER_BITS", "CommitId", "Completion", "OffsetTracker"]

#: 1,000 deltas below 2,097,152, the window and the identity are at most 3,018 bytes, 3,774
#: characters: under the 4,096 that a broker takes as commit metadata.
MAX_UNFINISHED = 1_000
MAX_WINDOW = 16_000
_VERSION = "1"
#: An identity is written in groups of seven bits: ten for the owner, five for its commits.
_OWNER_GROUPS, _NO_GROUPS = 10, 5
#: Bits of the random number that tells owners apart: enough that none is drawn twice.
OWNER_BITS = 7 * _OWNER_GROUPS


class CommitId(NamedTuple):
    """Which commit of which owner it is."""

    owner: int
    #: Counts the commits of that owner.
    no: int


@dataclass(frozen=True, slots=True)
class Completion:
    """The committed state of a partition.

    Everything below `watermark` is finished, everything from `through` on is not, and between them
    everything is finished but `unfinished`, in rising order.
    """

    watermark: int
    through: int = 0
    unfinished: tuple[int, ...] = ()
    #: None in a commit of a release that wrote none.
    identity: CommitId | None = None

    def is_finished(self, offset: int) -> bool:
        """True when the offset's outcome was committed."""
        if offset < self.watermark:
            return True
        if offset >= self.through:
            return False
        at = bisect_left(self.unfinished, offset)
        return at == len(self.unfinished) or self.unfinished[at] != offset

    def encode(self) -> str:
        """The commit metadata: empty where the watermark alone says it all.

        The identity comes last, in bytes that all have the continuation bit: releases that know no
        identity take them for a number without an end, and read the rest as before.
        """
        if self.through <= self.watermark and self.identity is None:
            return ""

        numbers = [max(self.through - self.watermark, 0)]
        previous = self.watermark
        for offset in self.unfinished:
            numbers.append(offset - previous)
            previous = offset
        raw = b"".join(_varint(number) for number in numbers)
        if self.identity is not None:
            raw += _endless(self.identity.owner, _OWNER_GROUPS)
            raw += _endless(self.identity.no, _NO_GROUPS)
        return _VERSION + base64.b85encode(raw).decode("ascii")

    @classmethod
    def decode(cls, watermark: int, metadata: str) -> "Completion":
        """Read a commit back. Raises ValueError for metadata that is not ours."""
        if not metadata:
            return cls(watermark)
        if metadata[0] != _VERSION:
            msg = f"commit metadata of version {metadata[0]!r}; this release reads {_VERSION!r}"
            raise ValueError(msg)

        raw = base64.b85decode(metadata[1:])
        numbers = _varints(raw)
        window = next(numbers)
        unfinished, previous = [], watermark
        for delta in numbers:
            previous += delta
            unfinished.append(previous)
        through = watermark + window if window else 0
        return cls(watermark, through, tuple(unfinished), _identity_in(raw))


@dataclass(slots=True)
class OffsetTracker:
    """Remembers the offsets of a partition that are received but not settled.

    Offsets that were restored as unfinished and not received again yet stay on the list: a second
    crash must not forget them.
    """

    next_fetch: int
    _restored: Completion = Completion(0)
    #: Received and not settled, in the order of their offsets.
    _unsettled: dict[int, None] = field(default_factory=dict)
    #: Restored as unfinished and not received again yet.
    _carried: dict[int, None] = field(default_factory=dict)
    _through: int = 0

    @classmethod
    def restore(cls, committed: Completion) -> "OffsetTracker":
        """Start from what was committed."""
        return cls(
            next_fetch=committed.watermark,
            _restored=committed,
            _carried=dict.fromkeys(committed.unfinished),
            _through=committed.through,
        )

    @property
    def unsettled_count(self) -> int:
        """Offsets received and not settled."""
        return len(self._unsettled)

    @property
    def room(self) -> int:
        """How many more records may be received before metadata or window grow too large."""
        free = MAX_UNFINISHED - len(self._unsettled) - len(self._carried)
        window = self.next_fetch - self._low()
        return 0 if window >= MAX_WINDOW else max(free, 0)

    def receive(self, offset: int) -> bool:
        """Note a fetched record. False: it is finished already, or was received before."""
        if offset < self.next_fetch:
            return False

        self.next_fetch = offset + 1
        while self._carried and (first := next(iter(self._carried))) <= offset:
            # An offset below this one that did not come is gone from the log.
            del self._carried[first]
        if self._restored.is_finished(offset):
            return False

        self._unsettled[offset] = None
        return True

    def settle(self, offsets: Iterable[int]) -> None:
        """Note that the outcomes of these offsets are about to be committed."""
        for offset in offsets:
            del self._unsettled[offset]
            self._through = max(self._through, offset + 1)

    def completion(self, identity: CommitId | None = None) -> Completion:
        """What to commit now, under this identity."""
        low = self._low()
        # Received offsets are below the carried ones, so their order is the order of offsets.
        open_offsets = (*self._unsettled, *self._carried)
        unfinished = tuple(offset for offset in open_offsets if offset < self._through)
        through = self._through if self._through > low else 0
        return Completion(low, through, unfinished if through else (), identity)

    def _low(self) -> int:
        for offset in self._unsettled:
            return offset
        for offset in self._carried:
            return offset
        return max(self.next_fetch, self._through)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _endless(number: int, groups: int) -> bytes:
    """A number in groups of seven bits, lowest first, all with the continuation bit set."""
    return bytes(number >> 7 * group & 0x7F | 0x80 for group in range(groups))


def _identity_in(raw: bytes) -> CommitId | None:
    """The identity behind the last number that ends."""
    tail = raw[max((at for at, byte in enumerate(raw) if byte < 0x80), default=-1) + 1 :]
    if len(tail) != _OWNER_GROUPS + _NO_GROUPS:
        return None
    number = sum((byte & 0x7F) << 7 * at for at, byte in enumerate(tail))
    return CommitId(number % (1 << OWNER_BITS), number >> OWNER_BITS)


def _varints(raw: bytes) -> Iterator[int]:
    number, shift = 0, 0
    for byte in raw:
        number |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            yield number
            number, shift = 0, 0
