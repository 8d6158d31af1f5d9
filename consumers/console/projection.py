"""Takes records of the topics into the store's cases, within a transaction.

A record that is taken in twice changes nothing the second time. Dead letters have to be taken in
before the records that refer to them; no other order matters.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import orjson
import sqlalchemy as sa
import structlog
from pydantic import ConfigDict, TypeAdapter
from sqlalchemy.ext.asyncio import AsyncConnection

from consumers.console.audit import received
from consumers.console.errors import UsedIdError
from consumers.console.rows import place_of, rows_of
from consumers.console.tables import AUDIT, BRIEFS, CASES, DECISIONS, LETTERS
from consumers.readmodel.columns import stored
from consumers.readmodel.database import insert_new, inserting
from consumers.records import Record, record_ref, told_at
from router.policy.table import Policy
from schemas.base import EARLIEST, Generation, Micros
from schemas.codec import read_dead_letter, read_model
from schemas.errors import ContractError
from schemas.reasons import Reason
from schemas.review import AuditLine, Decision
from schemas.tenancy import BRIEF_IDS, DEFAULT_TENANT, RequestKey

__all__ = [
    "apply_audit_lines",
    "apply_dead_letters",
    "apply_results",
    "close_discarded",
    "decided",
    "decision_row",
    "discarded",
    "forget",
    "note_given",
    "reopened",
    "set_undone",
]

_log = structlog.get_logger(__name__)

_GENERATION: TypeAdapter[int] = TypeAdapter(Generation, config=ConfigDict(strict=True))
_COST: TypeAdapter[int] = TypeAdapter(Micros, config=ConfigDict(strict=True))
#: For these reasons a request of the same id is another one, and its end closes no such case.
_OTHERS_ID = [
    reason.value
    for reason in Reason
    if reason.is_unreadable or reason.is_refused or reason is Reason.ID_REUSED
]
#: A case's columns about the decision that stands, with the columns of DECISIONS.
_OF_DECISION = {
    "decision_id": "decision_id",
    "decided_by": "who",
    "decided_at": "at",
    "action": "action",
    "undo_until": "closes",
}
#: Added to the time for an undo: the broker may have appended one in the last moment.
_MARGIN = timedelta(seconds=2)


def apply_dead_letters(
    connection: sa.Connection, records: Iterable[Record], policy: Policy
) -> None:
    """Open a case for every dead letter, and close cases with a later one of the same request."""
    cases, contents = [], []
    for record in records:
        try:
            letter = read_dead_letter(record.headers)
            case, content = rows_of(record, letter, policy)
        except (ContractError, ValueError, OverflowError) as error:
            _log.error("not a dead letter", place=record_ref(record), why=type(error).__name__)
            continue
        cases.append(case)
        contents.append(content)
    insert_new(connection, CASES, cases)
    insert_new(connection, LETTERS, contents)
    if not cases:
        return

    later = CASES.alias("later")
    follows = sa.and_(
        later.c.source == CASES.c.source,
        later.c.tenant == CASES.c.tenant,
        later.c.request_id == CASES.c.request_id,
        later.c.generation > CASES.c.generation,
    )
    sources = sorted({case["source"] for case in cases})
    connection.execute(
        sa.update(CASES)
        .where(CASES.c.state != "closed", CASES.c.source.in_(sources))
        .where(sa.exists(sa.select(later.c.place).where(follows)))
        .values(
            state="closed",
            version=CASES.c.version + 1,
            closed_at=sa.select(sa.func.min(later.c.opened_at)).where(follows).scalar_subquery(),
            closed_by=sa.select(sa.func.min(later.c.place)).where(follows).scalar_subquery(),
        )
    )


def apply_audit_lines(connection: sa.Connection, records: Iterable[Record]) -> None:
    """Store every audit line; mark cases that were decided on, and reopen those undone."""
    read: list[tuple[Record, AuditLine]] = []
    for record in records:
        try:
            line = read_model(AuditLine, record.value)
        except ContractError as error:
            _log.error("not an audit line", place=record_ref(record), detail=error.detail)
            continue
        read.append((record, line))
    received(connection, [line for _, line in read])
    for record, line in read:
        if line.decision is not None:
            _given(connection, record, line)
        if line.undoes is not None:
            _undone(connection, record, line, line.undoes)
        if line.what == "assign" and line.letter is not None:
            _assigned(connection, place_of(line.letter))


def apply_results(connection: sa.Connection, records: Iterable[Record]) -> None:
    """Close cases that a result resolves, and those whose request ended in a later generation."""
    briefs: list[tuple[str, Mapping[str, Any]]] = []
    #: By the case's place: when it was resolved, and by whose result.
    resolved: dict[str, tuple[datetime, str | None]] = {}
    #: The last generation with a result, and the time of the result.
    ended: dict[RequestKey, tuple[int, datetime]] = {}
    for record in records:
        try:
            fields = orjson.loads(record.value or b"")
            info, request_id = fields["router"], stored(fields["id"])
            generation = _GENERATION.validate_python(info.get("generation", 1))
            tenant_name = info.get("tenant")
            tenant = stored(str(tenant_name or DEFAULT_TENANT), 240)
            if not info.get("final", True):
                continue
            brief = _brief(request_id, info) if request_id.startswith(BRIEF_IDS) else None
        except (ValueError, KeyError, TypeError, AttributeError):
            _log.error("not a result", place=record_ref(record))
            continue
        if brief is not None:
            briefs.append((tenant, brief))
            continue
        if isinstance(resolves := info.get("resolves"), str):
            # Results of earlier releases name no tenant: only the place identifies the case.
            resolved[resolves] = (told_at(record), tenant if tenant_name else None)
        if generation > 1:
            request = RequestKey(tenant, request_id)
            end = (generation, told_at(record))
            ended[request] = max(ended.get(request, end), end)
    _take_briefs(connection, briefs)
    if not resolved and not ended:
        return

    may_have_ended = sa.and_(
        CASES.c.request_id.in_([request.id for request in ended]), CASES.c.reason.not_in(_OTHERS_ID)
    )
    query = sa.select(
        CASES.c.place, CASES.c.tenant, CASES.c.request_id, CASES.c.generation, may_have_ended
    ).where(CASES.c.state != "closed", sa.or_(CASES.c.place.in_(list(resolved)), may_have_ended))
    for place, tenant, request_id, generation, may_end in (connection.execute(query)).all():
        at, owner = resolved.get(place, (None, None))
        last, ended_at = ended.get(RequestKey(tenant, request_id or ""), (0, EARLIEST))
        if owner not in (None, tenant):
            at = None
        if at is None and may_end and generation < last:
            at = ended_at
        if at is not None:
            connection.execute(_closed(CASES.c.place == place, at=at, by="result"))


def _take_briefs(
    connection: sa.Connection, briefs: Sequence[tuple[str, Mapping[str, Any]]]
) -> None:
    """Store the briefs of cases, by their tenants: each must be of its case's tenant."""
    for tenant, row in briefs:
        is_its_case = sa.and_(CASES.c.place == row["place"], CASES.c.tenant == tenant)
        if connection.scalar(sa.select(CASES.c.place).where(is_its_case)) is None:
            _log.error("brief without a case of its tenant", place=row["place"])
            continue
        connection.execute(sa.delete(BRIEFS).where(BRIEFS.c.place == row["place"]))
        connection.execute(sa.insert(BRIEFS).values(row))


