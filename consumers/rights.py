"""The rights that each party needs on a Kafka with ACLs, from what it declares."""

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from consumers import parties
from consumers.runtime.strikes import group_of_strikes
from consumers.settings import KafkaSettings

__all__ = ["Right", "parties_with_rights", "rights_of"]


class Right(NamedTuple):
    """Operations that are allowed on a resource, or on all whose names begin with its name.

    To read or to write includes to describe.
    """

    kind: Literal["topic", "group", "transactional-id"]
    name: str
    operations: Sequence[str]
    is_prefix: bool = False


def parties_with_rights() -> list[str]:
    """Whom rights can be asked for: stages, and parties that are processes of their own."""
    stages = [kind.spec.name for kind in parties.STAGES]
    return [*stages, *(party.name for party in parties.PARTIES if not party.is_within_stages)]


def rights_of(names: Iterable[str], kafka: KafkaSettings) -> list[Right]:
    """What one user needs to be all of these parties; a stage with all that its process does."""
    allowed: dict[tuple[str, str, bool], dict[str, None]] = {}

    def allow(kind: str, name: str, *operations: str, is_prefix: bool = False) -> None:
        allowed.setdefault((kind, name, is_prefix), {}).update(dict.fromkeys(operations))

    def topics(reads: Iterable[str], writes: Iterable[str]) -> None:
        for topic in kafka.topics.sources([*reads]):
            allow("topic", topic, "Read")
        for topic in kafka.topics.sources([*writes]):
            allow("topic", topic, "Write")

    wanted = set(names)
    for kind in parties.STAGES:
        spec, group = kind.spec, kafka.prefix + kind.spec.name
        if spec.name not in wanted:
            continue
        wanted |= {"status", "ledger"} if kind.tier else {"status"}
        topics((*spec.reads, *spec.consults), spec.writes)
        for name in (group, group_of_strikes(group)):
            allow("group", name, "Read")
        for name in spec.watches:
            allow("group", kafka.prefix + name, "Describe")
        allow("transactional-id", f"tierline.{group}.", "Write", is_prefix=True)
    for party in parties.PARTIES:
        if party.name not in wanted:
            continue
        topics(party.reads, party.writes)
        if party.has_strikes:
            allow("group", group_of_strikes(kafka.prefix + party.name), "Read")
        if not party.is_outside:
            # Whether the topics are as they must be, is looked at from time to time.
            create = ["Create"] if party.creates_topics else []
            looks = ("Describe", "DescribeConfigs", *create)
            allow("topic", kafka.topics.name("llm."), *looks, is_prefix=True)
    return [
        Right(kind, name, tuple(operations), is_prefix)  # type: ignore[arg-type]
        for (kind, name, is_prefix), operations in allowed.items()
    ]
