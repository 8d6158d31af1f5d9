"""SQLite and PostgreSQL behind one interface: how they are opened, and how writes take turns."""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import make_url
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    InterfaceError,
    OperationalError,
    SQLAlchemyError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from consumers.files import own_file
from schemas.errors import TierlineError

__all__ = ["Database", "StoreAwayError", "StoreUnusableError", "insert_new", "inserting"]
__all__ += ["is_away", "open_database", "upsert"]

_DRIVERS: Mapping[str, str] = {
    "sqlite": "sqlite+aiosqlite",
    "postgresql": "postgresql+asyncpg",
    "postgres": "postgresql+asyncpg",
}
#: An arbitrary number that no other program uses: the lock of whoever creates the tables.
_SCHEMA_LOCK = 7_202_611
#: SQL states of a server that is unreachable, starting, stopping or full.
_AWAY = ("08", "53", "57P")
#: Parameters, which quote people's texts, are kept out of errors, which are logged.
_ENGINE: Mapping[str, Any] = {"pool_timeout": 60, "hide_parameters": True}


class StoreUnusableError(TierlineError):
    """The database cannot be opened, or is not a store of ours."""


class StoreAwayError(TierlineError, OSError):
    """The database does not answer now. Nothing of the transaction is kept."""

    def __init__(self) -> None:
        super().__init__("the store does not answer; try again in a moment")


class Database:
    """A pool of connections. Reads run in parallel, writes are transactions."""

    def __init__(self, engine: AsyncEngine, name: str) -> None:
        #: Its URL for people, without the password.
        self.name = name
        self._engine = engine
        self._writing = engine.execution_options(tierline_writes=True)
        # SQLite allows one writer at a time; waiting here is fair, polling its file is not.
        self._turn = asyncio.Lock()

    @property
    def is_sqlite(self) -> bool:
        """True for SQLite, whose file only one machine can use."""
        return self._engine.dialect.name == "sqlite"

    @contextlib.asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """A connection to read with; in SQLite all reads through it see the same moment.

        Raises StoreAwayError.
        """
        async with _answering(), self._engine.connect() as connection:
            yield connection

    @contextlib.asynccontextmanager
    async def writing(self, lock: int | None = None) -> AsyncIterator[AsyncConnection]:
        """A transaction, committed at the end unless something is raised. Raises StoreAwayError.

        Transactions with the same `lock` run one at a time, in all processes; in SQLite all do.
        """
        async with _answering(), contextlib.AsyncExitStack() as stack:
            if self.is_sqlite:
                await stack.enter_async_context(self._turn)
            connection = await stack.enter_async_context(self._writing.begin())
            if lock is not None:
                await _alone(connection, lock)
            yield connection

    async def read(self, query: sa.Executable) -> list[dict[str, Any]]:
        """The rows of a query. Raises StoreAwayError."""
        async with self.reading() as connection:
            return [row._asdict() for row in await connection.execute(query)]

    async def value(self, query: sa.Executable) -> Any:
        """The first value of a query; None where there is none. Raises StoreAwayError."""
        return next((value for row in await self.read(query) for value in row.values()), None)

    async def write(self, change: sa.Executable) -> list[dict[str, Any]]:
        """Execute a statement in a transaction of its own; return the rows that it returns.

        Raises StoreAwayError.
        """
        async with self.writing() as connection:
            result = await connection.execute(change)
            return [row._asdict() for row in result] if result.returns_rows else []


def inserting(connection: sa.Connection, table: sa.Table) -> Any:
    """An insert of the database's dialect, which can handle rows whose key exists."""
    dialect = import_module(f"sqlalchemy.dialects.{connection.dialect.name}")
    return dialect.insert(table)


def insert_new(
    connection: sa.Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]]
) -> None:
    """Insert rows; existing rows with the same key are left unchanged."""
    if rows:
        connection.execute(inserting(connection, table).on_conflict_do_nothing(), list(rows))


def upsert(
    connection: sa.Connection,
    table: sa.Table,
    rows: Sequence[Mapping[str, Any]],
    adds: Sequence[str] = (),
    first: Sequence[str] = (),
) -> None:
    """Insert rows; existing rows get the new values, or have those of `adds` added.

    With `first`, existing rows are kept unless the new ones come before them by these columns.
    """
    if not rows:
        return
    new = inserting(connection, table)
    key = [column.name for column in table.primary_key]
    changes = {
        column.name: column + new.excluded[column.name]
        if column.name in adds
        else new.excluded[column.name]
        for column in table.columns
        if column.name not in key
    }
    is_earlier = None
    if first:
        order, known = (sa.tuple_(*(of[name] for name in first)) for of in (new.excluded, table.c))
        is_earlier = order < known
    put = new.on_conflict_do_update(index_elements=key, set_=changes, where=is_earlier)
    connection.execute(put, list(rows))