def _brief(request_id: str, info: Mapping[str, Any]) -> dict[str, Any]:
    output = info.get("output")
    answer = output.get("answer", "") if isinstance(output, Mapping) else ""
    return {
        "place": request_id.removeprefix(BRIEF_IDS),
        "words": str(answer),
        "model": str(info.get("model", "")),
        "cost_micros": _COST.validate_python(info.get("cost_micros", 0)),
    }


async def discarded(connection: AsyncConnection, now: datetime) -> Sequence[str]:
    """Discarded cases whose time for an undo is over."""
    query = (
        sa.select(CASES.c.place)
        .join(DECISIONS, DECISIONS.c.decision_id == CASES.c.decision_id)
        .where(CASES.c.state == "decided", CASES.c.action == "discard")
        .where(DECISIONS.c.offset.is_not(None), DECISIONS.c.undone.is_(False))
        .where(DECISIONS.c.closes < now - _MARGIN)
    )
    return (await connection.scalars(query.limit(500))).all()


async def close_discarded(connection: AsyncConnection, places: Sequence[str]) -> None:
    """Close these cases, unless they have changed since `discarded`."""
    still = (CASES.c.place.in_(places), CASES.c.state == "decided", CASES.c.action == "discard")
    await connection.execute(_closed(*still, at=CASES.c.undo_until, by="discard"))


async def note_given(connection: AsyncConnection, row: Mapping[str, Any]) -> None:
    """Store a decision that was given here, before the topic has it. Raises UsedIdError."""
    used = sa.select(DECISIONS.c.place).where(DECISIONS.c.decision_id == row["decision_id"])
    if await connection.scalar(used) is not None:
        raise UsedIdError(row["decision_id"])
    await connection.execute(sa.insert(DECISIONS).values(row))


async def arrived(connection: AsyncConnection, decision: Decision, appended: datetime) -> None:
    """Kafka has a decision that was given here: its time for an undo begins then."""
    decision_id, closes = decision.decision_id, appended + timedelta(seconds=decision.undo_seconds)
    unread = (DECISIONS.c.decision_id == decision_id, DECISIONS.c.offset.is_(None))
    await connection.execute(sa.update(DECISIONS).where(*unread).values(closes=closes))
    same = (CASES.c.place == place_of(decision.letter), CASES.c.decision_id == decision_id)
    await connection.execute(sa.update(CASES).where(*same).values(undo_until=closes))


async def set_undone(connection: AsyncConnection, decision_id: str, *, is_undone: bool) -> None:
    """Mark a decision as undone, or no longer as undone."""
    change = sa.update(DECISIONS).where(DECISIONS.c.decision_id == decision_id)
    await connection.execute(change.values(undone=is_undone))


