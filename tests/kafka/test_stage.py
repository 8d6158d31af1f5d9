"""A stage in its group: what happens to it while the group moves partitions."""

import asyncio
import time
from collections.abc import Sequence

import pytest
from aiokafka import TopicPartition

from consumers.records import Record
from consumers.runtime.clients import Clients
from consumers.runtime.executor import SyncExecutor
from consumers.runtime.partition import Partition
from consumers.runtime.poison import Guard
from consumers.runtime.publisher import publisher
from consumers.runtime.shell import Shell
from consumers.runtime.spec import StageSpec
from consumers.runtime.stage import Stage, StageError
from consumers.runtime.task_pool import Slot, TaskPool
from consumers.runtime.topics import ensure_topics
from consumers.settings import Settings
from consumers.telemetry.setup import Telemetry
from schemas.codec import Outgoing
from tests.builders import Pointers

pytestmark = pytest.mark.kafka

_SPEC = StageSpec("route", ("llm.intake",), ())
_SHELL = Shell(Pointers())


class _HeldUp:
    """Takes no records, and holds up the first rebalance until its stage lets partitions go."""

    free = 0
    in_flight = 0

    def __init__(self) -> None:
        self.is_rebalancing = asyncio.Event()
        self._lets_go = asyncio.Event()

    def start(self, partition: Partition, records: Sequence[Record]) -> None:
        raise AssertionError

    async def wait_idle(self, limit: float, *, may_rest: bool = False) -> None:
        if not self.is_rebalancing.is_set():
            self.is_rebalancing.set()
            await self._lets_go.wait()

    def cancel_all(self, partition: Partition) -> int:
        self._lets_go.set()
        return 0

    def book_uncommitted(
        self, source: TopicPartition, outgoing: Sequence[Outgoing], *, in_doubt: bool = False
    ) -> None:
        pass


async def test_a_stop_in_the_middle_of_a_rebalance_ends(settings: Settings) -> None:
    """The library ends a rebalance while it stops, and gives partitions to one who has left."""
    clients = Clients(settings.kafka)
    assert await ensure_topics(clients) == []

    held = _HeldUp()
    first, second = (
        Stage(_SPEC, clients, executor, _SHELL, Guard("route"))
        for executor in (
            held,
            SyncExecutor(lambda _: (), _SHELL, Guard("route"), Telemetry().tracing),
        )
    )
    stop, stop_second = asyncio.Event(), asyncio.Event()
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(first.run(stop))
        await first.ready.wait()
        tasks.create_task(second.run(stop_second))
        await held.is_rebalancing.wait()
        stop.set()
        async with asyncio.timeout(20):
            await running
        await second.ready.wait()
        stop_second.set()


async def test_who_is_fenced_again_and_again_gives_way(settings: Settings) -> None:
    """Another process takes the same partition, and the group does not know it."""
    clients, topics = Clients(settings.kafka), settings.kafka.topics
    assert await ensure_topics(clients) == []
    stage = Stage(
        _SPEC,
        clients,
        SyncExecutor(lambda _: (), _SHELL, Guard("route"), Telemetry().tracing),
        _SHELL,
        Guard("route"),
    )
    committed = asyncio.Event()
    stage.on_commit(lambda *_: committed.set())
    rival = f"tierline.{settings.kafka.prefix}route.{topics.intake}.0"

    async def fence() -> None:
        while True:
            async with publisher(clients) as sending:
                await (await sending.publish(topics.intake, b"{}", partition=0))
            await committed.wait()
            committed.clear()
            other = clients.transactional(rival)
            await other.start()
            await other.stop()

    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        fencing = tasks.create_task(fence())
        with pytest.raises(StageError, match="fenced again and again"):
            await stage.run(asyncio.Event())
        fencing.cancel()


