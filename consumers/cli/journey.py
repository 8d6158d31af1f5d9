"""A request's journey in words, put together from what stands in the topics."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from consumers.cli.common import UserError
from consumers.cli.moments import (
    Moment,
    acted,
    brought,
    minded,
    published,
    routed,
    still_open,
    tried,
)
from consumers.cli.records import reading
from consumers.runtime.records import Record, record_ref, told_at, why_not_taken
from consumers.settings import Settings
from consumers.stages.dead_letters import claimed_id
from consumers.telemetry.context import read_context
from consumers.texts import say
from router.intake.admission import as_admitted
from schemas.attempt import Attempt, LedgerEntry
from schemas.base import Tier
from schemas.codec import read_dead_letter, read_envelope, read_model, text_headers
from schemas.dead_letter import DeadLetter
from schemas.errors import ContractError
from schemas.escalation import Assignment, Escalation, RouteTaken
from schemas.feedback import Feedback
from schemas.intake import read_request
from schemas.reasons import Reason
from schemas.request import Request
from schemas.result import Result
from schemas.review import AuditLine
from schemas.topics import Topics

__all__ = ["Journey", "Stop", "read_journey"]

#: So many requests of one `custom_id` are named.
_MOST_NAMED = 5


@dataclass(frozen=True, slots=True, order=True)
class Stop:
    """A record of the request: when it was appended, where, and what it stands for."""

    at: datetime
    topic: str
    words: str


@dataclass(slots=True)
class Journey:
    """Everything that is known of one request."""

    request_id: str
    #: Whose; None: of whatever tenant.
    tenant: str | None = None
    #: The tenants that have a request of this id.
    tenants: set[str] = field(default_factory=set)
    accepted: Moment | None = None
    #: As the producer sent it; None where no topic has it any more.
    request: Request | None = None
    task: str | None = None
    routes: list[RouteTaken] = field(default_factory=list)
    attempts: dict[str, Attempt] = field(default_factory=dict)
    results: list[Result] = field(default_factory=list)
    letters: list[tuple[str, DeadLetter]] = field(default_factory=list)
    #: What its producer calls it, where that is not its id.
    custom_id: str | None = None
    #: Requests that this id is the `custom_id` of.
    named: set[str] = field(default_factory=set)
    #: Records on intake by their places; others than the request itself may claim its id.
    claims: dict[str, tuple[Moment, Request]] = field(default_factory=dict)
    #: The place of the request's own record, once a topic behind intake has told.
    origin: str | None = None
    #: What people did with it.
    acts: list[AuditLine] = field(default_factory=list)
    #: What was said of its answers downstream, and by reviewers.
    feedback: list[Feedback] = field(default_factory=list)
    #: Every record of the request but the ledger's, in no order.
    stops: list[Stop] = field(default_factory=list)
    #: The last record that passed it on, with its generation and time. Brokers' clocks differ, so
    #: whether it has ended since its generation says.
    hop: tuple[tuple[int, datetime, bool], Assignment | Escalation] | None = None
    #: The last generation that has ended; 0: none.
    ended: int = 0
    #: The trace of the earliest record that has one; with linked traces each hop has its own.
    trace: tuple[datetime, str] | None = None

    def is_ours(self, request_id: str | None, tenant: str | None) -> bool:
        """True for a request of this id and tenant; `tenant` is None where a record names none."""
        if request_id != self.request_id or self.tenant not in (None, tenant or self.tenant):
            return False
        if tenant is not None:
            self.tenants.add(tenant)
        return True

    @property
    def trace_id(self) -> str | None:
        """The request's trace, 32 hexadecimal digits."""
        return self.trace[1] if self.trace else None

    @property
    def is_known(self) -> bool:
        """True when any topic says anything of the request."""
        return bool(self.stops or self.attempts)

    def open_state(self, now: datetime) -> str | None:
        """What is known of a request that has not ended, or was sent through again; else None."""
        since = self.hop[0][1] if self.hop else self.accepted.at if self.accepted else None
        generation = self.hop[0][0] if self.hop else 1
        if since is None or self.ended >= generation:
            return None
        hop = self.hop[1] if self.hop else None
        return still_open(since, hop, list(self.attempts.values()), now)

    @property
    def is_done(self) -> bool:
        """True when it has come to an end: a result or a dead letter."""
        return bool(self.results or self.letters)

    @property
    def cost_micros(self) -> int:
        """What all its calls cost, in micro-dollars."""
        return sum(attempt.cost_micros for attempt in self.attempts.values())

    @property
    def unapproved(self) -> Mapping[str, object] | None:
        """The answer that waits for a person to approve it."""
        if not self.letters or self.letters[-1][1].reason is not Reason.APPROVAL_REQUIRED:
            return None
        passed = [attempt for attempt in self.attempts.values() if attempt.outcome == "accepted"]
        verdicts = [attempt.verdict for attempt in passed if attempt.step == "answer"]
        return verdicts[-1].output if verdicts and verdicts[-1] else None

    def read(self, record: Record, topics: Topics) -> None:
        """Take from a record what it says of this request; others are passed over."""
        where = record_ref(record)
        # A record without a usable id is called by its place, which its dead letter has in parts.
        if record.topic != topics.dead_letters and where != self.request_id:
            texts = (record.value, *(value for _, value in record.headers))
            if not any(self._names_it(text) for text in texts):
                return
        try:
            words = self._read(record, topics, where)
        except ContractError as error:
            # What says nothing readable has its words in its dead letter.
            if self.request_id not in (where, claimed_id(record.value)):
                return
            # Whose it is its dead letter says.
            if not self.is_ours(self.request_id, None):
                return
            words = f"cannot be read: {error.reason.meaning}"
        if words is None:
            return
        context, _ = read_context(record.headers)
        at = told_at(record)
        if not topics.is_intake(record.topic) and context is not None:
            self.trace = min(self.trace or (at, context.trace_id), (at, context.trace_id))
        if record.topic != topics.attempts:
            self.stops.append(Stop(at, record.topic, words))

    def moments(self) -> list[Moment]:
        """What happened, in order."""
        happened = [routed(taken) for taken in self.routes]
        happened += [tried(attempt) for attempt in self.attempts.values()]
        happened += [acted(line) for line in self.acts]
        happened += [minded(feedback) for feedback in self._minded()]
        happened += self._ends()
        happened.sort(key=lambda moment: (moment.at is None, moment.at))
        start = [self.accepted] if self.accepted else []
        return [*start, *happened]

    def _ends(self) -> list[Moment]:
        ends = [
            Moment(
                letter.failed_at,
                "dead letter",
                letter.path[-1] if letter.path else "",
                f"{letter.reason}: {letter.reason.meaning} ({letter.detail})"
                + (f"; at {where}" if where else ""),
            )
            for where, letter in self.letters
        ]
        for result in self.results:
            info = result.router
            what = "result" if info.final else "notice"
            ends.append(
                Moment(
                    self._ended(result), what, info.tier, published(result, self.decided_by(result))
                )
            )
        return ends

    @property
    def published(self) -> Result | None:
        """The result that counts; None where there is none."""
        return next((result for result in reversed(self.results) if result.router.final), None)

    def decided_by(self, result: Result) -> str | None:
        """Who decided on the dead letter that a result stands in for."""
        undone = {line.undoes for line in self.acts}
        given = (
            line
            for line in self.acts
            if line.decision is not None and line.decision.decision_id not in undone
            if str(line.decision.letter) == result.router.resolves
        )
        return next((line.who for line in given), None)

    def _minded(self) -> list[Feedback]:
        """Feedback on this request; what reviewers said of it their decisions tell already."""
        return [
            feedback
            for feedback in self.feedback
            if feedback.tenant in (self.tenants or {feedback.tenant})
            and not (self.acts and feedback.source == "reviewer")
        ]

    def _names_it(self, text: bytes | None) -> bool:
        """True where the request may be named: in text, or as a JSON string with its escapes."""
        # Of a CloudEvent source and id stand apart.
        names = (self.request_id.rpartition("^")[2] or self.request_id, self.custom_id)
        forms = (form for name in names if name for form in (name, json.dumps(name)[1:-1]))
        return any(form.encode() in (text or b"") for form in forms)

    def _ended(self, result: Result) -> datetime | None:
        """When a result was made: its total time after the request's append."""
        if self.accepted is None or self.accepted.at is None:
            return None
        return self.accepted.at + timedelta(milliseconds=result.router.latency.total_ms)

    def _read(self, record: Record, topics: Topics, where: str) -> str | None:
        """Take what a record says, and return it in words; None when it is another request's."""
        if topics.is_intake(record.topic):
            return self._read_intake(record, where)
        if record.topic == topics.attempts:
            return self._read_line(read_model(LedgerEntry, record.value))
        if record.topic in (topics.results, topics.dead_letters):
            return self._read_end(record, topics, where)
        if record.topic == topics.review:
            line = read_model(AuditLine, record.value)
            if not self.is_ours(line.request_id, line.tenant):
                return None
            self.acts.append(line)
            return acted(line).words
        if record.topic == topics.feedback:
            feedback = read_model(Feedback, record.value)
            # Its tenant may be its sender's mistake, so it proves no tenant to have the request.
            if feedback.request_id == self.request_id and self.tenant in (None, feedback.tenant):
                self.feedback.append(feedback)
            return None  # says nothing of the way
        if record.topic == topics.escalations or record.topic in map(topics.tier, Tier):
            return self._read_hop(record, topics)
        return None

    def _read_intake(self, record: Record, where: str) -> str | None:
        request = read_request(record.value, text_headers(record.headers), fallback_id=where)
        # A topic or a signature may have said whose it is, where it does not say so itself.
        is_said = "tenant" in request.model_fields_set
        self._note_name(request.custom_id, request.id, request.tenant if is_said else None)
        if not self.is_ours(request.id, request.tenant if is_said else None):
            return None
        at = told_at(record)
        words = f"at {where}{brought(request)}"
        self.claims[where] = Moment(at, "accepted", "", words), request
        if self.origin in (None, where):
            self.accepted = self.claims[where][0]
            # A hop has told already how it was admitted.
            self.request = request if self.origin is None else self.request or request
            self.task = self.task or request.task
        return "accepted"

    def _note_name(self, custom_id: str | None, request_id: str, tenant: str | None) -> None:
        if custom_id == self.request_id != request_id and self.tenant in (None, tenant):
            self.named.add(request_id)

    def _read_end(self, record: Record, topics: Topics, where: str) -> str | None:
        if record.topic == topics.results:
            result = read_model(Result, record.value)
            is_said = "tenant" in result.router.model_fields_set
            self._note_name(result.custom_id, result.id, result.router.tenant if is_said else None)
            if not self.is_ours(result.id, result.router.tenant if is_said else None):
                return None
            self.results.append(result)
            if result.router.final:
                self.ended = max(self.ended, result.router.generation)
            self.task = result.router.task
            review = result.router.review
            return f"answered after review: {review}" if review else "answered"
        letter = read_dead_letter(record.headers)
        if self.request_id not in (letter.request_id, str(letter.source)):
            return None
        if not self.is_ours(self.request_id, letter.tenant):
            return None
        self.letters.append((where, letter))
        if letter.reason is not Reason.ID_REUSED or self.request_id == str(letter.source):
            # Another record under the same id: what became of the first one is no matter of it.
            self.ended = max(self.ended, letter.generation)
        self.task = letter.task or self.task
        self.attempts.update({attempt.attempt_id: attempt for attempt in letter.attempts})
        return f"waits for a person: {letter.reason.meaning}"

    def _read_hop(self, record: Record, topics: Topics) -> str | None:
        envelope: Assignment | Escalation
        words = ""
        if record.topic == topics.escalations:
            escalation, raw = read_envelope(Escalation, record.value)
            envelope, why = escalation, escalation.reason.meaning
            words = why if escalation.reason.is_hop else f"handed back to route: {why}"
            if escalation.replaced_policy is not None:
                words = Reason.POLICY_REPLACED.meaning
        else:
            envelope, raw = read_envelope(Assignment, record.value)
        if not self.is_ours(envelope.id, envelope.tenant):
            return None
        is_back = isinstance(envelope, Escalation)
        order = envelope.generation, told_at(record), is_back
        if self.hop is None or self.hop[0] <= order:
            self.hop = order, envelope
        origin = envelope.origin
        self.origin = f"{origin.topic}-{origin.partition}-{origin.offset}"
        if self.origin in self.claims:
            self.accepted, self.request = self.claims[self.origin]
        if self.request is None or envelope.tenant is not None:
            headers = text_headers(record.headers)
            read = read_request(raw, headers, fallback_id=envelope.id)
            self.request = as_admitted(read, envelope)
        for attempt in envelope.attempts:
            # The ledger's lines do not have what was answered.
            if (
                attempt.attempt_id not in self.attempts
                or self.attempts[attempt.attempt_id].reply is None
            ):
                self.attempts[attempt.attempt_id] = attempt
        known = {taken.routed_at for taken in self.routes}
        fresh = [attempt for attempt in envelope.routes if attempt.routed_at not in known]
        self.routes += fresh
        self.task = envelope.task or self.task
        if not words and envelope.routes:
            taken = envelope.routes[-1]
            words = f"{taken.rule}: {taken.reason}"
        return words

    def _read_line(self, entry: LedgerEntry) -> str | None:
        if not self.is_ours(entry.request_id, entry.tenant):
            return None
        self.task = self.task or entry.task
        known = self.attempts.get(entry.attempt.attempt_id)
        if known is None or known.outcome == "started":
            self.attempts[entry.attempt.attempt_id] = entry.attempt
        return entry.attempt.outcome


