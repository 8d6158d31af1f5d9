"""Bodies as they were packed, and text as it was escaped, taken apart."""

import json
import re
import zlib
from collections.abc import Iterator
from typing import Any

__all__ = ["Unpacker", "read_loosely"]

_AT_ONCE = 64 * 1024
_GZIP = b"\x1f\x8b"
#: A pair of surrogates, or one that has lost the other.
_ESCAPES = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[dD][89a-fA-F][0-9a-fA-F]{2}"
)
_LONE = 6
_LOOSE = json.JSONDecoder(strict=False, parse_constant=lambda _: None)
_ENDS = ("", "[DONE]", "data: [DONE]")


class Unpacker:
    """Unpacks gzip and deflate as they come, also in several members.

    In small pieces, because a packed body may grow a thousandfold.
    """

    def __init__(self) -> None:
        self._inner: zlib._Decompress | None = None
        self._held = b""

    def unpack(self, part: bytes) -> Iterator[bytes]:
        """What so many more packed bytes hold. Raises zlib.error for what is not packed."""
        packed = self._held + part
        self._held = b""
        while packed:
            if self._inner is None or self._inner.eof:
                if len(packed) < len(_GZIP):
                    self._held = packed
                    return
                self._inner = zlib.decompressobj(wbits=_wrapping(packed))
            yield self._inner.decompress(packed, _AT_ONCE)
            packed = self._inner.unconsumed_tail or self._inner.unused_data


def _wrapping(packed: bytes) -> int:
    """How the bytes are wrapped (RFC 1950 and 1952); some servers leave it out of `deflate`."""
    first, second = packed[:2]
    is_zlib = first & 0x0F == zlib.DEFLATED and (first << 8 | second) % 31 == 0
    return zlib.MAX_WBITS | 32 if is_zlib or packed.startswith(_GZIP) else -zlib.MAX_WBITS


def read_loosely(raw: bytes) -> Any:
    """What strict JSON is not and can still be read: a paid answer is worth a second look.

    A byte order mark, bytes that are no UTF-8, halves of characters, line breaks within texts,
    numbers that JSON has no word for (read as null), and the end mark of a stream. Raises
    ValueError for everything else.
    """
    # Without escaped backslashes, each backslash before a u begins an escape.
    halves = raw.replace(rb"\\", rb"\u005c") if b"\\u" in raw else raw
    halves = _ESCAPES.sub(lambda found: rb"\ufffd" if len(found[0]) == _LONE else found[0], halves)
    text = halves.decode("utf-8-sig", "replace").strip()
    parsed, end = _LOOSE.raw_decode(text)
    if text[end:].strip() not in _ENDS:
        what = "there is more than one value"
        raise ValueError(what)
    return parsed
