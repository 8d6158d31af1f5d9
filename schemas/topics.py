"""The topic table: every topic with its key, content and configuration."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from schemas.base import Tier

__all__ = ["LARGEST_RECORD", "TOPICS", "TopicSpec", "Topics", "state_topic"]

_DAY_MS = 86_400_000
_MEBIBYTE = 1 << 20
#: A dead letter or an escalation carries every reply so far, hence more than a request may have.
LARGEST_RECORD = 4 * _MEBIBYTE


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """One topic of the flow. Every topic has the same number of partitions."""

    name: str
    key: str
    holds: str
    #: The contracts of its records, with blanks between them; none for a stage's state.
    model: str
    config: Mapping[str, str] = field(default_factory=dict)


_KEY = "the producer's key, else conversation id, else request id"
#: Records carry the broker's time, not their producer's.
_STAMPED = {"message.timestamp.type": "LogAppendTime"}


def _kept(days: int | None) -> dict[str, str]:
    """The configuration of a topic that is kept for so many days, or for ever where None."""
    retention = -1 if days is None else days * _DAY_MS
    return {"retention.ms": str(retention), "max.message.bytes": str(LARGEST_RECORD)}


def state_topic(stage: str) -> TopicSpec:
    """The topic of a stage's state, as it has to be configured."""
    return TopicSpec(
        f"llm.state.{stage}",
        "whatever the stage remembers by",
        f"what the stage {stage} remembers; nothing for what it has forgotten",
        "",
        {
            "cleanup.policy": "compact",
            "max.message.bytes": str(LARGEST_RECORD),
            # Compacted early: whoever takes a partition reads what compaction has left.
            "segment.ms": "600000",
            "min.cleanable.dirty.ratio": "0.1",
            "delete.retention.ms": "3600000",
        },
    )


TOPICS: Sequence[TopicSpec] = (
    TopicSpec(
        "llm.intake",
        _KEY,
        "requests: ours, one OpenAI Batch line, or a CloudEvent",
        "Request",
        # Uncompressed, so that the broker's limit is on what a consumer would have to unpack.
        {
            **_kept(7),
            "max.message.bytes": str(_MEBIBYTE),
            "compression.type": "uncompressed",
            **_STAMPED,
        },
    ),
    *(
        TopicSpec(
            f"llm.tier.{tier}",
            _KEY,
            f"requests for the {tier} tier",
            "Assignment",
            {**_kept(7), **_STAMPED},
        )
        for tier in Tier
    ),
    TopicSpec(
        "llm.admission",
        _KEY,
        "requests that a cap touches, and what ends their reservations, raises caps, confirms "
        "prices and lets time pass",
        "Assignment Settlement Grant Confirmation Tick",
        {**_kept(7), **_STAMPED},
    ),
    state_topic("admit"),
    TopicSpec(
        "llm.escalations",
        _KEY,
        "requests whose answer could not be defended, requeues, and what the console asks",
        "Escalation",
        {**_kept(7), **_STAMPED},
    ),
    TopicSpec(
        "llm.results",
        _KEY,
        "answers, in the OpenAI Batch output shape plus `router`",
        "Result",
        _kept(7),
    ),
    TopicSpec(
        "llm.dead-letters", _KEY, "original bytes, diagnosis in headers", "DeadLetter", _kept(None)
    ),
    TopicSpec(
        "llm.attempts",
        "request id",
        "the ledger: every call to a model, announced and then booked",
        "LedgerEntry",
        _kept(30),
    ),
    TopicSpec(
        "llm.review",
        _KEY,
        "what reviewers decide, and every other act of theirs: the audit trail",
        "AuditLine",
        {**_kept(None), **_STAMPED},
    ),
    TopicSpec(
        "llm.feedback",
        "request id",
        "what became of results: edits, complaints, approvals",
        "Feedback",
        _kept(30),
    ),
    TopicSpec(
        "llm.status",
        "process",
        "how each process is, every five seconds; nothing once it has ended",
        "Status",
        # A killed process leaves its last status behind, which is removed after an hour.
        {
            "cleanup.policy": "compact,delete",
            "retention.ms": "3600000",
            "segment.ms": "600000",
            # From it each process learns what time it is for Kafka.
            **_STAMPED,
        },
    ),
    TopicSpec(
        "llm.policy",
        "the policy's name: with a release's version, with an act's number, or alone",
        "releases of the policy, every act about them, and what stands now",
        "PolicyAct",
        {"cleanup.policy": "compact", "max.message.bytes": str(LARGEST_RECORD), **_STAMPED},
    ),
)


@dataclass(frozen=True, slots=True)
class Topics:
    """The names under one prefix, for example `staging.` before every topic."""

    prefix: str = ""
    #: Further intake topics, `llm.intake.NAME`, for example one for each tenant.
    intakes: Sequence[str] = ()

    def __post_init__(self) -> None:
        if "_" in self.prefix:
            msg = f"topic prefix {self.prefix!r}: use dots and hyphens, Kafka confuses '.' and '_'"
            raise ValueError(msg)

    def name(self, topic: str) -> str:
        return self.prefix + topic

    @property
    def intake(self) -> str:
        return self.prefix + "llm.intake"

    @property
    def all_intakes(self) -> Sequence[str]:
        """Everywhere requests enter."""
        return (self.intake, *(f"{self.intake}.{name}" for name in self.intakes))

    def sources(self, topics: Sequence[str]) -> Sequence[str]:
        """The names on the broker of topics of the table; intake stands for all intakes."""
        names: list[str] = []
        for topic in topics:
            name = self.name(topic)
            names += self.all_intakes if name == self.intake else (name,)
        return names

    def is_intake(self, topic: str) -> bool:
        return topic == self.intake or topic.startswith(f"{self.intake}.")

    def tier(self, tier: Tier) -> str:
        return f"{self.prefix}llm.tier.{tier}"

    @property
    def admission(self) -> str:
        return self.prefix + "llm.admission"

    @property
    def escalations(self) -> str:
        return self.prefix + "llm.escalations"

    @property
    def results(self) -> str:
        return self.prefix + "llm.results"

    @property
    def dead_letters(self) -> str:
        return self.prefix + "llm.dead-letters"

    @property
    def attempts(self) -> str:
        return self.prefix + "llm.attempts"

    @property
    def review(self) -> str:
        return self.prefix + "llm.review"

    @property
    def feedback(self) -> str:
        return self.prefix + "llm.feedback"

    @property
    def of_figures(self) -> Sequence[str]:
        """What figures are read from: calls, their outcomes, and what became of those."""
        return self.attempts, self.results, self.dead_letters, self.feedback, self.review

    @property
    def status(self) -> str:
        return self.prefix + "llm.status"

    @property
    def policy(self) -> str:
        return self.prefix + "llm.policy"

    def all(self) -> list[tuple[str, TopicSpec]]:
        """Every topic's name on the broker with its row of the table."""
        table = [(self.prefix + spec.name, spec) for spec in TOPICS]
        return [*table, *((name, TOPICS[0]) for name in self.all_intakes[1:])]
