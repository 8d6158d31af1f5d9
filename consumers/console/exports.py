"""Exports: the cases that fit, as JSON Lines or CSV, a page at a time."""

import csv
import io
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Any, Literal

import orjson

from consumers.console.rows import Case, CaseFilter
from consumers.console.store import Store

__all__ = ["COLUMNS", "exported", "row_of", "safe_cell"]

_PAGE = 500
#: A spreadsheet takes a cell that begins so for a formula (OWASP, CSV injection).
_FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n")

COLUMNS = (
    "place",
    "state",
    "request_id",
    "generation",
    "tenant",
    "task",
    "reason",
    "detail",
    "stage",
    "tier",
    "model",
    "error",
    "risk",
    "cost_micros",
    "attempts",
    "policy_version",
    "opened_at",
    "due_at",
    "held_by",
    "decided_by",
    "decided_at",
    "action",
    "closed_at",
)


def row_of(case: Case) -> dict[str, Any]:
    """A case's columns, as an export and the API have them."""
    return {name: _plain(getattr(case, name)) for name in COLUMNS}


def safe_cell(value: Any) -> str:
    """A CSV cell that no spreadsheet takes for a formula."""
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(_FORMULAS) else text


async def exported(
    store: Store, wanted: CaseFilter, now: datetime, kind: Literal["jsonl", "csv"]
) -> AsyncIterator[bytes]:
    """The export's bytes, page by page."""
    if kind == "csv":
        yield _csv([{name: name for name in COLUMNS}])
    after: str | None = None
    while True:
        cases = await store.cases(wanted, now, _PAGE, after)
        rows = [row_of(case) for case in cases]
        if rows:
            yield _csv(rows) if kind == "csv" else b"".join(orjson.dumps(r) + b"\n" for r in rows)
        if len(cases) < _PAGE:
            return
        after = cases[-1].place


def _csv(rows: list[Mapping[str, Any]] | list[dict[str, Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerows([safe_cell(row[name]) for name in COLUMNS] for row in rows)
    return text.getvalue().encode()


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value
