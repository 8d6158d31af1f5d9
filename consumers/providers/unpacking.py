"""Bodies as they were packed, and text as it was escaped, taken apart."""

import re
import zlib
from collections.abc import Iterator

__all__ = ["Unpacker", "whole_characters"]

_AT_ONCE = 64 * 1024
_GZIP = b"\x1f\x8b"
#: An escaped backslash, a pair of surrogates, or one that has lost the other.
_ESCAPES = re.compile(
    rb"\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[dD][89a-fA-F][0-9a-fA-F]{2}"
)
_LONE = 6


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


def whole_characters(raw: bytes) -> bytes:
    """JSON in which every escaped half of a character has become U+FFFD."""
    return _ESCAPES.sub(lambda found: rb"\ufffd" if len(found[0]) == _LONE else found[0], raw)
