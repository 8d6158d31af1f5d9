"""Reads a provider's export of usage or cost: pages of its API, JSON Lines, or CSV."""

import csv
import io
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from importlib.resources import files
from typing import Any

import yaml

from router.reports.invoice import Booked, Invoice, LineKey
from schemas.errors import TierlineError

__all__ = ["FIELDS", "InvoiceError", "read_invoice"]

_KNOWN: Mapping[str, Any] = yaml.safe_load(
    (files("consumers") / "invoices.yaml").read_text(encoding="utf-8")
)
#: What amounts are called in a map of columns, with the amount and the unit that they are.
_UNITS = {
    **{name: (name, 1) for name in ("calls", "input", "output", "micros")},
    "dollars": ("micros", 1_000_000),
    "cents": ("micros", 10_000),
}
FIELDS = ("id", "day", "model", *_UNITS)
_Row = Mapping[str, Any]
_TOKEN = re.compile(r"\S")


class InvoiceError(TierlineError):
    """A file is no invoice that can be read; the message says where, and what was expected."""


def read_invoice(
    text: str, name: str, columns: Mapping[str, str], model_of: Callable[[str], str]
) -> Invoice:
    """Read an export. Raises InvoiceError.

    `columns` are those of fields, where it is no published export. `model_of` gives the name under
    which a model is compared.
    """
    lines: defaultdict[LineKey, Booked] = defaultdict(Booked)
    days, has_ids = set[str](), False
    for place, row in _rows(text, name):
        fields = {field: [column] for field, column in columns.items()} or _published(row, place)
        starts, has_ids = fields.get("day", _KNOWN["day"]), "id" in fields
        day = _day(_text(row, starts, place), place) if not has_ids or _first(row, starts) else None
        days |= {day} if day else set()
        model = str(_first(row, fields.get("model", ["model"])) or "").partition(",")[0].strip()
        amounts = {field: _sum(row, fields[field], place) for field in fields if field in _UNITS}
        given = {field: amount for field, amount in amounts.items() if amount is not None}
        # The API has a result without a model and an amount for a day without usage.
        if not given and (model or has_ids):
            named = [column for field in amounts for column in fields[field]]
            msg = f"{place}: an amount was expected in {' or '.join(named)}"
            raise InvoiceError(msg)
        key = (
            (_text(row, fields["id"], place),)
            if has_ids
            else (day or "", model and model_of(model))
        )
        lines[key].places.append(place)
        for field, amount in given.items():
            kind, unit = _UNITS[field]
            lines[key].add({kind: amount * unit})
    if not lines:
        msg = f"{name}: it has no lines"
        raise InvoiceError(msg)
    return Invoice(lines, has_ids, sorted(days))


def _published(row: _Row, place: str) -> Mapping[str, list[str]]:
    """The columns of the published export that has such a row."""
    currency = str(_first(row, _KNOWN["currency"]) or "usd")
    if currency.lower() != "usd":
        msg = f"{place}: an amount in US dollars was expected, not in {currency}"
        raise InvoiceError(msg)
    for column, fields in _KNOWN["exports"].items():
        if column in row:
            return dict(fields)
    msg = (
        f"{place}: these are the columns of no export that is known: {', '.join(list(row)[:12])}; "
        f"name yours, for example with --map day=Date,model=Model,dollars=Cost"
    )
    raise InvoiceError(msg)


def _rows(text: str, name: str) -> Iterator[tuple[str, _Row]]:
    """Each line with its place; of a page of buckets, each result with its bucket's times."""
    if not text.lstrip().startswith(("{", "[")):
        yield from _csv_rows(text, name)
        return
    has_more = False
    for place, page in _documents(text, name):
        try:
            if "data" not in page:
                yield place, _flat(page)
                continue
            has_more = bool(page.get("has_more"))
            for no, bucket in enumerate(page["data"]):
                times = {key: bucket[key] for key in _KNOWN["day"] if key in bucket}
                for result_no, result in enumerate(bucket["results"]):
                    yield f"{place}: data[{no}].results[{result_no}]", {**times, **_flat(result)}
        except (AttributeError, KeyError, TypeError):
            msg = f"{place}: an object, or a page with `data` and its `results`, was expected"
            raise InvoiceError(msg) from None
    if has_more:
        msg = f"{name}: its last page says `has_more`: the pages after it are missing"
        raise InvoiceError(msg)


