"""Makes the calls of one assignment, one after the other, until its work in the tier has ended."""

import asyncio
import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
from schemas.verdict import Verdict

__all__ = ["AttemptRunner"]

_log = structlog.get_logger(__name__)
_LOOK_AGAIN_SECONDS = 0.5
#: Characters of a reply and what it leans on, from which on judging takes more than a few ms.
_LONG = 100_000
#: While every model is out, the request looks again about so often.
_OUT_SECONDS = 0.25
#: A limit may be lifted before the time it gives, so nobody sleeps longer on one.
_LONGEST_LIMIT_WAIT = 2.0


@dataclass(frozen=True, slots=True)
class AttemptRunner:
    """Calls the models of one tier, judges their replies and records every attempt."""

    tier: Tier
    providers: CallModels
    topics: Topics
    clock: Callable[[], datetime]
    #: None where no ledger is kept: then every call may be repeated.
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
            if isinstance(step, CallModel) and gate is not None and gate.is_full(own):
                step = crowded(tier_run.assignment, tier_run.attempts, policy)
            if isinstance(step, Wait):
                # The place is kept, so that nothing more is fetched while every model is out. Where
                # other tasks can call one, they may have the place; of the many that may then wait
                # here, each looks less and less often.
                keeps_place = tier_run.has_paid or gate is None or not gate.most_calls(self.tier)
                wait = 0.0 if keeps_place else min(tier_run.waited / 8, _LONGEST_LIMIT_WAIT)
                wait = max(wait, _OUT_SECONDS) * (1 + random.random())  # noqa: S311  jitter
                await self._rest(tier_run, slot, wait, keeps_place=keeps_place)
                if tier_run.retry_after is not None:
                    tier_run.retry_after = max(tier_run.retry_after - wait, 0.0)
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

    def _is_parking(self, tier_run: TierRun) -> bool:
        row = tier_run.policy.tasks.get(tier_run.assignment.task or "")
        return self.ledger is not None and row is not None and row.unknown_outcome == "park"

    async def _may_start(self, tier_run: TierRun, call: CallModel, slot: Slot) -> bool:
        """Write that a call starts, unless a former owner of the partition has already done so.

        In that case the call may have run, and its outcome is unknown: it counts as a failed
        attempt at its full price, and the task's rule decides what follows.
        """
        ledger, now, began = self.ledger, self.clock(), time.monotonic()
        assert ledger is not None  # noqa: S101  asked before
        if self._was_started(ledger, tier_run, call, now, began):
            return False
        started = self._noted(tier_run, call, None, now, began)
        [line] = self._lines(tier_run, [started])
        if not await ledger.note(tier_run.source[1], line):
            await self._rest(tier_run, slot, 1)
            return False
        # The partition may have moved while the line was written, and its next owner may have read
        # the ledger before it: a call now could be the second one. Work on a lost partition is
        # cancelled; a partition that is about to move waits, because its next owner would take the
        # line for a call.
        await self._until_ours(tier_run, slot, paid=True)
        # It may also have belonged to another process for a while, and have come back.
        if self._was_started(ledger, tier_run, call, now, began, beside=started.started_at):
            return False
        failpoint("call.noted")
        return True

    def _was_started(
        self,
        ledger: Ledger,
        tier_run: TierRun,
        call: CallModel,
        now: datetime,
        began: float,
        *,
        beside: datetime | None = None,
    ) -> bool:
        """True when another process has started this call, which then counts as made.

        So do the calls that it started afterwards: the ledger has no outcome of any of them.
        `beside` is when this process started the call itself.
        """
        detail = "the call was started, and the process that made it is gone"
        before = len(tier_run.attempts)
        while asked := ledger.started_elsewhere(
            tier_run.source, tier_run.next_attempt[1], beside=beside
        ):
            is_known = asked in tier_run.policy.models
            noted_call = replace(call, model=asked) if is_known else call
            body, _ = self._body(tier_run, noted_call)
            failure = CallFailure(Reason.OUTCOME_UNKNOWN, detail, usage=reserve(body))
            attempt = self._noted(tier_run, noted_call, failure, now, began)
            self.observer.called(
                attempt, tier_run.attempts, tier_run.request, body, None, read_at=now, judged_at=now
            )
            tier_run.attempts.append(attempt)
        return len(tier_run.attempts) > before

    async def _until_ours(self, tier_run: TierRun, slot: Slot, *, paid: bool = False) -> None:
        """Wait while the partition may be moving to another process, which would call again.

        A move waits for requests that have paid and can still finish in time: they would pay again.
        """
        began = time.monotonic()
        paid = paid or tier_run.has_paid
        while not await slot.may_call(paid=paid):
            self._book_first(tier_run)
            await slot.wait(_LOOK_AGAIN_SECONDS, paid=paid)
        tier_run.waited += time.monotonic() - began

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
        self._book_first(tier_run)
        await slot.wait(seconds, keeps_place=keeps_place, paid=tier_run.has_paid)
        tier_run.waited += time.monotonic() - began

    def _book_first(self, tier_run: TierRun) -> None:
        """Book what was paid before the request waits: a process that is killed books nothing.

        Tasks that park unknown outcomes are left out: to the next owner of the partition, the line
        of a call means more than its cost.
        """
        is_paid = any(attempt.cost_micros for attempt in tier_run.attempts[tier_run.booked :])
        if is_paid and self.ledger is not None and not self._is_parking(tier_run):
            self.ledger.book(tier_run.source, self.unbooked_lines(tier_run))
            tier_run.booked = len(tier_run.attempts)

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
            if not self._is_parking(tier_run) or await self._may_start(tier_run, call, slot):
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
    ) -> Reply | CallFailure:
        """Call one model once, judge the reply, and note the attempt."""
        policy, question = tier_run.policy, self._question(tier_run, call.step)
        started_at, began = self.clock(), time.monotonic()
        failpoint("call.decided")
        outcome: Reply | CallFailure | None = None
        try:
            outcome = await self.providers.call(
                policy.models[call.model].provider,
                body,
                attempt_id=tier_run.next_attempt[1],
                request_id=tier_run.name,
                timeout=min(policy.limits.call_timeout, tier_run.assignment.deadline - started_at),
                may_leave=slot.is_ours,
            )
            failpoint("call.read")
            read_at, verdict, reply = self.clock(), None, None
            if isinstance(outcome, Reply):
                reply = outcome
                verdict = await self._judged(outcome, question, tier_run)
        except asyncio.CancelledError:
            from consumers.providers.transport import may_have_left  # noqa: PLC0415  loads httpx

            given_up = CallFailure(Reason.NOT_SENT, "given up before a connection was made")
            if may_have_left():
                # While its reply was judged, if there is one.
                usage = outcome.usage if isinstance(outcome, Reply) else reserve(body)
                given_up = CallFailure(Reason.OUTCOME_UNKNOWN, "given up", usage=usage)
            attempt = self._noted(tier_run, call, given_up, started_at, began)
            # It is booked, so it has a span: the process that repeats it makes a span of its own.
            now = self.clock()
            self.observer.called(
                attempt, tier_run.attempts, tier_run.request, body, None, read_at=now, judged_at=now
            )
            tier_run.attempts.append(attempt)
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
        return outcome

    async def _judged(self, reply: Reply, question: Question, tier_run: TierRun) -> Verdict:
        """The verdict. A long text is judged in a thread, so that everything else goes on."""
        if len(reply.text) + tier_run.asked.length < _LONG:
            return question.judged(reply, tier_run.asked)
        return await aside(lambda: question.judged(reply, tier_run.asked))

    def _noted(
        self,
        tier_run: TierRun,
        call: CallModel,
        outcome: Reply | CallFailure | None,
        started_at: datetime,
        began: float,
        verdict: Verdict | None = None,
    ) -> Attempt:
        """A call as an attempt; without an outcome, one that is about to start."""
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

    def unbooked_lines(self, tier_run: TierRun) -> list[Outgoing]:
        """The ledger lines of the attempts that are not in the ledger yet."""
        return self._lines(tier_run, tier_run.attempts[tier_run.booked :])

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
