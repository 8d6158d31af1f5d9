"""Ledger lines that are written outside of transactions.

A call is booked by the transaction that commits its outcome. Two kinds of lines are written outside
of it. One announces a call before it leaves, so that no call is missing from the ledger: what a
process that died had started is booked by the next owner of its partition. The other says what a
call cost whose partition was lost while it ran. That is written to this machine's disk first: if
Kafka stays away until the process ends, the next start on this machine books it.
"""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import structlog
from aiokafka import TopicPartition

from consumers.runtime.clients import KAFKA_IS_AWAY, Clients
from consumers.runtime.connection import cluster_of
from consumers.runtime.limits import at_most
from consumers.runtime.offset_lookup import end_of, first_at, records_since, start_of
from consumers.runtime.publisher import Publisher, publisher
from consumers.runtime.spool import Kept, Spool
from consumers.telemetry.hops import current_hop
from schemas.attempt import Attempt, CallId, LedgerEntry, announces
from schemas.base import LATEST
from schemas.codec import Outgoing, read_model
from schemas.errors import ContractError, TierlineError

__all__ = ["Ledger", "UnbookedError"]

_log = structlog.get_logger(__name__)

#: Seconds for late lines at the end: longer than an open transaction may hold them up.
_STOP_LIMIT = 20.0
#: Seconds of one look into the ledger: transactions that are open meanwhile have ended by then.
_LOOK_LIMIT = 30.0
#: Lines are sent at most so often, in seconds, all that have gathered in one request: a request for
#: each would cost Kafka and us more than a tenth of the calls that a worker can make. The first
#: line after a pause is sent at once.
_GAP = 0.002
#: Lines have their writers' times, and the records that wait have the broker's.
_SKEW = timedelta(minutes=1)
#: Marks lines that were written outside of a transaction: their request may not be finished.
_LATE = ("tierline-late", b"1")
_UNTAKEN = "Kafka has not taken all ledger lines of paid calls"


class UnbookedError(TierlineError):
    """The process ends with paid calls that Kafka has not taken; the message says where."""


class _Late(NamedTuple):
    """Late lines of one kind are written together."""

    partition: int
    #: They may be part of a transaction that was committed after all.
    in_doubt: bool


