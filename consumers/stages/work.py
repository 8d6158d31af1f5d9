"""WORK: reads a tier's topic, calls models, judges their replies, and answers or escalates."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

import structlog

from consumers import clock
from consumers.records import Record, Source
from consumers.runtime.shell import Shell
from consumers.runtime.spec import StageSpec
from consumers.runtime.stage import Stage
from consumers.runtime.task_pool import TaskPool
from consumers.stages.attempts import AttemptRunner
from consumers.stages.contract import Process, StageKind
from consumers.stages.counted_calls import CountedCalls
from consumers.stages.dead_letters import DeadLetters, line_of
from consumers.stages.interim_results import interim_results
from consumers.stages.ports import Slot
from consumers.stages.refusing import Refusals
from consumers.stages.settling import settled
from consumers.stages.tier_run import TierRun
from router.attempt.answering import composed_result, kept_answer, result_of
from router.attempt.climbing import AskBack, Climbs, weighed
from router.attempt.fallback import canned_output, default_text, falls_back, question_back
from router.attempt.lost import attempt_lost
from router.attempt.next_step import (
    Answer,
    Escalate,
    NextStep,
    Refuse,
    answer_of,
    spent,
)
from router.attempt.question import question_of
from router.intake.admission import read_again
from router.prompts.files import CannedReply
from router.releases.bundle import Bundle
from router.request.trimming import trimmed
from router.route.requeue import handed_back
from router.route.routing import GiveUp, within_limits
from schemas.attempt import LedgerEntry
from schemas.base import Tier
from schemas.codec import Outgoing, dump, dump_envelope, passed_on, read_envelope
from schemas.errors import ContractError
from schemas.escalation import Assignment, Classification, Escalation
from schemas.reasons import Reason
from schemas.request import Request
from schemas.tenancy import DEFAULT_TENANT, RequestKey

__all__ = ["KINDS", "Worker", "spec_of"]

_log = structlog.get_logger(__name__)
#: Bytes of a value that fit into a topic beside the headers.
_LARGEST_VALUE = (4 << 20) - (64 << 10)
#: Seconds in which calls of a lost partition may still end, so that their true cost is booked.
_LAST_GRACE = 3.0


def spec_of(tier: Tier) -> StageSpec:
    return StageSpec(
        f"work.{tier}",
        reads=(f"llm.tier.{tier}",),
        writes=(
            *("llm.results", "llm.escalations", "llm.dead-letters", "llm.attempts"),
            "llm.admission",
        ),
    )


@dataclass(frozen=True, slots=True)
class Worker(AttemptRunner):
    """The work of one tier's pool."""

    refusals: Refusals = field(kw_only=True)
    climbs: Climbs = field(default_factory=Climbs)

    @property
    def stage(self) -> str:
        """The stage's name, which is also its group's."""
        return spec_of(self.tier).name

    async def handle(self, record: Record, slot: Slot) -> Sequence[Outgoing]:
        """Bring one assignment to its end in this tier: a result, an escalation or a dead letter.

        One ledger line per call goes with it. Raises ContractError where the record is no
        assignment that can be processed.
        """
        began = time.monotonic()
        assignment, raw = read_envelope(Assignment, record.value)
        if (bundle := await self.refusals.release_of(assignment, slot)) is None:
            value = dump_envelope(handed_back(assignment), raw)
            passed = passed_on(record.headers)
            back = Outgoing(self.topics.escalations, record.key, value, passed)
            return [back, *self._ended(assignment, self._lost(record, assignment))]
        try:
            tier_run = self.open(record, assignment, raw, bundle)
        except ContractError as error:
            self.observer.gave_up(self.stage, error.reason, assignment.task, self.tier)
            lost = self._lost(record, assignment)
            letter = self.dead_letters.of_envelope(
                *(assignment, raw, record, error.reason, error.detail),
                attempts=[*assignment.attempts, *(entry.attempt for entry in lost)],
            )
            return [letter, *self._ended(assignment, lost)]
        try:
            end = await self.run(tier_run, slot)
            step: NextStep | AskBack = end
            if assignment.task in bundle.policy.weighed_tasks:
                asked, attempts = tier_run.request, tier_run.attempts
                step = weighed(end, assignment, asked, attempts, bundle.policy, self.climbs)
            return [
                *self.booked(tier_run),
                *self._outcome(tier_run, step, record, began),
                *settled(self.topics, assignment, tier_run.calls, self.clock()),
            ]
        except asyncio.CancelledError:
            # The partition is lost and the last grace is over; the call may have run all the same.
            if self.ledger is not None:
                self.ledger.book(tier_run.source, self.booked(tier_run))
            raise
        except ContractError as error:
            gave_up = GiveUp(error.reason, error.detail)
        except Exception as error:  # noqa: BLE001  what was paid for is booked all the same
            _log.exception("work failed", partition=record.partition, offset=record.offset)
            gave_up = GiveUp(Reason.INTERNAL_ERROR, type(error).__name__)
        try:
            letter = self._letter(tier_run, record, gave_up)
            booked = self.booked(tier_run)
        except Exception as error:
            # The ledger lines cannot be written: the first failure is the reason all the same.
            raise ContractError(gave_up.reason, gave_up.detail) from error
        self.observer.gave_up(self.stage, gave_up.reason, assignment.task, self.tier)
        return [*booked, letter, *settled(self.topics, assignment, tier_run.calls, self.clock())]

    @property
    def dead_letters(self) -> DeadLetters:
        """How the stage gives up on records."""
        return DeadLetters(
            self.stage,
            self.topics,
            self.clock,
            self.observer,
            self.tier,
            {self.topics.tier(self.tier): Assignment},
            lost=self._lost,
        )

    def _lost(self, record: Record, envelope: Assignment | Escalation) -> list[LedgerEntry]:
        """What former owners had started for a request that goes elsewhere, as it is booked."""
        if self.ledger is None:
            return []
        name = RequestKey(envelope.tenant or DEFAULT_TENANT, envelope.id).text
        source = record.topic, record.partition
        entries = self.ledger.left_behind(source, name, envelope.attempts)
        return [
            entry.model_copy(update={"attempt": attempt_lost(entry.attempt)}) for entry in entries
        ]

    def _ended(self, assignment: Assignment, lost: Sequence[LedgerEntry]) -> list[Outgoing]:
        """What books and settles the calls of an assignment that was not worked on."""
        attempts = [entry.attempt for entry in lost]
        lines = [line_of(entry, self.topics) for entry in lost]
        return [*lines, *settled(self.topics, assignment, attempts, self.clock())]

    def open(self, record: Record, assignment: Assignment, raw: bytes, bundle: Bundle) -> TierRun:
        """Read an assignment's request and render its prompt. Raises ContractError."""
        assignment = within_limits(assignment, bundle.policy, self.clock())
        self.observer.received(assignment.id, assignment.generation, assignment.task)
        request = read_again(raw, record.headers, assignment, fallback_id=assignment.id)
        tier_run = self.prepare(assignment, request, raw, bundle)
        tier_run.source = (record.topic, record.partition)
        return tier_run

    def prepare(
        self, assignment: Assignment, request: Request, raw: bytes, bundle: Bundle
    ) -> TierRun:
        """Render an assignment's prompt. Raises ContractError."""
        route, rules = assignment.route, (bundle.policy, bundle.prompts)
        if route.trim is not None:
            request = trimmed(request, route.trim.most)
        question = question_of(route.step, route.tier, assignment.task, request, *rules)
        return TierRun(assignment, request, raw, bundle, question)

    def _outcome(
        self, tier_run: TierRun, step: NextStep | AskBack, record: Record, began: float
    ) -> Sequence[Outgoing]:
        now, assignment = self.clock(), tier_run.assignment
        result = self.result(tier_run, step, now, began)
        if result is not None:
            value = dump(result)
            if len(value) <= _LARGEST_VALUE:
                latency = result["router"]["latency"]
                self.observer.answered(assignment.task, self.tier, assignment.id, latency)
                return [Outgoing(self.topics.results, record.key, value, passed_on(record.headers))]
            step = GiveUp(Reason.RESULT_TOO_LARGE, f"{len(value)} bytes; {_LARGEST_VALUE} fit")
        if isinstance(step, Escalate):
            self.observer.escalated(assignment.task, self.tier, step.reason)
            escalation = self.escalation_of(tier_run, step)
            value = dump_envelope(escalation, tier_run.raw)
            return [Outgoing(self.topics.escalations, record.key, value, passed_on(record.headers))]

        gave_up = step if isinstance(step, GiveUp) else GiveUp(Reason.INTERNAL_ERROR, "no reply")
        self.observer.gave_up(self.stage, gave_up.reason, assignment.task, self.tier)
        interim = interim_results(
            assignment,
            tier_run.request,
            tier_run.attempts,
            record,
            tier_run.policy,
            tier_run.bundle.prompts,
            self.topics,
            now,
        )
        return [self._letter(tier_run, record, gave_up), *interim]

    def result(
        self, tier_run: TierRun, step: NextStep | AskBack, now: datetime, began: float
    ) -> dict[str, Any] | None:
        """The fields of the result that a step ends in: a model's answer, or a canned reply.

        None where it ends in none. `began`: the monotonic time at which the run began.
        """
        own_ms = (time.monotonic() - began - tier_run.waited) * 1000
        own_ms -= sum(attempt.duration_ms for attempt in tier_run.attempts)
        own_ms, name = max(own_ms, 0.0), tier_run.assignment.task or ""
        kind: CannedReply
        if isinstance(step, Answer) and tier_run.reply is not None:
            may_ask = tier_run.question.contract.may_ask
            fields = result_of(
                tier_run.assignment,
                tier_run.request,
                tier_run.attempts,
                tier_run.reply,
                now=now,
                own_ms=own_ms,
                may_ask=may_ask,
                left_out=tier_run.left_out,
            )
            if step.doubt:
                caveat = tier_run.bundle.prompts.text(name, "caveat") or ""
                fields["router"] |= {"caveat": caveat, "weighed": step.doubt}
            return fields
        answer = answer_of(tier_run.attempts) if isinstance(step, Answer) else None
        if answer is not None:
            # It was given under a former reservation: of the reply, what its attempt has is left.
            return composed_result(
                *(tier_run.assignment, tier_run.request, tier_run.attempts),
                *kept_answer(answer),
                answer=answer,
                now=now,
                own_ms=own_ms,
            )
        if isinstance(step, Refuse):
            kind = "refusal"
        elif isinstance(step, AskBack):
            kind = "clarification"
        elif isinstance(step, GiveUp) and falls_back(tier_run.policy.tasks.get(name), step):
            kind = "safe_default"
        else:
            return None
        prompts = tier_run.bundle.prompts
        text = prompts.text(name, kind) or ""
        if kind == "safe_default":
            every = [*tier_run.assignment.own_attempts, *tier_run.attempts]
            text = default_text(name, every, prompts)
        compose = question_back if isinstance(step, AskBack) else canned_output
        fields = composed_result(
            tier_run.assignment,
            tier_run.request,
            tier_run.attempts,
            kind,
            text,
            compose(text, tier_run.question.contract.schema),
            now=now,
            own_ms=own_ms,
        )
        if isinstance(step, AskBack):
            fields["router"]["weighed"] = step.detail
        return fields

    def _letter(self, tier_run: TierRun, record: Record, gave_up: GiveUp) -> Outgoing:
        return self.dead_letters.of_envelope(
            tier_run.assignment,
            tier_run.raw,
            record,
            gave_up.reason,
            gave_up.detail,
            tenant=tier_run.request.tenant,
            attempts=[*tier_run.assignment.attempts, *tier_run.attempts],
        )

    def escalation_of(self, tier_run: TierRun, step: Escalate) -> Escalation:
        """The escalation that hands the request back to route."""
        assignment = tier_run.assignment
        classification = assignment.classification
        if step.reason is Reason.CLASSIFIED:
            verdict = tier_run.attempts[-1].verdict
            output = dict(verdict.output or {}) if verdict else {}
            classification = Classification.model_validate(
                {name: output.get(name) for name in ("task", "ambiguity", "complexity")}
            )
        return Escalation(
            id=assignment.id,
            tenant=tier_run.request.tenant,
            plan=tier_run.request.plan,
            is_unproven=assignment.is_unproven,
            is_seen=assignment.is_seen,
            generation=assignment.generation,
            task=assignment.task,
            origin=assignment.origin,
            deadline=assignment.deadline,
            attempts_left=max(assignment.attempts_left - spent(tier_run.attempts), 0),
            classification=classification,
            routes=assignment.routes,
            attempts=[*assignment.attempts, *tier_run.attempts],
            reason=step.reason,
            detail=step.detail,
            weighed=step.weighed or None,
            admissions=assignment.admissions,
            need=step.need,
        )


