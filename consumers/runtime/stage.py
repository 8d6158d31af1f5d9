"""A stage: reads its topics as a member of a group and hands every record on, exactly once.

Polling is separate from processing. Only partitions with room are polled, never more than there
are free slots, so the backlog stays in Kafka.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from consumers.runtime.assigned_partitions import AssignedPartitions, Prepare, Work
from consumers.runtime.batches import Broken, fetch_apart
from consumers.runtime.clients import KAFKA_IS_AWAY, KAFKA_REFUSES, Clients, ended
from consumers.runtime.failpoints import failpoint, failpoint_of
from consumers.runtime.limits import at_most
from consumers.runtime.membership import Membership
from consumers.runtime.metrics import Commit
from consumers.runtime.partition import Partition
from consumers.runtime.poison import Guard
from consumers.runtime.records import Record
from consumers.runtime.shell import Pointing, failed, fitting
from consumers.runtime.spec import StageSpec
from consumers.runtime.topic_reader import is_broken_record
from consumers.telemetry.hops import set_current
from consumers.telemetry.tracing import Tracing
from schemas.codec import Outgoing
from schemas.errors import TierlineError
from schemas.reasons import Reason

__all__ = ["Executor", "Host", "Stage", "StageError", "SyncExecutor"]

_log = structlog.get_logger(__name__)

_POLL_MS = 100
_STOP_LIMIT = 3.0
#: Records between two looks at the clock, and how long they may take before others have a turn.
_AT_ONCE, _LONGEST_TURN = 8, 0.02
_JOIN_AGAIN_SECONDS = 1.0
#: For the last commits of partitions that are ours for certain. Kafka may be slow, and nobody else
#: can begin meanwhile: longer than a transaction may take.
_LAST_COMMITS = 12.0
#: And at the end, where calls have taken all the time.
_LEAST_FLUSH = 1.0


class StageError(TierlineError):
    """The stage cannot go on."""


class Host(Pointing, Protocol):
    """A stage, as far as who processes its records cares."""

    @property
    def guard(self) -> Guard:
        """Marks each record while it is handled."""

    def wake(self) -> None:
        """There is room for further records."""

    def is_live(self) -> bool:
        """False while the process may have been given up by its group."""

    async def until_live(self) -> None:
        """Wait until it is steady."""


class Executor(Work, Protocol):
    """How a stage processes records: at once, or many at a time."""

    #: The stage that it works for, which sets it.
    host: Host

    @property
    def free(self) -> int:
        """How many more records may be started in this turn of the event loop."""

    def start(self, partition: Partition, records: Sequence[Record]) -> None:
        """Process records; their outcomes go to `partition.finish`."""

    async def wait_idle(self, limit: float, *, may_rest: bool = False) -> None:
        """Wait until nothing runs, at most `limit` seconds; what rests may be left resting."""

    @property
    def in_flight(self) -> int:
        """Records being processed now."""


class SyncExecutor:
    """Decides at once, in the order of the partition. For stages that only think."""

    host: Host
    free = 16_000
    in_flight = 0

    def __init__(
        self, decide: Callable[[Record], Sequence[Outgoing]], tracing: Tracing, group: str
    ) -> None:
        self._decide = decide
        self._tracing = tracing
        self._group = group

    def start(self, partition: Partition, records: Sequence[Record]) -> None:
        """Decide and hand over."""
        decided = []
        receive, decide, group = self._tracing.receive, self._decide, self._group
        mark, number = self.host.guard.mark, self.host.guard.number(partition.source.topic)
        for record in records:
            mark.set(number, record.partition, record.offset)
            failpoint_of(record)
            hop = receive(record, group)
            set_current(hop)
            try:
                made = fitting(self.host, record, decide(record))
            except Exception as error:  # noqa: BLE001  one record must not stop the others
                made = failed(self.host, record, error)
            decided.append((record.offset, hop.stamp(made, record.partition)))
            if hop.is_recording:
                partition.traced[record.offset] = hop
        mark.clear()
        set_current(None)
        self._tracing.count(group, records)
        failpoint("decided")
        partition.finish(decided)

    async def wait_idle(self, limit: float, *, may_rest: bool = False) -> None:
        """Nothing ever runs."""

    def cancel_all(self, partition: Partition) -> int:
        """Nothing ever runs."""
        return 0

    def book_uncommitted(
        self, source: TopicPartition, outgoing: Sequence[Outgoing], *, in_doubt: bool = False
    ) -> None:
        """Nothing was paid for."""


class Stage(ConsumerRebalanceListener):  # type: ignore[misc]
    """Runs one executor over the partitions that the group assigns to this process."""

    def __init__(  # noqa: PLR0913  a stage has as many parts
        self,
        spec: StageSpec,
        clients: Clients,
        executor: Executor,
        pointer: Callable[[TopicPartition, int, Reason, str], Sequence[Outgoing]],
        *,
        poisonous: Callable[[Record, int], Sequence[Outgoing]] | None = None,
        guard: Guard | None = None,
        prepare: Prepare | None = None,
        returned: Prepare | None = None,
        revoke_grace: float = 15.0,
        drain_for: float = 25.0,
    ) -> None:
        self.name = spec.name
        #: Set once the group has given us our first partitions.
        self.ready = asyncio.Event()
        self._sources = clients.settings.topics.sources(spec.reads)
        self._clients = clients.named(spec.name)
        self._executor = executor
        executor.host = self
        self._pointer = pointer
        self._poisonous = poisonous
        self._revoke_grace = revoke_grace
        self._drain_for = drain_for
        self.group = f"{clients.settings.prefix}{spec.name}"
        #: Marks each record while it is handled.
        self.guard = guard or Guard(self.group)
        self._assigned = AssignedPartitions(
            self._clients,
            self.group,
            executor,
            guard=self.guard,
            prepare=prepare,
            returned=returned,
            on_progress=self.wake,
            on_failure=self._fail,
        )
        self._progress = asyncio.Event()
        self._failure: Exception | None = None
        self._stop = asyncio.Event()
        self._turn = 0
        self._consumer: AIOKafkaConsumer
        self._membership: Membership
        self._admin: AIOKafkaAdminClient
        self._tasks: asyncio.TaskGroup

    def pointer(self, record: Record, reason: Reason, detail: str) -> Sequence[Outgoing]:
        """What stands in for a record: where it lies, and why it could not be worked on."""
        tp = TopicPartition(record.topic, record.partition)
        return self._pointer(tp, record.offset, reason, detail)

    def on_commit(self, tell: Callable[[Commit], None]) -> None:
        """Have each commit told."""
        self._assigned.on_commit = tell

    @property
    def running(self) -> int:
        """Records being processed now."""
        return self._executor.in_flight

    @property
    def free(self) -> int:
        """Places for further records; 0: nothing is fetched now."""
        return self._executor.free

    @property
    def partitions(self) -> Sequence[Partition]:
        """What we hold now."""
        return tuple(self._assigned.held.values())

    def partition_count(self) -> int:
        """How many partitions our first topic has; 0 before we know it."""
        return len(self._consumer.partitions_for_topic(self._sources[0]) or ())

    @property
    def has_partitions(self) -> bool:
        """True when every partition that the group gives us is ours and open."""
        are_open = all(partition.is_open for partition in self.partitions)
        return (
            self.ready.is_set()
            and are_open
            and self._consumer.assignment() <= set(self._assigned.held)
        )

    async def is_member(self) -> bool:
        """True when the group still counts us in. Asks it."""
        return await self._membership.is_known()

    async def unread(self) -> dict[TopicPartition, int]:
        """Offsets of our partitions that are not fetched yet. Raises KafkaError when none answers.

        Asked anew: what earlier fetches have said grows old when the fetches hang.
        """
        asked = list(self._assigned.held) or [TopicPartition(self._sources[0], 0)]
        ends = await self._consumer.end_offsets(asked)
        ours = ends.keys() & self._assigned.held.keys() & self._consumer.assignment()
        return {tp: max(ends[tp] - await self._consumer.position(tp), 0) for tp in ours}

    def committed(self, topic: str) -> int:
        """The sum of the committed watermarks of our partitions of a topic."""
        return sum(
            held.committed.watermark
            for tp, held in self._assigned.held.items()
            if held.committed is not None and tp.topic == topic
        )

    def settled(self, topic: str) -> int:
        """How many records of our partitions of a topic are behind us, in whatever order."""
        return sum(
            held.tracker.next_fetch - held.tracker.unsettled_count
            for tp, held in self._assigned.held.items()
            if tp.topic == topic
        )

    def wake(self) -> None:
        """Something has become free: poll at once."""
        self._progress.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Process until `stop` is set, then drain: finish what runs, commit it, leave the group."""
        async with asyncio.TaskGroup() as self._tasks:
            while not await self._join():
                if stop.is_set():
                    return
            minding = self._tasks.create_task(self._membership.run())
            polling = self._tasks.create_task(self._poll())
            watching = self._tasks.create_task(_relay(stop, self._stop))
            try:
                await self._stop.wait()
            finally:
                watching.cancel()
                polling.cancel()
                await self._drain()
                minding.cancel()
        if self._failure is not None:
            failure = self._failure
            advice = failure.advice if isinstance(failure, TierlineError) else ""
            raise StageError(str(failure), advice=advice) from failure

    async def _join(self) -> bool:
        """Connect and join the group. False when Kafka is away, or does not know the topics yet."""
        member = self._clients.settings.instance
        self._consumer = self._clients.group_consumer(self.group, member=member)
        session = self._clients.settings.session_timeout.total_seconds()
        self._membership = Membership(self._consumer, session)
        self._admin = self._clients.admin()
        self._assigned.begin(self._consumer, self._membership, self._admin, self._tasks)
        try:
            await self._admin.start()
            self._consumer.subscribe(list(self._sources), listener=self)
            await self._consumer.start()
        except KAFKA_IS_AWAY as error:
            await self._leave()
            if isinstance(error, KAFKA_REFUSES):
                raise
            _log.warning("group not joined", group=self.group, error=type(error).__name__)
            await asyncio.sleep(_JOIN_AGAIN_SECONDS)
            return False
        return True

    def is_live(self) -> bool:
        """False while the process may have been given up by its group."""
        return self._membership.is_live()

    async def until_live(self) -> None:
        """Wait until it is steady."""
        await self._membership.until_live()

    # ----- polling

    async def _poll(self) -> None:
        while True:
            await self._membership.until_live()
            room = {tp: held.room for tp, held in self._assigned.held.items() if held.room > 0}
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
                await self._start_in_turns(tp, self._assigned.held.get(tp), records)
        if not is_empty:
            # Group commits and calls need a turn of the loop between two full fetches.
            await asyncio.sleep(0)
            return

        try:
            most = min(free, *room.values())
            fetched = await self._consumer.getmany(*room, timeout_ms=_POLL_MS, max_records=most)
        except Exception as error:  # noqa: BLE001  the next round finds out which partition it was
            # What the failed call had taken from other partitions is gone: go back to where we are.
            _log.debug("fetch failed", error=type(error).__name__)
            for partition in self._assigned.held.values():
                if partition.is_open:
                    self._go_back(partition)
            await asyncio.sleep(_POLL_MS / 1000)
            return
        held = dict(self._assigned.held)
        for tp, records in fetched.items():
            await self._start_in_turns(tp, held.get(tp), records)

    def _in_turn(self, room: dict[TopicPartition, int]) -> Sequence[TopicPartition]:
        """The partitions, beginning with another one each time, so that none is always last."""
        self._turn += 1
        order = list(room)
        first = self._turn % len(order)
        return order[first:] + order[:first]

    async def _start_in_turns(
        self, tp: TopicPartition, partition: Partition | None, records: Sequence[Record]
    ) -> None:
        """Start what was fetched for a partition, with turns of the loop for others in between.

        It ends with the first that cannot be started: all from there on is read again, for nothing
        behind a record that was left out may be begun.
        """
        began = time.monotonic()
        for at in range(0, len(records), _AT_ONCE):
            if self._assigned.held.get(tp) is not partition:
                return
            if not self._start(tp, records[at : at + _AT_ONCE]):
                return
            if time.monotonic() - began > _LONGEST_TURN:
                await asyncio.sleep(0)
                began = time.monotonic()

    def _start(self, tp: TopicPartition, records: Sequence[Record]) -> bool:
        """Start records; False where that cannot be now."""
        partition = self._assigned.held.get(tp)
        if partition is None or not partition.is_open:
            return False  # moved away while the fetch ran; the next owner reads them

        if not self.is_live():
            self._go_back(partition)
            return False
        receive = partition.tracker.receive
        if fresh := [record for record in records if receive(record.offset)]:
            partition.appended.receive(fresh)
            failpoint("fetched")
            if any(map(self.guard.is_poisonous, fresh)):
                fresh = self._spared(partition, fresh)
            if fresh:
                self._executor.start(partition, fresh)
        return True

    def _spared(self, partition: Partition, records: Sequence[Record]) -> list[Record]:
        """Those that may be handled. What ends its process each time becomes a dead letter."""
        spared = []
        for record in records:
            if not self.guard.is_poisonous(record):
                spared.append(record)
                continue
            tp, deaths = partition.source, self.guard.deaths(record)
            where = {"topic": tp.topic, "partition": tp.partition, "offset": record.offset}
            _log.error("poisonous record", **where, deaths=deaths)
            with self.guard.on(record):
                if self._poisonous is None:
                    why = f"{deaths} processes have ended or hung at it"
                    made = self.pointer(record, Reason.POISONOUS_RECORD, why)
                else:
                    made = self._poisonous(record, deaths)
            partition.finish([(record.offset, made)])
        return spared

    async def _step_over(self, tp: TopicPartition, error: Exception) -> None:
        """Read on by ourselves where the client library stops at a record that it cannot parse.

        The failed fetch dropped the good records before it. A pointer stands in for each record
        that nobody can parse; those behind it in its batch are read. An error that comes from the
        broker is no fault of a record: it is waited out.
        """
        partition = self._assigned.held.get(tp)
        if partition is None or not partition.is_open:
            return
        self._go_back(partition)
        if not is_broken_record(error):
            _log.warning("fetch failed", topic=tp.topic, error=type(error).__name__)
            await asyncio.sleep(1)
            return
        try:
            found = await fetch_apart(self._consumer, tp, partition.tracker.next_fetch)
        except KAFKA_IS_AWAY as cause:
            _log.warning("fetch failed", topic=tp.topic, error=type(cause).__name__)
            await asyncio.sleep(1)
            return
        for part in found.parts:
            if not partition.room or not self._executor.free:
                break
            if isinstance(part, Broken):
                self._set_aside(partition, part)
            else:
                self._start(tp, [part])
            if partition.tracker.next_fetch <= part.offset:
                break  # it could not be begun now
        else:
            if tp in self._consumer.assignment():
                self._consumer.seek(tp, max(found.end, partition.tracker.next_fetch))
            return
        self._go_back(partition)

    def _set_aside(self, partition: Partition, broken: Broken) -> None:
        if not partition.is_open or not partition.tracker.receive(broken.offset):
            return
        tp, offset = partition.source, broken.offset
        _log.error("record cannot be read", place=f"{tp.topic}-{tp.partition}-{offset}")
        made = self._pointer(tp, offset, Reason.UNREADABLE_RECORD, broken.why)
        partition.finish([(offset, made)])

    def _go_back(self, partition: Partition) -> None:
        """Fetch on from what was received last; nothing where the group has taken it away."""
        if partition.source in self._consumer.assignment():
            self._consumer.seek(partition.source, partition.tracker.next_fetch)

    # ----- assignment

    async def on_partitions_revoked(self, revoked: Sequence[TopicPartition]) -> None:
        """Start nothing more, cancel nothing, and commit all that is finished.

        A commit after the rejoin would race the next owner's fence, so it happens here. Who was
        given up by the group commits nothing any more, and every second in which it is not back
        is one in which others take its partitions: it joins at once, and adopts what it still had.
        """
        is_lost = self._membership.is_given_up
        grace = 0.0 if is_lost else self._revoke_grace
        self._assigned.revoke(time.monotonic() + grace)
        if revoked and not is_lost:
            # What rests begins nothing before the partition has come back, unless it has paid.
            await self._executor.wait_idle(self._revoke_grace, may_rest=True)
            await self._assigned.flush(_LAST_COMMITS)

    async def on_partitions_assigned(self, assigned: Sequence[TopicPartition]) -> None:
        """Adopt what came back unchanged, take what is new, let go of what is lost."""
        try:
            if self._assigned.is_draining:
                # Nothing is taken any more; what is still ours may be brought to its end.
                await self._assigned.keep(assigned)
                return
            await self._assigned.assign(assigned, was_out=self._membership.was_out())
            self.ready.set()
            self._progress.set()
        except Exception as error:  # noqa: BLE001  the library would log it and go on
            self._fail(error)

    # ----- the end

    async def _drain(self) -> None:
        """End what runs, hand back what has cost nothing yet, and commit as long as there is time.

        A call that was begun for a record in hand would be one more that the end may cut off.
        """
        ends_at = time.monotonic() + self._drain_for
        self._assigned.drain(ends_at)
        await self._executor.wait_idle(self._drain_for, may_rest=True)
        await self._assigned.flush(max(ends_at - time.monotonic(), _LEAST_FLUSH))
        await self._assigned.release(tuple(self._assigned.held))
        await self._leave()

    async def _leave(self) -> None:
        closing = at_most(_STOP_LIMIT, self._admin.close())
        await asyncio.gather(ended(self._consumer), closing, return_exceptions=True)

    def _fail(self, error: Exception) -> None:
        causes = error.exceptions if isinstance(error, ExceptionGroup) else [error]
        self._failure = self._failure or causes[0]
        self._stop.set()


async def _relay(outer: asyncio.Event, inner: asyncio.Event) -> None:
    await outer.wait()
    inner.set()
