"""Which signals a text gives away by its words, in every language that has a table of them.

Case, accents, ways to write umlauts, and in a short text swapped or doubled letters do not count.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache, reduce
from itertools import chain, islice, pairwise
from operator import or_
from typing import NamedTuple

from router.request.languages import EMPTY_WORDS, words_of
from router.request.patterns import matcher_of
from router.request.word_tables import MONTH, NUMBERED, TABLES, Entry, Numbers, folded

__all__ = ["text_signals"]

#: Amounts of money in words; `_AMOUNT` finds those in figures and signs, which become a `€`.
_AMOUNTS = (
    "€/eur/usd/gbp/chf/pln/=euro/=euros/=eurow/=dollar/=dollars/=pounds/=reais/=zlotych/=zloty/zl"
)
#: Each begins with a sign or a digit, which the search skips to quickly.
_AMOUNT = re.compile(
    r"[$€£](?:[ ]?[$€£])*+|\d(?<![\d.,:]\d)\d{0,5}+[.,]\d\d(?![.,:]?\d)"
    r"|(\d)(?:eur|euros?|usd|gbp|chf|pln|zl)\b"
)
_SIGNS = ("$", "€", "£")
_FIGURE = re.compile(r"\d[\d.,]*+")
#: Invisible characters, within a word or between two.
_HIDDEN = re.compile("[\u00ad\u200b-\u200f\u2060-\u2064\ufeff]+")
#: The most words apart that the parts of an entry may be.
_APART = 12
#: Characters that are read of a long text, whose question comes first or last.
_FIRST, _LAST = 8_000, 4_000
#: Up to so many characters a text is short: its words are also tried without a slip of the pen.
_SHORT = 400
#: Words of a text that are looked at because an entry may need to know where they stand.
_MOST_HITS = 2_000
_MOST_AMOUNTS = 500
#: Places of each row of words that are looked at.
_MOST_ROWS = 20
_MOST_FIGURES = 50
#: Letters around a figure that are read.
_AROUND = 24
#: Letters of a word by which its entries are looked up.
_BEGINNING = 4
#: Letters of words, and of the words of a table, between which slips of the pen are looked for.
_LEAST_MENDED, _MOST_MENDED = 5, 24


class _Term(NamedTuple):
    """A word that stands for a part of entries, alone or in a row with others."""

    word: str
    is_whole: bool
    #: A bit.
    part: int
    #: The words in a row as they stand between the blanks of a text; empty for a word alone.
    row: str


class _Meaning(NamedTuple):
    """The parts that a word stands for alone, and those of each row of words that it is in."""

    parts: int
    rows: Sequence[tuple[str, int]]


class _Wanted(NamedTuple):
    """An entry; its parts are bits of a number."""

    signals: frozenset[str]
    numbers: Numbers
    parts: int
    #: The parts that are no amount of money.
    words: int


def _terms(part: str, bit: int) -> Iterator[_Term]:
    for written in part.replace("€", _AMOUNTS).split("/"):
        plain = written.removeprefix("=")
        words = plain.split()
        is_whole = plain != written or len(words[-1]) < _BEGINNING
        # A row is looked for where its rarest word is.
        key = max(words, key=lambda word: (word not in _EMPTY, len(word)))
        row = f" {plain} " if is_whole else f" {plain}"
        yield _Term(key, is_whole or key != words[-1], bit, row if len(words) > 1 else "")


def _all(bits: Iterable[int]) -> int:
    return reduce(or_, bits, 0)


_EMPTY = frozenset(map(folded, EMPTY_WORDS))
_ENTRIES: Sequence[Entry] = [*chain.from_iterable(TABLES.values())]
#: The parts of all entries as bits; entries share them.
_PARTS = {
    part: 1 << number
    for number, part in enumerate(dict.fromkeys(part for entry in _ENTRIES for part in entry.parts))
}
_BY_BEGINNING: defaultdict[str, list[_Term]] = defaultdict(list)
for _term in chain.from_iterable(_terms(part, bit) for part, bit in _PARTS.items()):
    _BY_BEGINNING[_term.word[:_BEGINNING]].append(_term)
_KNOWN: Sequence[_Term] = [*chain.from_iterable(_BY_BEGINNING.values())]
_CURRENCIES = frozenset(word.removeprefix("=") for word in _AMOUNTS.split("/"))
#: The parts that are an amount; that name things by numbers, or days; that stand between numbers.
_MONEY = _all(bit for part, bit in _PARTS.items() if "€" in part)
_NUMBERED = _all(_PARTS[entry.parts[0]] for entry in _ENTRIES if NUMBERED in entry.signals)
_MONTHS = _all(_PARTS[entry.parts[0]] for entry in _ENTRIES if MONTH in entry.signals)
_BETWEEN = _all(
    _PARTS[part] for entry in _ENTRIES if entry.numbers[:3] == "two" for part in entry.parts
)
#: Entries by the bit of their first part, which is the rarest.
_BY_FIRST: defaultdict[int, list[_Wanted]] = defaultdict(list)
for _entry in _ENTRIES:
    if not {NUMBERED, MONTH}.intersection(_entry.signals):
        _parts = _all(_PARTS[part] for part in _entry.parts)
        _BY_FIRST[_PARTS[_entry.parts[0]]].append(
            _Wanted(frozenset(_entry.signals), _entry.numbers, _parts, _parts & ~_MONEY)
        )
_FIRSTS = _all(_BY_FIRST)
_NO_SIGNALS: frozenset[str] = frozenset()


def text_signals(text: str) -> frozenset[str]:
    """The signals of a text, by the word tables. Takes linear time.

    Of more than 12,000 characters, the first 8,000 and the last 4,000 are read.
    """
    if len(text) > _FIRST + _LAST:
        text = f"{text[:_FIRST]} {text[-_LAST:]}"
    is_short, plain = len(text) <= _SHORT, folded(text)
    # Most long texts have no first part of any entry. A search for all of them at once takes
    # 2 microseconds for 1 kB, where splitting it into words takes 10.
    if not is_short and not _has_a_first()(plain):
        return _NO_SIGNALS
    if plain.isascii() or not _HIDDEN.search(plain):
        return _signals_of(plain, is_short)
    return _signals_of(_HIDDEN.sub("", plain), is_short) | _signals_of(
        _HIDDEN.sub(" ", plain), is_short
    )


def _signals_of(plain: str, is_short: bool) -> frozenset[str]:
    words = words_of(plain).replace(".", " ").split()
    known = _known(words, is_short)
    parts = _all(known.values())
    complete = [
        entry
        for first in _each(parts & _FIRSTS)
        for entry in _BY_FIRST[first]
        if entry.words & parts == entry.words
    ]
    if not complete:
        return _NO_SIGNALS
    if any(entry.parts != entry.words for entry in complete):
        amounts = _AMOUNT.sub(r"\1 € ", plain, count=_MOST_AMOUNTS)
        if amounts != plain:
            words = words_of(amounts).replace(".", " ").split()
            known = {**known, "€": _MONEY}
            parts |= _MONEY

    signals: set[str] = set()
    for entry in complete:
        if not (entry.parts & (entry.parts - 1) or entry.numbers):  # a single part is enough
            signals |= entry.signals
    complete = [
        entry
        for entry in complete
        if entry.parts & parts == entry.parts and not entry.signals <= signals
    ]
    within = _within(words, known, complete) if complete else {}
    for entry in complete:
        if entry.signals <= signals or not _are_together(entry.parts, within):
            continue
        if _has_numbers(entry.numbers, plain):
            signals |= entry.signals
    return frozenset(signals)


def _known(words: Sequence[str], is_short: bool) -> Mapping[str, int]:
    """The words of a text, and the rows of words in it, that stand for parts of entries."""
    meaning_of = _meaning_in_short if is_short else _meaning
    known: dict[str, int] = {}
    joined = ""
    for word in set(words).difference(_SILENT):
        if (meaning := meaning_of(word)) is None:
            continue
        if meaning.parts:
            known[word] = meaning.parts
        for row, part in meaning.rows:
            joined = joined or f" {' '.join(words)} "
            if row in joined:
                known[row] = known.get(row, 0) | part
    return known


@lru_cache(maxsize=20_000)
def _meaning(word: str) -> _Meaning | None:
    """What a word stands for as written, umlauts in either way."""
    return _exactly(word) or _exactly(word.replace("ae", "a").replace("oe", "o").replace("ue", "u"))


@lru_cache(maxsize=20_000)
def _meaning_in_short(word: str) -> _Meaning | None:
    """What a word stands for, or else what it may have been meant to be."""
    meaning = _meaning(word)
    if meaning is not None or not _LEAST_MENDED <= len(word) <= _MOST_MENDED:
        return meaning
    meant = filter(None, (_exactly(other, _LEAST_MENDED) for other in _mended(word)))
    parts = _all(meaning.parts for meaning in meant)
    return _Meaning(parts, ()) if parts else None


def _exactly(word: str, least: int = 0) -> _Meaning | None:
    parts, rows = 0, []
    for known, is_whole, part, row in _BY_BEGINNING.get(word[:_BEGINNING], ()):
        if (word == known if is_whole else word.startswith(known)) and len(known) >= least:
            if row:
                rows.append((row, part))
            else:
                parts |= part
    return _Meaning(parts, rows) if parts or rows else None


def _mended(word: str) -> Iterator[str]:
    """What a word may have been before two letters were swapped, or one doubled or written once."""
    for at, (one, other) in enumerate(pairwise(word)):
        before, after = word[:at], word[at + 2 :]
        yield f"{before}{one}{after}" if one == other else f"{before}{other}{one}{after}"
        yield f"{before}{one}{one}{other}{after}"


#: Small words that stand for nothing.
_SILENT = frozenset(word for word in _EMPTY if _exactly(word) is None)


@lru_cache(maxsize=1)
def _has_a_first() -> Callable[[str], bool]:
    """Whether a text has a word that begins like a first part of any entry. Made when needed."""
    firsts = {term.row.strip() or term.word for term in _KNOWN if term.part & _FIRSTS}
    words = "|".join(sorted(firsts)).replace(" ", "[^a-z0-9]+")
    return matcher_of(f"(^|[^a-z0-9])({words})")


def _within(
    words: Sequence[str], known: Mapping[str, int], complete: Iterable[_Wanted]
) -> Mapping[int, int]:
    """For each part of these entries, the places it stands at or a few words before, as bits."""
    wanted = _all(entry.parts for entry in complete)
    known = {term: parts & wanted for term, parts in known.items() if parts & wanted}
    places: defaultdict[str, int] = defaultdict(int)
    hits = (hit for hit in enumerate(words) if hit[1] in known)
    for at, word in islice(hits, _MOST_HITS):
        places[word] |= 1 << at
    joined = f" {' '.join(words)} "
    for row in (row for row in known if row[0] == " "):
        at = joined.find(row)
        for _ in range(_MOST_ROWS):
            if at < 0:
                break
            places[row] |= 1 << joined.count(" ", 0, at)
            at = joined.find(row, at + 1)
    within: defaultdict[int, int] = defaultdict(int)
    for term, bits in places.items():
        for part in _each(known[term]):
            within[part] |= bits
    return {part: _spread(bits) for part, bits in within.items()}


def _are_together(parts: int, within: Mapping[int, int]) -> bool:
    """True where every part is within a few words of the others."""
    together = -1
    for part in _each(parts):
        together &= within.get(part, 0)
    return together != 0


def _each(bits: int) -> Iterator[int]:
    """The single bits of a number."""
    while bits:
        lowest = bits & -bits
        yield lowest
        bits ^= lowest


def _spread(bits: int) -> int:
    """Each bit and the twelve above it."""
    bits |= bits << 1
    bits |= bits << 2
    bits |= bits << 4
    return bits | bits << (_APART - 7)


def _has_numbers(numbers: Numbers, plain: str) -> bool:
    if not numbers:
        return True
    if numbers == "no number":
        return _FIGURE.search(plain) is None
    counts = [*dict.fromkeys(_counts(plain))]
    return any(
        number != other
        and (unit == against or (numbers == "two numbers" and not (unit and against)))
        for no, (number, unit) in enumerate(counts)
        for other, against in counts[no + 1 :]
    )


def _counts(plain: str) -> Iterator[tuple[str, str]]:
    """The numbers of a text that are no names or dates, each with what it counts, or ""."""
    for figure in islice(_FIGURE.finditer(plain), _MOST_FIGURES):
        start, end = figure.span()
        before = words_of(plain[max(start - _AROUND, 0) : start]).replace(".", " ").split()[-2:]
        after = words_of(plain[end : end + _AROUND]).split()[:2]
        named, following = _beside(before, before[-1:]), _beside(after, after[:1])
        if named & (_NUMBERED | _MONTHS) or following & _MONTHS:
            continue
        number = figure[0].rstrip(".,")
        unit = after[0].strip(".") if after and number == figure[0] else ""
        if (
            plain[start - 1 : start] in _SIGNS
            or _AMOUNT.search(number)
            or not _CURRENCIES.isdisjoint((unit, *before[-1:]))
        ):
            unit = "€"
        elif unit in _EMPTY or following & _BETWEEN:
            unit = ""
        yield number.removesuffix(".00").removesuffix(",00"), unit


def _beside(words: Sequence[str], nearest: Sequence[str]) -> int:
    """The parts that the nearest word stands for, and the rows of words."""
    known = _known(words, is_short=False)
    return _all(part for term, part in known.items() if term[0] == " " or term in nearest)
