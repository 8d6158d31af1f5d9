"""A pool: many records at once, finishing in any order."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from aiokafka import TopicPartition

from consumers.runtime.failpoints import failpoint, failpoint_of
from consumers.runtime.marks import stepwise
from consumers.runtime.partition import Partition
from consumers.runtime.records import Record
from consumers.runtime.shell import failed, fitting
from consumers.runtime.stage import Host
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
        await self._pool.wait(seconds, keeps_place=keeps_place, paid=paid)

    async def may_call(self, *, paid: bool = False) -> bool:
        """True while the partition is ours for certain and commits; asked before every call.

        A request that has `paid` may go on while the partition is about to move.
        """
        if not self._pool.host.is_live():
            # Whoever must wait for the group waits, and a move need not wait for what has not paid.
            await self._pool.wait(0, keeps_place=True, paid=paid)
        return self._partition.may_call(paid=paid)


class TaskPool:
    """Processes up to `width` records at a time, each in a task of its own.

    Taking a record only when a slot is free is the whole of our back-pressure: a slow provider
    slows the fetch, and Kafka keeps the backlog.
    """

    def __init__(
        self,
        handle: Callable[[Record, Slot], Awaitable[Sequence[Outgoing]]],
        *,
        width: int,
        book: Callable[[TopicPartition, Sequence[Outgoing], bool], None],
        last_grace: float,
        group: str = "",
        telemetry: Telemetry | None = None,
    ) -> None:
        #: The stage that this pool works for; it sets that itself.
        self.host: Host
        #: How many records can be worked on at once as things are now, whatever the width.
        self.most: Callable[[], int] = lambda: width
        #: Told the partitions that another process has now.
        self.on_lost: Callable[[TopicPartition], None] = lambda _: None
        self._handle = handle
        self._book = book
        self._last_grace = last_grace
        self._group = group
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
        return max(min(min(self._width, self.most()) - taken, _BURST), 0)

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
            task.add_done_callback(lambda done: self._ended(running, done))

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
        self.on_lost(partition.source)
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
        guard = self.host.guard
        await stepwise(guard.mark, guard.place(record), self._process(partition, record))

    async def _process(self, partition: Partition, record: Record) -> None:
        failpoint_of(record)
        began, hop = time.monotonic(), self._telemetry.tracing.receive(record, self._group)
        self._telemetry.tracing.count(self._group, (record,))
        set_current(hop)
        try:
            made = await self._handle(record, Slot(self, partition))
            made = fitting(self.host, record, made)
        except Exception as error:  # noqa: BLE001  one record must not stop the others
            made = failed(self.host, record, error)
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
        by = {names.GROUP: self._group, names.DESTINATION: record.topic}
        if lost:
            by[names.ERROR_TYPE] = NOT_COMMITTED
        counters.record(names.PROCESS_DURATION, time.monotonic() - began, by, hop.span)

    async def wait(self, seconds: float, *, keeps_place: bool, paid: bool) -> None:
        """Wait without working, and unless the place is kept without counting as one of the width.

        A rebalance waits only for those that have `paid`.
        """
        task = asyncio.current_task()
        self._at_rest.add(task)
        self._waiting += keeps_place
        self._paid += paid
        self._note_rest()
        if not keeps_place:
            self.host.wake()
        try:
            await asyncio.sleep(seconds)
            await self.host.until_live()
        finally:
            self._at_rest.discard(task)
            self._waiting -= keeps_place
            self._paid -= paid
            self._note_rest()

    def _ended(self, running: set[asyncio.Task[None]], done: asyncio.Task[None]) -> None:
        running.discard(done)
        self._count -= 1
        if not self._count:
            self._idle.set()
        self._note_rest()
        self.host.wake()

    def _note_rest(self) -> None:
        if self._count == len(self._at_rest) - self._paid:
            self._quiet.set()
        else:
            self._quiet.clear()
