"""What the topics say of cases: each function takes records into the store, within a transaction.

Read twice, a record changes nothing the second time. Dead letters have to be read before what
follows from them; the order of everything else does not matter.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import orjson
import structlog
from pydantic import ConfigDict, TypeAdapter
from sqlalchemy import (
    ColumnElement,
    Connection,
    Update,
    and_,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy import case as choose
from sqlalchemy.ext.asyncio import AsyncConnection

from consumers.console.audit import received
from consumers.console.errors import UsedIdError
from consumers.console.rows import place_of, rows_of
from consumers.console.tables import BRIEFS, CASES, DECISIONS, LETTERS
from consumers.readmodel.columns import stored
from consumers.readmodel.database import insert_new, inserting
from consumers.runtime.records import Record, record_ref, told_at
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
#: Of these a request of the same id may go on, and says nothing of what lies here.
_OTHERS_ID = [
    reason.value
    for reason in Reason
    if reason.is_unreadable or reason.is_refused or reason is Reason.ID_REUSED
]
#: A case's columns about the decision that stands, with that decision's own.
_OF_DECISION = {
    "decision_id": "decision_id",
    "decided_by": "who",
    "decided_at": "at",
    "action": "action",
    "undo_until": "closes",
}
#: After its window: for what the broker took in the last moment.
_MARGIN = timedelta(seconds=2)


def apply_dead_letters(connection: Connection, records: Iterable[Record], policy: Policy) -> None:
    """Open a case for every dead letter, and close those whose request came again since."""
    cases, contents = [], []
    for record in records:
        try:
            letter = read_dead_letter(record.headers)
            case, content = rows_of(record, letter, policy)
        except (ContractError, ValueError, OverflowError) as error:
            _log.error("no dead letter", place=record_ref(record), why=type(error).__name__)
            continue
        cases.append(case)
        contents.append(content)
    insert_new(connection, CASES, cases)
    insert_new(connection, LETTERS, contents)
    if not cases:
        return

    later = CASES.alias("later")
    follows = and_(
        later.c.source == CASES.c.source,
        later.c.tenant == CASES.c.tenant,
        later.c.request_id == CASES.c.request_id,
        later.c.generation > CASES.c.generation,
    )
    sources = sorted({case["source"] for case in cases})
    connection.execute(
        update(CASES)
        .where(CASES.c.state != "closed", CASES.c.source.in_(sources))
        .where(exists(select(later.c.place).where(follows)))
        .values(
            state="closed",
            version=CASES.c.version + 1,
            closed_at=select(func.min(later.c.opened_at)).where(follows).scalar_subquery(),
            closed_by=select(func.min(later.c.place)).where(follows).scalar_subquery(),
        )
    )


def apply_audit_lines(connection: Connection, records: Iterable[Record]) -> None:
    """Keep every audit line, and mark the cases that were decided on, or wait again."""
    read: list[tuple[Record, AuditLine]] = []
    for record in records:
        try:
            line = read_model(AuditLine, record.value)
        except ContractError as error:
            _log.error("no audit line", place=record_ref(record), detail=error.detail)
            continue
        read.append((record, line))
    received(connection, [line for _, line in read])
    for record, line in read:
        if line.decision is not None:
            _given(connection, record, line)
        if line.undoes is not None:
            _undone(connection, record, line, line.undoes)


def apply_results(connection: Connection, records: Iterable[Record]) -> None:
    """Close the cases that results stand in for, and those whose request went on and ended."""
    #: By the case's place: when it was resolved, and by whose result.
    resolved: dict[str, tuple[datetime, str | None]] = {}
    #: The last generation with a result, and when it had that.
    ended: dict[RequestKey, tuple[int, datetime]] = {}
    for record in records:
        try:
            fields = orjson.loads(record.value or b"")
            info, request_id = fields["router"], stored(fields["id"])
            generation = _GENERATION.validate_python(info.get("generation", 1))
            named = info.get("tenant")
            tenant = stored(str(named or DEFAULT_TENANT), 240)
            if not info.get("final", True):
                continue
            brief = _brief(request_id, info) if request_id.startswith(BRIEF_IDS) else None
        except (ValueError, KeyError, TypeError, AttributeError):
            _log.error("no result", place=record_ref(record))
            continue
        if brief is not None:
            _take_brief(connection, tenant, brief)
            continue
        if isinstance(resolves := info.get("resolves"), str):
            # Before results named their tenant, the place alone said which case it is.
            resolved[resolves] = (told_at(record), tenant if named else None)
        if generation > 1:
            which = RequestKey(tenant, request_id)
            end = (generation, told_at(record))
            ended[which] = max(ended.get(which, end), end)
    if not resolved and not ended:
        return

    is_one = and_(
        CASES.c.request_id.in_([which.id for which in ended]), CASES.c.reason.not_in(_OTHERS_ID)
    )
    asked = select(
        CASES.c.place, CASES.c.tenant, CASES.c.request_id, CASES.c.generation, is_one
    ).where(CASES.c.state != "closed", or_(CASES.c.place.in_(list(resolved)), is_one))
    for place, tenant, request_id, generation, may_end in (connection.execute(asked)).all():
        at, whose = resolved.get(place, (None, None))
        last, ended_at = ended.get(RequestKey(tenant, request_id or ""), (0, EARLIEST))
        if whose not in (None, tenant):
            at = None
        if at is None and may_end and generation < last:
            at = ended_at
        if at is not None:
            connection.execute(_closed(CASES.c.place == place, at=at, by="result"))


def _take_brief(connection: Connection, tenant: str, row: Mapping[str, Any]) -> None:
    """Keep a brief beside its case, which has to be of the brief's own tenant."""
    is_its_own = and_(CASES.c.place == row["place"], CASES.c.tenant == tenant)
    if connection.scalar(select(CASES.c.place).where(is_its_own)) is None:
        _log.error("brief of no case of its tenant", place=row["place"])
        return
    connection.execute(delete(BRIEFS).where(BRIEFS.c.place == row["place"]))
    connection.execute(insert(BRIEFS).values(row))


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
    """The cases that were discarded, which nobody can undo any more: nothing else will follow."""
    asked = (
        select(CASES.c.place)
        .join(DECISIONS, DECISIONS.c.decision_id == CASES.c.decision_id)
        .where(CASES.c.state == "decided", CASES.c.action == "discard")
        .where(DECISIONS.c.offset.is_not(None), DECISIONS.c.undone.is_(False))
        .where(DECISIONS.c.closes < now - _MARGIN)
    )
    return (await connection.scalars(asked.limit(500))).all()


