"""The word tables in `words`, one file a language: what gives a signal of a text away.

They are read from the package when this module is imported, as code is: no path, setting or
environment decides what is in them, so that the same software always gives the same signals.
`docs/signals.md` says how to read and to add one.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from typing import Literal, NamedTuple, cast

__all__ = ["MONTH", "NUMBERED", "SIGNALS", "TABLES", "Entry", "Numbers", "folded", "read_table"]

#: What an entry asks of the numbers of a text.
Numbers = Literal["", "no number", "two numbers", "two of a kind"]
#: No signals: the words before the number of a thing, as in "order 991", and beside that of a day.
NUMBERED, MONTH = "numbered", "month"

_HEADING = re.compile(r"\[([a-z_ ]+)(?:, (no number|two numbers|two of a kind))?\]")
#: Accents, which NFKD separates from their letters.
_ACCENTS = re.compile("[\u0300-\u036f]+")
#: Letters that look like other ones, or are written without what makes them special.
_ALIKE = str.maketrans(
    dict(
        zip(
            "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0455\u0142\u2019\u0153\u00e6",
            (*"aeopcyxisl'", "oe", "ae"),
            strict=True,
        )
    )
)


class Entry(NamedTuple):
    """A line of a table: the signals of a text that has all of its parts near each other."""

    signals: Sequence[str]
    numbers: Numbers
    #: Each with its alternatives as `a/b`, which are words, or words in a row.
    parts: Sequence[str]


def folded(text: str) -> str:
    """A text without case and accents, `don't` as `dont`."""
    if not text.isascii():
        apart = unicodedata.normalize("NFKD", text.casefold())
        text = _ACCENTS.sub("", apart).translate(_ALIKE)
    text = text.lower()
    return text.replace("n't", "nt") if "'" in text else text


def read_table(text: str) -> Iterator[Entry]:
    """The entries of a table. Raises ValueError for a line before the first heading."""
    heading: re.Match[str] | None = None
    for line in folded(text).splitlines():
        written = line.partition("#")[0].strip()
        if match := _HEADING.fullmatch(written):
            heading = match
        elif heading is None and written:
            msg = f"a heading such as [money] was expected before {written!r}"
            raise ValueError(msg)
        elif heading is not None:
            signals, numbers = heading[1].split(), cast(Numbers, heading[2] or "")
            for entry in filter(None, map(str.strip, written.split(","))):
                yield Entry(signals, numbers, entry.split(" + "))


def _tables() -> Mapping[str, Sequence[Entry]]:
    folder = resources.files("router.request").joinpath("words")
    texts = {file.name: file.read_text("utf-8") for file in folder.iterdir()}
    return {
        name.removesuffix(".txt"): [*read_table(text)]
        for name, text in sorted(texts.items())
        if name.endswith(".txt")
    }


#: The entries by language.
TABLES: Mapping[str, Sequence[Entry]] = _tables()
#: The signals that words give away.
SIGNALS: Sequence[str] = [
    name
    for name in dict.fromkeys(
        signal for entries in TABLES.values() for entry in entries for signal in entry.signals
    )
    if name not in (NUMBERED, MONTH)
]
