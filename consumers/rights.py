"""The rights that each party needs on a Kafka with ACLs, from what it declares."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

from consumers import parties
from consumers.runtime.strikes import group_of_strikes
from consumers.settings import KafkaSettings
from consumers.stages.contract import StageKind

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
    wanted, needed = set(names), list[Right]()
    for kind in parties.STAGES:
        if kind.spec.name in wanted:
            wanted |= {"policies", "status", *(["ledger"] if kind.tier else [])}
            needed += _of_stage(kind, kafka)
    for party in parties.PARTIES:
        if party.name in wanted:
            needed += _of_party(party, kafka)
    merged: dict[Right, dict[str, None]] = {}
    for right in needed:
        allowed = merged.setdefault(right._replace(operations=()), {})
        allowed.update(dict.fromkeys(right.operations))
    return [right._replace(operations=tuple(allowed)) for right, allowed in merged.items()]


def _of_stage(kind: StageKind, kafka: KafkaSettings) -> Iterator[Right]:
    spec, group = kind.spec, kafka.prefix + kind.spec.name
    yield from _of_topics((*spec.reads, *spec.consults), spec.writes, kafka)
    for name in (group, group_of_strikes(group)):
        yield Right("group", name, ("Read",))
    for name in spec.watches:
        yield Right("group", kafka.prefix + name, ("Describe",))
    yield Right("transactional-id", f"tierline.{group}.", ("Write",), is_prefix=True)


def _of_party(party: parties.Party, kafka: KafkaSettings) -> Iterator[Right]:
    yield from _of_topics(party.reads, party.writes, kafka)
    if party.has_strikes:
        yield Right("group", group_of_strikes(kafka.prefix + party.name), ("Read",))
    for name in party.watches:
        yield Right("group", kafka.prefix + name, ("Describe",))
    if "llm.policy" in party.writes:
        name = f"tierline.{kafka.prefix}policy."
        yield Right("transactional-id", name, ("Write",), is_prefix=True)
    if not party.is_outside:
        # Whether the topics are as they must be, is looked at from time to time.
        looks = ("Describe", "DescribeConfigs", *(["Create"] if party.creates_topics else ()))
        yield Right("topic", kafka.topics.name("llm."), looks, is_prefix=True)


def _of_topics(
    reads: Sequence[str], writes: Sequence[str], kafka: KafkaSettings
) -> Iterator[Right]:
    for operation, topics in (("Read", reads), ("Write", writes)):
        for topic in kafka.topics.sources(topics):
            yield Right("topic", topic, (operation,))