async def test_others_have_their_turns_between_records_that_take_long(settings: Settings) -> None:
    """However many there are in one fetch: else nobody would be heard until the last is decided."""
    clients, topics = Clients(settings.kafka), settings.kafka.topics
    assert await ensure_topics(clients) == []
    async with publisher(clients) as sending:
        sent = [await sending.publish(topics.intake, b"{}", partition=0) for _ in range(64)]
        for one in sent:
            await one
    turns, all_decided = 0, asyncio.Event()
    decided_at: list[int] = []

    def decide(_: Record) -> Sequence[Outgoing]:
        began = time.monotonic()
        while time.monotonic() - began < 0.005:
            pass
        decided_at.append(turns)
        if len(decided_at) == len(sent):
            all_decided.set()
        return ()

    async def take_turns() -> None:
        nonlocal turns
        while not all_decided.is_set():
            turns += 1
            await asyncio.sleep(0)

    inline = SyncExecutor(decide, _SHELL, Guard("route"), Telemetry().tracing)
    stage = Stage(_SPEC, clients, inline, _SHELL, Guard("route"))
    stop = asyncio.Event()
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        tasks.create_task(stage.run(stop))
        await take_turns()
        stop.set()

    assert len(set(decided_at)) >= 4


class _Busy:
    """Holds every record it is given until it is told, and counts who waits for it."""

    free = 10
    in_flight = 0

    def __init__(self) -> None:
        self.has_some = asyncio.Event()
        self.waits = 0
        self._held: list[tuple[Partition, Record]] = []

    def start(self, partition: Partition, records: Sequence[Record]) -> None:
        self._held += [(partition, record) for record in records]
        self.has_some.set()

    def finish(self) -> None:
        for partition, record in self._held:
            assert partition.finish([(record.offset, ())])
        self._held.clear()

    async def wait_idle(self, limit: float, *, may_rest: bool = False) -> None:
        self.waits += 1

    def cancel_all(self, partition: Partition) -> int:
        raise AssertionError

    def book_uncommitted(
        self, source: TopicPartition, outgoing: Sequence[Outgoing], *, in_doubt: bool = False
    ) -> None:
        assert not outgoing


async def test_who_was_given_up_by_its_group_joins_at_once_and_goes_on(settings: Settings) -> None:
    """While it waited for its calls others would take its partitions, and pay for them again."""
    clients, topics = Clients(settings.kafka), settings.kafka.topics
    assert await ensure_topics(clients) == []
    busy, committed, stop = _Busy(), asyncio.Event(), asyncio.Event()
    stage = Stage(_SPEC, clients, busy, _SHELL, Guard("route"))
    stage.on_commit(lambda *_: committed.set())
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(stage.run(stop))
        await stage.ready.wait()
        async with publisher(clients) as sending:
            await (await sending.publish(topics.intake, b"{}", partition=0))
        await busy.has_some.wait()
        stage.ready.clear()
        # What the library does when the coordinator does not know the member any more.
        stage._member.consumer._coordinator.reset_generation()
        await stage.ready.wait()

        assert busy.waits == 0
        busy.finish()
        await committed.wait()
        assert sum(held.committed.watermark for held in stage.partitions if held.committed) == 1
        busy.cancel_all = lambda partition: 0  # type: ignore[method-assign]
        stop.set()
        await running


class _LongCall(_HeldUp):
    """A call that lasts longer than half a session, and asks then whether it may go on."""

    def __init__(self) -> None:
        super().__init__()
        self.went_on = 0
        self.stage: Stage

    async def wait_idle(self, limit: float, *, may_rest: bool = False) -> None:
        self.is_rebalancing.set()
        await asyncio.sleep(4)
        async with asyncio.timeout(8):
            await self.stage._member.membership.until_live()
        self.went_on += 1