async def close_discarded(connection: AsyncConnection, places: Sequence[str]) -> None:
    """Close cases that are still as `discarded` found them."""
    still = (CASES.c.place.in_(places), CASES.c.state == "decided", CASES.c.action == "discard")
    await connection.execute(_closed(*still, at=CASES.c.undo_until, by="discard"))


async def note_given(connection: AsyncConnection, row: Mapping[str, Any]) -> None:
    """A decision given here, before the topic has it. Raises UsedIdError."""
    used = select(DECISIONS.c.place).where(DECISIONS.c.decision_id == row["decision_id"])
    if await connection.scalar(used) is not None:
        raise UsedIdError(row["decision_id"])
    await connection.execute(insert(DECISIONS).values(row))


async def arrived(connection: AsyncConnection, decision: Decision, appended: datetime) -> None:
    """The topic has a decision given here: its window is counted from there."""
    which, closes = decision.decision_id, appended + timedelta(seconds=decision.undo_seconds)
    unread = (DECISIONS.c.decision_id == which, DECISIONS.c.offset.is_(None))
    await connection.execute(update(DECISIONS).where(*unread).values(closes=closes))
    same = (CASES.c.place == place_of(decision.letter), CASES.c.decision_id == which)
    await connection.execute(update(CASES).where(*same).values(undo_until=closes))


async def closes(connection: AsyncConnection, decision_id: str) -> datetime | None:
    """When a decision can no longer be taken back; None for one that nobody has heard of."""
    asked = select(DECISIONS.c.closes).where(DECISIONS.c.decision_id == decision_id)
    until: datetime | None = await connection.scalar(asked)
    return until


