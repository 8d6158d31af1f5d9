"""Text of others on a screen or in a file: what could steer a screen or hide in it is escaped.

Everything that a command prints and a page shows goes through here.
"""

import sys
import unicodedata
from collections.abc import Callable

__all__ = ["escaped", "plain", "say"]

#: These show nothing although they count as printable: joiners, fillers and variation selectors.
#: The one behind an emoji is left alone.
_UNSEEN = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u3164\uffa0"
    + "".join(map(chr, (*range(0xFE00, 0xFE0F), *range(0xE0100, 0xE01F0))))
)

_MOST_KNOWN = 4096


def _is_seen(one: str) -> bool:
    """True for a letter, a sign or a blank: no control, no direction, no width of nothing."""
    return one not in _UNSEEN and (one.isprintable() or unicodedata.category(one) == "Zs")


def plain(text: str, *, is_line: bool = False) -> str:
    """The text with escapes in place of what cannot be seen; `is_line`: of ends of lines too."""
    return text.translate(_IN_A_LINE if is_line else _IN_LINES)


def say(text: str, *, is_error: bool = False) -> None:
    """Print a line, or several."""
    _ = (sys.stderr if is_error else sys.stdout).write(f"{plain(text)}\n")


def escaped(document: str) -> str:
    """A JSON document with the escapes of JSON in place of what cannot be seen."""
    return document.translate(_IN_JSON)


def _as_json(one: str) -> str:
    pair = one.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{pair[at : at + 2].hex()}" for at in range(0, len(pair), 2))


class _Escapes(dict[int, str]):
    """What stands for each character; the first ones are looked up once."""

    def __init__(self, kept: str, escape: Callable[[str], str]) -> None:
        super().__init__({ord(one): one for one in kept})
        self._escape = escape

    def __missing__(self, code: int) -> str:
        one = chr(code)
        made = one if _is_seen(one) else self._escape(one)
        if len(self) < _MOST_KNOWN:
            self[code] = made
        return made


def _as_python(one: str) -> str:
    return one.encode("unicode_escape").decode()


_IN_A_LINE, _IN_LINES = _Escapes("", _as_python), _Escapes("\n\t", _as_python)
_IN_JSON = _Escapes("\n\t", _as_json)
