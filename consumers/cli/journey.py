"""A request's journey in words, put together from what stands in the topics."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from consumers.runtime.records import Record
from consumers.telemetry.context import read_context
from schemas.attempt import Attempt, LedgerEntry
from schemas.codec import read_dead_letter, read_envelope, read_model, text_headers
from schemas.dead_letter import DeadLetter
from schemas.errors import ContractError
from schemas.escalation import Assignment, Escalation, RouteTaken
from schemas.intake import read_request
from schemas.request import Request
from schemas.result import Result
from schemas.topics import Topics

if TYPE_CHECKING:
    from consumers.settings import Settings

__all__ = ["Journey", "Moment", "dollars", "read_journey", "rows_of"]


@dataclass(frozen=True, slots=True)
class Moment:
    """One thing that happened to a request."""

    at: datetime | None
    what: str
    tier: str
    words: str


@dataclass(slots=True)
class Journey:
    """Everything that is known of one request."""

    request_id: str
    accepted: Moment | None = None
    #: As the producer sent it; None where no topic has it any more.
    request: Request | None = None
    task: str | None = None
    routes: list[RouteTaken] = field(default_factory=list)
    attempts: dict[str, Attempt] = field(default_factory=dict)
    results: list[Result] = field(default_factory=list)
    letters: list[tuple[str, DeadLetter]] = field(default_factory=list)
    #: Topic and time of every record of the request, in no order.
    stops: list[tuple[datetime, str]] = field(default_factory=list)
    trace_id: str | None = None

    @property
    def is_known(self) -> bool:
        """True when any topic says anything of the request."""
        return bool(self.accepted or self.routes or self.results or self.letters)

    @property
    def cost_micros(self) -> int:
        """What all its calls cost, in micro-dollars."""
        return sum(attempt.cost_micros for attempt in self.attempts.values())

    def read(self, record: Record, topics: Topics) -> None:
        """Take from a record what it says of this request; others are passed over."""
        # As it stands in text, or as a JSON string with its escapes.
        needles = (self.request_id.encode(), json.dumps(self.request_id)[1:-1].encode())
        where = f"{record.topic}-{record.partition}-{record.offset}"
        if not any(one in (record.value or b"") for one in needles) and where != self.request_id:
            if not any(needles[0] == value for _, value in record.headers):
                return
        try:
            if not self._read(record, topics, where):
                return
        except ContractError:
            return  # a record that says nothing readable; its dead letter is another record
        context, _ = read_context(record.headers)
        if record.topic != topics.intake and context is not None:
            self.trace_id = context.trace_id
        if record.topic != topics.attempts:
            self.stops.append((datetime.fromtimestamp(record.timestamp / 1000, UTC), record.topic))

    def moments(self) -> list[Moment]:
        """What happened, in order."""
        happened = [_routed(taken) for taken in self.routes]
        happened += [_tried(attempt) for attempt in self.attempts.values()]
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
                f"{letter.reason}: {letter.reason.meaning} ({letter.detail}); at {where}",
            )
            for where, letter in self.letters
        ]
        for result in self.results:
            info = result.router
            total, calls = info.latency.total_ms / 1000, info.latency.model_ms / 1000
            cost = dollars(info.cost_micros)
            words = f"{info.model} answered for {cost} in {total:.2f} s ({calls:.2f} s in calls)"
            ends.append(Moment(self._ended(result), "result", info.tier, words))
        return ends

    def _ended(self, result: Result) -> datetime | None:
        """When a result was made: its total time after the request's append."""
        if self.accepted is None or self.accepted.at is None:
            return None
        return self.accepted.at + timedelta(milliseconds=result.router.latency.total_ms)

    def _read(self, record: Record, topics: Topics, where: str) -> bool:
        """Take what a record says; False when it is another request's."""
        if record.topic == topics.intake:
            request = read_request(record.value, text_headers(record.headers), fallback_id=where)
            if request.id != self.request_id:
                return False
            at = datetime.fromtimestamp(record.timestamp / 1000, UTC)
            self.accepted = Moment(at, "accepted", "", f"at {where}")
            self.request = request
            self.task = self.task or request.task
        elif record.topic == topics.results:
            result = read_model(Result, record.value)
            if result.id != self.request_id:
                return False
            self.results.append(result)
            self.task = result.router.task
        elif record.topic == topics.dead_letters:
            letter = read_dead_letter(record.headers)
            if letter.request_id != self.request_id:
                return False
            self.letters.append((where, letter))
            self.task = letter.task or self.task
            self.attempts.update({one.attempt_id: one for one in letter.attempts})
        elif record.topic == topics.attempts:
            return self._read_line(read_model(LedgerEntry, record.value))
        else:
            envelope: Assignment | Escalation
            if record.topic == topics.escalations:
                envelope, raw = read_envelope(Escalation, record.value)
            else:
                envelope, raw = read_envelope(Assignment, record.value)
            if envelope.id != self.request_id:
                return False
            if self.request is None:
                headers = text_headers(record.headers)
                self.request = read_request(raw, headers, fallback_id=envelope.id)
            known = {taken.routed_at for taken in self.routes}
            self.routes += [one for one in envelope.routes if one.routed_at not in known]
            self.task = envelope.task or self.task
        return True

    def _read_line(self, entry: LedgerEntry) -> bool:
        if entry.request_id != self.request_id:
            return False
        self.task = self.task or entry.task
        known = self.attempts.get(entry.attempt.attempt_id)
        if known is None or known.outcome == "started":
            self.attempts[entry.attempt.attempt_id] = entry.attempt
        return True


