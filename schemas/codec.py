"""Between records and models: reading a Kafka record's value and headers, and writing them."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import orjson
from pydantic import BaseModel, TypeAdapter, ValidationError

from schemas.attempt import Attempt, Attempts
from schemas.dead_letter import DeadLetter, Pointer
from schemas.errors import ContractError
from schemas.escalation import Assignment, Escalation
from schemas.json_numbers import as_json, marked
from schemas.reasons import Reason
from schemas.tenancy import DEFAULT_TENANT, UNKNOWN_TENANT

__all__ = [
    "TRACE_HEADERS",
    "Headers",
    "Outgoing",
    "close_envelope",
    "dead_letter_headers",
    "dump",
    "dump_envelope",
    "passed_on",
    "read_dead_letter",
    "read_envelope",
    "read_model",
    "text_headers",
]

Headers = Sequence[tuple[str, bytes]]

#: Prefixes of the headers that stages set. Incoming ones are never passed on.
_OUR_PREFIXES = ("tierline-", "__connect.errors.", "kafka_dlt-")
#: The trace context of a hop, which is set for every outgoing record.
TRACE_HEADERS = frozenset(("traceparent", "tracestate", "baggage"))
_ATTEMPTS_BYTES = 64 * 1024
#: The envelope's fields about the request's bytes, which are written together with them.
_ABOUT_REQUEST = {"request_bytes", "request_is_text", "request_is_bytes"}
#: More objects and lists take seconds to read. No request's text has as many brackets.
_MOST_OPENED = 400_000
#: Written in place of a missing id. No request can have it: ids hold no blanks.
_NO_ID = "no id"
_TENANT = re.compile(r"[\x21-\x7e]{1,200}")

_M = TypeVar("_M", bound=BaseModel)
_E = TypeVar("_E", bound=Assignment | Escalation)
_ATTEMPTS: TypeAdapter[Attempts] = TypeAdapter(Attempts)


class Outgoing(NamedTuple):
    """A record to be written."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    #: None: that of the record it follows from.
    partition: int | None = None
    #: True where its headers hold its own trace: it goes on with another request's record.
    has_trace: bool = False


def text_headers(headers: Headers) -> dict[str, str]:
    """The headers whose value is text, by lower-case name; others are passed on unread."""
    readable: dict[str, str] = {}
    for name, value in headers:
        try:
            readable[name.lower()] = value.decode("utf-8")
        except (UnicodeDecodeError, AttributeError):
            continue
    return readable


def passed_on(headers: Headers, *, has_trace: bool = False) -> list[tuple[str, bytes]]:
    """The producer's headers for the next hop: without ours, and without the trace context.

    That is set for each outgoing record; `has_trace` keeps the incoming one until then.
    """
    return [
        (name, value)
        for name, value in headers
        if not (lower := name.lower()).startswith(_OUR_PREFIXES)
        and (has_trace or lower not in TRACE_HEADERS)
    ]


def dump(fields: Mapping[str, Any]) -> bytes:
    """The fields of one of our records as JSON bytes."""
    return as_json(fields, orjson.OPT_UTC_Z)


def dump_envelope(envelope: Assignment | Escalation, raw: bytes) -> bytes:
    """An envelope that ends with the request's own bytes, unchanged."""
    fields = envelope.model_dump(exclude_none=True, exclude=_ABOUT_REQUEST)
    return close_envelope(dump(fields), raw)


def close_envelope(fields: bytes, raw: bytes) -> bytes:
    """Append the request's bytes and their length to an envelope's other fields.

    A request that is plain text becomes a JSON string: otherwise it could add to the envelope. In
    another charset than UTF-8 each byte of it becomes a character.
    """
    text_field = b""
    try:
        orjson.loads(raw)
    except orjson.JSONDecodeError:
        try:
            text, text_field = raw.decode(), b'"request_is_text":true,'
        except UnicodeDecodeError:
            text, text_field = raw.decode("latin-1"), b'"request_is_bytes":true,'
        raw = orjson.dumps(text)
    return b'%b,%b"request_bytes":%d,"request":%b}' % (fields[:-1], text_field, len(raw), raw)


def read_envelope(model: type[_E], value: bytes | None) -> tuple[_E, bytes]:
    """An envelope and the request's bytes in it. Raises ContractError."""
    envelope = read_model(model, value)
    length = envelope.request_bytes
    raw = (value or b"")[-1 - length : -1]
    if len(raw) != length or not (value or b"")[: -1 - length].endswith(b'"request":'):
        raise ContractError(Reason.INVALID_FIELD, "request: must be the envelope's last field")
    if envelope.request_is_text or envelope.request_is_bytes:
        try:
            raw = orjson.loads(raw).encode("latin-1" if envelope.request_is_bytes else "utf-8")
        except (ValueError, AttributeError):
            raise ContractError(Reason.INVALID_FIELD, "request: text was expected") from None
    return envelope, raw


