"""A pool of tasks: many records at once, which finish in any order."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any

from aiokafka import TopicPartition

from consumers.failpoints import failpoint, failpoint_of
from consumers.records import Record
from consumers.runtime.marks import stepwise
from consumers.runtime.partition import Partition
from consumers.runtime.poison import Guard
from consumers.runtime.shell import Shell
from consumers.telemetry import names
from consumers.telemetry.hops import NOT_COMMITTED, Hop, set_current
from consumers.telemetry.setup import Telemetry
from schemas.codec import Outgoing

__all__ = ["Slot", "TaskPool"]

_BURST = 32


class Slot:
    """A record's place in the pool."""

    def __init__(self, pool: "TaskPool", partition: Partition) -> None:
        self._pool = pool
        self._partition = partition

    async def wait(self, seconds: float, *, keeps_place: bool = False, paid: bool = False) -> None:
        """Wait without working; unless it keeps its place, another record may have it meanwhile.

        A rebalance waits for a request that has `paid` for a call.
        """
        with self._pool.waiting(self._partition, keeps_place=keeps_place, paid=paid):
            await asyncio.sleep(seconds)
            await self._partition.membership.until_live()

    async def may_call(self, *, paid: bool = False) -> bool:
        """True while the partition is certainly ours and commits; asked before every call.

        A request that has `paid` may go on while the partition is about to move.
        """
        if not self._partition.membership.is_live():
            # Wait for the group, as a wait: a rebalance need not wait for what has not paid.
            await self.wait(0, keeps_place=True, paid=paid)
        return self._partition.may_call(paid=paid)

    def is_ours(self) -> bool:
        """False once the partition may be another process's; asked right before a call leaves."""
        return self._partition.membership.is_live()


