"""Files of requests: lines of UTF-8, or refused as a whole before anything is published.

A file is read twice and never held in memory: once to check it, and once to send it.
"""

import codecs
import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any, NamedTuple

from consumers.buckets import Buckets
from consumers.cli.common import UserError
from schemas.base import is_identifier
from schemas.errors import ContractError
from schemas.intake import MAX_REQUEST_BYTES, claims_of, custom_id_of, id_for
from schemas.json_text import parse_json
from schemas.tenancy import DEFAULT_TENANT, is_reserved_id

__all__ = ["Line", "checked", "lines_of"]

#: How files begin that are not lines of text, and what converts them.
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
#: How an opening brace or bracket begins in them without a mark.
_UNMARKED = [
    (opening.encode(f"{name}-{order}"), name)
    for name in ("UTF-32", "UTF-16")
    for order in ("le", "be")
    for opening in "{["
]
_EXPECTED = "a request per line, in UTF-8, was expected"
#: Goes before each text of a JSON text sequence (RFC 7464).
_SEPARATOR = b"\x1e"
#: Hexadecimal digits that tell two lines with the same `custom_id` apart.
_DIGITS = 12


#: Bytes that are read at a time, and lines between two updates of the progress bar.
_CHUNK, _SHOWN_EACH = 1 << 18, 1_000


class Line(NamedTuple):
    """A request as it is sent, with the fields that the sender needs."""

    value: bytes
    #: The conversation's id, else the request's; without either, any partition will do.
    key: bytes
    tenant: str
    plan: str | None
    #: None where it has no id that intake would accept.
    id: str | None

    @classmethod
    def of(
        cls, raw: bytes, number: int, *, tenant: str | None = None, batch: str | None = None
    ) -> "Line":
        """A line; `tenant` is the tenant of one that names none.

        A line of a Batch file gets an id of its own, since other files begin at 1 as well: its
        `custom_id` with a hash of the line, or, in a named `batch`, that name with its `custom_id`.
        So the same line is the same request whenever it is sent.
        """
        fields, value = _read(raw), raw
        custom_id, claims = _custom_id(fields), dict[str, Any]()
        with contextlib.suppress(ContractError):
            claims = claims_of(fields, {})
        if custom_id is not None:
            called = f"{custom_id}.{_digest(raw)}" if batch is None else f"{batch}.{custom_id}"
            if is_reserved_id(called):
                called = f" {called}"  # a blank makes it no id, so `id_for` derives one from it
            claims["id"] = id_for(called)
            # Its other bytes stay as they are: writing JSON again could change its numbers.
            value = b'{"id":"' + _quoted(claims["id"]) + b'",' + raw[1:].lstrip()
        claimed, plan, request_id = claims.get("tenant"), claims.get("plan"), claims.get("id")
        return cls(
            value,
            str(claims.get("conversation_id") or request_id or number).encode("utf-8", "replace"),
            claimed if isinstance(claimed, str) else tenant or DEFAULT_TENANT,
            plan if isinstance(plan, str) else None,
            request_id if isinstance(request_id, str) and is_identifier(request_id) else None,
        )


def checked(
    file: IO[bytes],
    name: str,
    batch: str | None = None,
    seen: Callable[[int], object] = lambda _: None,
) -> int:
    """The number of requests in a file; `seen` is called with the number of bytes read so far.

    Raises UserError where there are none, where the file is no file of requests, where a
    `custom_id` is none or two requests have the same, and for a `batch` of which no line is one of
    a Batch file.
    """
    count, is_batch = 0, False
    with Buckets[tuple[str, int, str]]() as custom_ids:
        for count, (number, raw) in enumerate(lines_of(file, name), 1):
            # Most lines have none, and need not be parsed here.
            if b'"custom_id"' in raw:
                try:
                    custom_id = _custom_id(_read(raw))
                except ContractError as error:
                    msg = f"{name}, line {number}: {error.detail}"
                    raise UserError(msg) from None
                if custom_id is not None:
                    custom_ids.put(custom_id, (custom_id, number, _digest(raw)))
                    is_batch = True
            if count % _SHOWN_EACH == 0:
                seen(file.tell())
        twice = min((pair for group in custom_ids.each() for pair in _twice(group)), default=None)
    if twice is not None:
        msg = (
            f"{name}: lines {twice[1]} and {twice[0]} have the custom_id {twice[2]!r}; "
            "each request needs one of its own"
        )
        raise UserError(msg)
    if batch is not None and count and not is_batch:
        msg = f"{name}: --batch {batch} is for lines with a custom_id and no id, and it has none"
        raise UserError(msg)
    if not count:
        msg = f"{name}: there is nothing to send; {_EXPECTED}"
        raise UserError(msg)
    return count


