"""A request's journey in words, from the records of all topics."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import orjson

from consumers.journeys.moments import (
    Moment,
    admission_moment,
    attempt_moment,
    facts_of,
    feedback_moment,
    result_words,
    review_moment,
    route_moment,
    still_open,
)
from consumers.records import Record, mentions, pattern_of, record_ref, told_at
from consumers.telemetry.context import read_context
from router.intake.admission import claimed_id, read_again
from schemas.admission import AdmissionTaken, kind_of
from schemas.attempt import Attempt, CallId, LedgerEntry, counted_one
from schemas.base import JsonObject, Tier
from schemas.codec import read_dead_letter, read_envelope, read_model
from schemas.dead_letter import DeadLetter
from schemas.errors import ContractError
from schemas.escalation import Assignment, Escalation, RouteTaken
from schemas.feedback import Feedback
from schemas.intake import read_raw_request
from schemas.reasons import Reason
from schemas.request import Request
from schemas.result import Result
from schemas.review import AuditLine
from schemas.topics import Topics

__all__ = ["Journey", "Stop"]

_ADMISSION_STATE = "llm.state.admit"
#: Why a request waits, in what admission remembers of it.
_WHY = re.compile(rb'"why":("(?:[^"\\]|\\.)*")')


@dataclass(frozen=True, slots=True, order=True)
class Stop:
    """A record of the request: when it was appended, where, and what it says."""

    at: datetime
    topic: str
    words: str
    #: As `topic-partition-offset`.
    place: str = ""


@dataclass(slots=True)
class Journey:
    """Everything that is known of one request."""

    request_id: str
    #: The tenant whose request it is; None for any.
    tenant: str | None = None
    #: The tenants that have a request of this id.
    tenants: set[str] = field(default_factory=set)
    accepted: Moment | None = None
    #: As the producer sent it; None where no topic has it any longer.
    request: Request | None = None
    task: str | None = None
    routes: list[RouteTaken] = field(default_factory=list)
    attempts: dict[CallId, Attempt] = field(default_factory=dict)
    results: list[Result] = field(default_factory=list)
    letters: list[tuple[str, DeadLetter]] = field(default_factory=list)
    #: What its producer calls it, where that is not its id.
    custom_id: str | None = None
    #: Requests that this id is the `custom_id` of.
    named: set[str] = field(default_factory=set)
    #: Records on intake by their places: others than the request's own may have its id.
    claims: dict[str, tuple[Moment, Request]] = field(default_factory=dict)
    #: The place of the request's own record, once a topic after intake has named it.
    origin: str | None = None
    #: What reviewers did with it.
    acts: list[AuditLine] = field(default_factory=list)
    #: What downstream services and reviewers noted about its answers.
    feedback: list[Feedback] = field(default_factory=list)
    #: Every record of the request except the ledger's, in no order.
    stops: list[Stop] = field(default_factory=list)
    #: The last record that passed it on, with its generation and time. Brokers' clocks differ, so
    #: the generation says whether it has ended since.
    hop: tuple[tuple[int, datetime, bool], Assignment | Escalation] | None = None
    #: True while that record is at admission.
    is_at_admission: bool = False
    #: What admission did with it, by when it did so.
    admissions: dict[datetime, AdmissionTaken] = field(default_factory=dict)
    #: Why it waits at admission, by partition and key of the stage's state.
    waits: dict[tuple[int, bytes], str] = field(default_factory=dict)
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
        """True when any topic has a record of the request."""
        return bool(self.stops or self.attempts)

    def open_state(self, now: datetime) -> str | None:
        """What is known of a request that waits for its end; None for one that has ended."""
        since = self.hop[0][1] if self.hop else self.accepted.at if self.accepted else None
        generation = self.hop[0][0] if self.hop else 1
        if since is None or self.ended >= generation:
            return None
        hop = self.hop[1] if self.hop else None
        unadmitted = None
        if self.is_at_admission:
            unadmitted = next(iter(self.waits.values()), "it has not been admitted yet")
        return still_open(since, hop, list(self.attempts.values()), now, unadmitted)

    @property
    def in_order(self) -> list[Attempt]:
        """All attempts. The ledger keeps no answers; of one that was published it is known."""
        published = {
            result.response.request_id: result.router.output
            for result in self.results
            if result.response is not None
        }
        attempts = sorted(self.attempts.values(), key=lambda attempt: attempt.attempt_no)
        return [_answering(attempt, published.get(attempt.attempt_id)) for attempt in attempts]

    @property
    def is_done(self) -> bool:
        """True when it has a result or a dead letter."""
        return bool(self.results or self.letters)

    @property
    def cost_micros(self) -> int:
        """The cost of all its calls, in micro-dollars."""
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
        """Take from a record what it says of this request; records of others are ignored."""
        where = record_ref(record)
        if record.topic == topics.name(_ADMISSION_STATE):
            self._read_state(record)
            return
        # A record without a usable id goes by its place, which its dead letter has in parts.
        if record.topic != topics.dead_letters and where != self.request_id:
            # A CloudEvent has source and id in two fields.
            names = (self.request_id.rpartition("^")[2] or self.request_id, self.custom_id)
            if not mentions(record, pattern_of(tuple(name for name in names if name))):
                return
        try:
            words = self._read(record, topics, where)
        except ContractError as error:
            # What cannot be read is explained by its dead letter.
            if self.request_id not in (where, claimed_id(record.value)):
                return
            # Its dead letter says whose it is.
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
            self.stops.append(Stop(at, record.topic, words, where))

    def moments(self) -> list[Moment]:
        """What happened, in order."""
        happened = [route_moment(route) for route in self.routes]
        happened += [admission_moment(taken) for taken in self.admissions.values()]
        happened += [attempt_moment(attempt) for attempt in self.attempts.values()]
        happened += [review_moment(line) for line in self.acts]
        happened += [feedback_moment(feedback) for feedback in self._own_feedback()]
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
            words = result_words(result, self.decided_by(result))
            ends.append(Moment(self._ended(result), what, info.tier, words))
        return ends

    @property
    def published(self) -> Result | None:
        """The result that counts; None where there is none."""
        return next((result for result in reversed(self.results) if result.router.final), None)

    def decided_by(self, result: Result) -> str | None:
        """Who decided on the dead letter that a result resolves."""
        undone = {line.undoes for line in self.acts}
        deciders = (
            line.who
            for line in self.acts
            if line.decision is not None and line.decision.decision_id not in undone
            if str(line.decision.letter) == result.router.resolves
        )
        return next(deciders, None)

    def _own_feedback(self) -> list[Feedback]:
        """Feedback on this request, without that of reviewers, which their decisions have."""
        return [
            feedback
            for feedback in self.feedback
            if feedback.tenant in (self.tenants or {feedback.tenant})
            and not (self.acts and feedback.source == "reviewer")
        ]

    def _ended(self, result: Result) -> datetime | None:
        """When a result was published: its total time after the request's append."""
        if self.accepted is None or self.accepted.at is None:
            return None
        return self.accepted.at + timedelta(milliseconds=result.router.latency.total_ms)

    def _read(self, record: Record, topics: Topics, where: str) -> str | None:
        """Take what a record says, and return it in words; None for another request's record."""
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
            return review_moment(line).words
        is_back = record.topic == topics.escalations
        if record.topic == topics.feedback:
            feedback = read_model(Feedback, record.value)
            # Its tenant may be its sender's mistake, so it proves no tenant to have the request.
            if feedback.request_id == self.request_id and self.tenant in (None, feedback.tenant):
                self.feedback.append(feedback)
            return None  # it is no step of the journey
        is_assignment = record.topic in map(topics.tier, Tier) or (
            record.topic == topics.admission and kind_of(record.headers) == "assignment"
        )
        return self._read_hop(record, topics) if is_assignment or is_back else None

    def _read_state(self, record: Record) -> None:
        """Take why the request waits at admission from what the stage remembers."""
        key, value = (record.partition, record.key or b""), record.value
        if value is None:
            self.waits.pop(key, None)
        elif mentions(record, pattern_of((self.request_id,))):
            if (why := _WHY.search(value)) is not None:
                self.waits[key] = orjson.loads(why[1])

    def _read_intake(self, record: Record, where: str) -> str | None:
        request = read_raw_request(record.value, record.headers, fallback_id=where)
        # A request that names no tenant may have got one by its topic or its signature.
        is_named = "tenant" in request.model_fields_set
        self._note_name(request.custom_id, request.id, request.tenant if is_named else None)
        if not self.is_ours(request.id, request.tenant if is_named else None):
            return None
        at = told_at(record)
        words = f"at {where}{facts_of(request)}"
        self.claims[where] = Moment(at, "accepted", "", words), request
        if self.origin in (None, where):
            self.accepted = self.claims[where][0]
            # Where a hop was read already, it says how the request was admitted.
            self.request = request if self.origin is None else self.request or request
            self.task = self.task or request.task
        return "accepted"

    def _note_name(self, custom_id: str | None, request_id: str, tenant: str | None) -> None:
        if custom_id == self.request_id != request_id and self.tenant in (None, tenant):
            self.named.add(request_id)

    def _read_end(self, record: Record, topics: Topics, where: str) -> str | None:
        if record.topic == topics.results:
            result = read_model(Result, record.value)
            is_named = "tenant" in result.router.model_fields_set
            self._note_name(result.custom_id, result.id, result.router.tenant if is_named else None)
            if not self.is_ours(result.id, result.router.tenant if is_named else None):
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
            # This is another record with the same id: it does not end the first one.
            self.ended = max(self.ended, letter.generation)
        self.task = letter.task or self.task
        self._note(*letter.attempts)
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
            words = "to admission, as a cap touches it" if record.topic == topics.admission else ""
        if not self.is_ours(envelope.id, envelope.tenant):
            return None
        is_back = isinstance(envelope, Escalation)
        order = envelope.generation, told_at(record), is_back
        if self.hop is None or self.hop[0] <= order:
            self.hop, self.is_at_admission = (order, envelope), record.topic == topics.admission
        self.admissions |= {taken.at: taken for taken in envelope.admissions or ()}
        origin = envelope.origin
        self.origin = f"{origin.topic}-{origin.partition}-{origin.offset}"
        if self.origin in self.claims:
            self.accepted, self.request = self.claims[self.origin]
        if self.request is None or envelope.tenant is not None:
            self.request = read_again(raw, record.headers, envelope, fallback_id=envelope.id)
        self._note(*envelope.attempts)
        routed_at = {route.routed_at for route in self.routes}
        self.routes += [route for route in envelope.routes if route.routed_at not in routed_at]
        self.task = envelope.task or self.task
        if not words and envelope.routes:
            route = envelope.routes[-1]
            words = f"{route.rule}: {route.reason}"
        return words

    def _read_line(self, entry: LedgerEntry) -> str | None:
        if not self.is_ours(entry.request_id, entry.tenant):
            return None
        self.task = self.task or entry.task
        self._note(entry.attempt)
        return entry.attempt.outcome

    def _note(self, *attempts: Attempt) -> None:
        for attempt in attempts:
            earlier = self.attempts.get(attempt.call_id)
            self.attempts[attempt.call_id] = counted_one(earlier, attempt)


def _answering(attempt: Attempt, output: JsonObject | None) -> Attempt:
    """The attempt with this answer, where it has none."""
    verdict = attempt.verdict
    if output is None or verdict is None or attempt.answered is not None:
        return attempt
    judged = verdict.model_copy(update={"output": output})
    return attempt.model_copy(update={"verdict": judged})