async def _alone(connection: AsyncConnection, lock: int) -> None:
    """Wait until no other transaction has the lock; SQLite has one writer at a time anyway."""
    if connection.dialect.name == "postgresql":
        await connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({lock})")


@contextlib.asynccontextmanager
async def _answering() -> AsyncIterator[None]:
    """Raise StoreAwayError for errors of a database that does not answer."""
    try:
        yield
    except Exception as error:
        if is_away(error):
            raise StoreAwayError from error
        raise


def is_away(error: Exception) -> bool:
    """True for an error that means that the database does not answer."""
    if isinstance(error, (OperationalError, InterfaceError, PoolTimeoutError)):
        return True
    if isinstance(error, DBAPIError):
        state = str(getattr(error.orig, "sqlstate", None) or "")
        return error.connection_invalidated or state.startswith(_AWAY)
    return isinstance(error, (ConnectionError, FileNotFoundError))  # of its address or socket


@contextlib.asynccontextmanager
async def open_database(url: str, make: Callable[[sa.Connection], None]) -> AsyncIterator[Database]:
    """Open a database by its URL; `make` creates its tables. Raises StoreUnusableError."""
    engine = _engine(url)
    try:
        try:
            if engine.dialect.name == "sqlite":
                _try_file(engine.url.database or "")
            async with engine.execution_options(tierline_writes=True).begin() as connection:
                # Two processes that start at once would both create the tables.
                await _alone(connection, _SCHEMA_LOCK)
                await connection.run_sync(make)
        except (SQLAlchemyError, sqlite3.Error, OSError) as error:
            why = str(getattr(error, "orig", None) or error).splitlines()[0]
            if isinstance(error, OSError):
                why = f"unable to open it: {error.strerror}"
            msg = f"the store cannot be used ({why}): {_shown(url)}"
            raise StoreUnusableError(msg) from error
        yield Database(engine, _shown(url))
    finally:
        await engine.dispose()


def _engine(url: str) -> AsyncEngine:
    try:
        parsed = make_url(url)
    except ArgumentError:
        parsed = None
    driver = _DRIVERS.get(parsed.drivername.partition("+")[0]) if parsed else None
    if parsed is None or driver is None:
        msg = "the store's URL: sqlite:///PATH or postgresql://USER:PASSWORD@HOST/NAME was expected"
        raise StoreUnusableError(msg)
    parsed = parsed.set(drivername=driver)
    if driver.startswith("sqlite"):
        if parsed.database in (None, "", ":memory:"):
            msg = "the store's URL: a file was expected, for example sqlite:///cases.db"
            raise StoreUnusableError(msg)
        engine = create_async_engine(parsed, pool_size=5, max_overflow=10, **_ENGINE)
        sa.event.listen(engine.sync_engine, "connect", _set_up_sqlite)
        sa.event.listen(engine.sync_engine, "begin", _begin_sqlite)
        sa.event.listen(engine.sync_engine, "invalidate", _end_sqlite)
        return engine
    # `pool_pre_ping` replaces connections from before a restart of the server.
    return create_async_engine(parsed, pool_size=5, max_overflow=15, pool_pre_ping=True, **_ENGINE)


def _try_file(path: str) -> None:
    """Open the file once, here: the library leaks a thread where it cannot.

    It holds customers' texts, so only its owner may read it; SQLite gives the files beside it the
    same rights.
    """
    own_file(Path(path))
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA schema_version")


def _set_up_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # we begin transactions ourselves, in `_begin_sqlite`
    cursor = connection.cursor()
    # Readers and a writer work in parallel, also from other processes.
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA busy_timeout=30000")
    cursor.close()


def _begin_sqlite(connection: Any) -> None:
    # A transaction that reads before it writes would fail when another one wrote in between.
    writes = connection.get_execution_options().get("tierline_writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _end_sqlite(connection: Any, _record: object, _error: object) -> None:
    # A statement that is cancelled invalidates its connection. Closing that does not unlock the
    # file: the statement's cursor, to which the error still refers, keeps the transaction open.
    with contextlib.suppress(Exception):
        connection.rollback()


def _shown(url: str) -> str:
    return make_url(url).render_as_string(hide_password=True)
