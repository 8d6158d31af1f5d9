"""Text of others on a terminal or in a file: what could steer a screen or hide in it is escaped.

Everything that a command prints goes through here: `say`, `console` and `print_json` see to it.
"""

import sys
import unicodedata

__all__ = ["escaped", "plain", "say"]

#: These show nothing although they count as printable: joiners, fillers and variation selectors.
#: The one behind an emoji is left alone.
_UNSEEN = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u3164\uffa0"
    + "".join(map(chr, (*range(0xFE00, 0xFE0F), *range(0xE0100, 0xE01F0))))
)


def _is_seen(one: str) -> bool:
    """True for a letter, a sign or a blank: no control, no direction, no width of nothing."""
    return one not in _UNSEEN and (one.isprintable() or unicodedata.category(one) == "Zs")


def plain(text: str, *, is_line: bool = False) -> str:
    """The text with escapes in place of what cannot be seen; `is_line`: of ends of lines too."""
    kept = "" if is_line else "\n\t"
    return "".join(
        one if one in kept or _is_seen(one) else one.encode("unicode_escape").decode()
        for one in text
    )


def escaped(document: str) -> str:
    """A JSON document with the escapes of JSON in place of what cannot be seen."""
    return "".join(one if one in "\n\t" or _is_seen(one) else _as_json(one) for one in document)


def _as_json(one: str) -> str:
    pair = one.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{pair[at : at + 2].hex()}" for at in range(0, len(pair), 2))


def say(text: str, *, is_error: bool = False) -> None:
    """Print a line, or several."""
    _ = (sys.stderr if is_error else sys.stdout).write(f"{plain(text)}\n")
