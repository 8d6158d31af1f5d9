"""Unpacks and decodes bodies, and reads JSON that is not quite JSON."""

import codecs
import json
import re
import zlib
from typing import Any

from schemas.json_numbers import Digits, exact_decoder

__all__ = ["as_utf8", "read_loosely", "unpacked"]

_AT_ONCE = 64 * 1024
_GZIP = b"\x1f\x8b"
_ZLIB = (b"x\x01", b"x\x5e", b"x\x9c", b"x\xda")
_MOST_LAYERS = 3
_PADDING = b"\0 \t\r\n"
#: Charsets that servers still use; others are not for text, or decode any bytes to something.
_CHARSET = re.compile(
    r"charset=[\"']?((?:iso-?8859|latin|windows-|cp12|shift_?jis|euc-|gb|big5|koi8)[a-z0-9_-]{0,20})",
    re.IGNORECASE,
)
#: An escaped surrogate pair, or a single surrogate.
_ESCAPES = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[dD][89a-fA-F][0-9a-fA-F]{2}"
)
_LONE_LENGTH = 6
_LOOSE = json.JSONDecoder(strict=False, parse_constant=lambda _: None)
_LOOSE_EXACT = exact_decoder(strict=False, parse_constant=Digits)
_ENDS = ("", "[DONE]", "data: [DONE]")


def unpacked(raw: bytes, content_encoding: str, max_bytes: int) -> bytes | None:
    """A body as it was before it was packed; None where that is longer than `max_bytes`.

    The bytes themselves show how they are packed. The header is not reliable: some proxies unpack a
    body and leave the header, remove the header, or pack a second time. A body that cannot be
    unpacked comes back as it is.
    """
    for _ in range(_MOST_LAYERS):
        is_marked = raw.startswith((_GZIP, *_ZLIB))
        if not is_marked and "deflate" not in content_encoding.lower():
            return raw
        try:
            inner = _inflated(raw, max_bytes)
        except zlib.error:
            return raw
        if inner is None or not is_marked:
            return inner
        raw = inner
    return raw


def _inflated(packed: bytes, max_bytes: int) -> bytes | None:
    """All members of gzip, zlib or deflate. Raises zlib.error for bytes that are not packed."""
    plain = bytearray()
    while packed:
        # Some servers leave the wrapper (RFC 1950) out of `deflate`.
        is_wrapped = packed.startswith((_GZIP, *_ZLIB))
        inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32 if is_wrapped else -zlib.MAX_WBITS)
        while True:
            plain += inflater.decompress(packed, _AT_ONCE)
            if len(plain) > max_bytes:
                return None
            packed = inflater.unconsumed_tail
            if inflater.eof or not packed:
                break
        if not inflater.eof:
            plain += inflater.flush()
            if not (is_wrapped and plain):
                what = "cut off"
                raise zlib.error(what)
            break  # The trailer is missing; the JSON parser finds out whether the text is whole.
        packed = inflater.unused_data.lstrip(b"\0")
    return bytes(plain)


def as_utf8(raw: bytes, content_type: str) -> bytes:
    """A body as UTF-8, which JSON has to be, whatever its header says.

    Wider encodings are recognised by their byte order marks and zeros; zeros around a body are
    padding. The header's charset counts only for bytes that are not UTF-8.
    """
    if b"\0" in raw and b"\0" not in (bare := raw.strip(_PADDING)):
        raw = bare
    encoding = json.detect_encoding(raw[:64])
    if encoding.startswith(("utf-16", "utf-32")):
        return raw.decode(encoding, "replace").lstrip("\ufeff").encode("utf-8", "replace")
    raw = raw.removeprefix(codecs.BOM_UTF8)
    if raw.isascii():
        return raw
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        charset = _CHARSET.search(content_type)
        try:
            return raw.decode(charset[1]).encode("utf-8") if charset else raw
        except (LookupError, ValueError):
            return raw
    return raw


def read_loosely(raw: bytes, *, exact: bool = False) -> Any:
    """JSON with deviations that can be read all the same, since the answer is paid for.

    Takes a byte order mark, bytes that are not UTF-8, single surrogates, line breaks within texts,
    NaN and Infinity (read as null, or kept as `Digits` where all has to be `exact`), and the end
    mark of a stream. Raises ValueError for everything else.
    """
    # Without escaped backslashes, each backslash before a u begins an escape.
    escaped = raw.replace(rb"\\", rb"\u005c") if b"\\u" in raw else raw
    repaired = _ESCAPES.sub(
        lambda match: rb"\ufffd" if len(match[0]) == _LONE_LENGTH else match[0], escaped
    )
    text = repaired.decode("utf-8-sig", "replace").strip()
    parsed, end = (_LOOSE_EXACT if exact else _LOOSE).raw_decode(text)
    if text[end:].strip() not in _ENDS:
        what = "there is more than one value"
        raise ValueError(what)
    return parsed
