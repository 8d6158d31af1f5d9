"""Executors: how a stage processes records, one at a time or many at once."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from aiokafka import TopicPartition

from consumers.failpoints import failpoint, failpoint_of
from consumers.records import Record
from consumers.runtime.assigned_partitions import Work
from consumers.runtime.partition import Partition
from consumers.runtime.poison import Guard
from consumers.runtime.shell import NotYetError, Shell
from consumers.telemetry.hops import Hop, set_current
from consumers.telemetry.tracing import Tracing
from schemas.codec import Outgoing

__all__ = ["Executor", "SyncExecutor"]

#: Seconds until a record is looked at again that waits; more where many do.
_LOOK_AGAIN = 0.2


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
    """Decides about records one at a time, in the partition's order. For stages without calls.

    A record that cannot be decided about yet (NotYetError) is passed by those that follow it.
    """

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
        #: How often records have been looked at in vain: a stage whose records wait is not stuck.
        self.looks = 0
        self._waiting = 0

    def start(self, partition: Partition, records: Sequence[Record]) -> None:
        """Decide about each record, and hand the outcomes to the partition."""
        outcomes = []
        receive, mark, group = self._tracing.receive, self._guard.mark, self._guard.group
        number = self._guard.number(partition.source.topic)
        for record in records:
            mark.set(number, record.partition, record.offset)
            failpoint_of(record)
            outcome = self._decided(partition, record, receive(record, group))
            if outcome is not None:
                outcomes.append((record.offset, outcome))
        mark.clear()
        set_current(None)
        self._tracing.count(group, records)
        failpoint("decided")
        if outcomes:
            partition.finish(outcomes)

    def _decided(self, partition: Partition, record: Record, hop: Hop) -> Sequence[Outgoing] | None:
        """What a record leads to, traced and stamped; None where it is decided about later."""
        set_current(hop)
        try:
            led_to = self._shell.decide(self._decide, record)
        except NotYetError:
            self.looks += 1
            self._waiting += 1
            delay = _LOOK_AGAIN * (1 + self._waiting / 200)
            asyncio.get_running_loop().call_later(delay, self._decide_again, partition, record, hop)
            return None
        if hop.is_recording:
            partition.traced[record.offset] = hop
        return hop.stamp(led_to, record.partition)

    def _decide_again(self, partition: Partition, record: Record, hop: Hop) -> None:
        self._waiting -= 1
        if partition.is_closed:  # the next owner decides about it
            hop.lost()
            return
        with self._guard.on(record):
            outcome = self._decided(partition, record, hop)
        if outcome is not None and not partition.finish([(record.offset, outcome)]):
            partition.lose_traces()

    async def wait_idle(self, limit: float, *, may_rest: bool = False) -> None:
        """Return at once: what waits has cost nothing, and the next owner decides about it."""

    def cancel_all(self, partition: Partition) -> int:
        """Return at once: a partition that is closed takes no outcomes."""
        return 0

    def book_uncommitted(
        self, source: TopicPartition, outgoing: Sequence[Outgoing], *, in_doubt: bool = False
    ) -> None:
        """Do nothing: deciding costs nothing."""
