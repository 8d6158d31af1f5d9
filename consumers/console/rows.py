"""Cases as rows of the tables, and back."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from consumers.amounts import in_words, shortened
from consumers.console.tables import Case
from consumers.readmodel.columns import stored
from consumers.records import Record, record_ref
from consumers.telemetry.redaction import redact
from router.intake.admission import as_admitted
from router.policy.table import Policy
from router.review.cases import due_at, error_of, pressure, risk_of
from router.review.decisions import answers_of
from schemas.base import Tier
from schemas.codec import Headers, text_headers
from schemas.dead_letter import DeadLetter, Pointer
from schemas.errors import ContractError
from schemas.intake import read_request
from schemas.request import Request

__all__ = [
    "Case",
    "LetterRecord",
    "case_of",
    "headers_of",
    "place_of",
    "readable",
    "request_of",
    "rows_of",
]

#: Characters of a request's text that can be found by a search.
_SEARCHED = 16_384
#: Characters of the customer's words and of an answer in the queue, and how many are masked first.
_IN_QUEUE, _MASKED = 300, 1200


@dataclass(frozen=True, slots=True)
class LetterRecord:
    """A dead letter with its record's key, value and headers."""

    letter: DeadLetter
    key: bytes | None
    value: bytes | None
    headers: Headers


def place_of(letter: Pointer) -> str:
    """The place of a dead letter, as its case's id; a forged pointer may have any length."""
    return stored(str(letter), 480)


def rows_of(
    record: Record, letter: DeadLetter, policy: Policy
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A dead letter as a row of the cases and a row of the letters.

    The headers may be forged: the columns must accept whatever they say.
    """
    place = record_ref(record)
    last = letter.attempts[-1] if letter.attempts else None
    risk, due = risk_of(letter, policy), due_at(letter, policy)
    tier = last.tier if last else next(iter(letter.path[-1:]), None)
    request = request_of(LetterRecord(letter, record.key, record.value, record.headers))
    answer = next(reversed(answers_of(letter)), None)
    verdict = answer.verdict if answer else None
    output = verdict.output if verdict else None
    case = {
        "place": place,
        "version": 1,
        "state": "open",
        "request_id": letter.request_id,
        "generation": letter.generation,
        "tenant": letter.tenant,
        "task": letter.task,
        "reason": letter.reason,
        "detail": letter.detail,
        "stage": letter.stage,
        "tier": tier if tier in list(Tier) else None,
        "model": last.model if last else None,
        # Everybody sees it in groups and filters, so it is masked.
        "error": redact(error_of(letter)),
        "source": str(letter.source),
        "risk": risk,
        "pressure": pressure(risk, letter.failed_at, due) / 1000,
        "cost_micros": letter.cost_micros,
        "attempts": len(letter.attempts),
        "policy_version": letter.policy_version,
        "opened_at": letter.failed_at,
        "due_at": due,
        "asked": _begun(request.text if request else readable(record.value)),
        "proposed": answer and _begun(_in_words(output) if output else answer.reply or ""),
        "confidence": verdict.confidence if verdict else None,
    }
    content = {
        "place": place,
        "key": record.key,
        "value": record.value,
        "headers": _dump_headers(record.headers),
        "words": _words(record, letter),
    }
    return case, content


def request_of(record: LetterRecord) -> Request | None:
    """The request of a dead letter; None where it cannot be read."""
    fallback = record.letter.request_id or str(record.letter.source)
    try:
        read = read_request(record.value, text_headers(record.headers), fallback_id=fallback)
        return as_admitted(read, record.letter)
    except ContractError:
        return None


def case_of(row: Mapping[Any, Any], now: datetime) -> Case:
    """The case of a row, without a lease that has ended."""
    case = Case(**row)
    if case.held_until is None or case.held_until <= now:
        case.held_by = case.held_until = None
    return case


def headers_of(written: bytes) -> Headers:
    """Headers from the tables."""
    return [(name, value.encode("latin-1")) for name, value in orjson.loads(written)]


def _dump_headers(headers: Headers) -> bytes:
    # A header without a value, which Kafka allows, is stored as an empty one.
    return orjson.dumps([[name, (value or b"").decode("latin-1")] for name, value in headers])


def _words(record: Record, letter: DeadLetter) -> str:
    """The text for searches, masked like on pages, so that no search finds what they hide."""
    texts = text_headers(record.headers)
    value = readable(record.value)
    parts = [
        letter.request_id or "",
        (record.key or b"").decode("utf-8", "replace"),
        letter.reason.value,
        letter.reason.meaning,
        *(value for name, value in texts.items() if name != "tierline-attempts"),
    ]
    # Each is masked by itself, like on pages. The value is cut again after masking, since the first
    # cut may leave part of a number that is then not recognised.
    masked = [redact(part[:_SEARCHED]) for part in parts]
    masked.append(redact(value[: 2 * _SEARCHED])[:_SEARCHED])
    return stored("\n".join(masked).lower(), 4 * _SEARCHED)


def _in_words(output: Mapping[str, Any]) -> str:
    """An answer in words: its field `answer` where that is a text."""
    answer = output.get("answer")
    return answer if isinstance(answer, str) else in_words(output)


def _begun(text: str) -> str:
    """The beginning of a text in one line, masked before it is cut."""
    return stored(shortened(" ".join(redact(text[:_MASKED]).split()), _IN_QUEUE))


def readable(value: bytes | None) -> str:
    """A record's value as text; JSON without escapes, which could hide personal data."""
    text = (value or b"").decode("utf-8", "backslashreplace")
    if "\\u" not in text and "\\/" not in text:
        return text
    try:
        return orjson.dumps(orjson.loads(value or b"")).decode()
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        return text
