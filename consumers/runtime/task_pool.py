"""A pool: many records at once, finishing in any order."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any

from aiokafka import TopicPartition

from consumers.runtime.failpoints import failpoint, failpoint_of
from consumers.runtime.marks import stepwise
from consumers.runtime.partition import Partition
from consumers.runtime.poison import Guard
from consumers.runtime.records import Record
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
        """Wait without working; unless the place is kept, another record may have it meanwhile.

        A request that has `paid` for a call is waited for when its partition is to move.
        """
        with self._pool.waiting(self._partition, keeps_place=keeps_place, paid=paid):
            await asyncio.sleep(seconds)
            await self._partition.membership.until_live()

    async def may_call(self, *, paid: bool = False) -> bool:
        """True while the partition is ours for certain and commits; asked before every call.

        A request that has `paid` may go on while the partition is about to move.
        """
        if not self._partition.membership.is_live():
            # Whoever must wait for the group waits, and a move need not wait for what has not paid.
            await self.wait(0, keeps_place=True, paid=paid)
        return self._partition.may_call(paid=paid)

    def is_ours(self) -> bool:
        """False once the partition may be another process's; asked right before a call leaves."""
        return self._partition.membership.is_live()


class TaskPool:
    """Processes up to `width` records at a time, each in a task of its own.

    Taking a record only when a slot is free is the whole of our back-pressure: a slow provider
    slows the fetch, and Kafka keeps the backlog.
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
        """`most`: how many records can be worked on at once as things are now, whatever the width.

        `on_lost` is told the partitions that another process has now.
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
        #: By what was held when they began: a partition that is lost and taken again begins anew.
        self._running: dict[Partition, set[asyncio.Task[None]]] = {}
        self._count = 0
        self._at_rest: set[asyncio.Task[Any] | None] = set()
        #: Of those that rest, the ones that keep their place.
        self._waiting = 0
        #: And those that have paid for a call, for which a rebalance waits.
        self._paid = 0
        self._idle = asyncio.Event()
        self._idle.set()
        #: Set while nothing runs that does not rest.
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
        """Slots nobody holds, a few at a time; a request that waits for a retry holds none.

        Starting a thousand calls in one turn of the event loop would hold up the commits, and bring
        a thousand replies back in one turn later.
        """
        taken = self._count - len(self._at_rest) + self._waiting
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
        """Wait until nothing runs, at most `limit` seconds; what rests may be left resting."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit):
                await (self._quiet if may_rest else self._idle).wait()

    def cancel_all(self, partition: Partition) -> int:
        """Cancel what runs for a lost partition after a last grace; how many calls that are.

        What comes back until then is no result any more, but it was paid for and is booked. What
        waits has nothing to come back: it is booked at once, the next kill may be near.
        """
        self._on_lost(partition.source)
        running = self._running.pop(partition, set())
        for task in running:
            grace = 0.0 if task in self._at_rest else self._last_grace
            asyncio.get_running_loop().call_later(grace, task.cancel)
        return len(running)

    def book_uncommitted(
        self, source: TopicPartition, outgoing: Sequence[Outgoing], *, in_doubt: bool = False
    ) -> None:
        """Book what came of work that no commit took with it, or that one in doubt may have."""
        if outgoing:
            self._book(source, outgoing, in_doubt)

    async def _marked(self, partition: Partition, record: Record) -> None:
        place = self._guard.place(record)
        await stepwise(self._guard.mark, place, self._process(partition, record))

    async def _process(self, partition: Partition, record: Record) -> None:
        failpoint_of(record)
        began, hop = time.monotonic(), self._telemetry.tracing.receive(record, self._guard.group)
        self._telemetry.tracing.count(self._guard.group, (record,))
        set_current(hop)
        try:
            handling = self._handle(record, Slot(self, partition))
            made = await self._shell.handle(handling, record)
        except BaseException:
            hop.lost()
            self._measure(record, began, hop, lost=True)
            raise
        outgoing = hop.stamp(made, record.partition)
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
        by = {names.GROUP: self._guard.group, names.DESTINATION: record.topic}
        if lost:
            by[names.ERROR_TYPE] = NOT_COMMITTED
        counters.record(names.PROCESS_DURATION, time.monotonic() - began, by, hop.span)

    @contextlib.contextmanager
    def waiting(self, partition: Partition, *, keeps_place: bool, paid: bool) -> Iterator[None]:
        """Count this task as waiting, and unless it keeps its place not as one of the width.

        A rebalance waits only for those that have `paid`.
        """
        task = asyncio.current_task()
        self._at_rest.add(task)
        self._waiting += keeps_place
        self._paid += paid
        self._note_rest()
        if not keeps_place:
            partition.on_progress()
        try:
            yield
        finally:
            self._at_rest.discard(task)
            self._waiting -= keeps_place
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