class Ledger:
    """Writes ledger lines of one process outside of transactions."""

    def __init__(self, clients: Clients, state_dir: Path | None = None) -> None:
        """`state_dir` is a folder on this machine's disk; with None, lines stay in memory."""
        self._clients = clients
        self._state_dir = state_dir
        self._topic = clients.settings.topics.attempts
        #: Lines that missed their transaction, or may have.
        self._late: defaultdict[_Late, list[Outgoing]] = defaultdict(list)
        self._has_late = asyncio.Event()
        #: Those of which lines are being written now.
        self._under_way: set[_Late] = set()
        #: All late lines since the last moment at which none was left to write.
        self._unwritten: list[Kept] = []
        #: How many of these are on disk, and whether more are being written to it.
        self._spooled = 0
        self._is_spooling = False
        self._spool: Spool | None = None
        self._all_written = asyncio.Event()
        self._all_written.set()
        #: By input partition and request: the lines that announced calls there, unread.
        self._started: dict[tuple[str, int], dict[bytes, list[bytes]]] = {}
        #: The time of the event loop from which on lines may be sent again.
        self._sends_at = 0.0
        self._publisher: Publisher

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator["Ledger"]:
        """Write late lines until the context closes, and all that are left then.

        Raises UnbookedError at the end if Kafka has not taken all of them.
        """
        if self._state_dir is not None:
            cluster = await cluster_of(self._clients)
            self._spool = Spool(self._state_dir / "ledger", cluster, self._topic)
            self._take_over(self._spool)
        try:
            async with (
                publisher(self._clients, linger_ms=0) as self._publisher,
                asyncio.TaskGroup() as tasks,
            ):
                writing = tasks.create_task(self._write_late())
                try:
                    yield self
                finally:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(_STOP_LIMIT):
                            await self._all_written.wait()
                    writing.cancel()
        finally:
            unbooked = self._end()
        if unbooked:
            raise UnbookedError(unbooked)

    async def note(self, partition: int, line: Outgoing) -> bool:
        """Write a line. False if Kafka did not take it: then the call must not start."""
        if (hop := current_hop()) is not None:
            line = hop.carried_by(line)
        loop = asyncio.get_running_loop()
        if (early := self._sends_at - loop.time()) > 0:
            await asyncio.sleep(early)
        self._sends_at = max(self._sends_at, loop.time() + _GAP)
        try:
            await (await self._publish(partition, line))
        except KAFKA_IS_AWAY as error:
            _log.warning("call not noted", partition=partition, error=type(error).__name__)
            return False
        return True

    def book(
        self, source: tuple[str, int], outgoing: Sequence[Outgoing], in_doubt: bool = False
    ) -> None:
        """Write the ledger lines among the outputs of work that was lost.

        Lines `in_doubt` may be part of a transaction that was committed after all.
        """
        hop = current_hop()
        for line in outgoing:
            if line.topic == self._topic:
                late = hop.carried_by(line) if hop is not None else line
                late = late._replace(headers=[*late.headers, _LATE])
                self._note_late(Kept(source[1], late), in_doubt=in_doubt)

    async def prepare(self, source: TopicPartition, position: int) -> None:
        """Find the calls that former owners of an input partition have started and not finished.

        Their lines are only kept here: those of a request are read when it is processed. Where
        much was written since the first record that waits, nearly all of it has been finished.
        """
        started = dict[bytes, list[bytes]]()
        lines = TopicPartition(self._topic, source.partition)
        began = await first_at(self._clients, source, position)
        since: datetime | int = (began or LATEST) - _SKEW
        # Where no record waits, no call was started.
        for committed in (True, False) if began else ():
            # The second time what lies behind an open transaction of another tier: nobody waits
            # for that to end.
            async for record in records_since(self._clients, lines, since, committed=committed):
                since, key = record.offset + 1, record.key or b""
                if announces(record.value):
                    started.setdefault(key, []).append(record.value or b"")
                elif committed and _LATE not in record.headers:
                    started.pop(key, None)  # its request has left the tier with all of its calls
        self._started[source] = started

    def forget(self, source: tuple[str, int]) -> None:
        """Drop what is known of a partition that was released."""
        self._started.pop(source, None)

    def left_behind(
        self, source: tuple[str, int], request: str, known: Iterable[Attempt]
    ) -> list[LedgerEntry]:
        """The calls of a request that former owners have started and that are none of `known`."""
        if not (lines := self._started.get(source, {}).get(request.encode())):
            return []
        ours, entries = {attempt.call_id for attempt in known}, dict[CallId, LedgerEntry]()
        for line in lines:
            try:
                entry = read_model(LedgerEntry, line)
            except ContractError as error:
                _log.warning("no ledger line", request=request, why=error.detail)
                continue
            if entry.attempt.call_id not in ours:
                entries[entry.attempt.call_id] = entry
        return sorted(entries.values(), key=lambda entry: entry.attempt.started_at)

    def _note_late(self, kept: Kept, *, in_doubt: bool) -> None:
        self._unwritten.append(kept)
        self._late[_Late(kept.partition, in_doubt)].append(kept.line)
        self._has_late.set()
        self._all_written.clear()

    def _take_over(self, spool: Spool) -> None:
        """Book what processes left behind that ended without Kafka, unless it is booked by now."""
        try:
            lines = spool.take_over()
        except OSError as error:
            _log.error("spool not read", folder=str(spool.path.parent), error=str(error))
            return
        for kept in lines:
            try:
                read_model(LedgerEntry, kept.line.value)
            except ContractError as error:
                _log.error("spooled line is none of the ledger", error=str(error), line=str(kept))
                continue
            self._note_late(kept, in_doubt=True)
        self._spooled = len(self._unwritten)
        if lines:
            _log.warning("calls of an earlier process are booked", lines=len(lines))

    async def _put_on_disk(self) -> None:
        """Spool late lines; without a disk they stay in memory, and are logged at the end."""
        if self._spool is None:
            return
        new = self._unwritten[self._spooled :]
        self._is_spooling = True
        try:
            await asyncio.to_thread(self._spool.keep, new)
            self._spooled += len(new)
        except OSError as error:
            _log.error("spool not written", file=str(self._spool.path), error=str(error))
        finally:
            self._is_spooling = False

    async def _write_late(self) -> None:
        """Write late lines as soon as they come, because the process may be killed at any time.

        Lines in doubt wait for open transactions to end; other lines do not wait for them.
        """
        async with asyncio.TaskGroup() as tasks:
            while True:
                await self._has_late.wait()
                self._has_late.clear()
                await self._put_on_disk()
                for which in self._late.keys() - self._under_way:
                    self._under_way.add(which)
                    tasks.create_task(self._write_all(which))
                self._note_written()

    async def _write_all(self, which: _Late) -> None:
        while lines := self._late.pop(which, None):
            await self._book(which.partition, lines, in_doubt=which.in_doubt)
        self._under_way.discard(which)
        self._note_written()

    def _note_written(self) -> None:
        """Forget the late lines once all of them are written."""
        if self._under_way or self._late or self._is_spooling:
            return
        self._unwritten, self._spooled = [], 0
        if self._spool is not None:
            with contextlib.suppress(OSError):  # then the next start compares them once more
                self._spool.clear()
        self._all_written.set()

    def _end(self) -> str:
        """Close the spool; in words, where the lines are that Kafka has not taken, if any."""
        spool, left = self._spool, self._unwritten
        in_memory = left[self._spooled :]
        if spool is not None:
            with contextlib.suppress(OSError):
                spool.keep(in_memory)
                in_memory = []
            spool.close(is_done=not left)
        if not left:
            return ""
        for kept in in_memory:
            value = (kept.line.value or b"").decode()
            _log.error("paid call not booked", partition=kept.partition, line=value)
        if spool is None or in_memory:
            return f"{_UNTAKEN}: {len(left)} in the log"
        return (
            f"{_UNTAKEN}: {len(left)} in {spool.path}, which the next worker that starts with this "
            f"state folder books"
        )

    async def _book(self, partition: int, lines: Sequence[Outgoing], *, in_doubt: bool) -> None:
        if not in_doubt:
            # Written without looking first, because a kill may come. Only a line that is tried
            # again may have been written already, when its acknowledgement was lost.
            lines = await self._write(partition, lines)
        while lines:
            await asyncio.sleep(0 if in_doubt else 1)
            lines, in_doubt = await self._book_once(partition, lines), False

    async def _write(self, partition: int, lines: Sequence[Outgoing]) -> Sequence[Outgoing]:
        """Write lines; returns those that Kafka did not take."""
        noted = await asyncio.gather(*(self.note(partition, line) for line in lines))
        return [line for line, is_noted in zip(lines, noted, strict=True) if not is_noted]

    async def _book_once(self, partition: int, lines: Sequence[Outgoing]) -> Sequence[Outgoing]:
        """Write lines that the ledger does not hold yet; returns those to try again."""
        try:
            # A read that the Kafka client does not let go of must not hold up the process's end.
            missing = await at_most(_LOOK_LIMIT, self._missing(partition, lines))
        except KAFKA_IS_AWAY:
            return lines
        return await self._write(partition, missing)

    async def _missing(self, partition: int, lines: Sequence[Outgoing]) -> Sequence[Outgoing]:
        """Those of the lines that the ledger does not hold."""
        # The whole line is compared: two owners may have made calls under one attempt id.
        missing = {line.value: line for line in lines}
        tp = TopicPartition(self._topic, partition)
        began = min(read_model(LedgerEntry, value).attempt.started_at for value in missing)
        # Up to the end and not only what is committed: the lines' own transaction may still be
        # open.
        end = await end_of(self._clients, tp)
        since = await start_of(self._clients, tp, began.timestamp())
        async for record in records_since(self._clients, tp, since, until=end):
            missing.pop(record.value, None)
        return list(missing.values())

    async def _publish(self, partition: int, line: Outgoing) -> "asyncio.Future[object]":
        return await self._publisher.publish(
            line.topic, line.value, key=line.key, headers=line.headers, partition=partition
        )