async def test_a_call_goes_on_while_its_partition_waits_for_it(settings: Settings) -> None:
    """The poll stands still while partitions move and at the end, and the process does not."""
    clients = Clients(settings.kafka)
    assert await ensure_topics(clients) == []
    call = _LongCall()
    first, second = (
        Stage(_SPEC, clients, executor, _SHELL, Guard("route"))
        for executor in (
            call,
            SyncExecutor(lambda _: (), _SHELL, Guard("route"), Telemetry().tracing),
        )
    )
    call.stage = first
    stop, stop_second = asyncio.Event(), asyncio.Event()
    async with asyncio.timeout(90), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(first.run(stop))
        await first.ready.wait()
        tasks.create_task(second.run(stop_second))
        await second.ready.wait()
        assert call.went_on == 1
        stop.set()
        await running
        assert call.went_on == 2
        stop_second.set()


async def test_the_end_begins_no_call_and_lets_a_request_that_has_paid_end(
    settings: Settings,
) -> None:
    """A call begun at the end could be cut off by it, and its next owner would pay again."""
    clients, topics = Clients(settings.kafka), settings.kafka.topics
    assert await ensure_topics(clients) == []
    calls: list[bytes] = []
    all_wait, waiting = asyncio.Event(), 0

    async def handle(record: Record, slot: Slot) -> Sequence[Outgoing]:
        nonlocal waiting
        name = record.value or b""
        has_paid = name == b"paid"
        calls.extend([name] * has_paid)
        waiting += 1
        if waiting == 2:
            all_wait.set()
        await slot.wait(0.5, paid=has_paid)
        while not await slot.may_call(paid=has_paid):
            await slot.wait(0.1)
        calls.append(name)
        return ()

    async def run_until(came: asyncio.Event) -> float:
        booked: list[Outgoing] = []
        pool = TaskPool(
            handle,
            _SHELL,
            Guard("work"),
            width=10,
            book=lambda _, lines, __: booked.extend(lines),
            last_grace=1,
        )
        stage, stop = (
            Stage(StageSpec("work", ("llm.intake",), ()), clients, pool, _SHELL, Guard("route")),
            asyncio.Event(),
        )
        stage.on_commit(lambda *_: committed.set())
        async with pool.open(), asyncio.TaskGroup() as tasks:
            running = tasks.create_task(stage.run(stop))
            await came.wait()
            stop.set()
            began = asyncio.get_running_loop().time()
            await running
            return asyncio.get_running_loop().time() - began

    committed = asyncio.Event()
    async with asyncio.timeout(90):
        async with publisher(clients) as sending:
            for name in (b"paid", b"not paid"):
                await (await sending.publish(topics.intake, name, partition=0))
        assert await run_until(all_wait) < 15
        assert calls == [b"paid", b"paid"]
        assert committed.is_set()

        committed.clear()
        await run_until(committed)
        assert calls == [b"paid", b"paid", b"not paid"]


async def test_what_could_not_be_committed_is_booked_before_connections_are_closed(
    settings: Settings,
) -> None:
    clients, topics = Clients(settings.kafka), settings.kafka.topics
    assert await ensure_topics(clients) == []
    line = Outgoing(f"{settings.kafka.prefix}nowhere", b"key", b"line")
    finished, booked = asyncio.Event(), asyncio.Queue[tuple[Outgoing, bool]]()

    async def handle(record: Record, slot: Slot) -> Sequence[Outgoing]:
        finished.set()
        return [line]

    def book(_: TopicPartition, lines: Sequence[Outgoing], in_doubt: bool) -> None:
        for one in lines:
            booked.put_nowait((one._replace(headers=()), in_doubt))

    pool = TaskPool(handle, _SHELL, Guard("work"), width=10, book=book, last_grace=1)
    stage = Stage(
        StageSpec("work", ("llm.intake",), ()), clients, pool, _SHELL, Guard("work"), drain_for=0.5
    )
    stop = asyncio.Event()
    async with asyncio.timeout(60), pool.open(), asyncio.TaskGroup() as tasks:
        tasks.create_task(stage.run(stop))
        async with publisher(clients) as sending:
            await (await sending.publish(topics.intake, b"{}", partition=0))
        await finished.wait()
        stop.set()
        async with asyncio.timeout(5):
            assert await booked.get() == (line, True)
    assert booked.empty()