def _documents(text: str, name: str) -> Iterator[tuple[str, Any]]:
    """The objects of a file with their lines: one, a list of them, or one in each line."""
    decoder = json.JSONDecoder(parse_float=Decimal)
    end, counted, line_no = 0, 0, 1
    while (begin := _TOKEN.search(text, end)) is not None:
        at = begin.start()
        line_no, counted = line_no + text.count("\n", counted, at), at
        line = f"{name}:{line_no}"
        try:
            document, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            no = getattr(error, "lineno", None)
            line = f"{name}:{no}" if no else line
            msg = f"{line}: JSON was expected: {getattr(error, 'msg', type(error).__name__)}"
            raise InvoiceError(msg) from None
        if isinstance(document, list):
            yield from ((f"{line}[{no}]", item) for no, item in enumerate(document))
        else:
            yield line, document


def _csv_rows(text: str, name: str) -> Iterator[tuple[str, _Row]]:
    head = text.partition("\n")[0]
    reader = csv.DictReader(
        io.StringIO(text, newline=""), delimiter=max(",;\t", key=head.count), strict=True
    )
    try:
        for row in reader:
            place = f"{name}:{reader.line_num}"
            if None in row or None in row.values():
                msg = f"{place}: {len(reader.fieldnames or ())} columns were expected"
                raise InvoiceError(msg)
            yield place, row
    except csv.Error as error:
        msg = f"{name}:{reader.line_num}: CSV was expected: {error}"
        raise InvoiceError(msg) from None


def _flat(record: _Row, before: str = "") -> dict[str, Any]:
    """Fields of objects within an object, with a dot between their names."""
    flat: dict[str, Any] = {}
    for name, value in record.items():
        key = f"{before}{name}"
        flat |= _flat(value, f"{key}.") if isinstance(value, dict) else {key: value}
    return flat


def _first(row: _Row, columns: Sequence[str]) -> Any:
    return next((row[column] for column in columns if row.get(column) not in (None, "")), None)


def _text(row: _Row, columns: Sequence[str], place: str) -> str:
    if (value := _first(row, columns)) is None:
        msg = f"{place}: a value was expected in {' or '.join(columns)}"
        raise InvoiceError(msg)
    return str(value).strip()


def _sum(row: _Row, columns: Sequence[str], place: str) -> Decimal | None:
    """The sum of these columns; None where all are empty."""
    numbers = []
    for column in columns:
        if (value := _first(row, [column])) is None:
            continue
        try:
            numbers.append(Decimal(str(value).strip().removeprefix("$").replace(",", "")))
        except InvalidOperation:
            numbers.append(Decimal("nan"))
        if not numbers[-1].is_finite():
            msg = f"{place}: {column}: a number was expected, not {value!r}"
            raise InvoiceError(msg)
    return sum(numbers, Decimal(0)) if numbers else None


def _day(text: str, place: str) -> str:
    """The day in UTC of an instant, a date, or seconds since 1970."""
    try:
        if text.replace(".", "", 1).isdecimal():
            return f"{datetime.fromtimestamp(float(text), UTC):%Y-%m-%d}"
        at = datetime.fromisoformat(text)
        return f"{at.astimezone(UTC) if at.tzinfo else at:%Y-%m-%d}"
    except (ValueError, OverflowError, OSError):
        msg = f"{place}: a day was expected, such as 2026-11-30, not {text!r}"
        raise InvoiceError(msg) from None
