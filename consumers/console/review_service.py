"""The acts of reviewers on cases; each is stored first and sent to Kafka second."""

import asyncio
import contextlib
import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from pydantic import ValidationError

from consumers.console.audit import about, written
from consumers.console.briefs import brief_request
from consumers.console.errors import (
    AlreadyDecidedError,
    CaseError,
    ImpossibleError,
    NotSentError,
    UndoTooLateError,
    UnknownCaseError,
    UnseenError,
)
from consumers.console.rows import Case, LetterRecord, request_of
from consumers.console.store import CaseFilter, Held, Store
from consumers.console.tables import pointer_of
from consumers.failpoints import failpoint
from consumers.policies import Policies
from consumers.readmodel.database import StoreAwayError
from consumers.runtime.clients import KAFKA_IS_AWAY
from consumers.runtime.connection import is_refusal
from consumers.runtime.publisher import Publisher
from router.policy.table import Policy
from router.review.decisions import hash_of_answers, problems_of, refusal_of
from schemas.codec import passed_on
from schemas.dead_letter import DeadLetter
from schemas.review import Action, AuditLine, Decision
from schemas.tenancy import BRIEF_IDS, RequestKey
from schemas.topics import Topics

__all__ = ["ReviewService", "decision_of"]

_LEASE = timedelta(minutes=5)
#: Kafka usually acknowledges within milliseconds; a person waits at most this long.
_SEND_LIMIT = 5.0
_RESEND_SECONDS = 5.0
#: Cases that others may claim first while somebody claims the next one.
_MOST_RACES = 50