async def forget(connection: AsyncConnection, decision_id: str) -> None:
    """Delete a decision that was not read on the topic; if it is there, it will be read."""
    never = (DECISIONS.c.decision_id == decision_id, DECISIONS.c.offset.is_(None))
    await connection.execute(sa.delete(DECISIONS).where(*never))


def _given(connection: sa.Connection, record: Record, line: AuditLine) -> None:
    """Take in a decision, if it is in its dead letter's partition, as the review stage requires."""
    decision = line.decision
    if decision is None or decision.letter.partition != record.partition:
        return
    place = place_of(decision.letter)
    tenant = connection.scalar(sa.select(CASES.c.tenant).where(CASES.c.place == place))
    if decision.tenant is not None and tenant not in (None, stored(decision.tenant, 240)):
        _log.error("decision of another tenant", place=record_ref(record))
        return
    row = decision_row(decision, line.who, line.at, told_at(record)) | {"offset": record.offset}
    # A decision that was given here may have been undone here; that line comes later.
    changes = {"offset": row["offset"], "closes": row["closes"]}
    is_new = DECISIONS.c.offset.is_(None)
    put = (
        inserting(connection, DECISIONS)
        .values(row)
        .on_conflict_do_update(index_elements=[DECISIONS.c.decision_id], set_=changes, where=is_new)
    )
    connection.execute(put)
    _mark(connection, place)


def _undone(connection: sa.Connection, record: Record, line: AuditLine, decision_id: str) -> None:
    """Take in that a decision was undone in time, or could not be carried out."""
    is_it = DECISIONS.c.decision_id == decision_id
    query = sa.select(DECISIONS.c.place, DECISIONS.c.closes, DECISIONS.c.undone).where(is_it)
    decision = (connection.execute(query)).first()
    if decision is None:
        return
    place, closes, _ = decision
    undone = line.what == "refused" or told_at(record) <= closes
    connection.execute(sa.update(DECISIONS).where(is_it).values(undone=undone))
    if undone:
        by_decision = CASES.c.decision_id == decision_id
        waits = reopened(CASES.c.place == place, CASES.c.state == "decided", by_decision)
        connection.execute(waits)
    _mark(connection, place)


def _assigned(connection: sa.Connection, place: str) -> None:
    """Give a case to whom the newest line does: this one's own may be ahead of the topic."""
    of_case = AUDIT.c.place == place, AUDIT.c.what == "assign"
    query = sa.select(AUDIT.c.line).where(*of_case)
    newest = connection.scalar(
        query.order_by(AUDIT.c.at.desc(), AUDIT.c.writer, AUDIT.c.no.desc()).limit(1)
    )
    line = AuditLine.model_validate_json(newest or b"")
    is_its_case = CASES.c.place == place, CASES.c.tenant == line.tenant
    connection.execute(sa.update(CASES).where(*is_its_case).values(assigned_to=line.assignee))


def _mark(connection: sa.Connection, place: str) -> None:
    """Mark a case with the decision that stands: the first on the topic that was not undone."""
    stands = sa.and_(
        DECISIONS.c.place == place, DECISIONS.c.undone.is_(False), DECISIONS.c.offset.is_not(None)
    )
    query = sa.select(DECISIONS).where(stands).order_by(DECISIONS.c.offset).limit(1)
    row = (connection.execute(query)).mappings().first()
    if row is None:
        return
    is_other = sa.func.coalesce(CASES.c.decision_id, "") != row["decision_id"]
    state = sa.case((CASES.c.state == "closed", "closed"), else_="decided")
    marked = sa.update(CASES).where(CASES.c.place == place, is_other)
    connection.execute(marked.values(state=state, **decided(row)))


def decision_row(decision: Decision, who: str, at: datetime, begins: datetime) -> dict[str, Any]:
    """A decision as a row of DECISIONS; its time for an undo begins at `begins`."""
    return {
        "decision_id": decision.decision_id,
        "place": place_of(decision.letter),
        "who": who,
        "action": decision.action,
        "at": at,
        "closes": begins + timedelta(seconds=decision.undo_seconds),
        "undone": False,
    }


def decided(row: Mapping[Any, Any]) -> dict[str, Any]:
    """The columns that a decision changes in its case, besides the state."""
    fields = {column: row[name] for column, name in _OF_DECISION.items()}
    return {**fields, "version": CASES.c.version + 1}


def reopened(*conditions: sa.ColumnElement[bool]) -> sa.Update:
    """A statement that reopens cases."""
    fields = dict.fromkeys(_OF_DECISION)
    change = sa.update(CASES).where(*conditions)
    return change.values(state="open", version=CASES.c.version + 1, **fields)


def _closed(*conditions: Any, at: Any, by: str) -> Any:
    fields = {"state": "closed", "closed_at": at, "closed_by": by}
    fields |= {"held_by": None, "held_until": None, "version": CASES.c.version + 1}
    return sa.update(CASES).where(*conditions).values(fields)
