"""Who reads and writes which topic: our stages, as each declares itself, and everybody else.

A party's name is also in those of its clients, `tierline.NAME`, by which Kafka counts and logs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from consumers.runtime.spec import StageSpec
from consumers.stages import review, route, work
from schemas.base import Tier
from schemas.topics import TOPICS

__all__ = ["PARTIES", "STAGES", "Party", "readers_of", "writers_of"]

#: Every stage. A new one is its file and a name here.
STAGES: Sequence[StageSpec] = (route.SPEC, *map(work.spec_of, Tier), review.SPEC)


@dataclass(frozen=True, slots=True)
class Party:
    """Somebody who is no stage: a tool of ours, or somebody outside."""

    name: str
    reads: Sequence[str] = ()
    writes: Sequence[str] = ()


PARTIES: Sequence[Party] = (
    Party("producers", writes=("llm.intake",)),
    Party("downstream", reads=("llm.results",), writes=("llm.feedback",)),
    Party(
        "console",
        reads=(
            "llm.intake",
            "llm.escalations",
            "llm.results",
            "llm.dead-letters",
            "llm.attempts",
            "llm.review",
            "llm.feedback",
        ),
        writes=("llm.escalations", "llm.review"),
    ),
    Party(
        "commands",
        reads=tuple(spec.name for spec in TOPICS),
        writes=("llm.intake", "llm.review", "llm.feedback"),
    ),
    # In every process of stages: what calls it pays for (since when, its input says); how it is.
    Party(
        "ledger",
        reads=("llm.attempts", *(f"llm.tier.{tier}" for tier in Tier)),
        writes=("llm.attempts",),
    ),
    Party("status", reads=("llm.status",), writes=("llm.status",)),
)


def writers_of(topic: str) -> list[str]:
    """The names of all who write to a topic, given without our prefix."""
    stages = [one.name for one in STAGES if topic in one.writes]
    return [*stages, *(one.name for one in PARTIES if topic in one.writes)]


def readers_of(topic: str) -> list[str]:
    """The names of all who read a topic, given without our prefix."""
    stages = [one.name for one in STAGES if topic in (*one.reads, *one.consults)]
    return [*stages, *(one.name for one in PARTIES if topic in one.reads)]
