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

__all__ = [
    "MONTH",
    "NUMBERED",
    "SIGNALS",
    "TABLES",
    "Entry",
    "Numbers",
    "folded",
    "read_table",
    "sections",
]

#: What an entry asks of the numbers of a text.
Numbers = Literal["", "no number", "two numbers", "two of a kind"]
#: No signals: the words before the number of a thing, as in "order 991", and beside that of a day.
NUMBERED, MONTH = "numbered", "month"

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


def sections(text: str) -> Iterator[tuple[str, Sequence[str]]]:
    """The entries of a table line by line, each with the heading above it. Raises ValueError."""
    heading = None
    for line in text.splitlines():
        written = line.partition("#")[0].strip()
        if written.startswith("["):
            heading = written.strip("[]")
        elif heading is None and written:
            msg = f"a heading such as [money] was expected before {written!r}"
            raise ValueError(msg)
        elif heading is not None:
            yield heading, [entry.strip() for entry in written.split(",") if entry.strip()]


def read_table(text: str) -> Iterator[Entry]:
    """The entries of a table of signals. Raises ValueError for a line before the first heading."""
    for heading, entries in sections(folded(text)):
        signals, _, numbers = heading.partition(", ")
        for entry in entries:
            yield Entry(signals.split(), cast(Numbers, numbers), entry.split(" + "))


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