def lines_of(file: IO[bytes], name: str) -> Iterator[tuple[int, bytes]]:
    """The lines of a file that are not blank, with their numbers; `name` is the file's.

    They are without byte order marks and record separators. Mistakes in the content of single lines
    are left to intake. Raises UserError where the file is no file of requests, or a line is longer
    than a request may be.
    """
    first = text = b""
    count = 0
    for number, line in enumerate(_split(file, name), 1):
        if len(line) > MAX_REQUEST_BYTES:
            msg = f"{name}, line {number}: more than {MAX_REQUEST_BYTES:,} bytes; {_EXPECTED}"
            raise UserError(msg)
        # Files that were joined have marks in the middle, too.
        if not (stripped := line.removeprefix(codecs.BOM_UTF8).lstrip(_SEPARATOR).strip()):
            continue
        if (at := line.find(b"\x00")) >= 0:
            msg = f"{name}, line {number}, byte {at + 1}: a NUL byte; {_EXPECTED}"
            raise UserError(msg)
        try:
            line.decode("utf-8")
        except UnicodeDecodeError as error:
            msg = f"{name}, line {number}, byte {error.start + 1}: not UTF-8; {_EXPECTED}"
            raise UserError(msg) from None
        text = stripped
        if not count and not (text.startswith((b"{", b"[")) or isinstance(_read(text), str)):
            what = "no JSON (is it CSV, or plain text?)"
            msg = f'{name}, line {number}: {what}; {_EXPECTED}, for example {{"input": "Hello"}}'
            raise UserError(msg)
        first, count = first or text, count + 1
        yield number, text
    _refuse_document(first, text, count, name)


def _split(file: IO[bytes], name: str) -> Iterator[bytes]:
    """The lines of a file with any line ends. Raises UserError where it begins like no text."""
    chunk = file.read(_CHUNK)
    for beginning, what, mend in _PACKED:
        if chunk.startswith(beginning):
            msg = f"{name}: {what}; {_EXPECTED}: unpack it first ({mend})"
            raise UserError(msg)
    for beginning, encoding in (*_MARKS, *_UNMARKED):
        if chunk.startswith(beginning):
            msg = (
                f"{name}: {encoding} text; UTF-8 was expected: "
                f"`iconv -f {encoding} -t UTF-8` converts it"
            )
            raise UserError(msg)
    rest = b""
    while chunk and len(rest) <= MAX_REQUEST_BYTES:
        # The last line may continue in the next chunk, or end with half of a line end.
        *whole, rest = (rest + chunk).splitlines(keepends=True)
        yield from whole
        chunk = file.read(_CHUNK)
    yield rest


def _refuse_document(first: bytes, last: bytes, count: int, name: str) -> None:
    """Refuse a list of requests, and one request that is laid out over several lines."""
    is_laid_out = count > 1 and _opened(first) > 0 > _opened(last)
    if first.startswith(b"[") and (is_laid_out or (count == 1 and _read(first) is not None)):
        msg = f"{name}: one JSON list; {_EXPECTED}: `jq -c '.[]'` makes lines of it"
        raise UserError(msg)
    if first.startswith(b"{") and is_laid_out:
        msg = f"{name}: one JSON object over several lines; {_EXPECTED}: `jq -c .` joins them"
        raise UserError(msg)


def _opened(line: bytes) -> int:
    """How many more brackets a line opens than it closes; 0 for a line that is JSON by itself."""
    if _read(line) is not None:
        return 0
    return sum(line.count(bracket) for bracket in b"[{") - sum(
        line.count(bracket) for bracket in b"]}"
    )


def _twice(group: Iterator[tuple[str, int, str]]) -> Iterator[tuple[int, int, str]]:
    """Where a `custom_id` comes again with another line: both line numbers, the later first."""
    first = dict[str, tuple[int, str]]()
    for custom_id, number, digest in group:
        earlier, earlier_digest = first.setdefault(custom_id, (number, digest))
        if earlier_digest != digest:
            yield number, earlier, custom_id


def _custom_id(fields: Any) -> str | None:
    """The `custom_id` of a Batch line that has no id beside it; None for any other line.

    Raises ContractError for one that intake would refuse.
    """
    if not isinstance(fields, Mapping) or not {"custom_id", "body"} <= fields.keys():
        return None
    custom_id = custom_id_of(fields)
    return None if "id" in fields else custom_id or None


def _digest(line: bytes) -> str:
    return hashlib.blake2b(line).hexdigest()[:_DIGITS]


def _quoted(request_id: str) -> bytes:
    return request_id.replace("\\", "\\\\").replace('"', '\\"').encode()


def _read(line: bytes) -> Any:
    """A line as JSON; None where intake could not read it."""
    try:
        return parse_json(line)
    except ContractError:
        return None
