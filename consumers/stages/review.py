"""REVIEW: reads what reviewers decide, and carries it out once it can no longer be undone."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import TypeVar

import structlog

from consumers import clock
from consumers.policies import Policies
from consumers.records import Record, Source, partition_of, record_ref, told_at, why_not_taken
from consumers.runtime.clients import KAFKA_IS_AWAY, Clients
from consumers.runtime.offset_lookup import records_since
from consumers.runtime.poison import Guard
from consumers.runtime.shell import Shell, fits
from consumers.runtime.spec import StageSpec
from consumers.runtime.stage import Stage
from consumers.runtime.strikes import MOST_TRIES
from consumers.runtime.task_pool import Slot, TaskPool
from consumers.stages.contract import Process, StageKind
from consumers.stages.dead_letters import DeadLetters
from consumers.telemetry.observer import Observer
from router.intake.admission import read_again
from router.releases.bundle import Bundle
from router.review.audit import chained
from router.review.decisions import Outcome, outcome_of
from router.review.standing import Decisions
from schemas.codec import Outgoing, dump, dump_envelope, passed_on, read_dead_letter, read_model
from schemas.dead_letter import DeadLetter, Pointer
from schemas.errors import ContractError
from schemas.reasons import Reason
from schemas.review import AuditLine, Decision
from schemas.topics import Topics

__all__ = ["KIND", "Reviewing"]

_T = TypeVar("_T")

_log = structlog.get_logger(__name__)

SPEC = StageSpec(
    "review",
    reads=("llm.review",),
    writes=("llm.results", "llm.escalations", "llm.feedback", "llm.review", "llm.dead-letters"),
    consults=("llm.dead-letters",),
)
STAGE = SPEC.name
#: Added to the window: the broker's clock may have taken an undo in its last moment.
_MARGIN_SECONDS = 0.3
_LOOK_AGAIN_SECONDS = 1.0
#: Decisions that are carried out at a time, without those whose window is still open.
_DECISIONS = 32


@dataclass(slots=True)
class Reviewing:
    """Carries decisions out: one result or one requeue each, with feedback on the answer.

    Everything it needs is on the topics, so every process comes to the same, however often it
    starts again.
    """

    clients: Clients
    policies: Policies
    clock: Callable[[], datetime]
    observer: Observer = field(default_factory=Observer)
    guard: Guard = field(default_factory=Guard)
    _decisions: dict[int, Decisions] = field(default_factory=dict)

    @property
    def topics(self) -> Topics:
        return self.clients.settings.topics

    async def prepare(self, source: Source, position: int) -> None:
        """Read the partition's earlier decisions again: the first on a dead letter stands."""
        del position  # decisions above it may be finished already
        self._decisions[source.partition] = Decisions()
        await self._catch_up(source)

    async def handle(self, record: Record, slot: Slot) -> Sequence[Outgoing]:
        """What a record leads to: a result or an escalation with feedback, or nothing."""
        line = read_model(AuditLine, record.value)
        if line.request_id is not None:
            generation = line.decision.generation if line.decision else 1
            self.observer.received(line.request_id, generation, None)
        source = partition_of(record)
        decisions = self._decisions[source.partition]
        decisions.note(record.offset, record.timestamp / 1000, line)
        decision = line.decision
        if decision is None:
            return ()
        if decision.undo_seconds:
            closes = record.timestamp / 1000 + decision.undo_seconds + _MARGIN_SECONDS
            while (wait := closes - self.clock().timestamp()) > 0:
                await slot.wait(min(wait, _LOOK_AGAIN_SECONDS))
            await _at_last(lambda: self._catch_up(source), slot)
        if not decisions.stands(decision, record.offset):
            _log.info("decision does not stand", decision=decision.decision_id)
            self.observer.reviewed(decision.action, None, "superseded")
            return ()
        try:
            dead = await _at_last(lambda: self._letter(decision.letter, record), slot)
            letter, bundle = read_dead_letter(dead.headers), self.policies.active
            if decision.action not in ("retry", "requeue"):
                bundle = await self.policies.of_letter(letter)
            return self._carry_out(decision, record, dead, letter, bundle)
        except ContractError as error:
            code, why = error.reason.value, error.detail
        except Exception as error:  # noqa: BLE001  a fault of ours must not stop the partition
            _log.exception("review failed", partition=record.partition, offset=record.offset)
            code = why = type(error).__name__
        # The detail may quote the answer: it is for the console, not for the log.
        _log.error("decision refused", decision=decision.decision_id, reason=code)
        self.observer.reviewed(decision.action, None, "refused", error=code)
        return [self._refused(decision, record, why)]

    def failed(self, record: Record, reason: Reason, detail: str) -> Sequence[Outgoing]:
        """Nothing stands in for an audit line that cannot be read."""
        _log.error("no audit line", place=record_ref(record), why=reason.value, detail=detail)
        return ()

    def pointer(
        self, source: Source, offset: int, reason: Reason, detail: str
    ) -> Sequence[Outgoing]:
        """Nothing stands in for an audit line that cannot be fetched or carried out."""
        place = f"{source.topic}-{source.partition}-{offset}"
        _log.error("no audit line", place=place, why=reason.value, detail=detail)
        return ()

    def poisonous(self, record: Record, deaths: int) -> Sequence[Outgoing]:
        """A pointer stands in for an audit line that ends its process each time."""
        letters = DeadLetters(STAGE, self.topics, self.clock, self.observer)
        return letters.poisonous(record, max(deaths, MOST_TRIES + 1))

    async def _catch_up(self, source: Source) -> None:
        """Note everything that the partition holds now."""
        decisions = self._decisions[source.partition]
        async for record in records_since(self.clients, source, decisions.upto):
            if not self.guard.is_poisonous(record):
                with self.guard.on(record):
                    why = why_not_taken(partial(_note, decisions), record)
                if why is not None:
                    _log.warning("no audit line", place=record_ref(record), why=why)
            # Whatever the record holds, the partition is read up to here.
            decisions.note(record.offset, record.timestamp / 1000, None)

    def _carry_out(
        self,
        decision: Decision,
        record: Record,
        dead: Record,
        letter: DeadLetter,
        bundle: Bundle,
    ) -> Sequence[Outgoing]:
        """What the decision in `record` on the dead letter in `dead` leads to."""
        now = self.clock()
        self.observer.received(decision.request_id, decision.generation, letter.task)
        request = None
        is_request = not (letter.reason.is_unreadable or letter.reason.is_refused)
        if is_request and decision.action != "discard":
            fallback = letter.request_id or str(letter.source)
            headers = passed_on(dead.headers)
            request = read_again(dead.value, headers, letter, fallback_id=fallback)
        decided_at = told_at(record)
        outcome = outcome_of(
            *(decision, letter, request, bundle.policy, bundle.prompts),
            decided_at=decided_at,
            now=now,
        )
        led_to = list(self._records(outcome, dead))
        if not all(map(fits, led_to)):
            detail = "what follows from it is larger than what Kafka takes"
            raise ContractError(Reason.RESULT_TOO_LARGE, detail)
        end = "discarded" if outcome.escalation is None else "escalation"
        end = end if outcome.result is None else "result"
        self.observer.reviewed(decision.action, letter.task, end)
        return led_to

    def _refused(self, decision: Decision, record: Record, why: str) -> Outgoing:
        """Tells the console why. The dead letter stays the request's end, and may be decided on."""
        line = AuditLine(
            writer=f"{STAGE}.{decision.decision_id}"[:200],
            no=1,
            at=self.clock(),
            who=STAGE,
            what="refused",
            request_id=decision.request_id,
            tenant=decision.tenant,
            letter=decision.letter,
            undoes=decision.decision_id,
            note=why,
        )
        fields = chained(line, None).model_dump(mode="json", exclude_none=True)
        return Outgoing(self.topics.review, record.key, dump(fields), passed_on(record.headers))

    def _records(self, outcome: Outcome, dead: Record) -> Iterable[Outgoing]:
        """What an outcome leads to, under the request's key and with the producer's headers."""
        headers = passed_on(dead.headers)
        if outcome.result is not None:
            yield Outgoing(self.topics.results, dead.key, dump(outcome.result), headers)
        if outcome.escalation is not None:
            envelope = dump_envelope(outcome.escalation, dead.value or b"")
            yield Outgoing(self.topics.escalations, dead.key, envelope, headers)
        if outcome.feedback is not None:
            fields = outcome.feedback.model_dump(mode="json", exclude_none=True)
            key = outcome.feedback.key.text.encode()
            yield Outgoing(self.topics.feedback, key, dump(fields), headers)

    async def _letter(self, where: Pointer, record: Record) -> Record:
        """The dead letter's record. Raises ContractError."""
        # What follows is written to the decision's own partition, which has to be the request's.
        if where.topic == self.topics.dead_letters and where.partition == record.partition:
            until = where.offset + 1
            source = partition_of(where)
            async for dead in records_since(self.clients, source, where.offset, until=until):
                return dead
        detail = f"{where}: a dead letter was expected there, in the decision's own partition"
        raise ContractError(Reason.INVALID_FIELD, detail)


