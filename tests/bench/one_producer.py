"""All partitions of a stage in one transaction, by a producer that sends the group's generation.

`python -m tests.bench latency` against the same with `PartitionWriter` exchanged: no fault is
handled here, so that only the speed can be compared.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.transaction import AddOffsetsToTxnRequest
from aiokafka.protocol.types import (
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    TaggedFields,
)

from consumers.runtime import assigned_partitions
from consumers.runtime.clients import Clients
from consumers.runtime.offsets import Completion
from consumers.runtime.writer import PartitionWriter
from schemas.codec import Outgoing

__all__ = ["TRANSACTIONS", "one_producer"]

_BY_TOPIC = attrgetter("topic")
_TEXT = CompactString("utf-8")
#: Transactions, and partitions that they committed.
TRANSACTIONS = [0, 0]


class _Answer(Response):  # type: ignore[misc]
    API_KEY, API_VERSION, FLEXIBLE_VERSION = 28, 3, True
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "errors",
            CompactArray(
                ("topic", _TEXT),
                (
                    "partition_errors",
                    CompactArray(
                        ("partition", Int32), ("error_code", Int16), ("tags", TaggedFields)
                    ),
                ),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _Asked(RequestStruct):  # type: ignore[misc]
    API_KEY, API_VERSION, FLEXIBLE_VERSION = 28, 3, True
    RESPONSE_TYPE = _Answer
    SCHEMA = Schema(
        ("transactional_id", _TEXT),
        ("group_id", _TEXT),
        ("producer_id", Int64),
        ("producer_epoch", Int16),
        ("generation_id", Int32),
        ("member_id", _TEXT),
        ("group_instance_id", _TEXT),
        (
            "topics",
            CompactArray(
                ("topic", _TEXT),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32),
                        ("offset", Int64),
                        ("leader_epoch", Int32),
                        ("metadata", _TEXT),
                        ("tags", TaggedFields),
                    ),
                ),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _TxnOffsetCommit(Request[_Asked]):  # type: ignore[misc]
    API_KEY = 28

    def __init__(self, *fields: Any) -> None:
        self._fields = fields

    def build(self, struct: Any) -> Any:
        return struct(*self._fields)


_Waiting = tuple[TopicPartition, Sequence[Outgoing], Completion, "asyncio.Future[None]"]


class _Shared:
    """One producer of a stage, and what waits to go with its next transaction."""

    def __init__(self, clients: Clients, group: str) -> None:
        self.group = group
        self.name = f"tierline.{group}.{os.getpid()}.{id(self)}"
        self.producer: AIOKafkaProducer = clients.transactional(self.name)
        self.waiting: list[_Waiting] = []
        self.came = asyncio.Event()
        self.users = 0
        self.started = asyncio.Lock()
        self.task: asyncio.Task[None] | None = None
        self.coordinator: Any = None

    async def start(self) -> None:
        async with self.started:
            self.users += 1
            if self.task is None:
                await self.producer.start()
                self.task = asyncio.get_running_loop().create_task(self.run())

    async def stop(self) -> None:
        self.users -= 1
        if not self.users and self.task is not None:
            self.task.cancel()
            await self.producer.stop()

    async def run(self) -> None:
        ended = took = 0.0
        while True:
            await self.came.wait()
            self.came.clear()
            await asyncio.sleep(max(ended + min(max(took, 0.01), 0.2) - time.monotonic(), 0))
            group, self.waiting = self.waiting, []
            if not group:
                continue
            began = time.monotonic()
            try:
                await self.transact(group)
            except Exception as error:  # noqa: BLE001
                for *_, done in group:
                    if not done.done():
                        done.set_exception(error)
            else:
                for *_, done in group:
                    if not done.done():
                        done.set_result(None)
            ended = time.monotonic()
            took = ended - began
            TRANSACTIONS[0] += 1
            TRANSACTIONS[1] += len(group)

    async def transact(self, group: Sequence[_Waiting]) -> None:
        producer = self.producer
        await producer.begin_transaction()
        sent = []
        for source, outgoing, _, _ in group:
            for topic, records in groupby(sorted(outgoing, key=_BY_TOPIC), key=_BY_TOPIC):
                batch = producer.create_batch()
                for record in records:
                    fields = {
                        "key": record.key,
                        "value": record.value,
                        "headers": list(record.headers),
                    }
                    if batch.append(timestamp=None, **fields) is None:
                        sent.append(await self.send(batch, topic, source))
                        batch = producer.create_batch()
                        batch.append(timestamp=None, **fields)
                sent.append(await self.send(batch, topic, source))
        for answer in sent:
            await answer
        sender, client, state = producer._sender, producer.client, producer._txn_manager
        node = await sender._find_coordinator(1, self.name)
        asked = AddOffsetsToTxnRequest(
            self.name, state.producer_id, state.producer_epoch, self.group
        )
        answer = await client.send(node, asked, group=1)
        assert answer.error_code == 0, answer
        node = await sender._find_coordinator(0, self.group)
        topics: dict[str, list[Any]] = {}
        for source, _, completion, _ in group:
            row: Any = (source.partition, completion.watermark, -1, completion.encode(), {})
            topics.setdefault(source.topic, []).append(row)
        answer = await client.send(
            node,
            _TxnOffsetCommit(
                self.name,
                self.group,
                state.producer_id,
                state.producer_epoch,
                self.coordinator.generation,
                self.coordinator.member_id,
                None,
                [(topic, rows, {}) for topic, rows in topics.items()],
                {},
            ),
            group=1,
        )
        codes = {code for _, rows, *_ in answer.errors for _, code, *_ in rows}
        assert codes == {0}, codes
        await producer.commit_transaction()

    async def send(self, batch: Any, topic: str, source: TopicPartition) -> Any:
        batch.close()
        return await self.producer.send_batch(batch, topic, partition=source.partition)


class _Writer:
    """The port of `PartitionWriter` over a producer that others share."""

    shared: dict[str, _Shared]
    coordinators: dict[str, Any]

    def __init__(self, clients: Clients, source: TopicPartition, group: str) -> None:
        self.needs_start = False
        self._source = source
        if group not in self.shared:
            self.shared[group] = _Shared(clients, group)
        self._shared = self.shared[group]
        self._shared.coordinator = self.coordinators[group]

    async def start(self) -> None:
        await self._shared.start()

    async def commit(self, outgoing: Sequence[Outgoing], completion: Completion) -> None:
        done = asyncio.get_running_loop().create_future()
        self._shared.waiting.append((self._source, outgoing, completion, done))
        self._shared.came.set()
        await done

    async def close(self) -> None:
        await self._shared.stop()


@contextlib.contextmanager
def one_producer() -> Iterator[None]:
    """Stages that are started inside commit so."""
    take = assigned_partitions.AssignedPartitions._take
    _Writer.shared, _Writer.coordinators = {}, {}

    async def noted(self: Any, tp: TopicPartition, **how: Any) -> None:
        _Writer.coordinators[self._group] = self._consumer._coordinator
        await take(self, tp, **how)

    vars(assigned_partitions)["PartitionWriter"] = _Writer
    assigned_partitions.AssignedPartitions._take = noted  # type: ignore[method-assign]
    try:
        yield
    finally:
        vars(assigned_partitions)["PartitionWriter"] = PartitionWriter
        assigned_partitions.AssignedPartitions._take = take  # type: ignore[method-assign]