@contextlib.asynccontextmanager
async def _open(process: Process, tier: Tier) -> AsyncIterator[Stage]:
    settings, spec = process.settings, spec_of(tier)
    calling, guard = await process.calling(), process.guard(spec.name)
    gate, ledger = calling.gate, calling.ledger
    calls = CountedCalls(calling.providers, gate, calling.refusals)
    worker = Worker(
        tier,
        calls,
        settings.kafka.topics,
        clock.now,
        ledger,
        calling.observer,
        gate,
        refusals=calling.refusals,
    )
    shell = Shell(worker.dead_letters)

    def lost(source: Source) -> None:
        gate.forget((tier, source.partition))
        ledger.forget(source)

    pool = TaskPool(
        worker.handle,
        shell,
        guard,
        width=settings.worker.width,
        # Records that no model could take yet are better left in Kafka.
        most=lambda: gate.most_calls(tier),
        on_lost=lost,
        book=ledger.book,
        last_grace=_LAST_GRACE,
        telemetry=process.telemetry,
    )

    async with pool.open():
        yield Stage(
            spec,
            process.clients,
            pool,
            shell,
            guard,
            prepare=ledger.prepare,
            returned=ledger.prepare,
            moves=calls.moves,
            revoke_grace=settings.worker.revoke_grace.total_seconds(),
            drain_for=process.drain_for,
        )


#: One stage for each tier: a process may serve some tiers and leave the others to other processes.
KINDS = tuple(
    StageKind(spec_of(tier), partial(_open, tier=tier), role="work", tier=tier) for tier in Tier
)
