"""An input partition that this process holds: what is received, finished and committed."""

import asyncio
import contextlib
import itertools
import math
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from enum import Enum, auto

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import ProducerFenced

from consumers.failpoints import failpoint
from consumers.runtime.membership import Live
from consumers.runtime.metrics import Commit
from consumers.runtime.offsets import OWNER_BITS, CommitId, Completion, OffsetTracker
from consumers.runtime.oldest_record import OldestRecord
from consumers.runtime.ownership import (
    CommitOutcome,
    FencedError,
    FenceLimit,
    PartitionLostError,
    may_adopt,
    resolve_commit,
)
from consumers.runtime.writer import PartitionWriter
from consumers.telemetry.hops import Hop
from schemas.codec import Outgoing

__all__ = ["Finished", "Partition", "PartitionState"]

_log = structlog.get_logger(__name__)

_FIRST_BACKOFF, _LONGEST_BACKOFF = 0.2, 5.0
#: A commit in doubt is looked up again this soon: a kill before that loses all that it holds.
_LONGEST_DOUBT = 1.0
#: This many failed commits in a row will not pass by themselves.
_MANY_FAILURES = 6
#: Seconds to allow for a call at the end of a grace.
_SHORT_CALL = 2.0
#: Seconds from the end of one commit to the next, at least; a commit that took longer is followed
#: by a longer rest. A transaction costs five round trips however few records it holds: without a
#: rest a machine at half load would do little else. Kafka writes the last one's markers meanwhile.
_LEAST_REST = 0.01
#: And at most: a very long commit was in trouble, and what finished since has waited enough.
_LONGEST_REST = 0.2
#: While a commit takes longer than this no call is begun: it may well end in doubt.
_LONG_COMMIT = 3.0
#: A group of this many records is committed without waiting for more.
_LARGE_GROUP = 128

ReadCompletion = Callable[[TopicPartition], Awaitable[Completion | None]]


class PartitionState(Enum):
    """Where a partition stands. From REVOKING it may go back to OPEN, from CLOSED nowhere.

    A commit may be in doubt in any state: then nothing is fetched and no call is begun until the
    next commit that succeeds.
    """

    #: The former owner is being fenced; nothing is fetched yet.
    TAKING = auto()
    #: Records are fetched, and calls are made for them.
    OPEN = auto()
    #: It may move at the revoke deadline. Nothing is fetched; what runs goes on and is committed.
    REVOKING = auto()
    #: Another owner may work on it: nothing is committed any more.
    CLOSED = auto()


#: An offset and what its record led to.
Finished = tuple[int, Sequence[Outgoing]]