def read_model(model: type[_M], value: bytes | None) -> _M:
    """A record that another stage wrote. Raises ContractError."""
    if value is None:
        raise ContractError(Reason.NULL_VALUE, f"{model.__name__}: a JSON object was expected")
    if len(value) > _MOST_OPENED and value.count(b"{") + value.count(b"[") > _MOST_OPENED:
        detail = f"{model.__name__}: at most {_MOST_OPENED} objects and lists were expected"
        raise ContractError(Reason.TOO_LARGE, detail)
    try:
        value, mark = marked(value)
        return model.model_validate_json(value, context=mark)
    except ValidationError as error:
        is_json = error.errors(include_input=False)[0]["type"] != "json_invalid"
        reason = Reason.INVALID_FIELD if is_json else Reason.NOT_JSON
        raise ContractError(reason, f"{model.__name__} {_first_problem(error)}") from None


def dead_letter_headers(letter: DeadLetter, passed: Headers) -> Headers:
    """The diagnosis as headers, in our names and in those of Kafka Connect, all of it text.

    The producer's own headers follow, so that a requeue sends what came in.
    """
    ours: dict[str, Any] = {
        "tierline-request-id": letter.request_id or _NO_ID,
        "tierline-generation": letter.generation,
        "tierline-tenant": letter.tenant,
        "tierline-plan": letter.plan,
        "tierline-unproven": "true" if letter.is_unproven else None,
        "tierline-task": letter.task,
        "tierline-reason": letter.reason.value,
        "tierline-detail": letter.detail[:1000],
        "tierline-stage": letter.stage,
        "tierline-topic": letter.source.topic,
        "tierline-partition": letter.source.partition,
        "tierline-offset": letter.source.offset,
        "tierline-timestamp": letter.source.timestamp_ms,
        "tierline-failed-at": letter.failed_at.isoformat(),
        "tierline-deadline": letter.deadline.isoformat() if letter.deadline else None,
        "tierline-policy-version": letter.policy_version,
        "tierline-policy-digest": letter.policy_digest,
        "tierline-path": ">".join(letter.path),
        "tierline-cost-micros": letter.cost_micros,
        "__connect.errors.topic": letter.source.topic,
        "__connect.errors.partition": letter.source.partition,
        "__connect.errors.offset": letter.source.offset,
        "__connect.errors.stage": letter.stage,
        "__connect.errors.exception.class.name": f"tierline.{letter.reason.value}",
        "__connect.errors.exception.message": letter.detail[:1000],
    }
    written = [
        (name, str(field).encode("utf-8", "replace"))
        for name, field in ours.items()
        if field is not None
    ]
    attempts = _dump_attempts(letter.attempts)
    return [*written, ("tierline-attempts", attempts), *passed_on(passed)]


def read_dead_letter(headers: Headers) -> DeadLetter:
    """The diagnosis in a dead letter's headers. Raises ContractError."""
    texts = text_headers(headers)
    attempts, mark = marked(texts.get("tierline-attempts", "[]").encode())
    try:
        request_id = texts["tierline-request-id"]
        fields = {
            "request_id": request_id if request_id != _NO_ID else None,
            "generation": int(texts.get("tierline-generation", "1")),
            "tenant": _tenant(texts.get("tierline-tenant", DEFAULT_TENANT)),
            "plan": texts.get("tierline-plan"),
            "is_unproven": texts.get("tierline-unproven") == "true",
            "task": texts.get("tierline-task"),
            "reason": Reason(texts["tierline-reason"]),
            "detail": texts.get("tierline-detail", ""),
            "stage": texts["tierline-stage"],
            "source": Pointer(
                topic=texts["tierline-topic"],
                partition=int(texts["tierline-partition"]),
                offset=int(texts["tierline-offset"]),
                timestamp_ms=int(texts.get("tierline-timestamp", "-1")),
            ),
            "failed_at": texts["tierline-failed-at"],
            "deadline": texts.get("tierline-deadline"),
            "policy_version": texts.get("tierline-policy-version"),
            "policy_digest": texts.get("tierline-policy-digest"),
            "path": tuple(filter(None, texts.get("tierline-path", "").split(">"))),
            "attempts": _ATTEMPTS.validate_json(attempts, context=mark),
        }
        return DeadLetter.model_validate(fields)
    except (KeyError, ValueError) as error:
        words = _first_problem(error) if isinstance(error, ValidationError) else str(error)[:200]
        detail = f"dead letter headers: {type(error).__name__} {words}"
        raise ContractError(Reason.INVALID_FIELD, detail) from None


def _tenant(name: str) -> str:
    """The tenant's name; `_unknown` for what cannot be one."""
    return name if _TENANT.fullmatch(name) else UNKNOWN_TENANT


def _first_problem(error: ValidationError) -> str:
    """The first mistake and its place, in words that repeat only field names of the value."""
    problem = error.errors(include_input=False, include_url=False, include_context=False)[0]
    where = ".".join(str(step)[:100] for step in problem["loc"])
    return f"{where}: {problem['msg']}"


def _dump_attempts(attempts: Iterable[Attempt]) -> bytes:
    fields = [attempt.model_dump(exclude_none=True) for attempt in attempts]
    written = as_json(fields, orjson.OPT_UTC_Z)
    if len(written) <= 8 * _ATTEMPTS_BYTES:
        return written
    # Where replies are many and long, verdicts and costs matter more than texts.
    return as_json([_without_text(attempt) for attempt in fields], orjson.OPT_UTC_Z)


def _without_text(attempt: Mapping[str, Any]) -> dict[str, Any]:
    verdict = attempt.get("verdict")
    kept = {**attempt, "reply": None}
    return {**kept, "verdict": {**verdict, "output": None}} if verdict else kept
