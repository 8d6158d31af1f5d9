"""Escapes what could control a terminal, or be invisible, in text that others wrote.

Everything that a command prints or a page shows goes through here.
"""

import sys
import unicodedata
from collections.abc import Callable

__all__ = ["escaped", "plain", "say"]

#: Invisible although they count as printable: joiners, fillers and variation selectors, except for
#: the selector that follows an emoji.
_UNSEEN = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u3164\uffa0"
    + "".join(map(chr, (*range(0xFE00, 0xFE0F), *range(0xE0100, 0xE01F0))))
)

#: How many characters have their replacement remembered.
_MOST_CACHED = 4096


def _is_visible(character: str) -> bool:
    """True for letters, signs and blanks; False for controls, directions and zero width."""
    return character not in _UNSEEN and (
        character.isprintable() or unicodedata.category(character) == "Zs"
    )


def plain(text: str, *, is_line: bool = False) -> str:
    """The text with invisible characters escaped; `is_line`: line breaks and tabs too."""
    return text.translate(_IN_A_LINE if is_line else _IN_LINES)


def say(text: str, *, is_error: bool = False) -> None:
    """Print a line, or several."""
    _ = (sys.stderr if is_error else sys.stdout).write(f"{plain(text)}\n")


def escaped(document: str) -> str:
    """A JSON document with invisible characters as JSON escapes."""
    return document.translate(_IN_JSON)


def _as_json(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))


class _Escapes(dict[int, str]):
    """The replacement of each character, for `str.translate`; computed when first needed."""

    def __init__(self, kept: str, escape: Callable[[str], str]) -> None:
        super().__init__({ord(character): character for character in kept})
        self._escape = escape

    def __missing__(self, code: int) -> str:
        character = chr(code)
        replacement = character if _is_visible(character) else self._escape(character)
        if len(self) < _MOST_CACHED:
            self[code] = replacement
        return replacement


def _as_python(character: str) -> str:
    return character.encode("unicode_escape").decode()


_IN_A_LINE, _IN_LINES = _Escapes("", _as_python), _Escapes("\n\t", _as_python)
_IN_JSON = _Escapes("\n\t", _as_json)
