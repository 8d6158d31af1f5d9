"""Makes the calls of one assignment, one after the other, until its work in the tier has ended."""

import asyncio
import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import structlog

from consumers.failpoints import failpoint
from consumers.providers.gate import Admission, Gate
from consumers.providers.usage import reserve
from consumers.runtime.ledger import Ledger
from consumers.runtime.marks import aside
from consumers.stages.ports import CallModels, Slot
from consumers.stages.tier_run import TierRun
from consumers.telemetry.observer import Observer
from router.attempt.answering import attempt_of, ledger_lines
from router.attempt.lost import attempt_lost, repeated_id
from router.attempt.model_quirks import lacking, too_narrow
from router.attempt.next_step import (
    CallModel,
    Escalate,
    NextStep,
    Wait,
    answer_of,
    crowded,
    next_step,
)
from router.attempt.question import Question, verification_of
from router.policy.apart import SHARED
from router.reply.reply import CallFailure, Reply
from router.route.routing import GiveUp
from schemas.attempt import Attempt, Step
from schemas.base import Tier
from schemas.codec import Outgoing, dump
from schemas.reasons import Reason
from schemas.topics import Topics
from schemas.usage import Usage
from schemas.verdict import Verdict

__all__ = ["AttemptRunner"]

_log = structlog.get_logger(__name__)
_LOOK_AGAIN_SECONDS = 0.5
#: Characters of a reply and what it leans on, from which on judging takes more than a few ms.
_LONG = 100_000
#: While every model is out, the request looks again about so often.
_OUT_SECONDS = 0.25
_NOT_MADE = CallFailure(Reason.NOT_SENT, "announced, and then not made")
#: A limit may be lifted before the time it gives, so nobody sleeps longer on one.
_LONGEST_LIMIT_WAIT = 2.0


