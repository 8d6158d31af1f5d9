"""Dead letters: the one way in which a stage gives up on a record."""

import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TypeVar

from consumers.runtime.records import Record
from consumers.runtime.strikes import MOST_TRIES
from router.intake.admission import claimed_tenant
from schemas.attempt import Attempt
from schemas.codec import Outgoing, dead_letter_headers, read_envelope
from schemas.dead_letter import DeadLetter, Pointer
from schemas.errors import ContractError
from schemas.escalation import Assignment, Escalation
from schemas.reasons import Reason
from schemas.request import Request
from schemas.tenancy import UNKNOWN_TENANT
from schemas.topics import Topics

__all__ = [
    "claimed_id",
    "key_of",
    "of_envelope",
    "of_hop",
    "of_place",
    "of_poisonous",
    "of_record",
]

_E = TypeVar("_E", Assignment, Escalation)

_ID = re.compile(rb'"(?:id|custom_id)"\s*:\s*"([!#-\[\]-~]{1,200})"')
_LOOKED_AT = 64 * 1024
#: A larger one may not fit into a dead letter with its diagnosis, and would be tried for ever.
_LARGEST_VALUE = 3 << 20
_STILL_THERE = "the record is still at its place in the topic"


def of_record(  # noqa: PLR0913  the diagnosis has as many parts
    record: Record,
    topics: Topics,
    reason: Reason,
    detail: str,
    *,
    stage: str,
    now: datetime,
    tenant: str = UNKNOWN_TENANT,
    request: Request | None = None,
    is_unproven: bool = False,
    policy_version: str | None = None,
) -> Outgoing:
    """A dead letter for a record that was not routed: its own bytes, its own place.

    Of a record that is larger than dead letters may be, only the place. `request` is what the
    record says, where it can be read; else `tenant` is who is believed to have sent it.
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
        reason=reason,
        detail=detail,
        stage=stage,
        source=source,
        failed_at=now,
    )
    return Outgoing(topics.dead_letters, key, value, dead_letter_headers(letter, record.headers))


def of_envelope(  # noqa: PLR0913  the diagnosis has as many parts
    envelope: Assignment | Escalation,
    raw: bytes,
    record: Record,
    topics: Topics,
    reason: Reason,
    detail: str,
    *,
    stage: str,
    now: datetime,
    tenant: str | None = None,
    attempts: Sequence[Attempt] | None = None,
) -> Outgoing:
    """A dead letter for a request that was routed: the producer's bytes and the whole history."""
    origin = envelope.origin
    letter = DeadLetter(
        request_id=envelope.id,
        generation=envelope.generation,
        tenant=tenant or envelope.tenant or claimed_tenant(raw, record.headers, is_parsed=True),
        plan=envelope.plan,
        is_unproven=envelope.is_unproven,
        task=envelope.task,
        reason=reason,
        detail=detail,
        stage=stage,
        source=Pointer(
            topic=origin.topic,
            partition=origin.partition,
            offset=origin.offset,
            timestamp_ms=int(origin.appended_at.timestamp() * 1000),
        ),
        failed_at=now,
        deadline=envelope.deadline,
        policy_version=envelope.routes[-1].policy_version if envelope.routes else None,
        path=tuple(str(taken.tier) for taken in envelope.routes),
        attempts=tuple(envelope.attempts if attempts is None else attempts),
    )
    headers = dead_letter_headers(letter, record.headers)
    return Outgoing(topics.dead_letters, record.key, raw, headers)


def of_hop(
    model: type[_E],
    record: Record,
    topics: Topics,
    reason: Reason,
    detail: str,
    *,
    stage: str,
    now: datetime,
) -> Outgoing:
    """A dead letter for a record between stages that could not be worked on.

    It holds the producer's bytes; the record's own only where the envelope is broken.
    """
    try:
        envelope, raw = read_envelope(model, record.value)
    except ContractError:
        tenant = claimed_tenant(record.value, record.headers, is_parsed=False)
        return of_record(record, topics, reason, detail, stage=stage, now=now, tenant=tenant)
    return of_envelope(envelope, raw, record, topics, reason, detail, stage=stage, now=now)


def of_poisonous(
    model: type[_E] | None,
    record: Record,
    topics: Topics,
    deaths: int,
    *,
    stage: str,
    now: datetime,
    tenant_of: Callable[[], str] = lambda: UNKNOWN_TENANT,
) -> Outgoing:
    """A dead letter for a record that ends its process: `model` is its envelope, if it has one.

    Where even that has ended one, nothing of it is looked at any more: then it is a pointer.
    """
    why, detail = Reason.POISONOUS_RECORD, f"{deaths} processes have ended or hung at it"
    if deaths > MOST_TRIES:
        at = (record.topic, record.partition, record.offset)
        return of_place(*at, topics, why, detail, stage=stage, now=now)
    if model is None:
        tenant = tenant_of()
        return of_record(record, topics, why, detail, stage=stage, now=now, tenant=tenant)
    return of_hop(model, record, topics, why, detail, stage=stage, now=now)


def of_place(  # noqa: PLR0913  the diagnosis has as many parts
    topic: str,
    partition: int,
    offset: int,
    topics: Topics,
    reason: Reason,
    detail: str,
    *,
    stage: str,
    now: datetime,
    tenant: str = UNKNOWN_TENANT,
) -> Outgoing:
    """A pointer to a record: the last resort where it cannot be read, worked on or carried on."""
    letter = DeadLetter(
        request_id=None,
        tenant=tenant,
        reason=reason,
        detail=f"{detail}; {_STILL_THERE}",
        stage=stage,
        source=Pointer(topic=topic, partition=partition, offset=offset),
        failed_at=now,
    )
    # Kafka takes no record without key and value from us, so the pointer is also the key.
    key = str(letter.source).encode()
    return Outgoing(topics.dead_letters, key, None, dead_letter_headers(letter, ()))


def key_of(request: Request) -> bytes:
    """The key of a request's records where its producer gave none."""
    key = request.key
    return key._replace(id=request.conversation_id or key.id).text.encode()


def claimed_id(value: bytes | None) -> str | None:
    """The id that a record we could not read seems to bring, so that people can find it by that."""
    found = _ID.search(value or b"", 0, _LOOKED_AT)
    return found[1].decode("ascii") if found else None
