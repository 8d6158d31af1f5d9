"""Who reads and writes which topic: our stages, as each declares, and all other parties.

A party's name is part of its client id, `tierline.NAME`, by which Kafka counts and logs.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from consumers.stages import admit, review, route, work
from consumers.stages.contract import StageKind
from schemas.base import Tier
from schemas.topics import TOPICS

__all__ = ["PARTIES", "STAGES", "Party", "readers_of", "stages_of", "writers_of"]

#: Every stage. A new one is its file and a name here.
STAGES: Sequence[StageKind] = (route.KIND, admit.KIND, *work.KINDS, review.KIND)


@dataclass(frozen=True, slots=True)
class Party:
    """A reader or writer that is no stage: a tool of ours, or a system outside."""

    name: str
    reads: Sequence[str] = ()
    writes: Sequence[str] = ()
    #: A system that is not ours.
    is_outside: bool = False
    #: No process of its own, but part of those that run stages.
    is_within_stages: bool = False
    #: Keeps strikes against records that end its process, in a group of its name.
    has_strikes: bool = False
    creates_topics: bool = False
    #: The stages whose committed offsets it looks at.
    watches: Sequence[str] = ()


PARTIES: Sequence[Party] = (
    Party("producers", writes=("llm.intake",), is_outside=True),
    Party("downstream", reads=("llm.results",), writes=("llm.feedback",), is_outside=True),
    Party(
        "console",
        reads=(
            "llm.intake",
            *(f"llm.tier.{tier}" for tier in Tier),
            "llm.admission",
            "llm.escalations",
            "llm.results",
            "llm.dead-letters",
            "llm.attempts",
            "llm.review",
            "llm.feedback",
            "llm.status",
            "llm.policy",
            "llm.state.admit",
        ),
        writes=("llm.escalations", "llm.review", "llm.policy"),
        has_strikes=True,
        watches=tuple(kind.spec.name for kind in STAGES),
    ),
    Party(
        "commands",
        reads=tuple(spec.name for spec in TOPICS),
        writes=("llm.intake", "llm.review", "llm.feedback"),
        creates_topics=True,
    ),
    # Who proposes releases of the policy, and who decides on them.
    Party("releases", reads=("llm.policy",), writes=("llm.policy",), is_outside=True),
    # Who raises a cap for somebody.
    Party("budgets", reads=("llm.state.admit",), writes=("llm.admission",), is_outside=True),
    # In every process of stages: the releases that it follows, the calls it pays for, and its
    # status. The ledger also reads the tier topics, to know from when on its lines are to be read.
    Party("policies", reads=("llm.policy",), is_within_stages=True),
    Party(
        "ledger",
        reads=("llm.attempts", *(f"llm.tier.{tier}" for tier in Tier)),
        writes=("llm.attempts",),
        is_within_stages=True,
    ),
    Party("status", writes=("llm.status",), is_within_stages=True),
)


def stages_of(role: str | None = None, tiers: Collection[Tier] = tuple(Tier)) -> list[StageKind]:
    """The stages of a role, or of all roles; where stages serve a tier, those of these tiers."""
    return [
        kind
        for kind in STAGES
        if role in (None, kind.role) and (kind.tier is None or kind.tier in tiers)
    ]


def writers_of(topic: str) -> list[str]:
    """The names of all that write to a topic, given without our prefix."""
    stages = [kind.spec.name for kind in STAGES if topic in kind.spec.writes]
    return [*stages, *(party.name for party in PARTIES if topic in party.writes)]


def readers_of(topic: str) -> list[str]:
    """The names of all that read a topic, given without our prefix."""
    specs = [kind.spec for kind in STAGES]
    stages = [spec.name for spec in specs if topic in (*spec.reads, *spec.consults)]
    return [*stages, *(party.name for party in PARTIES if topic in party.reads)]
