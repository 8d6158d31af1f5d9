"""ADMIT: reads admission, sets money aside for requests that a cap touches, or lets them wait.

It is the only one to give out a budget domain's money: all of it is accounted for in one partition.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import structlog

from consumers import clock
from consumers.records import Record
from consumers.runtime.clients import KAFKA_IS_AWAY, Clients
from consumers.runtime.executor import SyncExecutor
from consumers.runtime.keyed_state import KeyedState, StatePart
from consumers.runtime.limits import ended_tasks
from consumers.runtime.publisher import Publisher, publisher
from consumers.runtime.shell import NotYetError, Shell, fits
from consumers.runtime.spec import StageSpec
from consumers.runtime.stage import Stage
from consumers.stages.admitting import STAGE, Admitting, Kept
from consumers.stages.contract import Process, StageKind
from router.money.book import Book
from schemas.admission import Confirmation, Settlement, Tick, kind_of, marked_as
from schemas.base import Tier
from schemas.codec import Outgoing, dump, read_model
from schemas.errors import ContractError
from schemas.money import Grant
from schemas.reasons import Reason
from schemas.tenancy import RequestKey

__all__ = ["KIND", "Admit"]

SPEC = StageSpec(
    STAGE,
    reads=("llm.admission",),
    writes=(
        *(f"llm.tier.{tier}" for tier in Tier),
        *("llm.results", "llm.escalations", "llm.dead-letters", "llm.admission"),
        "llm.state.admit",
    ),
    consults=("llm.state.admit",),
)
#: Seconds between two looks at what is due.
_TICK_SECONDS = 1.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Admit(Admitting):
    """The admit stage's decision for one record, over its partition's state."""

    def decide(self, record: Record, state: StatePart) -> Sequence[Outgoing]:
        """What a record leads to, and the requests that it lets go. Raises NotYetError."""
        book, now = Book(state), self.clock()
        led_to: Sequence[Outgoing] = ()
        lines: Sequence[bytes] | None = ()
        match kind_of(record.headers):
            case "assignment":
                led_to = self.admitted(Kept.of(record), book, now)
            case "settlement":
                settlement = read_model(Settlement, record.value)
                used = settlement.micros, settlement.tokens
                lines = book.settle(settlement.reservation, *used, now)
            case "grant":
                lines = book.grant(read_model(Grant, record.value), now)
            case "confirmation":
                led_to = self._confirmed(read_model(Confirmation, record.value), book, now)
            case "tick":
                led_to, lines = self._ended(book, now), None
            case kind:
                detail = f"tierline-admission: {kind[:50]!r} is none of the records here"
                raise ContractError(Reason.INVALID_FIELD, detail)
        if lines is not None and not lines:
            return led_to
        return [*led_to, *self._let_go(book, now, lines)]

    def _confirmed(self, agreed: Confirmation, book: Book, now: datetime) -> Sequence[Outgoing]:
        """The request whose price somebody agrees to goes on, once."""
        name = RequestKey(agreed.tenant, agreed.request_id).text
        confirmed = book.confirm(name, agreed.tenant, agreed.price_micros, now)
        if confirmed is None:
            _log.info("nothing to confirm", id=agreed.request_id)
            return ()
        envelope, price = confirmed
        kept = Kept.read(envelope)
        kept.confirmed = price
        return self._safely(kept, partial(self.admitted, kept, book, now))

    def _ended(self, book: Book, now: datetime) -> Sequence[Outgoing]:
        ended = book.expire(now)
        for reservation in ended.reservations:
            _log.warning("reservation never settled", id=reservation)
        led_to: list[Outgoing] = []
        for kept in map(Kept.read, ended.asked):
            led_to += self._safely(kept, partial(self.unconfirmed, kept, now))
        return led_to

    def _let_go(
        self, book: Book, now: datetime, lines: Sequence[bytes] | None
    ) -> Iterator[Outgoing]:
        """What becomes of the held requests that have got room, or have waited enough."""
        for held in book.held(now, lines):
            kept = Kept.read(held.envelope)
            kept.held, kept.confirmed = held, held.confirmed
            led_to = self._safely(kept, partial(self.admitted, kept, book, now))
            if not kept.waits_on:
                book.release(held)
            yield from led_to

    def _safely(self, kept: Kept, decide: Callable[[], Sequence[Outgoing]]) -> Sequence[Outgoing]:
        """What a request that has waited leads to; its faults are not those of the record at hand.

        Raises NotYetError.
        """
        try:
            led_to = decide()
            if all(map(fits, led_to)):
                return led_to
            gave_up = Reason.RESULT_TOO_LARGE, "what follows from it is larger than Kafka takes"
        except NotYetError:
            raise
        except ContractError as error:
            gave_up = error.reason, error.detail
        except Exception as error:  # noqa: BLE001  one request must not stop the others
            _log.exception("admission failed", offset=kept.offset, partition=kept.partition)
            gave_up = Reason.INTERNAL_ERROR, type(error).__name__
        kept.waits_on = False
        return kept.carries(self.dead_letters.failed(kept, *gave_up))


@contextlib.asynccontextmanager
async def _open(process: Process) -> AsyncIterator[Stage]:
    guard, clients = process.guard(STAGE), process.clients.named(STAGE)
    telemetry, topics = process.telemetry, process.settings.kafka.topics
    state = KeyedState(clients, STAGE)
    admit = Admit(process.policies, topics, clock.now, telemetry.observer)
    shell = Shell(admit.dead_letters)
    decide = state.remembering(admit.decide)
    executor = SyncExecutor(decide, shell, guard, telemetry.tracing)
    stage = Stage(
        SPEC,
        process.clients,
        executor,
        shell,
        guard,
        prepare=state.prepare,
        moves=lambda: executor.looks,
        drain_for=process.drain_for,
    )
    async with asyncio.TaskGroup() as tasks:
        ticking = tasks.create_task(_tick(clients, stage, state))
        try:
            yield stage
        finally:
            await ended_tasks(ticking)


async def _tick(clients: Clients, stage: Stage, state: KeyedState) -> None:
    """Have time pass in the partitions where something is due, until cancelled."""
    while True:
        with contextlib.suppress(*KAFKA_IS_AWAY):
            async with publisher(clients) as out:
                while True:
                    await asyncio.sleep(_TICK_SECONDS)
                    await _tick_once(out, clients.settings.topics.admission, stage, state)
        await asyncio.sleep(_TICK_SECONDS)


async def _tick_once(out: Publisher, topic: str, stage: Stage, state: KeyedState) -> None:
    now = clock.now()
    for held in stage.partitions:
        due = Book(state.part(held.source)).due(now) if held.is_open else None
        if due is not None and due <= now:
            value, headers = dump(Tick(at=now).model_dump()), [marked_as("tick")]
            queued = await out.publish(
                topic, value, key=b"tick", headers=headers, partition=held.source.partition
            )
            _ = await queued


KIND = StageKind(SPEC, _open, role="admit")
