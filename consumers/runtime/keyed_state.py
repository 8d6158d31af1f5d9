"""A stage's state by key, written in the same transaction as the outputs that depend on it.

The state of an input partition is a dict. Every change of it is a record on the stage's compacted
state topic, in the partition of the same number. When a partition is taken, its state is read from
there: after the former owner is fenced, so that it can write no more, and before the first record.
A deleted key is a tombstone, so start-up time follows the live keys and not their history.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from consumers.records import Record, Source, partition_of
from consumers.runtime.clients import Clients
from consumers.runtime.offset_lookup import records_since
from consumers.runtime.shell import fits
from schemas.codec import Outgoing
from schemas.errors import ContractError
from schemas.reasons import Reason
from schemas.topics import state_topic

__all__ = ["KeyedState", "StatePart", "note_change"]


@dataclass(slots=True)
class StatePart:
    """The state of one input partition, and the changes of the current record."""

    _values: dict[bytes, bytes]
    #: What the changed keys held before; None where they held nothing.
    _before: dict[bytes, bytes | None] = field(default_factory=dict)

    def get(self, key: bytes) -> bytes | None:
        """The value of a key; None where there is none."""
        return self._values.get(key)

    def put(self, key: bytes, value: bytes) -> None:
        self._before.setdefault(key, self._values.get(key))
        self._values[key] = value

    def delete(self, key: bytes) -> None:
        self._before.setdefault(key, self._values.get(key))
        self._values.pop(key, None)

    @property
    def values(self) -> Mapping[bytes, bytes]:
        return self._values

    def changes(self) -> Mapping[bytes, bytes | None]:
        """The changes since `keep` was called last, by key; None for a removed key."""
        return {
            key: self._values.get(key)
            for key, before in self._before.items()
            if self._values.get(key) != before
        }

    def keep(self) -> None:
        """Accept the changes: the next ones belong to another record."""
        self._before.clear()

    def undo(self) -> None:
        """Take back all changes since `keep` was called last."""
        for key, before in self._before.items():
            if before is None:
                self._values.pop(key, None)
            else:
                self._values[key] = before
        self._before.clear()


#: The outputs of a record, given the state of its partition, which it may change.
Decide = Callable[[Record, StatePart], Sequence[Outgoing]]


class KeyedState:
    """The state of one stage in one process. The stage reads one topic: a partition has one writer.

    Records are decided in the order of their partition, and their changes are committed in that
    order. The state in memory is ahead of what is committed. If a commit is lost, its partition is
    lost with it, and the next owner reads what was committed.
    """

    def __init__(self, clients: Clients, stage: str) -> None:
        self._clients = clients
        self._topic = clients.settings.topics.name(state_topic(stage).name)
        self._parts: dict[Source, StatePart] = {}

    async def prepare(self, source: Source, position: int) -> None:
        """Read the committed state of a partition whose former owner has been fenced.

        Raises KafkaError.
        """
        del position  # the state is that of the last commit, as the position is
        changelog = Source(self._topic, source.partition)
        values: dict[bytes, bytes] = {}
        async for record in records_since(self._clients, changelog, 0):
            note_change(values, record)
        self._parts[source] = StatePart(values)

    def part(self, source: Source) -> StatePart:
        """The state of a partition. Raises KeyError for one that was never taken."""
        return self._parts[source]

    def remembering(self, decide: Decide) -> Callable[[Record], Sequence[Outgoing]]:
        """A decision whose state changes are committed with its outputs, or not at all."""

        def decided(record: Record) -> Sequence[Outgoing]:
            part = self.part(partition_of(record))
            try:
                outgoing = decide(record, part)
                changes = (
                    Outgoing(self._topic, key, value) for key, value in part.changes().items()
                )
                together = _fitting([*outgoing, *changes])
            except BaseException:
                part.undo()
                raise
            part.keep()
            return together

        return decided


def note_change(values: dict[bytes, bytes], record: Record) -> None:
    """Apply a record of a state topic to what its partition holds by key."""
    key = record.key or b""
    if record.value is None:
        values.pop(key, None)
    else:
        values[key] = record.value


def _fitting(outgoing: Sequence[Outgoing]) -> Sequence[Outgoing]:
    """Outputs and changes belong together: if one is too large for its topic, none is written."""
    if not all(map(fits, outgoing)):
        detail = "what follows from it is larger than what Kafka takes"
        raise ContractError(Reason.RESULT_TOO_LARGE, detail)
    return outgoing
