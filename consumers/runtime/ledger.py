"""The ledger beside the transactions: lines that cannot wait for one, and lines that missed theirs.

A call is booked by the transaction that commits its outcome. Two kinds of lines are not: that a
call is about to start, where nobody may pay for it twice, and what a call cost whose partition was
lost while it ran.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from consumers.runtime.clients import Clients
from consumers.runtime.reading import Publisher, first_at, publisher, records_since, start_of
from consumers.telemetry.hops import current_hop
from schemas.attempt import LedgerEntry
from schemas.codec import Outgoing, read_model
from schemas.errors import ContractError

__all__ = ["Ledger"]

_log = structlog.get_logger(__name__)

_STOP_LIMIT = 5.0
_STARTED = b'"outcome":"started"'


class Ledger:
    """Writes ledger lines of one process outside of transactions."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._topic = clients.settings.topics.attempts
        self._late: asyncio.Queue[tuple[int, Outgoing]] = asyncio.Queue()
        #: Attempts that somebody started, by input partition.
        self._started: dict[tuple[str, int], set[str]] = {}
        self._publisher: Publisher

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator["Ledger"]:
        """Write until the context closes; what is late by then is written first."""
        async with publisher(self._clients) as self._publisher, asyncio.TaskGroup() as tasks:
            writing = tasks.create_task(self._write_late())
            try:
                yield self
            finally:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_STOP_LIMIT):
                        await self._late.join()
                writing.cancel()

    async def note(self, partition: int, line: Outgoing) -> bool:
        """Write that a call starts. False when Kafka did not take it: then it must not start."""
        if (hop := current_hop()) is not None:
            line = hop.carried_by(line)
        try:
            await (await self._publish(partition, line))
        except (KafkaError, TimeoutError, OSError) as error:
            _log.warning("call not noted", partition=partition, error=type(error).__name__)
            return False
        return True

    def book(self, source: tuple[str, int], outgoing: Sequence[Outgoing]) -> None:
        """Write the ledger lines among what came of work whose partition is lost."""
        hop = current_hop()
        for line in outgoing:
            if line.topic == self._topic:
                late = hop.carried_by(line) if hop is not None else line
                self._late.put_nowait((source[1], late))

    async def prepare(self, source: TopicPartition, position: int) -> None:
        """Learn which calls former owners of an input partition have started."""
        self._started[source] = started = set()
        began = await first_at(self._clients, source, position)
        if began is None:
            return  # nothing is waiting, so nothing was started
        lines = TopicPartition(self._topic, source.partition)
        async for record in records_since(self._clients, lines, began):
            if _STARTED not in (record.value or b""):
                continue
            with contextlib.suppress(ContractError):
                started.add(read_model(LedgerEntry, record.value).attempt.attempt_id)

    def was_started(self, source: tuple[str, int], attempt_id: str) -> bool:
        """True when a former owner of the partition has started this attempt."""
        return attempt_id in self._started.get(source, ())

    async def _write_late(self) -> None:
        while True:
            partition, line = await self._late.get()
            try:
                while not await self._book_once(partition, line):  # noqa: ASYNC110  Kafka is away
                    await asyncio.sleep(1)
            finally:
                self._late.task_done()

    async def _book_once(self, partition: int, line: Outgoing) -> bool:
        """Write a line unless its transaction was committed after all. False: try again."""
        attempt = read_model(LedgerEntry, line.value).attempt
        tp = TopicPartition(self._topic, partition)
        try:
            since = await start_of(self._clients, tp, attempt.started_at.timestamp())
            async for record in records_since(self._clients, tp, since):
                if attempt.attempt_id.encode() not in (record.value or b""):
                    continue
                booked = read_model(LedgerEntry, record.value).attempt
                if (booked.started_at, booked.outcome) == (attempt.started_at, attempt.outcome):
                    return True
        except (KafkaError, TimeoutError, OSError):
            return False
        return await self.note(partition, line)

    async def _publish(self, partition: int, line: Outgoing) -> "asyncio.Future[object]":
        return await self._publisher.publish(
            line.topic, line.value, key=line.key, headers=line.headers, partition=partition
        )
