"""The pool's tasks belong to what was held when they began."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest
from aiokafka import TopicPartition
from aiokafka.structs import ConsumerRecord

from consumers.records import Record
from consumers.runtime import executor
from consumers.runtime.clients import Clients
from consumers.runtime.executor import SyncExecutor
from consumers.runtime.offsets import Completion
from consumers.runtime.partition import Partition
from consumers.runtime.poison import Guard
from consumers.runtime.shell import NotYetError, Shell
from consumers.runtime.task_pool import Slot, TaskPool
from consumers.runtime.writer import PartitionWriter
from consumers.settings import KafkaSettings
from consumers.telemetry.setup import Telemetry
from schemas.codec import Outgoing
from tests.builders import Pointers

_SOURCE = TopicPartition("llm.tier.low", 0)


class _Live:
    """A member that its group counts in."""

    def is_live(self) -> bool:
        return True

    async def until_live(self) -> None:
        pass


def _pool(
    handle: Callable[[Record, Slot], Awaitable[list[Outgoing]]], last_grace: float
) -> TaskPool:
    return TaskPool(
        handle,
        Shell(Pointers()),
        Guard(),
        width=10,
        book=lambda *_: None,
        last_grace=last_grace,
    )


async def _certainly() -> bool:
    return True


def a_partition(*offsets: int, is_ours: Callable[[], Awaitable[bool]] = _certainly) -> Partition:
    """The partition as it is held from one assignment on, with records in hand."""

    async def nothing_committed(_: TopicPartition) -> Completion | None:
        return None

    writer = PartitionWriter(Clients(KafkaSettings()), _SOURCE, "work.low")
    partition = Partition(
        _SOURCE,
        writer,
        nothing_committed,
        membership=_Live(),
        is_ours=is_ours,
        on_progress=lambda: None,
    )
    for offset in offsets:
        partition.tracker.receive(offset)
    return partition


def a_fetched_record(offset: int, value: bytes = b"") -> Record:
    record: Record = ConsumerRecord(
        topic=_SOURCE.topic,
        partition=_SOURCE.partition,
        offset=offset,
        timestamp=0,
        timestamp_type=1,
        key=None,
        value=value,
        checksum=None,
        serialized_key_size=-1,
        serialized_value_size=len(value),
        headers=(),
    )
    return record


async def test_letting_go_of_a_lost_partition_spares_what_began_since_it_came_back() -> None:
    """A call that was cancelled so would never finish, and hold up its partition for ever."""
    may_end, are_cancelled, cancelled = asyncio.Event(), asyncio.Event(), []

    async def handle(record: Record, slot: Slot) -> list[Outgoing]:
        try:
            await may_end.wait()
        except asyncio.CancelledError:
            cancelled.append(record.offset)
            if len(cancelled) == 2:
                are_cancelled.set()
            raise
        return []

    pool = _pool(handle, 0.0)
    lost, again = a_partition(0, 1), a_partition(0, 1)
    async with asyncio.timeout(10), pool.open():
        pool.start(lost, [a_fetched_record(0), a_fetched_record(1)])
        pool.start(again, [a_fetched_record(0), a_fetched_record(1)])

        assert pool.cancel_all(lost) == 2
        await are_cancelled.wait()
        may_end.set()
        await pool.wait_idle(10)

    assert again.in_flight == 0
    assert lost.in_flight == 2


@pytest.mark.parametrize("error", [RecursionError(), MemoryError(), ZeroDivisionError()])
async def test_a_record_that_its_stage_fails_at_stops_no_other(error: Exception) -> None:
    async def handle(record: Record, slot: Slot) -> list[Outgoing]:
        if record.offset == 0:
            raise error
        return []

    pool, held = _pool(handle, 0.0), a_partition(0, 1)
    async with asyncio.timeout(10), pool.open():
        pool.start(held, [a_fetched_record(0), a_fetched_record(1)])
        await pool.wait_idle(10)

    assert held.in_flight == 0
    assert [one.key for one in held.unrecorded()[1]] == [b"internal_error"]


async def test_what_waits_is_let_go_at_once_and_what_runs_after_a_last_grace() -> None:
    ended: list[int] = []
    is_over, may_end = asyncio.Event(), asyncio.Event()

    async def handle(record: Record, slot: Slot) -> list[Outgoing]:
        try:
            if record.offset == 0:
                await slot.wait(3_600)
            await may_end.wait()
        finally:
            ended.append(record.offset)
            is_over.set()
        return []

    pool = _pool(handle, 3_600.0)
    lost = a_partition(0, 1)
    async with asyncio.timeout(10), pool.open():
        pool.start(lost, [a_fetched_record(0), a_fetched_record(1)])
        await asyncio.sleep(0)
        assert pool.cancel_all(lost) == 1
        await is_over.wait()

        assert ended == [0]
        may_end.set()
        await pool.wait_idle(10)


async def test_what_has_just_ended_is_no_call_that_is_abandoned() -> None:
    """The event loop tells the pool one turn later."""

    async def handle(record: Record, slot: Slot) -> list[Outgoing]:
        return []

    pool, held = _pool(handle, 0.0), a_partition(0)
    async with asyncio.timeout(10), pool.open():
        pool.start(held, [a_fetched_record(0)])
        while not held._finished:  # noqa: ASYNC110  it turns in the next turn
            await asyncio.sleep(0)
        assert pool.in_flight == 1
        assert pool.cancel_all(held) == 0


async def test_a_commit_in_doubt_holds_up_calls_and_a_move_waits_for_who_has_paid() -> None:
    """A kill would cost the call. Who has paid goes on as soon as the doubt is over."""
    asked, waits, calls = asyncio.Event(), asyncio.Event(), []

    async def is_unknown() -> bool:
        asked.set()
        return False

    async def handle(record: Record, slot: Slot) -> list[Outgoing]:
        while not await slot.may_call(paid=True):
            waits.set()
            await slot.wait(0.01, paid=True)
        calls.append(record.offset)
        return []

    pool, partition = _pool(handle, 0.0), a_partition(0, 1, is_ours=is_unknown)
    partition.open()
    async with asyncio.timeout(10), pool.open(), asyncio.TaskGroup() as tasks:
        tasks.create_task(partition.run_commits())
        partition.finish([(0, [])])
        await asked.wait()
        pool.start(partition, [a_fetched_record(1)])
        await waits.wait()
        await pool.wait_idle(0.1, may_rest=True)
        assert (calls, pool.in_flight) == ([], 1)

        await partition.close()
        pool.cancel_all(partition)


async def test_while_a_commit_hangs_no_call_is_begun() -> None:
    """What comes back meanwhile is in memory alone: a death would cost all of it."""
    begun, may_end = asyncio.Event(), asyncio.Event()

    class Hanging(PartitionWriter):
        async def commit(self, outgoing: Sequence[Outgoing], completion: Completion) -> None:
            begun.set()
            await may_end.wait()

    partition = a_partition(0, 1)
    partition._writer = Hanging(Clients(KafkaSettings()), _SOURCE, "work.low")
    partition._writer.needs_start = False
    partition.open()
    async with asyncio.TaskGroup() as tasks:
        committing = tasks.create_task(partition.run_commits())
        partition.finish([(0, ())])
        await begun.wait()
        assert partition.may_call(paid=False)
        assert partition.room
        while partition.may_call(paid=True):  # noqa: ASYNC110  it turns with time
            await asyncio.sleep(0.1)
        assert not partition.room
        may_end.set()
        while not partition.may_call(paid=False):  # noqa: ASYNC110  it turns with the commit
            await asyncio.sleep(0.01)
        committing.cancel()


async def test_a_record_that_cannot_be_decided_about_yet_is_passed_by_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(executor, "_LOOK_AGAIN", 0.001)
    looked, is_over = [], asyncio.Event()

    def decide(record: Record) -> list[Outgoing]:
        looked.append(record.offset)
        if record.offset == 0 and looked.count(0) < 3:
            raise NotYetError
        if record.offset == 0:
            is_over.set()
        return []

    deciding = SyncExecutor(decide, Shell(Pointers()), Guard(), Telemetry().tracing)
    held = a_partition(0, 1, 2)
    deciding.start(held, [a_fetched_record(0), a_fetched_record(1), a_fetched_record(2)])
    assert [offset for offset, _ in held._finished] == [1, 2]

    async with asyncio.timeout(10):
        await is_over.wait()
    assert [offset for offset, _ in held._finished] == [1, 2, 0]
    assert (looked, deciding.looks) == ([0, 1, 2, 0, 0], 2)


async def test_what_waits_for_a_decision_holds_no_flush_up_and_ends_with_its_partition(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(executor, "_LOOK_AGAIN", 0.001)
    looked: list[int] = []

    def decide(record: Record) -> list[Outgoing]:
        looked.append(record.offset)
        raise NotYetError

    deciding = SyncExecutor(decide, Shell(Pointers()), Guard(), Telemetry().tracing)
    held = a_partition(0)
    deciding.start(held, [a_fetched_record(0)])
    async with asyncio.timeout(10):
        assert await held.flush(5.0)
        while len(looked) < 3:  # noqa: ASYNC110  it turns with time
            await asyncio.sleep(0.001)
        await held.close()
        while deciding._waiting:  # noqa: ASYNC110  it turns with time
            await asyncio.sleep(0.001)