class TaskPool:
    """Processes up to `width` records at a time, each in a task of its own.

    Back-pressure is no more than this: a record is fetched only when a slot is free, so a slow
    provider slows the fetch, and Kafka keeps the backlog.
    """

    def __init__(  # noqa: PLR0913  how a stage processes, and what bounds it
        self,
        handle: Callable[[Record, Slot], Awaitable[Sequence[Outgoing]]],
        shell: Shell,
        guard: Guard,
        *,
        width: int,
        book: Callable[[TopicPartition, Sequence[Outgoing], bool], None],
        last_grace: float,
        most: Callable[[], int] | None = None,
        on_lost: Callable[[TopicPartition], None] = lambda _: None,
        telemetry: Telemetry | None = None,
    ) -> None:
        """`most`: how many records can be processed at once now, whatever the width.

        `on_lost` is called with each partition that is released.
        """
        self._most = most or (lambda: width)
        self._on_lost = on_lost
        self._handle = handle
        self._shell = shell
        self._guard = guard
        self._book = book
        self._last_grace = last_grace
        self._telemetry = telemetry or Telemetry()
        self._width = width
        #: By `Partition`, not by topic partition: one that is lost and taken again is another.
        self._running: dict[Partition, set[asyncio.Task[None]]] = {}
        self._count = 0
        #: Tasks that wait.
        self._at_rest: set[asyncio.Task[Any] | None] = set()
        #: How many of the waiting tasks keep their place.
        self._keeping_place = 0
        #: How many of them have paid for a call: a rebalance waits for those.
        self._paid = 0
        self._idle = asyncio.Event()
        self._idle.set()
        #: Set while all tasks wait, and none that has paid.
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._tasks: asyncio.TaskGroup

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator["TaskPool"]:
        """Own the tasks: nothing started here outlives this context."""
        async with asyncio.TaskGroup() as self._tasks:
            yield self

    @property
    def free(self) -> int:
        """Free slots, but only a few at a time; a request that waits for a retry holds none.

        A thousand calls started in one turn of the event loop would hold up the commits, and their
        replies would come back in one turn.
        """
        taken = self._count - len(self._at_rest) + self._keeping_place
        return max(min(min(self._width, self._most()) - taken, _BURST), 0)

    @property
    def in_flight(self) -> int:
        """Records being processed, waiting ones included."""
        return self._count

    def start(self, partition: Partition, records: Sequence[Record]) -> None:
        """Process each record in a task of its own."""
        running = self._running.setdefault(partition, set())
        for record in records:
            task = self._tasks.create_task(self._marked(partition, record))
            self._count += 1
            self._idle.clear()
            self._quiet.clear()
            running.add(task)
            task.add_done_callback(lambda done: self._ended(partition, done))

    async def wait_idle(self, limit: float, *, may_rest: bool = False) -> None:
        """Wait until nothing runs (but what waits, with `may_rest`), at most `limit` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit):
                await (self._quiet if may_rest else self._idle).wait()

    def cancel_all(self, partition: Partition) -> int:
        """Cancel what runs for a lost partition after a last grace; returns how many do not wait.

        A reply that comes back until then is no result any more, but it was paid for and is booked.
        A task that waits has no reply to come: it is cancelled and booked at once.
        """
        self._on_lost(partition.source)
        running = {task for task in self._running.pop(partition, ()) if not task.done()}
        for task in running:
            grace = 0.0 if task in self._at_rest else self._last_grace
            asyncio.get_running_loop().call_later(grace, task.cancel)
        return len(running - self._at_rest)

    def book_uncommitted(
        self, source: TopicPartition, outgoing: Sequence[Outgoing], *, in_doubt: bool = False
    ) -> None:
        """Book what records led to that was not committed, or only by a commit in doubt."""
        if outgoing:
            self._book(source, outgoing, in_doubt)

    async def _marked(self, partition: Partition, record: Record) -> None:
        work = self._process(partition, record)
        await stepwise(self._guard.mark, self._guard.mark_of(record), work)

    async def _process(self, partition: Partition, record: Record) -> None:
        failpoint_of(record)
        began, hop = time.monotonic(), self._telemetry.tracing.receive(record, self._guard.group)
        self._telemetry.tracing.count(self._guard.group, (record,))
        set_current(hop)
        try:
            handling = self._handle(record, Slot(self, partition))
            led_to = await self._shell.handle(handling, record)
        except BaseException:
            hop.lost()
            self._measure(record, began, hop, lost=True)
            raise
        outgoing = hop.stamp(led_to, record.partition)
        is_lost = not partition.finish([(record.offset, outgoing)])
        if is_lost:
            self.book_uncommitted(partition.source, outgoing)
            hop.lost()
        elif hop.is_recording:
            partition.traced[record.offset] = hop
        failpoint("work.finished")
        self._measure(record, began, hop, lost=is_lost)

    def _measure(self, record: Record, began: float, hop: Hop, *, lost: bool) -> None:
        if not (counters := self._telemetry.counters).is_recording:
            return
        attributes = {names.GROUP: self._guard.group, names.DESTINATION: record.topic}
        if lost:
            attributes[names.ERROR_TYPE] = NOT_COMMITTED
        duration = time.monotonic() - began
        counters.record(names.PROCESS_DURATION, duration, attributes, hop.span)

    @contextlib.contextmanager
    def waiting(self, partition: Partition, *, keeps_place: bool, paid: bool) -> Iterator[None]:
        """Count this task as waiting; unless it keeps its place, it takes none of the width.

        A rebalance waits only for tasks that have `paid`.
        """
        task = asyncio.current_task()
        self._at_rest.add(task)
        self._keeping_place += keeps_place
        self._paid += paid
        self._note_rest()
        if not keeps_place:
            partition.on_progress()
        try:
            yield
        finally:
            self._at_rest.discard(task)
            self._keeping_place -= keeps_place
            self._paid -= paid
            self._note_rest()

    def _ended(self, partition: Partition, done: asyncio.Task[None]) -> None:
        self._running.get(partition, set()).discard(done)
        self._count -= 1
        if not self._count:
            self._idle.set()
        self._note_rest()
        partition.on_progress()

    def _note_rest(self) -> None:
        if self._count == len(self._at_rest) - self._paid:
            self._quiet.set()
        else:
            self._quiet.clear()
