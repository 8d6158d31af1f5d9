"""Fetching: only from partitions with room, and never more records than there are free places.

Polling is separate from processing, so the backlog stays in Kafka.
"""

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from consumers.failpoints import failpoint
from consumers.records import Record
from consumers.runtime.batches import Broken, fetch_apart
from consumers.runtime.clients import KAFKA_IS_AWAY
from consumers.runtime.executor import Executor
from consumers.runtime.membership import Live
from consumers.runtime.partition import Partition
from consumers.runtime.poison import Guard
from consumers.runtime.shell import Shell
from consumers.runtime.topic_reader import is_broken_record

__all__ = ["Fetching"]

_log = structlog.get_logger(__name__)

_POLL_MS = 100
#: Records between two looks at the clock, and how long they may take before others get a turn.
_AT_ONCE, _LONGEST_TURN = 8, 0.02


class Fetching:
    """Hands the records of the partitions that a stage holds to its executor."""

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        membership: Live,
        held: Mapping[TopicPartition, Partition],
        executor: Executor,
        shell: Shell,
        guard: Guard,
        progress: asyncio.Event,
    ) -> None:
        """`progress` is set when there is room for further records."""
        self._consumer = consumer
        self._membership = membership
        self._held = held
        self._executor = executor
        self._shell = shell
        self._guard = guard
        self._progress = progress
        self._turn = 0

    async def run(self) -> None:
        """Fetch wherever there is room, until cancelled."""
        while True:
            await self._membership.until_live()
            room = {tp: held.room for tp, held in self._held.items() if held.room > 0}
            free = self._executor.free
            if not room or not free:
                self._progress.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_POLL_MS / 1000):
                        await self._progress.wait()
                continue
            await self._fetch(room, free)

    async def _fetch(self, room: dict[TopicPartition, int], free: int) -> None:
        """Take a share from every partition; wait for the first record only when all are empty."""
        share = max(1, free // len(room))
        is_empty = True
        for tp in self._in_turn(room):
            if (most := min(share, room[tp], self._executor.free)) < 1:
                break
            try:
                fetched = await self._consumer.getmany(tp, timeout_ms=0, max_records=most)
            except Exception as error:  # noqa: BLE001  one bad record must not stop the others
                await self._step_over(tp, error)
                continue
            for records in fetched.values():
                is_empty = False
                await self._start_in_turns(tp, self._held.get(tp), records)
        if not is_empty:
            # Group commits and calls need a turn of the loop between two full fetches.
            await asyncio.sleep(0)
            return

        try:
            most = min(free, *room.values())
            fetched = await self._consumer.getmany(*room, timeout_ms=_POLL_MS, max_records=most)
        except Exception as error:  # noqa: BLE001  the next round finds out which partition it was
            # The failed call has dropped what it had taken from other partitions: read that again.
            _log.debug("fetch failed", error=type(error).__name__)
            for partition in self._held.values():
                if partition.is_open:
                    self._go_back(partition)
            await asyncio.sleep(_POLL_MS / 1000)
            return
        held = dict(self._held)
        for tp, records in fetched.items():
            await self._start_in_turns(tp, held.get(tp), records)

    def _in_turn(self, room: dict[TopicPartition, int]) -> Sequence[TopicPartition]:
        """The partitions, starting with a different one each time, so that none is always last."""
        self._turn += 1
        order = list(room)
        first = self._turn % len(order)
        return order[first:] + order[:first]

    async def _start_in_turns(
        self, tp: TopicPartition, partition: Partition | None, records: Sequence[Record]
    ) -> None:
        """Start what was fetched for a partition, letting other tasks run in between.

        It ends at the first record that cannot be started: from there on all is read again, because
        no record may overtake one that was left out.
        """
        began = time.monotonic()
        for at in range(0, len(records), _AT_ONCE):
            if self._held.get(tp) is not partition:
                return
            if not self._start(tp, records[at : at + _AT_ONCE]):
                return
            if time.monotonic() - began > _LONGEST_TURN:
                await asyncio.sleep(0)
                began = time.monotonic()

    def _start(self, tp: TopicPartition, records: Sequence[Record]) -> bool:
        """Start records; False where that cannot be now."""
        partition = self._held.get(tp)
        if partition is None or not partition.is_open:
            return False  # moved away while the fetch ran; the next owner reads them

        if not self._membership.is_live():
            self._go_back(partition)
            return False
        receive = partition.tracker.receive
        if fresh := [record for record in records if receive(record.offset)]:
            partition.appended.receive(fresh)
            failpoint("fetched")
            if any(map(self._guard.is_poisonous, fresh)):
                fresh = self._spared(partition, fresh)
            if fresh:
                self._executor.start(partition, fresh)
        return True

    def _spared(self, partition: Partition, records: Sequence[Record]) -> list[Record]:
        """The records that may be handled; those that end their process become dead letters."""
        spared = []
        for record in records:
            if not self._guard.is_poisonous(record):
                spared.append(record)
                continue
            tp, deaths = partition.source, self._guard.deaths(record)
            where = {"topic": tp.topic, "partition": tp.partition, "offset": record.offset}
            _log.error("poisonous record", **where, deaths=deaths)
            with self._guard.on(record):
                led_to = self._shell.poisonous(record, deaths)
            partition.finish([(record.offset, led_to)])
        return spared

    async def _step_over(self, tp: TopicPartition, error: Exception) -> None:
        """Read on without the client library where it stops at a record that it cannot parse.

        The failed fetch dropped the good records before it. A pointer stands in for each record
        that cannot be parsed; those after it in its batch are read. An error of the broker's is no
        fault of a record: it is waited out.
        """
        partition = self._held.get(tp)
        if partition is None or not partition.is_open:
            return
        self._go_back(partition)
        if not is_broken_record(error):
            _log.warning("fetch failed", topic=tp.topic, error=type(error).__name__)
            await asyncio.sleep(1)
            return
        try:
            taken_apart = await fetch_apart(self._consumer, tp, partition.tracker.next_fetch)
        except KAFKA_IS_AWAY as cause:
            _log.warning("fetch failed", topic=tp.topic, error=type(cause).__name__)
            await asyncio.sleep(1)
            return
        for part in taken_apart.parts:
            if not partition.room or not self._executor.free:
                break
            if isinstance(part, Broken):
                self._set_aside(partition, part)
            else:
                self._start(tp, [part])
            if partition.tracker.next_fetch <= part.offset:
                break  # it could not be started now
        else:
            if tp in self._consumer.assignment():
                self._consumer.seek(tp, max(taken_apart.end, partition.tracker.next_fetch))
            return
        self._go_back(partition)

    def _set_aside(self, partition: Partition, broken: Broken) -> None:
        if not partition.is_open or not partition.tracker.receive(broken.offset):
            return
        tp, offset = partition.source, broken.offset
        _log.error("record cannot be read", place=f"{tp.topic}-{tp.partition}-{offset}")
        led_to = self._shell.unreadable(tp, offset, broken.why)
        partition.finish([(offset, led_to)])

    def _go_back(self, partition: Partition) -> None:
        """Fetch on from what was received last, unless the group has taken the partition away."""
        if partition.source in self._consumer.assignment():
            self._consumer.seek(partition.source, partition.tracker.next_fetch)
