"""What a stage remembers by key, written in the transaction of the outputs that it explains.

One dict per input partition, whose every change is a record on the stage's compacted state topic,
in the same partition. It is rebuilt from there when the partition is taken: after the fence, so
that no former owner can still write, and before the first record. A deleted key is a tombstone, so
that start-up follows the keys that live, and not their history.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from consumers.runtime.clients import Clients
from consumers.runtime.offset_lookup import records_since
from consumers.runtime.records import Record, Source, partition_of
from consumers.runtime.shell import fits
from schemas.codec import Outgoing
from schemas.errors import ContractError
from schemas.reasons import Reason
from schemas.topics import LARGEST_RECORD, TopicSpec

__all__ = ["KeyedState", "StatePart", "state_topic"]


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
            # What was overwritten goes soon: whoever takes a partition reads what is left.
            "segment.ms": "600000",
            "min.cleanable.dirty.ratio": "0.1",
            "delete.retention.ms": "3600000",
        },
    )


@dataclass(slots=True)
class StatePart:
    """The state of one input partition, and what the record at hand has changed in it."""

    _values: dict[bytes, bytes]
    #: What the changed keys held before; None where they held nothing.
    _before: dict[bytes, bytes | None] = field(default_factory=dict)

    def get(self, key: bytes) -> bytes | None:
        """What is remembered by a key."""
        return self._values.get(key)

    def put(self, key: bytes, value: bytes) -> None:
        """Remember a value."""
        self._before.setdefault(key, self._values.get(key))
        self._values[key] = value

    def delete(self, key: bytes) -> None:
        """Forget a key."""
        self._before.setdefault(key, self._values.get(key))
        self._values.pop(key, None)

    @property
    def values(self) -> Mapping[bytes, bytes]:
        """All that is remembered."""
        return self._values

    def changes(self) -> Mapping[bytes, bytes | None]:
        """What has changed since it was kept last, by key; None: forgotten."""
        return {
            key: self._values.get(key)
            for key, before in self._before.items()
            if self._values.get(key) != before
        }

    def keep(self) -> None:
        """The changes are written: what comes now is another record's."""
        self._before.clear()

    def undo(self) -> None:
        """As if nothing had changed since the changes were kept last."""
        for key, before in self._before.items():
            if before is None:
                self._values.pop(key, None)
            else:
                self._values[key] = before
        self._before.clear()


#: What a record leads to, given what is remembered of its partition.
Decide = Callable[[Record, StatePart], Sequence[Outgoing]]


class KeyedState:
    """The state of one stage in one process. The stage reads one topic: a partition has one writer.

    Records are decided in the order of their partition, and their changes are committed in it. What
    is remembered runs ahead of what is committed; where a commit is lost its partition is too, and
    whoever takes it reads what was committed.
    """

    def __init__(self, clients: Clients, stage: str) -> None:
        self._clients = clients
        self._topic = clients.settings.topics.name(state_topic(stage).name)
        self._parts: dict[Source, StatePart] = {}

    async def prepare(self, source: Source, position: int) -> None:
        """Read what was committed for a partition; its former owner has to be fenced.

        Raises KafkaError.
        """
        del position  # what is remembered is that of the last commit, as the position is
        values: dict[bytes, bytes] = {}
        changelog = Source(self._topic, source.partition)
        async for record in records_since(self._clients, changelog, 0):
            key = record.key or b""
            if record.value is None:
                values.pop(key, None)
            else:
                values[key] = record.value
        self._parts[source] = StatePart(values)

    def part(self, source: Source) -> StatePart:
        """What is remembered of a partition. Raises KeyError for one that was never taken."""
        return self._parts[source]

    def remembering(self, decide: Decide) -> Callable[[Record], Sequence[Outgoing]]:
        """A decision that remembers: what it changes goes with what it returns, or not at all."""

        def decided(record: Record) -> Sequence[Outgoing]:
            part = self.part(partition_of(record))
            try:
                outgoing = decide(record, part)
                changes = (
                    Outgoing(self._topic, key, value) for key, value in part.changes().items()
                )
                made = _fitting([*outgoing, *changes])
            except BaseException:
                part.undo()
                raise
            part.keep()
            return made

        return decided


def _fitting(outgoing: Sequence[Outgoing]) -> Sequence[Outgoing]:
    """Outputs and changes go together: one that no topic takes keeps back the others."""
    if not all(map(fits, outgoing)):
        detail = "what follows from it is larger than what Kafka takes"
        raise ContractError(Reason.RESULT_TOO_LARGE, detail)
    return outgoing
