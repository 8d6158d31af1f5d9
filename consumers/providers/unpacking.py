"""Bodies as they were packed, and text as it was escaped, taken apart."""

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
#: Charsets that a server may still write in; others are no text, or one that decodes to anything.
_CHARSET = re.compile(
    r"charset=[\"']?((?:iso-?8859|latin|windows-|cp12|shift_?jis|euc-|gb|big5|koi8)[a-z0-9_-]{0,20})",
    re.IGNORECASE,
)
#: A pair of surrogates, or one that has lost the other.
_ESCAPES = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[dD][89a-fA-F][0-9a-fA-F]{2}"
)
_LONE = 6
_LOOSE = json.JSONDecoder(strict=False, parse_constant=lambda _: None)
_LOOSE_EXACT = exact_decoder(strict=False, parse_constant=Digits)
_ENDS = ("", "[DONE]", "data: [DONE]")


def unpacked(raw: bytes, said: str, most: int) -> bytes | None:
    """A body as it was before it was packed; None where that is longer than so many bytes.

    The bytes themselves say how they are packed, whatever `said`, the header of the reply: a proxy
    unpacks a body and leaves the header standing, takes the header away, or packs a second time.
    What cannot be unpacked comes back as it is.
    """
    for _ in range(_MOST_LAYERS):
        is_marked = raw.startswith((_GZIP, *_ZLIB))
        if not is_marked and "deflate" not in said.lower():
            return raw
        try:
            inner = _inflated(raw, most)
        except zlib.error:
            return raw
        if inner is None or not is_marked:
            return inner
        raw = inner
    return raw


def _inflated(packed: bytes, most: int) -> bytes | None:
    """All members of gzip, zlib or deflate. Raises zlib.error for what is not packed."""
    made = bytearray()
    while packed:
        wrapping = _wrapping(packed)
        inner = zlib.decompressobj(wbits=wrapping)
        while True:
            made += inner.decompress(packed, _AT_ONCE)
            if len(made) > most:
                return None
            packed = inner.unconsumed_tail
            if inner.eof or not packed:
                break
        if not inner.eof:
            made += inner.flush()
            if wrapping < 0 or not made:
                what = "cut off"
                raise zlib.error(what)
            break  # The trailer is missing; whether the text is whole its reader finds out.
        packed = inner.unused_data.lstrip(b"\0")
    return bytes(made)


def _wrapping(packed: bytes) -> int:
    """How the bytes are wrapped (RFC 1950 and 1952); some servers leave it out of `deflate`."""
    is_wrapped = packed.startswith((_GZIP, *_ZLIB))
    return zlib.MAX_WBITS | 32 if is_wrapped else -zlib.MAX_WBITS


def as_utf8(raw: bytes, content_type: str) -> bytes:
    """A body as UTF-8, which JSON has to be, whatever its header says.

    Byte order marks and the zeros of wider encodings tell themselves; zeros around a body are
    padding. Only for bytes that are no UTF-8 the header's charset counts.
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
        named = _CHARSET.search(content_type)
        try:
            return raw.decode(named[1]).encode("utf-8") if named else raw
        except (LookupError, ValueError):
            return raw
    return raw


def read_loosely(raw: bytes, *, exact: bool = False) -> Any:
    """What strict JSON is not and can still be read: a paid answer is worth a second look.

    A byte order mark, bytes that are no UTF-8, halves of characters, line breaks within texts,
    numbers that JSON has no word for (read as null, or kept as `Digits` where all has to be
    `exact`), and the end mark of a stream. Raises ValueError for everything else.
    """
    # Without escaped backslashes, each backslash before a u begins an escape.
    halves = raw.replace(rb"\\", rb"\u005c") if b"\\u" in raw else raw
    halves = _ESCAPES.sub(lambda found: rb"\ufffd" if len(found[0]) == _LONE else found[0], halves)
    text = halves.decode("utf-8-sig", "replace").strip()
    parsed, end = (_LOOSE_EXACT if exact else _LOOSE).raw_decode(text)
    if text[end:].strip() not in _ENDS:
        what = "there is more than one value"
        raise ValueError(what)
    return parsed
