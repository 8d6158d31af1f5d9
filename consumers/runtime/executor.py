"""Executors: how a stage processes records, one at a time or many at once."""

from collections.abc import Callable, Sequence
from typing import Protocol

from aiokafka import TopicPartition

from consumers.failpoints import failpoint, failpoint_of
from consumers.records import Record
from consumers.runtime.assigned_partitions import Work
from consumers.runtime.partition import Partition
from consumers.runtime.poison import Guard
from consumers.runtime.shell import Shell
from consumers.telemetry.hops import set_current
from consumers.telemetry.tracing import Tracing
from schemas.codec import Outgoing

__all__ = ["Executor", "SyncExecutor"]


class Executor(Work, Protocol):
    """Processes the records of a stage."""

    @property
    def free(self) -> int:
        """How many more records may be started in this turn of the event loop."""

    def start(self, partition: Partition, records: Sequence[Record]) -> None:
        """Process records; their outcomes go to `partition.finish`."""

    async def wait_idle(self, limit: float, *, may_rest: bool = False) -> None:
        """Wait until nothing runs (but what waits, with `may_rest`), at most `limit` seconds."""

    @property
    def in_flight(self) -> int:
        """Records being processed now."""


class SyncExecutor:
    """Decides about records one at a time, in the partition's order. For stages without calls."""

    free = 16_000
    in_flight = 0

    def __init__(
        self,
        decide: Callable[[Record], Sequence[Outgoing]],
        shell: Shell,
        guard: Guard,
        tracing: Tracing,
    ) -> None:
        self._decide = decide
        self._shell = shell
        self._guard = guard
        self._tracing = tracing

    def start(self, partition: Partition, records: Sequence[Record]) -> None:
        """Decide about each record, and hand the outcomes to the partition."""
        decided = []
        receive, decide, shell = self._tracing.receive, self._decide, self._shell
        mark, group = self._guard.mark, self._guard.group
        number = self._guard.number(partition.source.topic)
        for record in records:
            mark.set(number, record.partition, record.offset)
            failpoint_of(record)
            hop = receive(record, group)
            set_current(hop)
            led_to = shell.decide(decide, record)
            decided.append((record.offset, hop.stamp(led_to, record.partition)))
            if hop.is_recording:
                partition.traced[record.offset] = hop
        mark.clear()
        set_current(None)
        self._tracing.count(group, records)
        failpoint("decided")
        partition.finish(decided)

    async def wait_idle(self, limit: float, *, may_rest: bool = False) -> None:
        """Return at once: nothing outlives `start`."""

    def cancel_all(self, partition: Partition) -> int:
        """Return at once: nothing outlives `start`."""
        return 0

    def book_uncommitted(
        self, source: TopicPartition, outgoing: Sequence[Outgoing], *, in_doubt: bool = False
    ) -> None:
        """Do nothing: deciding costs nothing."""
