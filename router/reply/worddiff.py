"""What one text changed in another, word by word."""

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, Literal, NamedTuple

__all__ = ["Piece", "shared", "word_diff"]

_WORDS = re.compile(r"\s+|\w+|[^\w\s]")
_LINES = re.compile(r"[^\n]*+\n|[^\n]++")
_BLANK = re.compile(r"\s")
#: Where more characters than this differ, lines are compared; where more lines, nothing is.
_MOST_CHARACTERS = 10_000
_MOST_LINES = 2_000
#: Steps of comparing between two anchors. Text that takes more is shown as replaced.
_MOST_STEPS = 4_000
_MOST_STEPS_IN_ALL = 10_000

Kind = Literal["same", "removed", "added"]


class Piece(NamedTuple):
    """A part of the two texts that is the same in both, or is in one alone."""

    kind: Kind
    text: str


def word_diff(before: str, after: str) -> list[Piece]:
    """The pieces in order: those that are not `added` make up `before`, not `removed`, `after`.

    Words that both texts have once are matched first (Cohen's patience diff), what is between them
    with the fewest changes (Myers 1986, doi:10.1007/BF01840446). Time is bounded: parts that differ
    a lot are shown as replaced, and long texts are compared by lines.
    """
    start = _start(before, after)
    end = _end(before[start:], after[start:])
    old, new = _tokens(before[start : len(before) - end], after[start : len(after) - end])
    pieces = [
        Piece("same", before[:start]),
        *_pieces(old, new),
        Piece("same", before[len(before) - end :]),
    ]
    runs = groupby((piece for piece in pieces if piece.text), itemgetter(0))
    return [Piece(kind, "".join(piece.text for piece in run)) for kind, run in runs]


def _start(before: str, after: str) -> int:
    """The length of the beginning that both share, in whole words."""
    at = shared(before, after)
    return at if before == after else max(before.rfind(blank, 0, at) for blank in " \n\t") + 1


def _end(before: str, after: str) -> int:
    """The length of the end that both share, in whole words."""
    blank = _BLANK.search(before, len(before) - shared(before[::-1], after[::-1]))
    return len(before) - blank.start() if blank else 0


def shared(first: Sequence[Any], second: Sequence[Any]) -> int:
    """How many first characters or items two texts or lists share; by bisection, for speed."""
    low, high = 0, min(len(first), len(second))
    while low < high:
        middle = (low + high + 1) // 2
        if first[low:middle] == second[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _tokens(old: str, new: str) -> tuple[Sequence[str], Sequence[str]]:
    if max(len(old), len(new)) <= _MOST_CHARACTERS:
        return _WORDS.findall(old), _WORDS.findall(new)
    if max(old.count("\n"), new.count("\n")) <= _MOST_LINES:
        return _LINES.findall(old), _LINES.findall(new)
    return [old], [new]


def _pieces(old: Sequence[str], new: Sequence[str]) -> Iterator[Piece]:
    left = _MOST_STEPS_IN_ALL
    old_from = new_from = 0
    for old_to, new_to in (*_anchors(old, new), (len(old), len(new))):
        gone, come = old[old_from:old_to], new[new_from:new_to]
        same, spent = _fewest(gone, come, min(left, _MOST_STEPS))
        left -= spent
        x = y = 0
        for no, against in (*same, (len(gone), len(come))):
            yield Piece("removed", "".join(gone[x:no]))
            yield Piece("added", "".join(come[y:against]))
            yield Piece("same", "".join(gone[no : no + 1]))
            x, y = no + 1, against + 1
        yield Piece("same", "".join(old[old_to : old_to + 1]))
        old_from, new_from = old_to + 1, new_to + 1


def _anchors(old: Sequence[str], new: Sequence[str]) -> list[tuple[int, int]]:
    """The places of words that each text has once: as many as come in the same order in both."""
    many, against = Counter(old), Counter(new)
    places = {word: no for no, word in enumerate(new) if against[word] == 1 and not word.isspace()}
    pairs = [
        (no, places[word]) for no, word in enumerate(old) if word in places and many[word] == 1
    ]
    # The longest rising sequence: the last of each length, and who came before each.
    lasts: list[int] = []
    ends: list[int] = []
    before: list[int] = []
    for no, (_, place) in enumerate(pairs):
        length = bisect_left(lasts, place)
        before.append(ends[length - 1] if length else -1)
        lasts[length : length + 1] = [place]
        ends[length : length + 1] = [no]
    chain = []
    at = ends[-1] if ends else -1
    while at >= 0:
        chain.append(pairs[at])
        at = before[at]
    return chain[::-1]


def _fewest(old: Sequence[str], new: Sequence[str], most: int) -> tuple[list[tuple[int, int]], int]:
    """The places of the words that stay with the fewest changes, and the steps it took.

    After `most` steps only the words that are the same at both ends stay.
    """
    head = 0
    shorter = min(len(old), len(new))
    while head < shorter and old[head] == new[head]:
        head += 1
    tail = 0
    while tail < shorter - head and old[-1 - tail] == new[-1 - tail]:
        tail += 1
    n, m = len(old) - head - tail, len(new) - head - tail
    middle, steps = _myers(old[head : head + n], new[head : head + m], most) if n and m else ([], 0)
    return [
        *((no, no) for no in range(head)),
        *((head + x, head + y) for x, y in middle),
        *((head + n + no, head + m + no) for no in range(tail)),
    ], steps


def _myers(old: Sequence[str], new: Sequence[str], most: int) -> tuple[list[tuple[int, int]], int]:
    """The places of the words that stay; none where that takes more than `most` steps."""
    furthest = {1: 0}  # by diagonal
    rounds: list[dict[int, int]] = []
    steps = 0
    for changes in range(len(old) + len(new) + 1):
        steps += changes
        if steps > most:
            break
        rounds.append(dict(furthest))
        for diagonal in range(-changes, changes + 1, 2):
            x, _ = _entered(furthest, diagonal, changes)
            y = x - diagonal
            while x < len(old) and y < len(new) and old[x] == new[y]:
                x, y, steps = x + 1, y + 1, steps + 1
            furthest[diagonal] = x
            if x >= len(old) and y >= len(new):
                return _way_back(rounds, x, y), steps
    return [], steps


def _entered(furthest: dict[int, int], diagonal: int, changes: int) -> tuple[int, bool]:
    """Where a diagonal is entered; True: by a word of the new text, False: by one of the old."""
    below, above = furthest.get(diagonal + 1, -1), furthest.get(diagonal - 1, -1)
    comes_down = diagonal == -changes or (diagonal != changes and above < below)
    return below if comes_down else above + 1, comes_down


def _way_back(rounds: Sequence[dict[int, int]], x: int, y: int) -> list[tuple[int, int]]:
    same: list[tuple[int, int]] = []
    for changes in range(len(rounds) - 1, -1, -1):
        diagonal = x - y
        start, comes_down = _entered(rounds[changes], diagonal, changes)
        while x > start and y > start - diagonal:
            x, y = x - 1, y - 1
            same.append((x, y))
        x, y = (x, y - 1) if comes_down else (x - 1, y)
    return same[::-1]
