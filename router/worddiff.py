"""What one text changed in another, word by word."""

import re
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from itertools import groupby
from operator import itemgetter
from typing import Literal, NamedTuple

__all__ = ["Piece", "word_diff"]

_WORDS = re.compile(r"\s+|\w+|[^\w\s]")
#: Comparing takes time that grows with the square of this; longer texts are compared by lines.
_MOST_WORDS = 3000


class Piece(NamedTuple):
    """A part of the two texts that is the same in both, or stands in one alone."""

    kind: Literal["same", "removed", "added"]
    text: str


def word_diff(before: str, after: str) -> list[Piece]:
    """The pieces in order: those that are not `added` make up `before`, not `removed`, `after`."""
    old, new = _WORDS.findall(before), _WORDS.findall(after)
    if max(len(old), len(new)) > _MOST_WORDS:
        old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
    pieces = groupby(_pieces(old, new), itemgetter(0))
    return [Piece(kind, "".join(one.text for one in run)) for kind, run in pieces]


def _pieces(old: Sequence[str], new: Sequence[str]) -> Iterator[Piece]:
    matcher = SequenceMatcher(None, old, new, autojunk=False)
    for kind, old_from, old_to, new_from, new_to in matcher.get_opcodes():
        if kind == "equal":
            yield Piece("same", "".join(old[old_from:old_to]))
            continue
        if old_to > old_from:
            yield Piece("removed", "".join(old[old_from:old_to]))
        if new_to > new_from:
            yield Piece("added", "".join(new[new_from:new_to]))
