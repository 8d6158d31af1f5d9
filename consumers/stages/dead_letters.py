"""Dead letters: the one way in which a stage gives up on a record."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from consumers.records import Record, Source, appended_at, record_ref
from consumers.runtime.strikes import MOST_TRIES
from consumers.stages.settling import settled
from consumers.telemetry.observer import Observer
from router.intake.admission import Admission, claimed_id, claimed_tenant
from schemas.attempt import Attempt, LedgerEntry
from schemas.codec import Outgoing, dead_letter_headers, dump, read_envelope
from schemas.dead_letter import DeadLetter, Pointer
from schemas.errors import ContractError
from schemas.escalation import Assignment, Escalation
from schemas.reasons import Reason
from schemas.request import Request
from schemas.tenancy import UNKNOWN_TENANT
from schemas.topics import Topics

__all__ = ["DeadLetters", "key_of", "line_of"]

#: A larger one may not fit into a dead letter beside its diagnosis, and would be tried for ever.
_LARGEST_VALUE = 3 << 20
_STILL_THERE = "the record is still at its place in the topic"


@dataclass(frozen=True, slots=True)
class DeadLetters:
    """Writes the dead letters of one stage; the last resort of its shell."""

    stage: str
    topics: Topics
    clock: Callable[[], datetime]
    observer: Observer = field(default_factory=Observer)
    tier: str = ""
    #: The envelope of each topic between stages. Records of other topics are their producers'.
    envelopes: Mapping[str, type[Assignment | Escalation]] = field(default_factory=dict)
    admission: Admission = field(default_factory=Admission)
    #: The calls for a request that nobody has finished: they are booked with its dead letter.
    lost: Callable[[Record, Assignment | Escalation], Sequence[LedgerEntry]] = lambda *_: ()

    def failed(self, record: Record, reason: Reason, detail: str) -> Sequence[Outgoing]:
        """A dead letter for a record that could not be processed.

        Of a record between stages it holds the producer's bytes, or the record's own where its
        envelope is broken.
        """
        if record.topic not in self.envelopes:
            # So the request's trace is found by its dead letter's id, or by its place.
            self.observer.unread(claimed_id(record.value) or record_ref(record))
        return self._given_up(record, reason, detail, is_parsed=not reason.is_unreadable)

    def poisonous(self, record: Record, deaths: int) -> Sequence[Outgoing]:
        """A dead letter for a record that ends its process each time.

        Where writing that has ended a process too, the record is not read: it becomes a pointer.
        """
        reason, detail = Reason.POISONOUS_RECORD, f"{deaths} processes have ended or hung at it"
        if deaths > MOST_TRIES:
            source = Source(record.topic, record.partition)
            return self.pointer(source, record.offset, reason, detail)
        return self._given_up(record, reason, detail, is_parsed=False)

    def pointer(
        self, source: Source, offset: int, reason: Reason, detail: str
    ) -> Sequence[Outgoing]:
        """A pointer to a record that cannot be fetched, processed or copied."""
        self.observer.gave_up(self.stage, reason, None, self.tier)
        bound = self.admission.topics.get(source.topic)
        letter = DeadLetter(
            request_id=None,
            tenant=bound.tenant if bound else UNKNOWN_TENANT,
            reason=reason,
            detail=f"{detail}; {_STILL_THERE}",
            stage=self.stage,
            source=Pointer(topic=source.topic, partition=source.partition, offset=offset),
            failed_at=self.clock(),
        )
        # Kafka takes no record without key and value from us, so the pointer is also the key.
        key = str(letter.source).encode()
        headers = dead_letter_headers(letter, ())
        return [Outgoing(self.topics.dead_letters, key, None, headers)]

    def of_record(
        self,
        record: Record,
        reason: Reason,
        detail: str,
        *,
        tenant: str = UNKNOWN_TENANT,
        request: Request | None = None,
        is_unproven: bool = False,
        policy_version: str | None = None,
        policy_digest: str | None = None,
    ) -> Outgoing:
        """A dead letter for a record that was not routed: its own bytes and place.

        A record that is too large for one leaves only its place. `request` is the record's request
        where it can be read; else `tenant` is who is believed to have sent it.
        """
        source = Pointer(
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            timestamp_ms=record.timestamp,
        )
        key, value = record.key, record.value
        if value is not None and len(value) > _LARGEST_VALUE:
            key, value, detail = key or str(source).encode(), None, f"{detail}; {_STILL_THERE}"
        if request is not None:
            key = key or key_of(request)
        letter = DeadLetter(
            request_id=request.id if request else claimed_id(record.value),
            tenant=request.tenant if request else tenant,
            plan=request.plan if request else None,
            is_unproven=is_unproven,
            task=request.task if request else None,
            deadline=request.deadline if request else None,
            policy_version=policy_version,
            policy_digest=policy_digest,
            reason=reason,
            detail=detail,
            stage=self.stage,
            source=source,
            failed_at=self.clock(),
        )
        headers = dead_letter_headers(letter, record.headers)
        return Outgoing(self.topics.dead_letters, key, value, headers)

    def of_envelope(
        self,
        envelope: Assignment | Escalation,
        raw: bytes,
        record: Record,
        reason: Reason,
        detail: str,
        *,
        tenant: str | None = None,
        attempts: Sequence[Attempt] | None = None,
    ) -> Outgoing:
        """A dead letter for a request that was routed: its producer's bytes and its history."""
        origin, taken = envelope.origin, envelope.routes[-1] if envelope.routes else None
        letter = DeadLetter(
            request_id=envelope.id,
            generation=envelope.generation,
            tenant=tenant or envelope.tenant or claimed_tenant(raw, record.headers, is_parsed=True),
            plan=envelope.plan,
            is_unproven=envelope.is_unproven,
            task=envelope.task,
            reason=reason,
            detail=detail,
            stage=self.stage,
            source=Pointer(
                topic=origin.topic,
                partition=origin.partition,
                offset=origin.offset,
                timestamp_ms=int(origin.appended_at.timestamp() * 1000),
            ),
            failed_at=self.clock(),
            deadline=envelope.deadline,
            policy_version=taken.policy_version if taken else None,
            policy_digest=taken.policy_digest if taken else None,
            path=tuple(str(taken.tier) for taken in envelope.routes),
            attempts=tuple(envelope.attempts if attempts is None else attempts),
        )
        headers = dead_letter_headers(letter, record.headers)
        return Outgoing(self.topics.dead_letters, record.key, raw, headers)

    def _given_up(
        self, record: Record, reason: Reason, detail: str, *, is_parsed: bool
    ) -> Sequence[Outgoing]:
        self.observer.gave_up(self.stage, reason, None, self.tier)
        value, headers = record.value, record.headers
        if (model := self.envelopes.get(record.topic)) is None:
            at = appended_at(record, self.clock())
            tenant = self.admission.tenant_of(record.topic, value, headers, at, is_parsed=is_parsed)
            return [self.of_record(record, reason, detail, tenant=tenant)]
        try:
            envelope, raw = read_envelope(model, value)
        except ContractError:
            tenant = claimed_tenant(value, headers, is_parsed=False)
            return [self.of_record(record, reason, detail, tenant=tenant)]
        lost = self.lost(record, envelope)
        attempts = [*envelope.attempts, *(entry.attempt for entry in lost)]
        letter = self.of_envelope(envelope, raw, record, reason, detail, attempts=attempts)
        led_to = [*(line_of(entry, self.topics) for entry in lost), letter]
        if isinstance(envelope, Escalation):
            return led_to
        # Nobody knows here which calls were made for it.
        return [*led_to, *settled(self.topics, envelope, None, self.clock())]


def line_of(entry: LedgerEntry, topics: Topics) -> Outgoing:
    """A ledger line as it is written."""
    value = dump(entry.model_dump(exclude_none=True))
    return Outgoing(topics.attempts, entry.key.text.encode(), value)


def key_of(request: Request) -> bytes:
    """The key of a request's records where its producer gave none."""
    key = request.key
    return key._replace(id=request.conversation_id or key.id).text.encode()