def _note(decisions: Decisions, record: Record) -> None:
    line = read_model(AuditLine, record.value)
    decisions.note(record.offset, record.timestamp / 1000, line)


async def _at_last(read: Callable[[], Awaitable[_T]], slot: Slot) -> _T:
    """What is read from Kafka, however long it takes to answer."""
    while True:
        try:
            return await read()
        except KAFKA_IS_AWAY as error:
            _log.warning("topic not read", error=type(error).__name__)
            await slot.wait(_LOOK_AGAIN_SECONDS)


@contextlib.asynccontextmanager
async def _open(process: Process) -> AsyncIterator[Stage]:
    guard, telemetry = process.guard(STAGE), process.telemetry
    reviewing = Reviewing(
        process.clients.named(STAGE),
        process.policies,
        clock.now,
        telemetry.observer,
        guard,
    )
    shell = Shell(reviewing)
    pool = TaskPool(
        reviewing.handle,
        shell,
        guard,
        width=_DECISIONS,
        book=lambda *_: None,  # another owner carries it out
        last_grace=0.0,
        telemetry=telemetry,
    )
    async with pool.open():
        yield Stage(
            SPEC,
            process.clients,
            pool,
            shell,
            guard,
            prepare=reviewing.prepare,
            drain_for=process.drain_for,
        )


KIND = StageKind(SPEC, _open, role="review")