class Partition:
    """Gathers finished records and commits them in groups, one transaction after another.

    While one transaction runs the next group gathers: an idle stage commits at once, a busy one in
    large batches.
    """

    def __init__(
        self,
        source: TopicPartition,
        writer: PartitionWriter,
        read: ReadCompletion,
        *,
        membership: Live,
        is_ours: Callable[[], Awaitable[bool]],
        on_progress: Callable[[], None],
        on_commit: Callable[[Commit], None] = lambda _: None,
        fence_limit: FenceLimit | None = None,
    ) -> None:
        """`fence_limit` is the caller's, so that it counts over several takings of a partition.

        `on_progress` is called when there is room for further records, `on_commit` after commits.
        """
        self.source = source
        self.tracker = OffsetTracker(0)
        self._state = PartitionState.TAKING
        #: While it is REVOKING: the monotonic time at which it may move, or its process ends.
        self._revoke_deadline = 0.0
        #: The last state we know to be committed; None before the first commit.
        self.committed: Completion | None = None
        self._log = _log.bind(topic=source.topic, partition=source.partition)
        self._writer = writer
        self._read = read
        self._is_ours = is_ours
        self.membership = membership
        self.on_progress = on_progress
        self._on_commit = on_commit
        self._finished: list[Finished] = []
        #: What the present commit covers.
        self._group: list[Finished] = []
        self._wake = asyncio.Event()
        self._is_large = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._committing: Completion | None = None
        #: Tells our commits from those of other owners, and of ourselves after the next taking.
        self._owner = secrets.randbits(OWNER_BITS)
        self._commits = itertools.count(1)
        #: The task that runs the commits.
        self._runner: asyncio.Task[None] | None = None
        #: True from a failed commit to the next one that succeeds: nothing new is begun meanwhile.
        self.is_in_doubt = False
        #: Monotonic time from which on the present commit has taken too long.
        self._hangs_from = math.inf
        self._fence_limit = fence_limit or FenceLimit()
        #: When unfinished records were appended.
        self.appended = OldestRecord()
        #: Traced records by offset, until their outcome is committed.
        self.traced: dict[int, Hop] = {}
        self.last_commit_seconds: float | None = None

    @property
    def is_open(self) -> bool:
        """True while records may be started."""
        return self._state is PartitionState.OPEN

    @property
    def is_closed(self) -> bool:
        """True once it takes no outcomes any more."""
        return self._state is PartitionState.CLOSED

    @property
    def _is_held_up(self) -> bool:
        """True while a reply could not be committed soon: a kill would lose what was paid."""
        return self.is_in_doubt or time.monotonic() > self._hangs_from

    def may_call(self, *, paid: bool) -> bool:
        """True when a call may be begun for a record in hand.

        While the partition is about to move, only for a request that has `paid` for a call, which
        the next owner would pay again, and only if a short call would end in time.
        """
        if self._is_held_up:
            return False
        if self._state is PartitionState.REVOKING:
            return paid and time.monotonic() + _SHORT_CALL < self._revoke_deadline
        return self.is_open

    def open(self) -> None:
        """Let records be fetched and started. A closed partition stays closed."""
        if self._state is not PartitionState.CLOSED:
            self._state = PartitionState.OPEN

    def revoke(self, deadline: float) -> None:
        """Note that it may move at a monotonic time; an earlier one that was noted stays."""
        if self._state is PartitionState.REVOKING:
            deadline = min(self._revoke_deadline, deadline)
        self.keep_until(deadline)

    def keep_until(self, deadline: float) -> None:
        """Note that it moves at a monotonic time, whatever was noted before."""
        if self._state is not PartitionState.CLOSED:
            self._state, self._revoke_deadline = PartitionState.REVOKING, deadline

    @property
    def in_flight(self) -> int:
        """Records being processed."""
        return self.tracker.unsettled_count - len(self._finished)

    @property
    def unfinished(self) -> int:
        """Records received whose outcome is not committed yet."""
        return self.tracker.unsettled_count + len(self._group)

    @property
    def room(self) -> int:
        """How many records may be fetched now."""
        return self.tracker.room if self.is_open and not self._is_held_up else 0

    async def take(self, log_start: Callable[[], Awaitable[int]]) -> int:
        """Fence the former owner, read what it committed, and return where to fetch from."""
        await self._writer.start()
        self.committed = await self._read(self.source)
        restored = self.committed or Completion(await log_start())
        self.tracker = OffsetTracker.restore(restored)
        return self.tracker.next_fetch

    async def is_unchanged(self) -> bool:
        """True when nobody has committed since we did, so that running calls can be adopted.

        A commit becomes readable a moment after its answer, so a difference counts only once it
        has lasted for a second.
        """
        give_up = time.monotonic() + 1.0
        while True:
            stored = await self._read(self.source)
            if may_adopt(stored, committed=self.committed, committing=self._committing):
                return True
            if time.monotonic() > give_up:
                return False
            await asyncio.sleep(0.01)

    def finish(self, finished: Iterable[Finished]) -> bool:
        """Hand over what records led to. It is committed with their offsets, or not at all.

        False when the partition is not ours any more: another owner processes these records.
        """
        if self._state is PartitionState.CLOSED:
            return False
        self._finished.extend(finished)
        self._idle.clear()
        self._wake.set()
        if len(self._finished) >= _LARGE_GROUP:
            self._is_large.set()
        return True

    def lose_traces(self) -> None:
        """End the traces of what was not committed, once the commits have ended."""
        while self.traced:
            self.traced.popitem()[1].lost()

    def unrecorded(self) -> tuple[list[Outgoing], list[Outgoing]]:
        """What finished records led to and was not committed, once the commits have ended.

        First what may be in a transaction whose end is unknown, then what was never sent.
        """
        doubtful = [record for _, led_to in self._group for record in led_to]
        return doubtful, [record for _, led_to in self._finished for record in led_to]

    async def run_commits(self) -> None:
        """Commit what finishes, until closing the partition cancels this.

        Raises PartitionLostError and FencedError.
        """
        if self._state is PartitionState.CLOSED:
            return
        self._runner = asyncio.current_task()
        try:
            await self._run_commits()
        finally:
            # What finishes from now on is refused, and nobody waits for a commit.
            self._runner, self._state = None, PartitionState.CLOSED
            self._idle.set()

    async def _run_commits(self) -> None:
        ended = took = 0.0
        while True:
            await self._wake.wait()
            self._wake.clear()
            if not self._finished:
                continue
            await self._gather_until(ended + min(max(took, _LEAST_REST), _LONGEST_REST))
            began = time.monotonic()

            self._group, self._finished = self._finished, []
            self._is_large.clear()
            self.tracker.settle(offset for offset, _ in self._group)
            outgoing = [record for _, led_to in self._group for record in led_to]
            identity = CommitId(self._owner, next(self._commits))
            self._hangs_from = began + _LONG_COMMIT
            await self._commit(outgoing, self.tracker.completion(identity))
            self._hangs_from = math.inf
            if self.traced:
                for offset, _ in self._group:
                    if (hop := self.traced.pop(offset, None)) is not None:
                        hop.settled()
            committed, self._group = len(self._group), []
            ended = time.monotonic()
            took = ended - began
            sent = Counter(record.topic for record in outgoing)
            self._note_commit(Commit(self.source.topic, committed, took, sent))
            if not self._finished:
                self._idle.set()
            self.on_progress()

    async def _gather_until(self, when: float) -> None:
        if (early := when - time.monotonic()) <= 0 or len(self._finished) >= _LARGE_GROUP:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(early):
                await self._is_large.wait()

    async def flush(self, limit: float) -> bool:
        """Wait until all that is finished is committed, or nothing can be committed any more.

        False when the limit came first.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit):
                await self._idle.wait()
        return self._idle.is_set()

    async def close(self) -> None:
        """End the commits at once, then the producer.

        What the commits leave is booked before anybody waits for Kafka.
        """
        self._state = PartitionState.CLOSED
        if (runner := self._runner) is not None:
            runner.cancel()
            await asyncio.wait({runner})
        await self._writer.close()

    async def _commit(self, outgoing: Sequence[Outgoing], completion: Completion) -> None:
        """Try until it is committed or the partition is lost, however long that takes.

        What is finished was paid for, so it is kept, and nothing new is started. If the process
        ended instead, its successor would pay for all of it again.
        """
        self._committing = completion
        failures = 0
        while not (self._writer.needs_start and await self._recover(completion)):
            try:
                await self._writer.commit(outgoing, completion)
                break
            except Exception as error:  # noqa: BLE001  whatever it is, what is finished is kept
                self._note(error)
                failures += 1
                if failures == _MANY_FAILURES:
                    self._log.error(
                        "commits in a row failed",
                        error=type(error).__name__,
                        to=sorted({record.topic for record in outgoing}),
                        next="check that these topics are there, their rights and size limits",
                    )
                await asyncio.sleep(min(_FIRST_BACKOFF * 2**failures, _LONGEST_BACKOFF))
        self.committed, self._committing, self.is_in_doubt = completion, None, False
        failpoint("work.settled")

    async def _recover(self, completion: Completion) -> bool:
        """Rebuild the producer, then find out whether the commit in doubt happened.

        Tries until Kafka is back. A process that its group may have given up does not fence: first
        the group has to confirm that the partition is ours. It is asked again after the fence:
        whoever is given the partition later fences after us, and sees what we commit.
        """
        self.is_in_doubt = True
        backoff = _FIRST_BACKOFF
        while True:
            try:
                if not await self._is_ours():
                    await asyncio.sleep(backoff)
                    continue
                await self._writer.start()
                if not await self._is_ours():
                    continue
                stored = await self._read(self.source)
            except Exception as error:  # noqa: BLE001  Kafka is away, in whichever way
                self._note(error)
                await asyncio.sleep(backoff)
                backoff = min(backoff * 2, _LONGEST_DOUBT)
                continue
            outcome = resolve_commit(stored, doubtful=completion, before=self.committed)
            if outcome is not CommitOutcome.LOST:
                return outcome is CommitOutcome.COMMITTED
            msg = f"{self.source.topic}-{self.source.partition}: another process committed"
            raise PartitionLostError(msg)

    def _note_commit(self, commit: Commit) -> None:
        watermark = self.committed.watermark if self.committed else 0
        self.appended.commit(watermark, self.unfinished)
        self.last_commit_seconds = commit.seconds
        self._on_commit(commit)

    def _note(self, error: Exception) -> None:
        self.is_in_doubt = True
        self._log.warning("commit failed", error=type(error).__name__)
        if isinstance(error, ProducerFenced) and self._fence_limit.exceeded(time.monotonic()):
            msg = (
                f"{self.source.topic}-{self.source.partition}: fenced again and again, so another "
                f"process takes this partition too"
            )
            advice = "look for a process with the same settings that is not in this group"
            raise FencedError(msg, advice=advice) from error
