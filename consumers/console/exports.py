"""Exports of cases as JSON Lines or CSV, a page at a time."""

import csv
import io
import re
from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import datetime
from typing import Any, Literal

import orjson

from consumers.console.queries import CaseFilter
from consumers.console.store import Store
from consumers.console.tables import CASES, Case
from consumers.texts import escaped, plain

__all__ = ["COLUMNS", "csv_of", "exported", "row_of", "safe_cell"]

_PAGE = 500
#: A spreadsheet takes a cell that begins like this for a formula (OWASP, CSV injection). Where its
#: list separator is a semicolon, it splits our cells there and at line ends, even inside quotes.
#: A run of blanks begins after a separator and contains none, so no character is read twice.
_BLANKS = r"[ \x0b\x0c\x1c-\x1f\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\"']*+"
_FORMULA = rf"{_BLANKS}(?=[=+\-@\uff1d\uff0b\uff0d\uff20])"
_BEGINS = re.compile(rf"{_FORMULA}|(?=[\t\r\n])")
_BEGINS_LATER = re.compile(rf"[;\t\r\n|]{_FORMULA}")

#: Columns that only the console itself needs.
_OURS = ("version", "source", "pressure", "held_until", "decision_id", "undo_until", "closed_by")
COLUMNS = tuple(column.name for column in CASES.c if column.name not in _OURS)


def row_of(case: Case) -> dict[str, Any]:
    """A case's columns, as an export and the API have them."""
    return {name: _plain(getattr(case, name)) for name in COLUMNS}


def safe_cell(value: Any) -> str:
    """A CSV cell that no spreadsheet takes for a formula."""
    text = "" if value is None else str(value)
    text = _BEGINS_LATER.sub(lambda sign: f"{sign[0]}'", text)
    first = _BEGINS.match(text)
    return f"{first[0]}'{text[first.end() :]}" if first else text


def csv_of(rows: Iterable[Iterable[Any]]) -> str:
    """Rows as CSV, with every cell in quotes and no formula among them."""
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL)
    writer.writerows([plain(safe_cell(cell)) for cell in row] for row in rows)
    return text.getvalue()


async def exported(
    store: Store, case_filter: CaseFilter, now: datetime, kind: Literal["jsonl", "csv"]
) -> AsyncIterator[bytes]:
    """The export's bytes, page by page."""
    if kind == "csv":
        yield _csv([{name: name for name in COLUMNS}])
    after: str | None = None
    while True:
        cases = await store.cases(case_filter, now, _PAGE, after)
        rows = [row_of(case) for case in cases]
        if rows:
            yield _csv(rows) if kind == "csv" else b"".join(map(_line, rows))
        if len(cases) < _PAGE:
            return
        after = cases[-1].place


def _csv(rows: Iterable[Mapping[str, Any]]) -> bytes:
    return csv_of([row[name] for name in COLUMNS] for row in rows).encode()


def _line(row: Mapping[str, Any]) -> bytes:
    return f"{escaped(orjson.dumps(row).decode())}\n".encode()


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value