@dataclass(frozen=True, slots=True)
class AttemptRunner:
    """Calls the models of one tier, judges their replies and records every attempt."""

    tier: Tier
    providers: CallModels
    topics: Topics
    clock: Callable[[], datetime]
    #: None where no ledger is kept.
    ledger: Ledger | None = None
    observer: Observer = field(default_factory=Observer)
    #: None where calls have no limits.
    gate: Gate | None = None

    async def run(self, tier_run: TierRun, slot: Slot) -> NextStep:
        """Call models until nothing is left to call in this tier."""
        gate, policy, narrow = self.gate, tier_run.policy, list[str]()
        lacks = lacking(policy.models, tier_run.request)
        if len(tier_run.raw) > policy.least_room:  # no text has more tokens than bytes
            narrow = too_narrow(policy.models, tier_run.request)
        own = policy.apart(tier_run.assignment.task) if gate is not None else SHARED

        def is_out(name: str) -> bool:
            return gate is not None and gate.is_out(policy.models[name], own.whose(name))

        while True:
            step = next_step(
                tier_run.assignment,
                tier_run.attempts,
                policy,
                self.clock(),
                retry_after=tier_run.retry_after,
                lacks=lacks,
                narrow=narrow,
                is_out=is_out,
            )
            # What was left behind counts in any end, and before any other call is decided.
            if self._take_over(tier_run) and isinstance(step, CallModel | Wait):
                continue
            if isinstance(step, CallModel) and gate is not None and gate.is_full(own):
                step = crowded(tier_run.assignment, tier_run.attempts, policy)
            if isinstance(step, Wait):
                await self._wait_for_models(tier_run, slot)
                continue
            if not isinstance(step, CallModel):
                return step
            if tier_run.attempts:
                if step.wait:
                    await self._wait(
                        tier_run, slot, step.wait.total_seconds() * _jitter(tier_run, step)
                    )
                if tier_run.retry_after is not None:
                    tier_run.retry_after = 0.0
            await self._until_ours(tier_run, slot)
            if (end := await self._call(tier_run, step, slot)) is not None:
                return end

    def _question(self, tier_run: TierRun, step: Step) -> Question:
        if step != "verify":
            return tier_run.question
        if tier_run.verification is None:
            verify = tier_run.policy.tasks[tier_run.assignment.task or ""].verify
            answer = answer_of(tier_run.attempts)
            assert verify is not None and answer is not None  # noqa: S101, PT018  next_step's promise
            output = answer.verdict.output if answer.verdict else None
            tier_run.verification = verification_of(
                verify, output or {}, tier_run.request, tier_run.bundle.prompts
            )
        return tier_run.verification

    def _body(self, tier_run: TierRun, call: CallModel) -> tuple[dict[str, Any], list[str]]:
        """The chat body of a call, and the producer's fields that it leaves out."""
        model = tier_run.policy.models[call.model]
        fields = self.providers.chat_fields(model.provider)
        return self._question(tier_run, call.step).body(tier_run.request, model, fields)

    def _take_over(self, tier_run: TierRun) -> bool:
        """Count the calls that former owners of the partition have started and nobody has finished.

        Each may have run, and its outcome is unknown: it counts as a failed attempt at the most
        that it can have cost, and the task's rule decides what follows.
        """
        lost = [attempt_lost(started) for started in self._left_behind(tier_run)]
        now = self.clock()
        for attempt in lost:
            self._tell(tier_run, attempt, {"model": attempt.model}, now)
        return bool(lost)

    def _tell(
        self, tier_run: TierRun, attempt: Attempt, body: Mapping[str, Any], now: datetime
    ) -> None:
        """Note an attempt without a reply. It is booked, so it has a span."""
        former, request = tier_run.attempts, tier_run.request
        self.observer.called(attempt, former, request, body, None, read_at=now, judged_at=now)
        tier_run.attempts.append(attempt)

    def _left_behind(self, tier_run: TierRun, *ours: Attempt) -> list[Attempt]:
        if self.ledger is None:
            return []
        known = (*tier_run.assignment.attempts, *tier_run.attempts, *ours)
        entries = self.ledger.left_behind(tier_run.source, tier_run.name, known)
        return [entry.attempt for entry in entries]

    async def _may_start(
        self,
        tier_run: TierRun,
        call: CallModel,
        body: Mapping[str, Any],
        started_at: datetime,
        slot: Slot,
    ) -> bool:
        """Announce a call in the ledger. False where it must not be made any more."""
        if self.ledger is None:
            return True
        started = self._noted(tier_run, call, reserve(body), started_at, time.monotonic())
        [line] = self._lines(tier_run, [started])
        while not await self.ledger.note(tier_run.source[1], line):
            await self._rest(tier_run, slot, 1)
            if self.clock() >= tier_run.assignment.deadline:
                return False
        # The partition may have moved while the line was written, and its next owner may have read
        # the ledger before it: a call now could be the second one. Work on a lost partition is
        # cancelled; a partition that is about to move waits, because its next owner would take the
        # line for a call.
        await self._until_ours(tier_run, slot, paid=True)
        # It may also have belonged to another process for a while, and have come back.
        if self._left_behind(tier_run, started):
            return False
        failpoint("call.noted")
        return True

    async def _until_ours(self, tier_run: TierRun, slot: Slot, *, paid: bool = False) -> None:
        """Wait while the partition may be moving to another process, which would call again.

        A move waits for requests that have paid and can still finish in time: they would pay again.
        """
        began = time.monotonic()
        paid = paid or tier_run.has_paid
        while not await slot.may_call(paid=paid):
            await slot.wait(_LOOK_AGAIN_SECONDS, paid=paid)
        tier_run.waited += time.monotonic() - began

    async def _wait_for_models(self, tier_run: TierRun, slot: Slot) -> None:
        """Wait a little while every model is out.

        The place is kept, so that nothing more is fetched. Where other tasks can call a model, they
        may have the place; of the many that may then wait here, each looks less and less often.
        """
        keeps_place = tier_run.has_paid or self.gate is None or not self.gate.most_calls(self.tier)
        wait = 0.0 if keeps_place else min(tier_run.waited / 8, _LONGEST_LIMIT_WAIT)
        wait = max(wait, _OUT_SECONDS) * (1 + random.random())  # noqa: S311  jitter
        await self._rest(tier_run, slot, wait, keeps_place=keeps_place)
        if tier_run.retry_after is not None:
            tier_run.retry_after = max(tier_run.retry_after - wait, 0.0)

    async def _wait(self, tier_run: TierRun, slot: Slot, seconds: float) -> None:
        """Wait before a call is repeated; the watchdog is told that this is no standstill."""
        for left in range(math.ceil(seconds), 0, -1):
            await self._rest(tier_run, slot, min(seconds - left + 1, 1.0))
            if self.gate is not None:
                self.gate.waits += 1

    async def _rest(
        self, tier_run: TierRun, slot: Slot, seconds: float, *, keeps_place: bool = False
    ) -> None:
        began = time.monotonic()
        await slot.wait(seconds, keeps_place=keeps_place, paid=tier_run.has_paid)
        tier_run.waited += time.monotonic() - began

    async def _call(
        self, tier_run: TierRun, call: CallModel, slot: Slot
    ) -> Escalate | GiveUp | None:
        """Call a model if its limits allow it; otherwise wait a little and decide again.

        No call is made past the deadline, nor one that the reservation does not cover.
        """
        if self.clock() >= (deadline := tier_run.assignment.deadline):
            return GiveUp(Reason.DEADLINE_PASSED, f"the deadline was {deadline.isoformat()}")
        body, left_out = self._body(tier_run, call)
        if tier_run.is_capped and (uncovered := tier_run.uncovered(call, body)) is not None:
            return uncovered
        admission = self._admission(tier_run, call, body)
        if isinstance(admission, float):
            wait = min(admission, _LONGEST_LIMIT_WAIT) * (1 + random.random() / 4)  # noqa: S311
            await self._rest(tier_run, slot, wait, keeps_place=True)
            return None
        outcome: Reply | CallFailure | None = None
        try:
            outcome = await self._attempt(tier_run, call, body, left_out, slot)
        finally:
            if admission is not None and self.gate is not None:
                self.gate.settle(admission, outcome)
        return None

    def _admission(
        self, tier_run: TierRun, call: CallModel, body: Mapping[str, Any]
    ) -> Admission | float | None:
        """The gate's admission, or the seconds to wait; None where there is no gate."""
        if self.gate is None:
            return None
        model, own = (
            tier_run.policy.models[call.model],
            tier_run.policy.apart(tier_run.assignment.task),
        )
        tokens = reserve(body).total_tokens if self.gate.counts_tokens(model) else 0
        source, whose = (self.tier, tier_run.source[1]), own.whose(call.model)
        return self.gate.admit(model, source, tokens, own, whose)

    async def _attempt(
        self,
        tier_run: TierRun,
        call: CallModel,
        body: dict[str, Any],
        left_out: Sequence[str],
        slot: Slot,
    ) -> Reply | CallFailure | None:
        """Call one model once, judge the reply, and note the attempt.

        None where the call was announced and then not made.
        """
        policy, question = tier_run.policy, self._question(tier_run, call.step)
        (_, attempt_id), started_at = tier_run.next_attempt, self.clock()
        began = time.monotonic()
        failpoint("call.decided")
        outcome: Reply | CallFailure = _NOT_MADE
        is_made = False
        try:
            if is_made := await self._may_start(tier_run, call, body, started_at, slot):
                began, left = time.monotonic(), tier_run.assignment.deadline - self.clock()
                outcome = await self.providers.call(
                    policy.models[call.model].provider,
                    body,
                    attempt_id=attempt_id,
                    request_id=tier_run.name,
                    timeout=min(policy.limits.call_timeout, left),
                    may_leave=slot.is_ours,
                    idempotency_key=repeated_id(tier_run.attempts, call.model, call.step)
                    or attempt_id,
                )
            failpoint("call.read")
            read_at, verdict, reply = self.clock(), None, None
            if isinstance(outcome, Reply):
                reply = outcome
                verdict = await self._judged(outcome, question, tier_run)
        except asyncio.CancelledError:
            from consumers.providers.transport import may_have_left  # noqa: PLC0415  loads httpx

            given_up = CallFailure(Reason.NOT_SENT, "given up before a connection was made")
            if is_made and may_have_left():
                # While its reply was judged, if there is one.
                usage = outcome.usage if isinstance(outcome, Reply) else reserve(body)
                given_up = CallFailure(Reason.OUTCOME_UNKNOWN, "given up", usage=usage)
            attempt = self._noted(tier_run, call, given_up, started_at, began)
            self._tell(tier_run, attempt, body, self.clock())
            raise
        tier_run.retry_after = outcome.retry_after if isinstance(outcome, CallFailure) else None
        attempt = self._noted(tier_run, call, outcome, started_at, began, verdict)
        self.observer.called(
            attempt,
            tier_run.attempts,
            tier_run.request,
            body,
            reply,
            read_at=read_at,
            judged_at=self.clock(),
        )
        if attempt.oddities:
            what, model_name = attempt.oddities, attempt.model
            _log.warning("odd reply", attempt=attempt.attempt_id, model=model_name, what=what)
        tier_run.attempts.append(attempt)
        # Without an accepted answer the last one may be published in doubt.
        if attempt is (answer_of(tier_run.attempts) or attempt):
            tier_run.reply, tier_run.left_out = reply, left_out
        return outcome if is_made else None

    async def _judged(self, reply: Reply, question: Question, tier_run: TierRun) -> Verdict:
        """The verdict. A long text is judged in a thread, so that everything else goes on."""
        if len(reply.text) + tier_run.asked.length < _LONG:
            return question.judged(reply, tier_run.asked)
        return await aside(lambda: question.judged(reply, tier_run.asked))

    def _noted(
        self,
        tier_run: TierRun,
        call: CallModel,
        outcome: Reply | CallFailure | Usage,
        started_at: datetime,
        began: float,
        verdict: Verdict | None = None,
    ) -> Attempt:
        """A call as an attempt; with what it can use at most, one that is about to start."""
        no, attempt_id = tier_run.next_attempt
        question = self._question(tier_run, call.step)
        return attempt_of(
            tier_run.assignment,
            outcome,
            verdict,
            attempt_id=attempt_id,
            attempt_no=no,
            step=question.step,
            tier=question.tier,
            model_name=call.model,
            policy=tier_run.policy,
            release=tier_run.bundle.digest,
            prompt_version=question.rendered.version,
            started_at=started_at,
            duration_ms=(time.monotonic() - began) * 1000,
        )

    def booked(self, tier_run: TierRun) -> list[Outgoing]:
        """The ledger lines of the calls that were made here, or left behind."""
        return self._lines(tier_run, tier_run.calls)

    def _lines(self, tier_run: TierRun, attempts: Sequence[Attempt]) -> list[Outgoing]:
        key = tier_run.name.encode()
        lines = ledger_lines(tier_run.assignment, tier_run.request, attempts)
        return [Outgoing(self.topics.attempts, key, dump(line)) for line in lines]


def _jitter(tier_run: TierRun, call: CallModel) -> float:
    """The share of a wait that is waited: all of it where the provider has asked for it."""
    last = tier_run.attempts[-1]
    if tier_run.retry_after is not None and call.model == last.model:
        return 1.0
    # A pause that grew because calls were refused must not come out shorter than the one before.
    least = 0.75 if last.reason is Reason.THROTTLED else 0.0
    return least + (1.0 - least) * random.random()  # noqa: S311
