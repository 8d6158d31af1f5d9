"""A stage: reads its topics as a member of a group, and has each record processed exactly once."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence

import structlog
from aiokafka import ConsumerRebalanceListener, TopicPartition

from consumers.runtime.assigned_partitions import AssignedPartitions, Member, Prepare
from consumers.runtime.clients import KAFKA_IS_AWAY, KAFKA_REFUSES, Clients, ended
from consumers.runtime.executor import Executor
from consumers.runtime.fetching import Fetching
from consumers.runtime.limits import at_most, ended_tasks
from consumers.runtime.membership import Membership
from consumers.runtime.metrics import Commit
from consumers.runtime.partition import Partition
from consumers.runtime.poison import Guard
from consumers.runtime.shell import Shell
from consumers.runtime.spec import StageSpec
from schemas.errors import TierlineError

__all__ = ["Stage", "StageError"]

_log = structlog.get_logger(__name__)

_STOP_LIMIT = 3.0
_JOIN_AGAIN_SECONDS = 1.0
#: Seconds for the last commits of partitions that are certainly ours. Kafka may be slow, and no
#: other owner can start meanwhile: longer than a transaction may take.
_LAST_COMMITS = 12.0
#: The least at the end of the stage, even where calls have taken all the time.
_LEAST_FLUSH = 1.0


class StageError(TierlineError):
    """The stage cannot go on."""


class Stage(ConsumerRebalanceListener):  # type: ignore[misc]
    """Runs one executor over the partitions that the group assigns to this process."""

    def __init__(  # noqa: PLR0913  a stage has as many parts
        self,
        spec: StageSpec,
        clients: Clients,
        executor: Executor,
        shell: Shell,
        guard: Guard,
        *,
        prepare: Prepare | None = None,
        returned: Prepare | None = None,
        moves: Callable[[], int] = lambda: 0,
        revoke_grace: float = 15.0,
        drain_for: float = 25.0,
    ) -> None:
        """`moves` counts progress that no commit shows yet, such as calls begun and ended."""
        self.name = spec.name
        self.moves = moves
        self.group = f"{clients.settings.prefix}{spec.name}"
        #: Set once the group has given us our first partitions.
        self.ready = asyncio.Event()
        self._sources = clients.settings.topics.sources(spec.reads)
        self._clients = clients.named(spec.name)
        self._executor = executor
        self._shell = shell
        self._guard = guard
        self._prepare = prepare
        self._returned = returned
        self._revoke_grace = revoke_grace
        self._drain_for = drain_for
        self._on_commit: Callable[[Commit], None] = lambda _: None
        self._progress = asyncio.Event()
        self._failure: Exception | None = None
        self._failed = asyncio.Event()
        #: Both are set from the first try to join on.
        self._member: Member
        self._assigned: AssignedPartitions
        self._held: Mapping[TopicPartition, Partition] = {}

    def on_commit(self, listener: Callable[[Commit], None]) -> None:
        """Call a listener with each commit from the next joining of the group on."""
        self._on_commit = listener

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
        return tuple(self._held.values())

    def partition_count(self) -> int:
        """How many partitions our first topic has; 0 before we know it."""
        return len(self._member.consumer.partitions_for_topic(self._sources[0]) or ())

    @property
    def has_partitions(self) -> bool:
        """True when every partition that the group gives us is ours and open."""
        are_open = all(partition.is_open for partition in self.partitions)
        return (
            self.ready.is_set()
            and are_open
            and self._member.consumer.assignment() <= set(self._held)
        )

    async def is_member(self) -> bool:
        """True when the group still counts us in. Asks it."""
        return await self._member.membership.is_known()

    async def unread(self) -> dict[TopicPartition, int]:
        """Offsets of our partitions that are not fetched yet. Raises KafkaError.

        Kafka is asked each time: what earlier fetches said is out of date when fetches hang.
        """
        partitions = list(self._held) or [TopicPartition(self._sources[0], 0)]
        ends = await self._member.consumer.end_offsets(partitions)
        ours = ends.keys() & self._held.keys() & self._member.consumer.assignment()
        return {tp: max(ends[tp] - await self._member.consumer.position(tp), 0) for tp in ours}

    async def run(self, stop: asyncio.Event) -> None:
        """Process until `stop` is set, then drain: finish what runs, commit it, leave the group."""
        async with asyncio.TaskGroup() as tasks:
            while not await self._join(tasks):
                if stop.is_set():
                    return
            heartbeat = tasks.create_task(self._member.membership.run())
            fetching = tasks.create_task(self._fetching().run())
            try:
                await _first_of(stop, self._failed)
            finally:
                fetching.cancel()
                await self._drain()
                await ended_tasks(fetching, heartbeat)
        if self._failure is not None:
            failure = self._failure
            advice = failure.advice if isinstance(failure, TierlineError) else ""
            raise StageError(str(failure), advice=advice) from failure

    async def _join(self, tasks: asyncio.TaskGroup) -> bool:
        """Join the group. False when Kafka is away, or does not know the topics yet."""
        instance = self._clients.settings.instance
        consumer = self._clients.group_consumer(self.group, member=instance)
        session = self._clients.settings.session_timeout.total_seconds()
        membership = Membership(consumer, session)
        admin = self._clients.admin()
        member = self._member = Member(self._clients, self.group, consumer, membership, admin)
        self._assigned = AssignedPartitions(
            member,
            self._executor,
            guard=self._guard,
            prepare=self._prepare,
            returned=self._returned,
            on_progress=self._progress.set,
            on_commit=self._on_commit,
            on_failure=self._fail,
            tasks=tasks,
        )
        self._held = self._assigned.held
        try:
            await admin.start()
            consumer.subscribe(list(self._sources), listener=self)
            await consumer.start()
        except KAFKA_IS_AWAY as error:
            await self._leave()
            if isinstance(error, KAFKA_REFUSES):
                raise
            _log.warning("group not joined", group=self.group, error=type(error).__name__)
            await asyncio.sleep(_JOIN_AGAIN_SECONDS)
            return False
        return True

    def _fetching(self) -> Fetching:
        return Fetching(
            self._member.consumer,
            self._member.membership,
            self._held,
            self._executor,
            self._shell,
            self._guard,
            self._progress,
        )

    async def on_partitions_revoked(self, revoked: Sequence[TopicPartition]) -> None:
        """Start nothing more, cancel nothing, and commit all that is finished.

        A commit after the rejoin would race the next owner's fence, so it happens here. A process
        that the group has given up can commit nothing any more, and others take its partitions
        while it is away: it joins again at once, and adopts what it still has.
        """
        is_lost = self._member.membership.is_given_up
        grace = 0.0 if is_lost else self._revoke_grace
        self._assigned.revoke(time.monotonic() + grace)
        if revoked and not is_lost:
            # A request that waits begins no call before the partition is back, unless it has paid.
            await self._executor.wait_idle(self._revoke_grace, may_rest=True)
            await self._assigned.flush(_LAST_COMMITS)

    async def on_partitions_assigned(self, assigned: Sequence[TopicPartition]) -> None:
        """Adopt what came back unchanged, take what is new, release what is lost."""
        try:
            if self._assigned.is_draining:
                # Nothing is taken any more; what is still ours may be finished.
                await self._assigned.keep(assigned)
                return
            await self._assigned.assign(assigned, was_out=self._member.membership.was_out())
            self.ready.set()
            self._progress.set()
        except Exception as error:  # noqa: BLE001  the library would log it and go on
            self._fail(error)

    async def _drain(self) -> None:
        """Finish what runs, leave what has cost nothing yet, and commit while there is time.

        No further call is begun: the end might cut it off.
        """
        ends_at = time.monotonic() + self._drain_for
        self._assigned.drain(ends_at)
        await self._executor.wait_idle(self._drain_for, may_rest=True)
        await self._assigned.flush(max(ends_at - time.monotonic(), _LEAST_FLUSH))
        await self._assigned.release(tuple(self._assigned.held))
        await self._leave()

    async def _leave(self) -> None:
        closing = at_most(_STOP_LIMIT, self._member.admin.close())
        await asyncio.gather(ended(self._member.consumer), closing, return_exceptions=True)

    def _fail(self, error: Exception) -> None:
        causes = error.exceptions if isinstance(error, ExceptionGroup) else [error]
        self._failure = self._failure or causes[0]
        self._failed.set()


async def _first_of(*events: asyncio.Event) -> None:
    """Wait until one of them is set."""
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
