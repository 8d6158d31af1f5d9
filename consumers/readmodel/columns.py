"""How values are kept in the store's columns, so that any database accepts any text."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.types import TypeDecorator

from schemas.base import LATEST

__all__ = ["Document", "Instant", "Known", "Names", "Short", "always", "facts_table", "in_millis"]
__all__ += ["instant", "key", "millis", "positions_table", "sometimes", "stored"]

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

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> int | None:
        return None if value is None else millis(value)

    def process_result_value(self, value: int | None, dialect: sa.Dialect) -> datetime | None:
        return None if value is None else instant(value)


def in_millis(at: sa.ColumnElement[datetime]) -> sa.ColumnElement[int]:
    """A column of instants as numbers, to calculate with."""
    return sa.type_coerce(at, sa.BigInteger)


class Short(TypeDecorator[str]):
    """Text from others, cut to a number of characters."""

    impl = sa.Text
    cache_ok = True

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:
        return None if value is None else stored(value, self.most)


class Known(TypeDecorator[Any]):
    """A value of an enum, as text."""

    impl = sa.Text
    cache_ok = True

    def __init__(self, kind: type[StrEnum]) -> None:
        super().__init__()
        self.kind = kind

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:
        return None if value is None else stored(str(value))

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> StrEnum | None:
        return None if value is None else self.kind(value)


class Names(TypeDecorator[frozenset[str]]):
    """A set of names, as text with blanks between them."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: frozenset[str] | None, dialect: sa.Dialect) -> str | None:
        return None if value is None else " ".join(sorted(value))

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> frozenset[str] | None:
        return None if value is None else frozenset(value.split())


class Document(TypeDecorator[Mapping[str, Any]]):
    """A JSON object."""

    impl = sa.LargeBinary
    cache_ok = True

    def process_bind_param(
        self, value: Mapping[str, Any] | None, dialect: sa.Dialect
    ) -> bytes | None:
        return None if value is None else orjson.dumps(value)

    def process_result_value(self, value: bytes | None, dialect: sa.Dialect) -> Any:
        return None if value is None else orjson.loads(value)


def key(**kinds: Any) -> list[sa.Column[Any]]:
    """The columns of a primary key."""
    return [sa.Column(name, kind, primary_key=True) for name, kind in kinds.items()]


def always(**kinds: Any) -> list[sa.Column[Any]]:
    """Columns with a value in every row."""
    return [sa.Column(name, kind, nullable=False) for name, kind in kinds.items()]


def sometimes(**kinds: Any) -> list[sa.Column[Any]]:
    """Columns that are empty in some rows."""
    return [sa.Column(name, kind) for name, kind in kinds.items()]


def facts_table(name: str, schema: sa.MetaData) -> sa.Table:
    """Facts about tables by their names: their version, the cluster that they were built from."""
    return sa.Table(name, schema, *key(name=sa.Text), *always(value=sa.Text))


def positions_table(name: str, schema: sa.MetaData) -> sa.Table:
    """The offset that each partition is read from next."""
    of_partition = key(topic=sa.Text, partition=sa.Integer)
    return sa.Table(name, schema, *of_partition, *always(position=sa.BigInteger))