@dataclass(frozen=True, slots=True)
class ReviewService:
    """Claims, decisions and undos of one console."""

    store: Store
    publisher: Publisher
    policies: Policies
    topics: Topics
    clock: Callable[[], datetime]
    lease: timedelta = _LEASE
    #: The policy's task that writes briefs; None where there are none.
    brief_task: str | None = None
    #: The URL of a trace in the tracing backend, with `{trace_id}` in it.
    trace_url: str | None = None
    #: Lines that Kafka has not acknowledged yet: they are not sent again while they are on the way.
    _under_way: dict[tuple[str, int], "asyncio.Future[object]"] = field(default_factory=dict)

    @property
    def policy(self) -> Policy:
        """That of the active release."""
        return self.policies.active.policy

    async def policy_of(self, record: LetterRecord) -> Policy:
        """That of the release under which a request was given up."""
        return (await self.policies.of_letter(record.letter)).policy

    async def case(self, place: str) -> tuple[Case, LetterRecord]:
        """A case with its dead letter. Raises UnknownCaseError."""
        case, record = await self.store.case(place, self.clock()), await self.store.content(place)
        if case is None or record is None:
            raise UnknownCaseError(place)
        return case, record

    async def claim(self, place: str, who: str) -> Case | Held:
        """Claim a case, or learn who holds it. Raises CaseError and NotSentError."""
        now = self.clock()
        before = await self.store.case(place, now)
        claimed = await self.store.claim(place, who, now, self.lease)
        if isinstance(claimed, Case) and (before is None or before.held_by != who):
            await self._note(claimed, "claim", who)
        return claimed

    async def claim_next(self, who: str, case_filter: CaseFilter) -> Case | None:
        """Claim the most urgent case that is free; None where there is none."""
        for _ in range(_MOST_RACES):
            case = await self.store.next_case(who, case_filter, self.clock())
            if case is None:
                return None
            with contextlib.suppress(CaseError):  # somebody has decided on it just now
                claimed = await self.claim(case.place, who)
                if isinstance(claimed, Case):
                    return claimed
        return None

    async def renew_lease(self, place: str, who: str) -> Case:
        return await self.store.renew_lease(place, who, self.clock(), self.lease)

    async def release(self, place: str, who: str) -> None:
        if await self.store.release(place, who, self.clock()):
            case = await self.store.case(place, self.clock())
            if case is not None:
                await self._note(case, "release", who)

    async def comment(self, place: str, who: str, text: str) -> None:
        """Note what somebody says about a case, for its next readers. Raises UnknownCaseError."""
        case, _ = await self.case(place)
        await self._note(case, "comment", who, note=text)

    async def assign(self, place: str, who: str, to: str | None) -> Case:
        """Make a case somebody's to decide, or anybody's. Raises UnknownCaseError."""
        case, _ = await self.case(place)
        if case.assigned_to != to:
            await self.store.assign(place, to)
            await self._note(case, "assign", who, assignee=to)
        return (await self.case(place))[0]

    async def decide(
        self, who: str, version: int, decision: Decision, *, seen: str | None = None
    ) -> Case:
        """Decide on a case that `who` holds. Raises CaseError, ImpossibleError and NotSentError.

        An approval has the hash of the answers that were `seen`, and is refused for others. After
        NotSentError the decision is kept, and sent as soon as Kafka answers. Giving the same
        decision again changes nothing.
        """
        place, now = str(decision.letter), self.clock()
        record = await self.store.content(place)
        if record is None:
            raise UnknownCaseError(place)
        if decision.action == "approve" and seen != hash_of_answers(record.letter):
            raise UnseenError
        await self._check(decision, record)
        try:
            case, line = await self.store.decide(
                place,
                who,
                version,
                now,
                decision,
                before=_hash_of(record.value),
                after=_hash_of(orjson.dumps(decision.output) if decision.output else None),
                policy_version=self.policy.version,
            )
        except AlreadyDecidedError as error:
            earlier = await self.store.trail.decision(place, decision.decision_id)
            if error.case is None or earlier is None or not _is_same(earlier, who, decision):
                raise
            case, line = error.case, earlier
            if not await self.store.trail.is_unsent(line):
                return case
        failpoint("console.noted")
        if not await self._arrives(line, record):
            words = (
                "Kafka has not acknowledged the decision yet. It is kept, and sent as soon as "
                "Kafka answers; sending it again changes nothing"
            )
            raise NotSentError(words)
        return case

    async def decide_on(
        self,
        place: str,
        who: str,
        version: int | None,
        *,
        seen: str,
        decision_id: str | None,
        **fields: Any,
    ) -> Case:
        """Decide with the fields of a decision, at a version of the case or the present one.

        See `decide`.
        """
        case, record = await self.case(place)
        id_ = decision_id or secrets.token_urlsafe(12)
        decision = decision_of(case, record.letter, decision_id=id_, **fields)
        return await self.decide(
            who, case.version if version is None else version, decision, seen=seen
        )

    async def undo(self, place: str, who: str) -> Case:
        """Undo one's own decision while there is time. Raises CaseError and NotSentError.

        The time at which Kafka appends the undo counts. It must not get there before the decision.
        """
        before, record = await self.store.case(place, self.clock()), await self.store.content(place)
        decided = None
        if before is not None and before.decision_id is not None:
            decided = await self.store.trail.decision(place, before.decision_id)
        if decided is not None and await self.store.trail.is_unsent(decided):
            if not await self._arrives(decided, record):
                words = "Kafka does not answer, so nothing was undone; try again in a moment"
                raise NotSentError(words)
        case, line = await self.store.undo(place, who, self.clock())
        arrived = await self._arrives(line, record)
        if arrived:
            return case
        if arrived is None:
            await self.store.not_sent(line, self.clock(), "Kafka did not acknowledge it")
            words = (
                "Kafka has not acknowledged the undo. It counts if Kafka has it in time: look at "
                "the case again in a moment"
            )
            raise NotSentError(words)
        raise UndoTooLateError(await self.store.case(place, self.clock()) or case)

    async def ask_for_brief(self, place: str) -> None:
        """Request a brief of a case from a cheap model, as a request in the flow.

        It is written to a topic that only stages and consoles may write, so no producer can forge
        it. Until its deadline, asking again sends nothing. Raises UnknownCaseError and
        NotSentError.
        """
        record = await self.store.content(place)
        if record is None or self.brief_task is None:
            raise UnknownCaseError(place)
        now, row = self.clock(), self.policy.tasks.get(self.brief_task)
        allowed = (row.deadline if row else None) or self.policy.limits.deadline
        if not await self.store.ask_brief(place, now, allowed):
            return
        value = brief_request(place, record, self.policy, self.brief_task, now + allowed, now)
        key = RequestKey(record.letter.tenant, f"{BRIEF_IDS}{place}")
        try:
            async with asyncio.timeout(_SEND_LIMIT):
                sent = await self.publisher.publish(
                    self.topics.escalations,
                    value,
                    key=key.text.encode(),
                    partition=pointer_of(place).partition,
                    request_id=key.id,
                )
                await sent
        except KAFKA_IS_AWAY:
            await self.store.forget_asked(place)
            words = "Kafka did not acknowledge the request; try again in a moment"
            raise NotSentError(words) from None

    async def note(self, who: str, what: str, **fields: object) -> None:
        """Note an act that changes no case, such as a sign-in, an unmasking or an export."""
        line = await self.store.trail.append(self.clock(), who=who, what=what, **fields)
        await self._arrives(line, None)

    async def note_reveal(self, who: str, case: Case) -> None:
        """Note that somebody sees a case unmasked."""
        await self.note(who, "reveal", **about(case))

    async def resend(self) -> None:
        """Until cancelled, send lines that Kafka missed because it or a console was down."""
        while True:
            await asyncio.sleep(_RESEND_SECONDS)
            with contextlib.suppress(StoreAwayError):
                await self._send_unsent()

    async def _send_unsent(self) -> None:
        before = self.clock() - timedelta(seconds=2 * _SEND_LIMIT)
        for line in await self.store.trail.unsent(before):
            record = await self.store.content(str(line.letter)) if line.letter else None
            with contextlib.suppress(ImpossibleError):
                await self._arrives(line, record)
        # Lines that were read on the topic before their acknowledgement came.
        for key in [line for line, sent in self._under_way.items() if sent.done()]:
            del self._under_way[key]

    async def _check(self, decision: Decision, record: LetterRecord) -> None:
        if (words := refusal_of(decision, record.letter, self.policy)) is not None:
            raise ImpossibleError(words)
        if decision.action == "discard" and not decision.reason.strip():
            words = "give a reason for discarding it"
            raise ImpossibleError(words)
        if decision.deadline is not None and decision.deadline <= self.clock():
            words = "the deadline has passed"
            raise ImpossibleError(words)
        if decision.action != "edit":
            return
        request = request_of(record)
        if request is None:
            words = "the request cannot be read"
            raise ImpossibleError(words)
        try:
            orjson.dumps(decision.output)
        except TypeError as error:  # half of a surrogate pair
            words = f"the answer cannot be written as JSON: {error}"
            raise ImpossibleError(words) from None
        policy = await self.policy_of(record)
        if problems := problems_of(decision.output or {}, record.letter, request, policy):
            words = "the answer does not have the task's format"
            raise ImpossibleError(words, problems)

    async def _note(self, case: Case, what: str, who: str, **fields: object) -> None:
        line = await self.store.trail.append(
            self.clock(), who=who, what=what, **about(case), **fields
        )
        # With the record's headers, the act is part of the request's trace.
        await self._arrives(line, await self.store.content(case.place))

    async def _arrives(self, line: AuditLine, record: LetterRecord | None) -> bool | None:
        """Send a line: True when Kafka has it, False for an undo that came too late.

        None where Kafka does not answer: the line stays in the store to be sent later, or is still
        on the way. Raises ImpossibleError for a line that Kafka will never accept.
        """
        key = (line.writer, line.no)
        try:
            async with asyncio.timeout(_SEND_LIMIT):
                if key not in self._under_way:
                    self._under_way[key] = await self._publish(line, record)
                sent = await asyncio.shield(self._under_way[key])
                if line.decision is not None:
                    failpoint("console.sent")
        except TimeoutError:
            return None
        except KAFKA_IS_AWAY as error:  # or it refuses the record
            self._under_way.pop(key, None)
            if line.what not in ("decide", "undo") or not is_refusal(error):
                return None
            await self.store.not_sent(line, self.clock(), f"refused: {type(error).__name__}")
            words = f"Kafka refuses it ({type(error).__name__}), so it does not count"
            raise ImpossibleError(words) from None
        self._under_way.pop(key, None)
        appended = datetime.fromtimestamp(getattr(sent, "timestamp", 0) / 1000, UTC)
        return await self.store.arrived(line, appended)

    async def _publish(
        self, line: AuditLine, record: LetterRecord | None
    ) -> "asyncio.Future[object]":
        return await self.publisher.publish(
            self.topics.review,
            written(line),
            key=record.key if record else (line.request_id or line.writer).encode(),
            headers=passed_on(record.headers, has_trace=True) if record else (),
            partition=line.letter.partition if line.letter else None,
            request_id=line.request_id,
        )


def _is_same(line: AuditLine, who: str, decision: Decision) -> bool:
    """True when somebody gives their own decision again."""
    earlier = line.decision
    return (
        earlier is not None
        and line.who == who
        and earlier.model_copy(update={"seconds_spent": decision.seconds_spent}) == decision
    )


def decision_of(
    case: Case, letter: DeadLetter, action: Action, *, decision_id: str, **fields: Any
) -> Decision:
    """A decision on a case, with the other `fields` of it. Raises ImpossibleError."""
    try:
        return Decision(
            decision_id=decision_id,
            request_id=letter.request_id or case.place,
            tenant=case.tenant,
            generation=letter.generation,
            letter=case.letter,
            action=action,
            **fields,
        )
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_input=False, include_context=False)[0]
        words = f"{'.'.join(map(str, wrong['loc']))}: {wrong['msg']}"
        raise ImpossibleError(words) from None


def _hash_of(value: bytes | None) -> str | None:
    return None if value is None else hashlib.sha256(value).hexdigest()
