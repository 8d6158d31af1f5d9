"""What a stage declares: from it follows who reads and writes which topic."""

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["StageSpec"]


@dataclass(frozen=True, slots=True)
class StageSpec:
    """A stage's name, which is also its group's, and its topics, without our prefix."""

    name: str
    #: The topics whose records it processes, each exactly once.
    reads: Sequence[str]
    #: The topics that it writes to.
    writes: Sequence[str]
    #: The topics that it also reads, to remember or to look something up.
    consults: Sequence[str] = ()
    #: The stages whose committed offsets it looks at.
    watches: Sequence[str] = ()