async def set_undone(connection: AsyncConnection, decision_id: str, *, is_undone: bool) -> None:
    """A decision was taken back here, or that could not be told to the topic."""
    which = update(DECISIONS).where(DECISIONS.c.decision_id == decision_id)
    await connection.execute(which.values(undone=is_undone))


async def forget(connection: AsyncConnection, decision_id: str) -> None:
    """A decision did not reach the topic, as far as we know: if it did, we read it there."""
    never = (DECISIONS.c.decision_id == decision_id, DECISIONS.c.offset.is_(None))
    await connection.execute(delete(DECISIONS).where(*never))


def _given(connection: Connection, record: Record, line: AuditLine) -> None:
    """A decision, if it lies in its dead letter's partition, as the review stage wants it."""
    decision = line.decision
    if decision is None or decision.letter.partition != record.partition:
        return
    place = place_of(decision.letter)
    whose = connection.scalar(select(CASES.c.tenant).where(CASES.c.place == place))
    if decision.tenant is not None and whose not in (None, stored(decision.tenant, 240)):
        _log.error("decision of another tenant", place=record_ref(record))
        return
    row = decision_row(decision, line.who, line.at, told_at(record)) | {"offset": record.offset}
    # One that was given here may have been taken back here since, which the topic says later.
    known = {"offset": row["offset"], "closes": row["closes"]}
    is_new = DECISIONS.c.offset.is_(None)
    put = (
        inserting(connection, DECISIONS)
        .values(row)
        .on_conflict_do_update(index_elements=[DECISIONS.c.decision_id], set_=known, where=is_new)
    )
    connection.execute(put)
    _mark(connection, place)


def _undone(connection: Connection, record: Record, line: AuditLine, decision_id: str) -> None:
    """A decision was taken back, if its window was open, or could not be carried out."""
    which = DECISIONS.c.decision_id == decision_id
    asked = select(DECISIONS.c.place, DECISIONS.c.closes, DECISIONS.c.undone).where(which)
    decision = (connection.execute(asked)).first()
    if decision is None:
        return
    place, closes, _ = decision
    undone = line.what == "refused" or told_at(record) <= closes
    connection.execute(update(DECISIONS).where(which).values(undone=undone))
    if undone:
        given = CASES.c.decision_id == decision_id
        waits = reopened(CASES.c.place == place, CASES.c.state == "decided", given)
        connection.execute(waits)
    _mark(connection, place)


def _mark(connection: Connection, place: str) -> None:
    """Mark a case with the decision that stands: the first on the topic that was not undone."""
    stands = and_(
        DECISIONS.c.place == place, DECISIONS.c.undone.is_(False), DECISIONS.c.offset.is_not(None)
    )
    asked = select(DECISIONS).where(stands).order_by(DECISIONS.c.offset).limit(1)
    row = (connection.execute(asked)).mappings().first()
    if row is None:
        return
    which = (CASES.c.place == place, func.coalesce(CASES.c.decision_id, "") != row["decision_id"])
    state = choose((CASES.c.state == "closed", "closed"), else_="decided")
    connection.execute(update(CASES).where(*which).values(state=state, **decided(row)))


def decision_row(decision: Decision, who: str, at: datetime, begins: datetime) -> dict[str, Any]:
    """A decision as it lies in the tables; its time for an undo runs from `begins`."""
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
    """What a decision changes in its case, besides the state."""
    fields = {column: row[name] for column, name in _OF_DECISION.items()}
    return {**fields, "version": CASES.c.version + 1}


def reopened(*which: ColumnElement[bool]) -> Update:
    """The cases wait for a person again."""
    fields = dict.fromkeys(_OF_DECISION)
    change = update(CASES).where(*which)
    return change.values(state="open", version=CASES.c.version + 1, **fields)


def _closed(*which: Any, at: Any, by: str) -> Any:
    fields = {"state": "closed", "closed_at": at, "closed_by": by}
    fields |= {"held_by": None, "held_until": None, "version": CASES.c.version + 1}
    return update(CASES).where(*which).values(fields)