async def read_journey(request_id: str, settings: Settings, tenant: str | None = None) -> Journey:
    """Everything the topics say of a request, by its id or by the `custom_id` of one request.

    Raises UserError when they know nothing, or of several requests and none was named.
    """
    journey = await _read_all(Journey(request_id, tenant), settings)
    if not journey.is_known and len(journey.named) == 1:
        [named] = journey.named
        say(f"{request_id} is the custom_id of the request {named}", is_error=True)
        journey = await _read_all(Journey(named, tenant, custom_id=request_id), settings)
    elif not journey.is_known and journey.named:
        ids = sorted(journey.named)
        listed = ", ".join(ids[:_MOST_NAMED]) + (", ..." if len(ids) > _MOST_NAMED else "")
        msg = f"{len(ids)} requests have the custom_id {request_id!r}: {listed}; name one by its id"
        raise UserError(msg)
    if not journey.is_known:
        whose = f" of the tenant {tenant!r}" if tenant is not None else ""
        msg = (
            f"no topic knows a request whose id or custom_id is {request_id!r}{whose}; they are "
            "case-sensitive"
        )
        raise UserError(msg)
    if len(journey.tenants) > 1:
        tenants = ", ".join(sorted(journey.tenants))
        msg = (
            f"several tenants have a request {journey.request_id!r}: {tenants}; "
            "name one with --tenant"
        )
        raise UserError(msg)
    return journey


async def _read_all(journey: Journey, settings: Settings) -> Journey:
    """The journey with everything that the topics hold of it."""
    topics = settings.kafka.topics
    async with reading(settings, [name for name, _ in topics.all()]) as (reader, seen):
        async for record in reader.until_end(seen):
            why = why_not_taken(lambda record: journey.read(record, topics), record)
            if why is not None:
                say(f"tierline: {record_ref(record)} cannot be read: {why}", is_error=True)
    return journey
