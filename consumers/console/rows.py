"""Cases as the console sees them, and how they lie in the tables."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import ColumnElement, RowMapping, Update, and_, not_, select, update

from consumers.console.columns import stored
from consumers.console.tables import CASES, LETTERS, Case, State
from consumers.runtime.records import Record, record_ref
from consumers.telemetry.redaction import redact
from router.policy.table import Policy
from router.review.cases import Risk, due_at, error_of, pressure, risk_of
from schemas.base import Tier
from schemas.codec import Headers, text_headers
from schemas.dead_letter import DeadLetter, Pointer
from schemas.reasons import Reason
from schemas.review import Decision

__all__ = [
    "Case",
    "CaseFilter",
    "Group",
    "LetterRecord",
    "case_of",
    "conditions",
    "decided",
    "headers_of",
    "is_held",
    "place_of",
    "readable",
    "reopened",
    "rows_of",
]

#: How much of a request's text a search looks at, in characters.
_SEARCHED = 16_384


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseFilter:
    """Which cases: every condition given must hold."""

    state: State | None = "open"
    task: str | None = None
    reason: str | None = None
    model: str | None = None
    tier: str | None = None
    tenant: str | None = None
    #: Any of these; None: whatever tenant.
    tenants: frozenset[str] | None = None
    risk: Risk | None = None
    error: str | None = None
    stage: str | None = None
    request_id: str | None = None
    #: Anywhere in the key, the headers, the value, the reason and its detail, in any case.
    text: str | None = None
    #: True: somebody holds it now. False: it is free.
    held: bool | None = None
    held_by: str | None = None
    decided_by: str | None = None
    #: When the dead letter was written, exclusive and inclusive.
    before: datetime | None = None
    since: datetime | None = None


#: Conditions that a column has just this value.
_EQUAL = tuple(field.name for field in fields(CaseFilter) if field.name in CASES.c)


@dataclass(frozen=True, slots=True)
class Group:
    """Cases that are alike, probably for one cause."""

    reason: Reason
    task: str | None
    model: str | None
    error: str
    count: int
    first: datetime
    last: datetime
    #: How many came in each of the last 24 hours, the present one last.
    hours: Sequence[int]


@dataclass(frozen=True, slots=True)
class LetterRecord:
    """A dead letter as it lies in its topic."""

    letter: DeadLetter
    key: bytes | None
    value: bytes | None
    headers: Headers


def place_of(letter: Pointer) -> str:
    """Where a dead letter lies, as its case's id; other people's pointers may be of any length."""
    return stored(str(letter), 480)


def rows_of(
    record: Record, letter: DeadLetter, policy: Policy
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A dead letter as a row of the cases and a row of the letters.

    The headers may be forged: whatever they say has to fit into the columns.
    """
    place = record_ref(record)
    last = letter.attempts[-1] if letter.attempts else None
    risk, due = risk_of(letter, policy), due_at(letter, policy)
    tier = last.tier if last else next(iter(letter.path[-1:]), None)
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
        # Cases are grouped and found by it: as everybody sees it.
        "error": redact(error_of(letter)),
        "source": str(letter.source),
        "risk": risk,
        "pressure": pressure(risk, letter.failed_at, due) / 1000,
        "cost_micros": letter.cost_micros,
        "attempts": len(letter.attempts),
        "policy_version": letter.policy_version,
        "opened_at": letter.failed_at,
        "due_at": due,
    }
    content = {
        "place": place,
        "key": record.key,
        "value": record.value,
        "headers": _dump_headers(record.headers),
        "words": _words(record, letter),
    }
    return case, content


def case_of(row: RowMapping, now: datetime) -> Case:
    """A row of the cases; a lease that has ended is none."""
    case = Case(**row)
    if case.held_until is None or case.held_until <= now:
        case.held_by = case.held_until = None
    return case


def conditions(wanted: CaseFilter, now: datetime) -> Sequence[ColumnElement[bool]]:
    """The filter as conditions on the cases."""
    found: list[ColumnElement[bool]] = []
    for name in _EQUAL:
        value = getattr(wanted, name)
        if value is not None:
            found.append(CASES.c[name] == value)
    if wanted.tenants is not None:
        found.append(CASES.c.tenant.in_(sorted(wanted.tenants)))
    if wanted.held is not None:
        found.append(is_held(now) if wanted.held else not_(is_held(now)))
    if wanted.held_by is not None:
        found.append(is_held(now))
    if wanted.before is not None:
        found.append(CASES.c.opened_at < wanted.before)
    if wanted.since is not None:
        found.append(CASES.c.opened_at >= wanted.since)
    if wanted.text:
        like = LETTERS.c.words.contains(stored(wanted.text.lower()), autoescape=True)
        found.append(CASES.c.place.in_(select(LETTERS.c.place).where(like)))
    return found


def is_held(now: datetime) -> ColumnElement[bool]:
    """True where somebody's lease runs at that time."""
    return and_(CASES.c.held_until.is_not(None), CASES.c.held_until > now)


def decided(decision: Decision, who: str, at: datetime) -> dict[str, Any]:
    """What a decision changes in its case."""
    return {
        "state": "decided",
        "version": CASES.c.version + 1,
        "decision_id": decision.decision_id,
        "decided_by": who,
        "decided_at": at,
        "action": decision.action,
        "undo_until": at + timedelta(seconds=decision.undo_seconds),
    }


def reopened(*which: ColumnElement[bool]) -> Update:
    """The cases wait for a person again."""
    return (
        update(CASES)
        .where(*which)
        .values(
            state="open",
            version=CASES.c.version + 1,
            decision_id=None,
            decided_by=None,
            decided_at=None,
            action=None,
            undo_until=None,
        )
    )


def headers_of(written: bytes) -> Headers:
    """Headers from the tables."""
    return [(name, value.encode("latin-1")) for name, value in orjson.loads(written)]


def _dump_headers(headers: Headers) -> bytes:
    # A header without a value, which Kafka allows, becomes an empty one.
    return orjson.dumps([[name, (value or b"").decode("latin-1")] for name, value in headers])


def _words(record: Record, letter: DeadLetter) -> str:
    """What a search looks at: masked as pages mask it, so that it finds nothing that they hide."""
    said = text_headers(record.headers)
    value = readable(record.value)
    parts = [
        letter.request_id or "",
        (record.key or b"").decode("utf-8", "replace"),
        letter.reason.value,
        letter.reason.meaning,
        *(value for name, value in said.items() if name != "tierline-attempts"),
    ]
    # Each by itself, as they are shown; what a cut would leave of a number is cut off after it.
    masked = [redact(part[:_SEARCHED]) for part in parts]
    masked.append(redact(value[: 2 * _SEARCHED])[:_SEARCHED])
    return stored("\n".join(masked).lower(), 4 * _SEARCHED)


def readable(value: bytes | None) -> str:
    """A record's value as people read it: JSON without escapes, which would hide what is in it."""
    text = (value or b"").decode("utf-8", "backslashreplace")
    if "\\u" not in text and "\\/" not in text:
        return text
    try:
        return orjson.dumps(orjson.loads(value or b"")).decode()
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        return text
