"""What a stage says of itself, once: everything that tells who reads and writes what follows."""

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["StageSpec"]


@dataclass(frozen=True, slots=True)
class StageSpec:
    """A stage's name, which is also its group's, and its topics, without our prefix."""

    name: str
    #: Whose records it processes, each exactly once.
    reads: Sequence[str]
    #: Where what follows from them goes.
    writes: Sequence[str]
    #: What it reads beside them, to remember or to look something up.
    consults: Sequence[str] = ()
