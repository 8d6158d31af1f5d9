"""WORK: reads one tier's topic, calls models, judges their replies, and answers or hands back."""

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

import structlog

from consumers.providers.usage import reserve
from consumers.runtime.failpoints import failpoint
from consumers.runtime.ledger import Ledger
from consumers.runtime.records import Record
from consumers.stages import letters
from consumers.stages.job import Job, Question, question_of, reading_of
from consumers.telemetry.observer import Observer
from router.answering import attempt_of, ledger_lines, result_of, spoken_result
from router.judging import judge, output_contract
from router.next_step import Answer, CallModel, Escalate, NextStep, Refuse, answer_of, next_step
from router.policy.table import Policy
from router.prompts import Prompts
from router.reply import CallFailure, Reply
from router.routing import GiveUp
from router.voice import Spoken, falls_back, spoken_output
from schemas.attempt import Attempt, Step
from schemas.base import Tier
from schemas.codec import Outgoing, dump, dump_envelope, passed_on, read_envelope, text_headers
from schemas.errors import ContractError
from schemas.escalation import Assignment, Classification, Escalation
from schemas.intake import read_request
from schemas.reasons import Reason
from schemas.request import Request
from schemas.topics import Topics
from schemas.verdict import Verdict

__all__ = ["CallModels", "Slot", "Worker"]

_log = structlog.get_logger(__name__)
#: What fits into the topic with room for the headers.
_LARGEST_VALUE = (4 << 20) - (64 << 10)
_LOOK_AGAIN_SECONDS = 0.5
#: Waits without holding a slot.
Rest = Callable[[float], Awaitable[None]]


class Slot(Protocol):
    """A record's place among those that are worked on."""

    async def rest(self, seconds: float) -> None:
        """Wait without holding the place."""

    async def is_ours(self) -> bool:
        """True while the record's partition is ours for certain."""


class CallModels(Protocol):
    """Calls a model once, and never raises for what the provider does."""

    def call(
        self,
        provider: str,
        body: dict[str, Any],
        *,
        attempt_id: str,
        request_id: str,
        timeout: timedelta,
    ) -> Awaitable[Reply | CallFailure]:
        """The reply, or why there is none."""


