"""The read model's tables in memory, and records to take into them."""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from functools import cache
from typing import Any

from pydantic import BaseModel
from sqlalchemy import Connection, Engine, create_engine, event, select

from consumers.console.database import _begin_sqlite, _set_up_sqlite
from consumers.readmodel.projection import fold, positions
from consumers.readmodel.queries import Behind, figures_by, requests_behind
from consumers.readmodel.tables import SCHEMA, make_tables
from router.reports.measures import MEASURES, By, Row
from schemas.attempt import LedgerEntry
from schemas.base import EARLIEST
from schemas.codec import dead_letter_headers, dump
from schemas.dead_letter import DeadLetter
from schemas.feedback import Feedback
from schemas.result import Result
from schemas.review import AuditLine
from schemas.tenancy import RequestKey
from schemas.topics import Topics
from tests.builders import a_record, the_policy

__all__ = ["TOPICS", "behind", "everything_in", "record_of", "rows_of", "tables", "take"]

TOPICS = Topics()
_TOPIC_OF: dict[type[BaseModel], str] = {
    LedgerEntry: TOPICS.attempts,
    Result: TOPICS.results,
    Feedback: TOPICS.feedback,
    DeadLetter: TOPICS.dead_letters,
    AuditLine: TOPICS.review,
}


def record_of(what: BaseModel, offset: int = 0, partition: int = 1, **fields: Any) -> Any:
    """What somebody writes, as a record of its topic."""
    place = {"topic": _TOPIC_OF[type(what)], "offset": offset, "partition": partition, **fields}
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


def take(connection: Connection, told: Iterable[BaseModel]) -> None:
    """Take in what somebody says: each a record of a partition that nothing was read of yet."""
    first = len(positions(connection))
    fold(connection, [record_of(what, 0, no) for no, what in enumerate(told, first)], TOPICS)


def rows_of(
    connection: Connection, by: Sequence[By] = ("tier",), since: datetime = EARLIEST
) -> tuple[list[Row], Row]:
    """The figures of groups under the policy that is shipped."""
    return figures_by(connection, by, the_policy(), since)


def behind(connection: Connection, measure: str, **group: str) -> list[str]:
    """The requests behind a figure of a group."""
    [of] = [one for one in MEASURES if one.name == measure]
    by: Any = tuple(group)
    figure = Behind(of, by, tuple(group.values()) if group else None, EARLIEST)
    found = connection.execute(requests_behind(figure))
    return [str(RequestKey(tenant, request_id)) for tenant, request_id in found]


def everything_in(connection: Connection) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of all tables."""
    return {
        table.name: sorted(map(tuple, connection.execute(select(table))), key=repr)
        for table in SCHEMA.sorted_tables
    }
