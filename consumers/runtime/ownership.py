"""Who owns an input partition, judged by what was committed. No I/O.

Every owner fences, reads what is committed, works, and commits outputs and completion in one
transaction. So at most one commit can follow any committed state, and reading it back tells an
owner whether it is still alone. Commits are compared with their identities: two owners that finish
the same records leave equal states, and only one of them has booked its calls.
"""

from collections import deque
from dataclasses import dataclass, field
from enum import Enum, auto

from consumers.runtime.offsets import Completion
from schemas.errors import TierlineError

__all__ = [
    "CommitOutcome",
    "FenceLimit",
    "FencedError",
    "PartitionLostError",
    "may_adopt",
    "resolve_commit",
]

#: Two processes that both take themselves for the owner could fence each other for ever.
_MOST, _WITHIN = 3, 60.0


class FencedError(TierlineError):
    """Another process takes the partition again and again, as we do: one of us must give way."""


class PartitionLostError(TierlineError):
    """Another process owns the partition now."""


class CommitOutcome(Enum):
    """What became of a commit whose answer never came."""

    COMMITTED = auto()
    NOT_COMMITTED = auto()
    #: Another process has committed since: the partition is not ours any more.
    LOST = auto()


def resolve_commit(
    stored: Completion | None, *, doubtful: Completion, before: Completion | None
) -> CommitOutcome:
    """Judge a commit by what is stored after a fence: itself, what was before it, or neither."""
    if stored == doubtful:
        return CommitOutcome.COMMITTED
    return CommitOutcome.NOT_COMMITTED if stored == before else CommitOutcome.LOST


def may_adopt(
    stored: Completion | None, *, committed: Completion | None, committing: Completion | None
) -> bool:
    """True when a partition that comes back to us is as we left it, its running calls included."""
    return stored == committed or (committing is not None and stored == committing)


@dataclass(slots=True)
class FenceLimit:
    """How often we were fenced recently."""

    _at: deque[float] = field(default_factory=lambda: deque(maxlen=_MOST))

    def exceeded(self, now: float) -> bool:
        """Note a fencing at `now`, in seconds. True: another owner insists, so give way."""
        is_too_many = len(self._at) == _MOST and now - self._at[0] < _WITHIN
        self._at.append(now)
        return is_too_many