@dataclass(frozen=True, slots=True)
class Worker:
    """The work of one tier's pool."""

    tier: Tier
    policy: Policy
    prompts: Prompts
    providers: CallModels
    topics: Topics
    clock: Callable[[], datetime]
    #: None where nothing is kept: then every call may be repeated.
    ledger: Ledger | None = None
    observer: Observer = field(default_factory=Observer)

    @property
    def stage(self) -> str:
        """The stage's name, which is also its group's."""
        return f"work.{self.tier}"

    async def handle(self, record: Record, slot: Slot) -> Sequence[Outgoing]:
        """Bring one assignment to its end in this tier: a result, an escalation or a dead letter.

        Beside it stands one ledger line per call.
        """
        began, job = time.monotonic(), None
        try:
            job = self.open(record)
            job.is_ours = slot.is_ours
            step = await self.run(job, slot.rest)
            return [*self._lines(job, job.attempts), self._outcome(job, step, record, began)]
        except asyncio.CancelledError:
            # The partition is lost and the last grace over; the call may have run all the same.
            if job is not None and self.ledger is not None:
                self.ledger.book(job.source, self._lines(job, job.attempts))
            raise
        except ContractError as error:
            why, detail = error.reason, error.detail
        except Exception as error:  # noqa: BLE001  a fault of ours must not stop the partition
            _log.exception("work failed", partition=record.partition, offset=record.offset)
            why, detail = Reason.INTERNAL_ERROR, type(error).__name__
        now = self.clock()
        self.observer.gave_up(self.stage, why, job.assignment.task if job else None, self.tier)
        if job is not None:
            # What was paid for is booked, unless that is what cannot be written.
            with contextlib.suppress(Exception):
                return [
                    *self._lines(job, job.attempts),
                    self._letter(job, record, GiveUp(why, detail), now),
                ]
        return [
            letters.of_hop(Assignment, record, self.topics, why, detail, stage=self.stage, now=now)
        ]

    def unreadable(self, topic: str, partition: int, offset: int) -> Sequence[Outgoing]:
        """What stands in for a record that cannot even be fetched."""
        now, stage = self.clock(), self.stage
        self.observer.gave_up(stage, Reason.UNREADABLE_RECORD, None, self.tier)
        return [letters.of_unreadable(topic, partition, offset, self.topics, stage=stage, now=now)]

    def open(self, record: Record) -> Job:
        """Read an assignment and render its prompt. Raises ContractError."""
        assignment, raw = read_envelope(Assignment, record.value)
        self.observer.received(assignment.id, assignment.generation, assignment.task)
        request = read_request(raw, text_headers(record.headers), fallback_id=assignment.id)
        job = self.prepare(assignment, request, raw)
        job.source = (record.topic, record.partition)
        return job

    def prepare(self, assignment: Assignment, request: Request, raw: bytes) -> Job:
        """Render an assignment's prompt. Raises ContractError."""
        if assignment.route.step == "classify":
            # A format that cannot be used is found out before anything is paid.
            output_contract(request, self.policy, None, "answer")
        question = question_of(assignment, request, self.policy, self.prompts)
        return Job(assignment, request, raw, question)

    async def run(self, job: Job, rest: Rest) -> NextStep:
        """Call models until nothing is left to call in this tier."""
        while True:
            step = next_step(
                job.assignment,
                job.attempts,
                self.policy,
                self.clock(),
                retry_after=job.retry_after,
            )
            if not isinstance(step, CallModel):
                return step
            if job.attempts:
                # Full jitter, but never earlier than a provider has asked for.
                share = 1.0 if job.retry_after is not None else random.random()  # noqa: S311
                await rest(step.wait.total_seconds() * share)
                await self._until_ours(job, rest)
            if self.clock() >= job.assignment.deadline:
                deadline = job.assignment.deadline.isoformat()
                return GiveUp(Reason.DEADLINE_PASSED, f"the deadline was {deadline}")
            if self._is_parking(job) and not await self._may_start(job, step, rest):
                continue
            await self._attempt(job, step)

    def _question(self, job: Job, step: Step) -> Question:
        """What a step asks."""
        if step != "verify":
            return job.question
        if job.reading is None:
            job.reading = reading_of(job, self.policy, self.prompts)
        return job.reading

    def _is_parking(self, job: Job) -> bool:
        row = self.policy.tasks.get(job.assignment.task or "")
        return self.ledger is not None and row is not None and row.unknown_outcome == "park"

    async def _may_start(self, job: Job, call: CallModel, rest: Rest) -> bool:
        """Write that a call starts, unless a former owner of the partition has written the same.

        Then the call may have run and nobody knows its outcome: it counts as an attempt that
        failed so, at its full price, and the task's rule decides.
        """
        ledger, now, began = self.ledger, self.clock(), time.monotonic()
        assert ledger is not None  # noqa: S101  asked before
        if ledger.was_started(job.source, job.next_attempt[1]):
            model = self.policy.models[call.model]
            body = self._question(job, call.step).body(job.request, model)
            detail = "the call was started, and the process that made it is gone"
            failure = CallFailure(Reason.OUTCOME_UNKNOWN, detail, usage=reserve(body))
            job.attempts.append(self._noted(job, call, failure, now, began))
            return False
        started = self._noted(job, call, None, now, began)
        [line] = self._lines(job, [started])
        if not await ledger.note(job.source[1], line):
            await rest(1)
            return False
        # While the line was written the partition may have gone, and its next owner may have read
        # the lines before this one: a call now could be the second. Who loses it is cancelled.
        await self._until_ours(job, rest)
        failpoint("call.noted")
        return True

    async def _until_ours(self, job: Job, rest: Rest) -> None:
        """Wait while the partition may be on its way to another process, which would call again."""
        while not await job.is_ours():
            await rest(_LOOK_AGAIN_SECONDS)

    async def _attempt(self, job: Job, call: CallModel) -> None:
        """Call one model once, judge the reply, and note the attempt."""
        model, question = self.policy.models[call.model], self._question(job, call.step)
        body = question.body(job.request, model)
        started_at, began = self.clock(), time.monotonic()
        failpoint("call.decided")
        try:
            outcome = await self.providers.call(
                model.provider,
                body,
                attempt_id=job.next_attempt[1],
                request_id=job.assignment.id,
                timeout=min(self.policy.limits.call_timeout, job.assignment.deadline - started_at),
            )
        except asyncio.CancelledError:
            given_up = CallFailure(Reason.OUTCOME_UNKNOWN, "given up", usage=reserve(body))
            job.attempts.append(self._noted(job, call, given_up, started_at, began))
            raise
        failpoint("call.read")
        read_at, verdict, reply = self.clock(), None, None
        if isinstance(outcome, Reply):
            reply = outcome
            verdict = judge(reply, question.contract, question.accept, question.checks)
        job.retry_after = outcome.retry_after if isinstance(outcome, CallFailure) else None
        attempt = self._noted(job, call, outcome, started_at, began, verdict)
        self.observer.called(
            attempt,
            job.attempts,
            job.assignment.id,
            body,
            reply,
            read_at=read_at,
            judged_at=self.clock(),
        )
        job.attempts.append(attempt)
        if attempt is answer_of(job.attempts):
            job.reply = reply

    def _noted(
        self,
        job: Job,
        call: CallModel,
        outcome: Reply | CallFailure | None,
        started_at: datetime,
        began: float,
        verdict: Verdict | None = None,
    ) -> Attempt:
        """A call as an attempt; one without an outcome is about to start."""
        no, attempt_id = job.next_attempt
        question = self._question(job, call.step)
        return attempt_of(
            job.assignment,
            outcome,
            verdict,
            attempt_id=attempt_id,
            attempt_no=no,
            step=question.step,
            tier=question.tier,
            model_name=call.model,
            policy=self.policy,
            prompt_version=question.rendered.version,
            started_at=started_at,
            duration_ms=(time.monotonic() - began) * 1000,
        )

    def _outcome(self, job: Job, step: NextStep, record: Record, began: float) -> Outgoing:
        now, assignment = self.clock(), job.assignment
        result = self.result(job, step, now, began)
        if result is not None:
            value = dump(result)
            if len(value) <= _LARGEST_VALUE:
                latency = result["router"]["latency"]
                self.observer.answered(assignment.task, self.tier, assignment.id, latency)
                return Outgoing(self.topics.results, record.key, value, passed_on(record.headers))
            step = GiveUp(Reason.RESULT_TOO_LARGE, f"{len(value)} bytes; {_LARGEST_VALUE} fit")
        if isinstance(step, Escalate):
            self.observer.escalated(assignment.task, self.tier, step.reason)
            escalation = self.escalation_of(job, step)
            value = dump_envelope(escalation, job.raw)
            return Outgoing(self.topics.escalations, record.key, value, passed_on(record.headers))

        gave_up = step if isinstance(step, GiveUp) else GiveUp(Reason.INTERNAL_ERROR, "no reply")
        self.observer.gave_up(self.stage, gave_up.reason, assignment.task, self.tier)
        return self._letter(job, record, gave_up, now)

    def result(
        self, job: Job, step: NextStep, now: datetime, began: float
    ) -> dict[str, Any] | None:
        """The fields of the result that a step ends in: a model's answer, or our own words.

        None where it ends in none. `began`: the monotonic time at which the job was begun.
        """
        own_ms = (time.monotonic() - began) * 1000 - sum(a.duration_ms for a in job.attempts)
        own_ms, name = max(own_ms, 0.0), job.assignment.task or ""
        kind: Spoken
        if isinstance(step, Answer) and job.reply is not None:
            return result_of(
                job.assignment, job.request, job.attempts, job.reply, now=now, own_ms=own_ms
            )
        if isinstance(step, Refuse):
            kind = "refusal"
        elif isinstance(step, GiveUp) and falls_back(self.policy.tasks.get(name), step):
            kind = "safe_default"
        else:
            return None
        text = self.prompts.text(name, kind) or ""
        output = spoken_output(text, job.question.contract.schema)
        return spoken_result(
            job.assignment, job.request, job.attempts, kind, text, output, now=now, own_ms=own_ms
        )

    def _letter(self, job: Job, record: Record, gave_up: GiveUp, now: datetime) -> Outgoing:
        return letters.of_envelope(
            job.assignment,
            job.raw,
            record,
            self.topics,
            gave_up.reason,
            gave_up.detail,
            stage=self.stage,
            now=now,
            tenant=job.request.tenant,
            attempts=[*job.assignment.attempts, *job.attempts],
        )

    def escalation_of(self, job: Job, step: Escalate) -> Escalation:
        """The escalation that hands a job back to route."""
        assignment = job.assignment
        classification = assignment.classification
        if step.reason is Reason.CLASSIFIED:
            verdict = job.attempts[-1].verdict
            found = dict(verdict.output or {}) if verdict else {}
            classification = Classification.model_validate(
                {name: found.get(name) for name in ("task", "ambiguity", "complexity")}
            )
        return Escalation(
            id=assignment.id,
            generation=assignment.generation,
            task=assignment.task,
            origin=assignment.origin,
            deadline=assignment.deadline,
            attempts_left=max(assignment.attempts_left - len(job.attempts), 0),
            classification=classification,
            routes=assignment.routes,
            attempts=[*assignment.attempts, *job.attempts],
            reason=step.reason,
            detail=step.detail,
        )

    def _lines(self, job: Job, attempts: Sequence[Attempt]) -> list[Outgoing]:
        key = job.assignment.id.encode()
        lines = ledger_lines(job.assignment, job.request, attempts)
        return [Outgoing(self.topics.attempts, key, dump(line)) for line in lines]
