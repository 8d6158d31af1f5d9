"""Files of requests: lines of UTF-8, or refused as a whole before anything is published."""

import codecs
import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

from consumers.cli.common import UserError

__all__ = ["lines_of", "named_apart"]

#: How files begin that hold no lines of text, and what turns them into such.
_PACKED = (
    (b"\x1f\x8b", "packed with gzip", "gunzip"),
    (b"PK\x03\x04", "a zip archive, or a spreadsheet", "unzip"),
    (b"PK\x05\x06", "an empty zip archive", "unzip"),
    (b"\x28\xb5\x2f\xfd", "packed with zstd", "zstd -d"),
    (b"BZh", "packed with bzip2", "bunzip2"),
    (b"\xfd7zXZ\x00", "packed with xz", "unxz"),
    (b"\x04\x22\x4d\x18", "packed with lz4", "lz4 -d"),
    (b"\xff\x06\x00\x00sNaPpY", "packed with snappy", "its own program"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "7z x"),
    (b"PAR1", "a Parquet file", "its own program"),
    (b"Obj\x01", "an Avro file", "its own program"),
)
#: UTF-32 goes first: its mark begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
#: How an opening brace or bracket begins in them where no mark does.
_UNMARKED = (
    (b"\x00\x00\x00", "UTF-32"),
    (b"{\x00\x00\x00", "UTF-32"),
    (b"[\x00\x00\x00", "UTF-32"),
    (b"\x00{", "UTF-16"),
    (b"\x00[", "UTF-16"),
    (b"{\x00", "UTF-16"),
    (b"[\x00", "UTF-16"),
)
_EXPECTED = "a request per line, in UTF-8, was expected"
#: Hexadecimal digits that tell two lines with the same `custom_id` apart.
_DIGITS = 12


def lines_of(raw: bytes, name: str) -> list[bytes]:
    """The lines of a file that are not blank, without byte order marks; `name` is the file's.

    What is wrong with the content of one line is left to intake. Raises UserError where the whole
    file is something else.
    """
    for beginning, what, mend in _PACKED:
        if raw.startswith(beginning):
            msg = f"{name}: {what}; {_EXPECTED}: unpack it first ({mend})"
            raise UserError(msg)
    for beginning, encoding in (*_MARKS, *_UNMARKED):
        if raw.startswith(beginning):
            msg = (
                f"{name}: {encoding} text; UTF-8 was expected: "
                f"`iconv -f {encoding} -t UTF-8` makes it so"
            )
            raise UserError(msg)
    lines = list(_plain(raw, name))
    _refuse_document(raw.removeprefix(codecs.BOM_UTF8), lines, name)
    return lines


def _plain(raw: bytes, name: str) -> Iterator[bytes]:
    for number, line in enumerate(raw.splitlines(), 1):
        # A mark also stands where files have been put behind each other.
        text = line.removeprefix(codecs.BOM_UTF8).strip()
        if not text:
            continue
        if (at := line.find(b"\x00")) >= 0:
            msg = f"{name}, line {number}, byte {at + 1}: a NUL byte; {_EXPECTED}"
            raise UserError(msg)
        try:
            line.decode("utf-8")
        except UnicodeDecodeError as error:
            msg = f"{name}, line {number}, byte {error.start + 1}: not UTF-8; {_EXPECTED}"
            raise UserError(msg) from None
        yield text


def _refuse_document(raw: bytes, lines: Sequence[bytes], name: str) -> None:
    """Refuse a list of requests, and one request that is laid out over several lines."""
    if not lines or not (lines[0].startswith(b"[") or _read(lines[0]) is None):
        return
    found = _read(raw)
    if isinstance(found, list):
        msg = f"{name}: one JSON list; {_EXPECTED}: `jq -c '.[]'` makes lines of it"
        raise UserError(msg)
    if isinstance(found, dict) and len(lines) > 1:
        msg = f"{name}: one JSON object over several lines; {_EXPECTED}: `jq -c .` joins them"
        raise UserError(msg)


def named_apart(lines: Sequence[bytes], batch: str | None, name: str) -> list[bytes]:
    """The lines, those of a Batch file with an id of their own, since others begin at 1 as well.

    A `custom_id` is unique within its file only. So the id is the `custom_id` and what the line
    says, or, in a `batch` that has a name, that name and the `custom_id`: the same line is the same
    request whenever it is sent. Raises UserError where a `custom_id` stands for two requests.
    """
    from schemas.intake import id_for
    from schemas.tenancy import is_reserved_id

    named: list[bytes] = []
    first: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(lines, 1):
        custom_id = _custom_id(_read(line))
        if custom_id is None:
            named.append(line)
            continue
        digest = hashlib.blake2b(line).hexdigest()[:_DIGITS]
        if (known := first.setdefault(custom_id, (number, digest)))[1] != digest:
            msg = (
                f"{name}: requests {known[0]} and {number} have the custom_id {custom_id!r}; "
                "one of its own for each was expected"
            )
            raise UserError(msg)
        called = f"{custom_id}.{digest}" if batch is None else f"{batch}.{custom_id}"
        if is_reserved_id(called):
            called = f" {called}"  # with a blank it is no id, so that one is made from it
        # Its other bytes stay as they are: nobody's numbers are written anew.
        named.append(b'{"id":"' + _quoted(id_for(called)) + b'",' + line[1:].lstrip())
    return named


def _custom_id(fields: Any) -> str | None:
    """The `custom_id` of a Batch line that has no id beside it; None for any other line."""
    if not isinstance(fields, dict) or "id" in fields or "body" not in fields:
        return None
    found = fields.get("custom_id")
    return found if isinstance(found, str) and found else None


def _quoted(request_id: str) -> bytes:
    return request_id.replace("\\", "\\\\").replace('"', '\\"').encode()


def _read(line: bytes) -> Any:
    import orjson

    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
