"""Cases as the console sees them, and how they lie in the tables."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import orjson
from sqlalchemy import ColumnElement, RowMapping, Update, and_, func, not_, select, update

from consumers.console.tables import CASES, LETTERS
from consumers.runtime.records import Record, record_ref
from consumers.telemetry.redaction import redact
from router.policy.table import Policy
from router.review.cases import Risk, due_at, error_of, pressure, risk_of
from schemas.base import LATEST, Tier
from schemas.codec import Headers, text_headers
from schemas.dead_letter import DeadLetter, Pointer
from schemas.reasons import Reason
from schemas.review import Action, Decision

__all__ = [
    "Case",
    "CaseFilter",
    "Group",
    "LetterRecord",
    "State",
    "case_of",
    "conditions",
    "decided",
    "headers_of",
    "instant",
    "is_held",
    "millis",
    "place_of",
    "pointer_of",
    "readable",
    "reopened",
    "rows_of",
    "stored",
]

#: Waits for a person; decided, its result is on the way; its request has ended or gone on.
State = Literal["open", "decided", "closed"]

_HOUR_MS = 3_600_000
#: How much of a request's text a search looks at, in characters.
_SEARCHED = 16_384
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Case:
    """A dead letter that waits, or waited, for a person."""

    #: Where the dead letter lies, `topic-partition-offset`: the case's id.
    place: str
    version: int
    state: State
    #: None when the record was too broken to have one.
    request_id: str | None
    generation: int
    tenant: str
    task: str | None
    reason: Reason
    detail: str
    #: The stage that gave up, for example `work.low`.
    stage: str
    #: The last tier and model that were asked; None where none was.
    tier: Tier | None
    model: str | None
    #: What went wrong, without what differs from case to case.
    error: str
    risk: Risk
    #: What the attempts cost.
    cost_micros: int
    attempts: int
    policy_version: str | None
    opened_at: datetime
    due_at: datetime
    #: Who works on it; None once the lease has ended.
    held_by: str | None
    held_until: datetime | None
    decision_id: str | None
    decided_by: str | None
    decided_at: datetime | None
    action: Action | None
    #: Until when the decision may be taken back.
    undo_until: datetime | None
    closed_at: datetime | None
    #: What closed it: `result`, or the later dead letter's place.
    closed_by: str | None

    @property
    def requeues(self) -> int:
        """How often the request was sent through again."""
        return self.generation - 1

    @property
    def letter(self) -> Pointer:
        """Where its dead letter lies."""
        return pointer_of(self.place)


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


def millis(at: datetime) -> int:
    """An instant as the tables hold it."""
    return (at - _EPOCH) // timedelta(milliseconds=1)


def instant(stored_ms: int) -> datetime:
    """An instant from the tables. An earlier release may have kept one that cannot be true."""
    return _EPOCH + timedelta(milliseconds=min(max(stored_ms, 0), millis(LATEST)))


def stored(text: str, most: int = 2000) -> str:
    """Text that any database takes and can index: no NUL, no half of a pair, and not too long."""
    whole = text[:most].encode("utf-8", "replace").decode()
    return whole.replace("\0", "\N{REPLACEMENT CHARACTER}")


def place_of(letter: Pointer) -> str:
    """Where a dead letter lies, as its case's id; other people's pointers may be of any length."""
    return stored(str(letter), 480)


def pointer_of(place: str) -> Pointer:
    """A place as a pointer. Raises ValueError where it is none."""
    topic, partition, offset = place.rsplit("-", 2)
    return Pointer(topic=topic, partition=int(partition), offset=int(offset))


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
        "request_id": _or_none(letter.request_id, 240),
        "generation": letter.generation,
        "tenant": stored(letter.tenant, 240),
        "task": _or_none(letter.task, 240),
        "reason": letter.reason.value,
        "detail": stored(letter.detail),
        "stage": stored(letter.stage, 240),
        "tier": tier if tier in list(Tier) else None,
        "model": _or_none(last.model, 240) if last else None,
        # Cases are grouped and found by it: as everybody sees it.
        "error": stored(redact(error_of(letter)), 240),
        "source": stored(str(letter.source), 480),
        "risk": risk,
        "pressure": pressure(risk, letter.failed_at, due) / 1000,
        "cost_micros": letter.cost_micros,
        "attempts": len(letter.attempts),
        "policy_version": _or_none(letter.policy_version, 240),
        "opened_at": millis(letter.failed_at),
        "due_at": millis(due),
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
    held = row["held_until"] is not None and row["held_until"] > millis(now)
    fields: dict[str, Any] = {name: row[name] for name in _PLAIN}
    fields |= {name: _instant(row[name]) for name in _TIMES}
    return Case(
        **fields,
        reason=Reason(row["reason"]),
        tier=Tier(row["tier"]) if row["tier"] else None,
        held_by=row["held_by"] if held else None,
        held_until=instant(row["held_until"]) if held else None,
    )


def conditions(wanted: CaseFilter, now: datetime) -> Sequence[ColumnElement[bool]]:
    """The filter as conditions on the cases."""
    at = millis(now)
    found: list[ColumnElement[bool]] = []
    for name in _EQUAL:
        value = getattr(wanted, name)
        if value is not None:
            found.append(CASES.c[name] == stored(value))
    if wanted.tenants is not None:
        found.append(CASES.c.tenant.in_(sorted(wanted.tenants)))
    if wanted.held is not None:
        found.append(is_held(at) if wanted.held else not_(is_held(at)))
    if wanted.held_by is not None:
        found.append(and_(is_held(at), CASES.c.held_by == wanted.held_by))
    if wanted.before is not None:
        found.append(CASES.c.opened_at < millis(wanted.before))
    if wanted.since is not None:
        found.append(CASES.c.opened_at >= millis(wanted.since))
    if wanted.text:
        like = LETTERS.c.words.contains(stored(wanted.text.lower()), autoescape=True)
        found.append(CASES.c.place.in_(select(LETTERS.c.place).where(like)))
    return found


def is_held(at: int) -> ColumnElement[bool]:
    """True where somebody's lease runs at that time."""
    return func.coalesce(CASES.c.held_until, 0) > at


def decided(decision: Decision, who: str, at: datetime) -> dict[str, Any]:
    """What a decision changes in its case."""
    return {
        "state": "decided",
        "version": CASES.c.version + 1,
        "decision_id": decision.decision_id,
        "decided_by": who,
        "decided_at": millis(at),
        "action": decision.action,
        "undo_until": millis(at + timedelta(seconds=decision.undo_seconds)),
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


def _or_none(text: str | None, most: int) -> str | None:
    return None if text is None else stored(text, most)


def _instant(at: int | None) -> datetime | None:
    return None if at is None else instant(at)


_EQUAL = (
    "state",
    "task",
    "reason",
    "model",
    "tier",
    "tenant",
    "risk",
    "error",
    "stage",
    "request_id",
    "decided_by",
)
_TIMES = ("opened_at", "due_at", "decided_at", "undo_until", "closed_at")
_PLAIN = (
    "place",
    "version",
    "state",
    "request_id",
    "generation",
    "tenant",
    "task",
    "detail",
    "stage",
    "model",
    "error",
    "risk",
    "cost_micros",
    "attempts",
    "policy_version",
    "decision_id",
    "decided_by",
    "action",
    "closed_by",
)