async def read_journey(request_id: str, settings: "Settings") -> Journey:
    """Everything the topics say of a request. Raises UserError when they know nothing."""
    from consumers.cli.common import UserError
    from consumers.runtime.clients import Clients
    from consumers.runtime.reading import topic_reader

    topics, journey = settings.kafka.topics, Journey(request_id)
    names = [name for name, _ in topics.all()]
    async with topic_reader(Clients(settings.kafka), names) as reader:
        async for record in reader.until_end():
            journey.read(record, topics)
    if not journey.is_known:
        msg = f"no topic knows the request {request_id!r}; ids are case-sensitive"
        raise UserError(msg)
    return journey


def dollars(micros: int) -> str:
    """An amount for people: small ones keep the digits that matter."""
    amount = micros / 1_000_000
    return f"${amount:.2f}" if amount >= 1 else f"${amount:.6f}"


def _routed(taken: RouteTaken) -> Moment:
    what = "escalated" if taken.code and not taken.code.is_hop else "routed"
    if taken.step == "classify":
        what = "classify"
    return Moment(taken.routed_at, what, taken.tier, f"{taken.rule}: {taken.reason}")


def _tried(attempt: Attempt) -> Moment:
    why = ""
    if attempt.reason is not None:
        detail = f" ({attempt.detail})" if attempt.detail else ""
        why = f", {attempt.reason}: {attempt.reason.meaning}{detail}"
    elif attempt.changes:
        why = f", changed: {', '.join(change.field for change in attempt.changes)}"
    words = (
        f"{attempt.model} {attempt.outcome}{why}; {attempt.usage.total_tokens} tokens, "
        f"{dollars(attempt.cost_micros)}, {attempt.duration_ms:.0f} ms"
    )
    return Moment(attempt.started_at, f"attempt {attempt.attempt_no}", attempt.tier, words)


def rows_of(moments: Sequence[Moment]) -> list[dict[str, str]]:
    """Moments as table rows, times counted from the first one."""
    first = next((moment.at for moment in moments if moment.at), None)
    return [
        {
            "after": f"{(moment.at - first).total_seconds():.3f} s" if moment.at and first else "",
            "what": moment.what,
            "tier": moment.tier,
            "words": moment.words,
        }
        for moment in moments
    ]
