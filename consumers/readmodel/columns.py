"""How values are kept in the store's columns, so that any database accepts any text."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import orjson
from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Dialect,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    type_coerce,
)
from sqlalchemy.types import TypeDecorator

from schemas.base import LATEST

__all__ = ["Document", "Instant", "Known", "Names", "Short", "facts_table", "in_millis", "instant"]
__all__ += ["millis", "positions_table", "stored"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def millis(at: datetime) -> int:
    """An instant in milliseconds since 1970, as the tables hold it."""
    return (at - _EPOCH) // timedelta(milliseconds=1)


def instant(stored_ms: int) -> datetime:
    """An instant from the tables. Earlier releases may have stored impossible ones."""
    return _EPOCH + timedelta(milliseconds=min(max(stored_ms, 0), millis(LATEST)))


def stored(text: str, most: int = 2000) -> str:
    """Text that any database accepts and can index: no NUL, no half surrogate, not too long."""
    whole = text[:most].encode("utf-8", "replace").decode()
    return whole.replace("\0", "\N{REPLACEMENT CHARACTER}")


class Instant(TypeDecorator[datetime]):
    """Milliseconds since 1970, because both databases count and compare those alike."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        return None if value is None else millis(value)

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        return None if value is None else instant(value)


def in_millis(at: ColumnElement[datetime]) -> ColumnElement[int]:
    """A column of instants as numbers, to calculate with."""
    return type_coerce(at, BigInteger)


class Short(TypeDecorator[str]):
    """Text from others, cut to a number of characters."""

    impl = Text
    cache_ok = True

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else stored(value, self.most)


class Known(TypeDecorator[Any]):
    """A value of an enum, as text."""

    impl = Text
    cache_ok = True

    def __init__(self, kind: type[StrEnum]) -> None:
        super().__init__()
        self.kind = kind

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else stored(str(value))

    def process_result_value(self, value: str | None, dialect: Dialect) -> StrEnum | None:
        return None if value is None else self.kind(value)


class Names(TypeDecorator[frozenset[str]]):
    """A set of names, as text with blanks between them."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: frozenset[str] | None, dialect: Dialect) -> str | None:
        return None if value is None else " ".join(sorted(value))

    def process_result_value(self, value: str | None, dialect: Dialect) -> frozenset[str] | None:
        return None if value is None else frozenset(value.split())


class Document(TypeDecorator[Mapping[str, Any]]):
    """A JSON object."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: Mapping[str, Any] | None, dialect: Dialect) -> bytes | None:
        return None if value is None else orjson.dumps(value)

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> Any:
        return None if value is None else orjson.loads(value)


def facts_table(name: str, schema: MetaData) -> Table:
    """Facts about tables by their names: their version, the cluster that they were built from."""
    columns = Column("name", Text, primary_key=True), Column("value", Text, nullable=False)
    return Table(name, schema, *columns)


def positions_table(name: str, schema: MetaData) -> Table:
    """The offset that each partition is read from next."""
    return Table(
        name,
        schema,
        Column("topic", Text, primary_key=True),
        Column("partition", Integer, primary_key=True),
        Column("position", BigInteger, nullable=False),
    )
