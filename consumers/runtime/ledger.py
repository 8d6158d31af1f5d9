"""The ledger beside the transactions: lines that cannot wait for one, and lines that missed theirs.

A call is booked by the transaction that commits its outcome. Two kinds of lines are not: that a
call is about to start, where nobody may pay for it twice, and what a call cost whose partition was
lost while it ran.
"""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import NamedTuple

import structlog
from aiokafka import TopicPartition

from consumers.runtime.clients import KAFKA_IS_AWAY, Clients
from consumers.runtime.reading import (
    Publisher,
    end_of,
    first_at,
    publisher,
    records_since,
    start_of,
)
from consumers.telemetry.hops import current_hop
from schemas.attempt import LedgerEntry
from schemas.codec import Outgoing, read_model
from schemas.errors import ContractError

__all__ = ["Ledger"]

_log = structlog.get_logger(__name__)

#: For late lines at the end: longer than a transaction may stay open before them.
_STOP_LIMIT = 20.0
_STARTED = b'"outcome":"started"'


class _Late(NamedTuple):
    """Which lines are written together."""

    partition: int
    #: They may stand in a transaction that was committed after all.
    in_doubt: bool


class Ledger:
    """Writes ledger lines of one process outside of transactions."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._topic = clients.settings.topics.attempts
        #: Lines that missed their transaction, or may have.
        self._late: defaultdict[_Late, list[Outgoing]] = defaultdict(list)
        self._has_late = asyncio.Event()
        #: Of which some are being written.
        self._under_way: set[_Late] = set()
        self._all_written = asyncio.Event()
        self._all_written.set()
        #: Attempts that somebody started by input partition: when, and which model was asked.
        self._started: dict[tuple[str, int], dict[str, dict[datetime, str]]] = {}
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
                        await self._all_written.wait()
                writing.cancel()

    async def note(self, partition: int, line: Outgoing) -> bool:
        """Write that a call starts. False when Kafka did not take it: then it must not start."""
        if (hop := current_hop()) is not None:
            line = hop.carried_by(line)
        try:
            await (await self._publish(partition, line))
        except KAFKA_IS_AWAY as error:
            _log.warning("call not noted", partition=partition, error=type(error).__name__)
            return False
        return True

    def book(
        self, source: tuple[str, int], outgoing: Sequence[Outgoing], in_doubt: bool = False
    ) -> None:
        """Write the ledger lines among what came of work whose partition is lost.

        Those `in_doubt` may stand in a transaction that was committed after all.
        """
        hop = current_hop()
        for line in outgoing:
            if line.topic == self._topic:
                late = hop.carried_by(line) if hop is not None else line
                self._late[_Late(source[1], in_doubt)].append(late)
                self._has_late.set()
                self._all_written.clear()

    async def prepare(self, source: TopicPartition, position: int) -> None:
        """Learn which calls former owners of an input partition have started."""
        self._started[source] = started = dict[str, dict[datetime, str]]()
        began = await first_at(self._clients, source, position)
        if began is None:
            return  # nothing is waiting, so nothing was started
        lines = TopicPartition(self._topic, source.partition)
        async for record in records_since(self._clients, lines, began):
            if _STARTED not in (record.value or b""):
                continue
            with contextlib.suppress(ContractError):
                attempt = read_model(LedgerEntry, record.value).attempt
                started.setdefault(attempt.attempt_id, {})[attempt.started_at] = attempt.model

    def started_elsewhere(
        self, source: tuple[str, int], attempt_id: str, *, beside: datetime | None = None
    ) -> str | None:
        """The model that another owner of the partition has asked in this attempt, if it has begun.

        `beside` is when we have started it ourselves.
        """
        begun = self._started.get(source, {}).get(attempt_id, {})
        return next((model for at, model in begun.items() if at != beside), None)

    async def _write_late(self) -> None:
        """Write what is late, all that waits at once: the next kill may be near.

        Lines in doubt wait for open transactions to end, and no others wait for them.
        """
        async with asyncio.TaskGroup() as tasks:
            while True:
                await self._has_late.wait()
                self._has_late.clear()
                for which in self._late.keys() - self._under_way:
                    self._under_way.add(which)
                    tasks.create_task(self._write_all(which))

    async def _write_all(self, which: _Late) -> None:
        while lines := self._late.pop(which, None):
            await self._book(which.partition, lines, in_doubt=which.in_doubt)
        self._under_way.discard(which)
        if not self._under_way:
            self._all_written.set()

    async def _book(self, partition: int, lines: Sequence[Outgoing], *, in_doubt: bool) -> None:
        if not in_doubt:
            # Nothing to look up first: the next kill may be near. What is tried again may have been
            # written, although the answer never came.
            lines = await self._write(partition, lines)
        while lines:
            await asyncio.sleep(0 if in_doubt else 1)
            lines, in_doubt = await self._book_once(partition, lines), False

    async def _write(self, partition: int, lines: Sequence[Outgoing]) -> Sequence[Outgoing]:
        """Write lines; those that Kafka did not take."""
        noted = await asyncio.gather(*(self.note(partition, line) for line in lines))
        return [line for line, is_noted in zip(lines, noted, strict=True) if not is_noted]

    async def _book_once(self, partition: int, lines: Sequence[Outgoing]) -> Sequence[Outgoing]:
        """Write lines unless they stand there already; those to try again."""
        missing = {_call_of(line.value): line for line in lines}
        tp = TopicPartition(self._topic, partition)
        began = min(started_at for _, started_at, _ in missing)
        try:
            # Not only what is committed by now: the lines' own transaction may still be open, and
            # nobody knows yet how it ends.
            end = await end_of(self._clients, tp)
            since = await start_of(self._clients, tp, began.timestamp())
            async for record in records_since(self._clients, tp, since, until=end):
                with contextlib.suppress(ContractError):
                    missing.pop(_call_of(record.value), None)
        except KAFKA_IS_AWAY:
            return lines
        return await self._write(partition, list(missing.values()))

    async def _publish(self, partition: int, line: Outgoing) -> "asyncio.Future[object]":
        return await self._publisher.publish(
            line.topic, line.value, key=line.key, headers=line.headers, partition=partition
        )


def _call_of(value: bytes | None) -> tuple[str, datetime, str]:
    """What tells the lines of a ledger apart. Raises ContractError."""
    attempt = read_model(LedgerEntry, value).attempt
    return attempt.attempt_id, attempt.started_at, attempt.outcome
