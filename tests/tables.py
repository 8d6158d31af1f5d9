"""The read model's tables in memory, and records to take into them."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any

from pydantic import BaseModel
from sqlalchemy import Connection, Engine, create_engine, event, select
from sqlalchemy.ext.asyncio import create_async_engine

from consumers.readmodel.database import Database, _begin_sqlite, _set_up_sqlite
from consumers.readmodel.following import positions_in
from consumers.readmodel.model import ReadModel
from consumers.readmodel.queries import Behind, figures_by, requests_behind
from consumers.readmodel.tables import POSITIONS, SCHEMA, make_tables
from consumers.records import Source
from consumers.runtime.clients import Clients
from consumers.settings import KafkaSettings
from router.reports.measures import MEASURES, By, Row
from schemas.attempt import LedgerEntry
from schemas.base import EARLIEST
from schemas.codec import dead_letter_headers, dump, dump_envelope
from schemas.dead_letter import DeadLetter
from schemas.escalation import Assignment, Escalation
from schemas.feedback import Feedback
from schemas.request import Request
from schemas.result import Result
from schemas.review import AuditLine
from schemas.tenancy import RequestKey
from schemas.topics import Topics
from tests.builders import a_record, the_policy

__all__ = ["TOPICS", "behind", "everything_in", "positions", "record_of", "rows_of", "tables"]
__all__ += ["take", "take_in"]

TOPICS = Topics()
_TOPIC_OF: dict[type[BaseModel], str] = {
    LedgerEntry: TOPICS.attempts,
    Result: TOPICS.results,
    Feedback: TOPICS.feedback,
    DeadLetter: TOPICS.dead_letters,
    AuditLine: TOPICS.review,
    Request: TOPICS.intake,
    Escalation: TOPICS.escalations,
}


def record_of(what: BaseModel, offset: int = 0, partition: int = 1, **fields: Any) -> Any:
    """What somebody writes, as a record of its topic."""
    topic = TOPICS.tier(what.route.tier) if isinstance(what, Assignment) else _TOPIC_OF[type(what)]
    place = {"topic": topic, "offset": offset, "partition": partition, **fields}
    if isinstance(what, (Assignment, Escalation)):
        return a_record(dump_envelope(what, b'{"input": "x"}'), **place)
    if isinstance(what, DeadLetter):
        return a_record(b"{}", headers=dead_letter_headers(what, ()), **place)
    return a_record(dump(what.model_dump(mode="json", exclude_none=True)), **place)


@cache
def _engine() -> Engine:
    engine = create_engine("sqlite://")
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    with engine.begin() as connection:
        make_tables(connection)
    return engine


@contextlib.contextmanager
def tables(told: Iterable[BaseModel] = ()) -> Iterator[Connection]:
    """Tables that hold what these say, and are empty again afterwards."""
    with _engine().connect() as connection, connection.begin() as transaction:
        take(connection, told)
        yield connection
        transaction.rollback()


def take_in(
    connection: Connection,
    records: Sequence[Any],
    at: Mapping[Source, int] | None = None,
    prefix: str = "",
) -> None:
    """Take in records as whoever reads them does; `prefix` is that of their topics."""
    database = Database(create_async_engine("sqlite+aiosqlite://"), "these tables")
    clients = Clients(KafkaSettings(prefix=prefix))
    ReadModel(database, clients).take_in(connection, records, at or {})


def positions(connection: Connection) -> dict[Source, int]:
    """Where each partition is read on."""
    return positions_in(connection, POSITIONS)


def take(connection: Connection, told: Iterable[BaseModel]) -> None:
    """Take in what somebody says: each a record of a partition that nothing was read of yet."""
    first = len(positions(connection))
    take_in(connection, [record_of(what, 0, no) for no, what in enumerate(told, first)])


def rows_of(
    connection: Connection, by: Sequence[By] = ("tier",), since: datetime = EARLIEST
) -> tuple[list[Row], Row]:
    """The figures of groups under the policy that is shipped."""
    return figures_by(connection, by, the_policy(), since)


def behind(connection: Connection, measure: str, **group: str) -> list[str]:
    """The requests behind a figure of a group."""
    [of] = [one for one in MEASURES if one.name == measure]
    named: Any = group
    figure = Behind(of.outcome, named, EARLIEST)
    found = connection.execute(requests_behind(figure))
    return [str(RequestKey(tenant, request_id)) for tenant, request_id in found]


def everything_in(connection: Connection) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of all tables."""
    return {
        table.name: sorted(map(tuple, connection.execute(select(table))), key=repr)
        for table in SCHEMA.sorted_tables
    }
