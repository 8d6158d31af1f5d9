"""The partitions that a member of a group holds: taken, adopted when they come back, released."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import NamedTuple, Protocol

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from consumers.runtime.clients import KAFKA_IS_AWAY, Clients
from consumers.runtime.limits import at_most
from consumers.runtime.membership import Membership
from consumers.runtime.metrics import Commit
from consumers.runtime.offsets import Completion
from consumers.runtime.ownership import FencedError, FenceLimit, PartitionLostError
from consumers.runtime.partition import Partition
from consumers.runtime.poison import Guard
from consumers.runtime.writer import PartitionWriter
from schemas.codec import Outgoing
from schemas.errors import TierlineError

__all__ = ["AssignedPartitions", "Member", "Prepare", "RetentionError", "Work"]

_log = structlog.get_logger(__name__)

#: Seconds for last commits where another owner may have started: its fence ends our transactions.
_FLUSH_LIMIT = 1.0
_RETRY_SECONDS = 1.0
_ANSWER_LIMIT = 15.0

#: Called with a partition and its position before the partition's first record.
Prepare = Callable[[TopicPartition, int], Awaitable[None]]


class RetentionError(TierlineError):
    """Records were deleted before anybody had read them."""


class Work(Protocol):
    """What processes the records of partitions, as partitions see it."""

    def cancel_all(self, partition: Partition) -> int:
        """Give what runs for a lost partition a last grace; returns how many calls run."""

    def book_uncommitted(
        self, source: TopicPartition, outgoing: Sequence[Outgoing], *, in_doubt: bool = False
    ) -> None:
        """Book what records led to that was not committed with them."""


class Member(NamedTuple):
    """A process as a member of a group, and the clients it asks Kafka with."""

    clients: Clients
    group: str
    consumer: AIOKafkaConsumer
    membership: Membership
    admin: AIOKafkaAdminClient


class AssignedPartitions:
    """Takes partitions, with a transactional producer for each, and releases them."""

    def __init__(  # noqa: PLR0913  all that a stage and its group have to do with partitions
        self,
        member: Member,
        work: Work,
        *,
        guard: Guard,
        prepare: Prepare | None,
        returned: Prepare | None,
        on_progress: Callable[[], None],
        on_commit: Callable[[Commit], None],
        on_failure: Callable[[Exception], None],
        tasks: asyncio.TaskGroup,
    ) -> None:
        #: Monotonic time at which the stage has ended; None until its end begins.
        self._ends_at: float | None = None
        self._clients, self._group = member.clients, member.group
        self._consumer, self._membership = member.consumer, member.membership
        self._admin = member.admin
        self._work = work
        self._guard = guard
        self._prepare = prepare
        self._returned = returned
        self._on_progress = on_progress
        self._on_commit = on_commit
        self._on_failure = on_failure
        self._tasks = tasks
        self._held: dict[TopicPartition, Partition] = {}
        self._fence_limit: defaultdict[TopicPartition, FenceLimit] = defaultdict(FenceLimit)
        #: Two tasks that took one partition at once would fence each other.
        self._taking: defaultdict[TopicPartition, asyncio.Lock] = defaultdict(asyncio.Lock)

    @property
    def held(self) -> Mapping[TopicPartition, Partition]:
        """What we hold now."""
        return self._held

    @property
    def is_draining(self) -> bool:
        """True from the beginning of the stage's end: nothing is taken any more."""
        return self._ends_at is not None

    def drain(self, ends_at: float) -> None:
        """Begin to drain; the stage ends at that monotonic time."""
        self._ends_at = ends_at
        self.revoke(ends_at)

    def revoke(self, deadline: float) -> None:
        """Start nothing more from any partition; what runs goes on, and is committed.

        Partitions may move at that monotonic time, so no call is begun for records in hand either:
        the next owner would make one that outlasts it again. Only a request that has paid for a
        call goes on while there is time: all of it would be paid again.
        """
        for partition in self._held.values():
            partition.revoke(deadline)

    async def flush(self, limit: float) -> None:
        """Commit what is finished, before partitions move: what is not committed is paid again."""
        async with asyncio.TaskGroup() as tasks:
            for partition in self._held.values():
                tasks.create_task(partition.flush(limit))

    async def assign(self, assigned: Collection[TopicPartition], *, was_out: bool) -> None:
        """Adopt what came back unchanged, take what is new, release what is lost.

        `was_out`: the process was out of the group. Another owner may have begun calls then and
        committed nothing, so `returned` is called before anything goes on.
        """
        for tp in set(self._fence_limit) - set(assigned):
            # The group has given it to another process: no fencing of it was a dispute.
            del self._fence_limit[tp]
        await self.release(set(self._held) - set(assigned))
        async with asyncio.TaskGroup() as tasks:
            for tp in assigned:
                tasks.create_task(self._own(tp, was_out=was_out))

    async def keep(self, assigned: Collection[TopicPartition]) -> None:
        """While draining: partitions that nobody else has had stay ours until the end.

        Others are released at once: nobody waits for commits that will not come.
        """
        await self.release(set(self._held) - set(assigned))
        for tp in assigned:
            with contextlib.suppress(*KAFKA_IS_AWAY):
                held = self._held.get(tp)
                if held is not None and await held.is_unchanged():
                    self._keep(held)

    def _keep(self, held: Partition) -> None:
        if self._held.get(held.source) is held:
            held.keep_until(self._ends_at or 0.0)

    async def release(self, given_up: Collection[TopicPartition]) -> None:
        """Release partitions, all at once: a last commit, a last grace for calls."""
        async with asyncio.TaskGroup() as tasks:
            for tp in given_up:
                tasks.create_task(self._release(tp))

    async def _own(self, tp: TopicPartition, *, was_out: bool = False) -> None:
        """Take a partition, however long Kafka needs, as long as the group assigns it to us.

        It sends no heartbeat to ask the group: while the library hands partitions out it does not
        look for the coordinator, and would never find one that is back.
        """
        async with self._taking[tp]:
            while tp in self._consumer.assignment() and not self.is_draining:
                try:
                    await self._take(tp, was_out=was_out)
                    break
                except KAFKA_IS_AWAY as error:
                    _log.warning("partition not taken", topic=tp.topic, error=type(error).__name__)
                    await asyncio.sleep(_RETRY_SECONDS)

    async def _is_ours(self, tp: TopicPartition) -> bool:
        return tp in self._consumer.assignment() and await self._membership.is_known()

    async def _take(self, tp: TopicPartition, *, was_out: bool) -> None:
        held = self._held.get(tp)
        if held is not None and await held.is_unchanged():
            if was_out and self._returned is not None:
                await self._returned(tp, held.tracker.completion().watermark)
            if self.is_draining:
                self._keep(held)
            elif self._held.get(tp) is held:  # else it was lost meanwhile, and is taken again
                self._consumer.seek(tp, held.tracker.next_fetch)
                held.open()
            return
        if held is not None:
            await self._release(tp)

        partition = Partition(
            tp,
            PartitionWriter(self._clients, tp, self._group),
            self._read_completion,
            membership=self._membership,
            is_ours=lambda: self._is_ours(tp),
            on_progress=self._on_progress,
            on_commit=self._on_commit,
            fence_limit=self._fence_limit[tp],
        )
        try:
            position = await self._prepared(partition)
        except BaseException:
            await partition.close()
            raise
        if self.is_draining:
            await partition.close()
            return
        try:
            self._consumer.seek(tp, position)
        except KafkaError:  # taken away again in the meantime
            await partition.close()
            raise
        self._held[tp] = partition
        partition.open()
        self._tasks.create_task(self._commits_of(partition))

    async def _prepared(self, partition: Partition) -> int:
        """Fence, read what is committed, and prepare the stage; returns where to fetch from."""
        tp = partition.source
        position = await partition.take(lambda: self._log_start(tp))
        if position < (start := await self._log_start(tp)):
            msg = (
                f"{tp.topic}-{tp.partition}: the committed offset {position} is gone, the log "
                f"starts at {start}: {start - position} records were lost to retention. Lengthen "
                f"the topic's retention, then reset the offset of group {self._group} to go on."
            )
            raise RetentionError(msg)
        await self._guard.learn(self._clients, self._admin)
        if self._prepare is not None:
            await self._prepare(tp, position)
        return position

    async def _commits_of(self, partition: Partition) -> None:
        try:
            await partition.run_commits()
        except PartitionLostError as error:
            _log.warning("partition lost", reason=str(error))
        except FencedError as error:
            self._on_failure(error)
            return
        finally:
            # At once, before anything that takes time: the process may be killed soon.
            doubtful, unsent = partition.unrecorded()
            self._work.book_uncommitted(partition.source, unsent)
            self._work.book_uncommitted(partition.source, doubtful, in_doubt=True)
            partition.lose_traces()
        if self._held.get(partition.source) is partition:
            await self._release(partition.source)
            # If the group still assigns it to us, begin again from what is committed now.
            await self._own(partition.source)

    async def _release(self, tp: TopicPartition) -> None:
        partition = self._held.pop(tp, None)
        if partition is None:
            return  # a rebalance and the end of the stage release it at the same time
        partition.revoke(0.0)
        await partition.flush(_FLUSH_LIMIT)
        if abandoned := self._work.cancel_all(partition):
            _log.warning("calls abandoned", topic=tp.topic, partition=tp.partition, calls=abandoned)
        await partition.close()

    async def _read_completion(self, tp: TopicPartition) -> Completion | None:
        reading = self._admin.list_consumer_group_offsets(self._group, partitions=[tp])
        offsets = await at_most(_ANSWER_LIMIT, reading)
        if tp not in offsets:
            raise KafkaError
        committed = offsets[tp]
        if committed.offset < 0:
            return None
        return Completion.decode(committed.offset, committed.metadata or "")

    async def _log_start(self, tp: TopicPartition) -> int:
        starts = await at_most(_ANSWER_LIMIT, self._consumer.beginning_offsets([tp]))
        return int(starts[tp])
