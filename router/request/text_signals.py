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

import jsonschema_rs

from router.request.languages import EMPTY_WORDS, words_of
from router.request.word_tables import NUMBERED, TABLES, Entry, Numbers, folded

__all__ = ["matcher_of", "text_signals"]

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
_MOST_FIGURES = 50
#: Letters around a figure that are read.
_AROUND = 24
#: Letters of a word by which its entries are looked up.
_BEGINNING = 4
#: Letters of words, and of the words of a table, between which slips of the pen are looked for.
_LEAST_MENDED, _MOST_MENDED = 5, 24


class _Term(NamedTuple):
    """A word, or two in a row, that stands for a part of entries."""

    word: str
    is_whole: bool
    #: A bit.
    part: int


class _Wanted(NamedTuple):
    """An entry; its parts are bits of a number."""

    signals: frozenset[str]
    numbers: Numbers
    parts: int
    #: The parts that are no amount of money.
    words: int


def matcher_of(pattern: str) -> Callable[[str], bool]:
    """Whether a pattern is in a text: a JSON Schema's engine takes linear time, and little of it.

    A text with half a character counts as one that has it: only a slower search can read that.
    """
    validator = jsonschema_rs.validator_for({"pattern": pattern})

    def matches(text: str) -> bool:
        try:
            return validator.is_valid(text)
        except ValueError:
            return True

    return matches


def _terms(part: str, bit: int) -> Iterator[_Term]:
    for word in part.replace("€", _AMOUNTS).split("/"):
        plain = word.removeprefix("=")
        last = plain.rpartition(" ")[2]
        yield _Term(plain, plain != word or len(last) < _BEGINNING, bit)


def _all(bits: Iterable[int]) -> int:
    return reduce(or_, bits, 0)


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
#: The parts that are an amount, that stand before the number of a thing, or between two numbers.
_MONEY = _all(bit for part, bit in _PARTS.items() if "€" in part)
_NUMBERED = _all(_PARTS[entry.parts[0]] for entry in _ENTRIES if NUMBERED in entry.signals)
_BETWEEN = _all(
    _PARTS[part] for entry in _ENTRIES if entry.numbers == "two numbers" for part in entry.parts
)
#: Entries by the bit of their first part, which is the rarest.
_BY_FIRST: defaultdict[int, list[_Wanted]] = defaultdict(list)
for _entry in _ENTRIES:
    if NUMBERED not in _entry.signals:
        _parts = _all(_PARTS[part] for part in _entry.parts)
        _BY_FIRST[_PARTS[_entry.parts[0]]].append(
            _Wanted(frozenset(_entry.signals), _entry.numbers, _parts, _parts & ~_MONEY)
        )
_FIRSTS = _all(_BY_FIRST)
#: How the second of two words in a row may begin, by the first.
_SECONDS: Mapping[str, tuple[str, ...]] = {
    first: tuple(second for one, second in _two if one == first)
    for _two in [[term.word.split(" ") for term in _KNOWN if " " in term.word]]
    for first in {one for one, _ in _two}
}
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
    if not is_short and not _has_a_first(plain):
        return _NO_SIGNALS
    if plain.isascii() or not _HIDDEN.search(plain):
        return _signals_of(plain, is_short)
    return _signals_of(_HIDDEN.sub("", plain), is_short) | _signals_of(
        _HIDDEN.sub(" ", plain), is_short
    )


def _signals_of(plain: str, is_short: bool) -> frozenset[str]:
    words, terms, parts = _read(plain, is_short)
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
        words, terms, parts = _read(amounts, is_short)

    signals: set[str] = set()
    for entry in complete:
        if not (entry.parts & (entry.parts - 1) or entry.numbers):  # a single part is enough
            signals |= entry.signals
    complete = [
        entry
        for entry in complete
        if entry.parts & parts == entry.parts and not entry.signals <= signals
    ]
    within = _within(words, terms, complete) if complete else {}
    for entry in complete:
        if entry.signals <= signals or not _are_together(entry.parts, within):
            continue
        if _has_numbers(entry.numbers, plain):
            signals |= entry.signals
    return frozenset(signals)


def _read(plain: str, is_short: bool) -> tuple[Sequence[str], Mapping[str, int], int]:
    """The words of a text; the parts that each, or two in a row, stand for; and all of them."""
    words = words_of(plain).replace(".", " ").split()
    terms = set(words).difference(_SILENT)
    for one, other in pairwise(words):
        if one in _SECONDS and other.startswith(_SECONDS[one]):
            terms.add(f"{one} {other}")
    parts_of, every = _parts_in_short if is_short else _parts_of, 0
    known = {term: parts for term in terms if (parts := parts_of(term))}
    for parts in known.values():
        every |= parts
    return words, known, every


@lru_cache(maxsize=20_000)
def _parts_of(term: str) -> int:
    """The parts that a word, or two in a row, stand for as written, umlauts in either way."""
    return _exactly(term) or _exactly(term.replace("ae", "a").replace("oe", "o").replace("ue", "u"))


@lru_cache(maxsize=20_000)
def _parts_in_short(term: str) -> int:
    """The parts that a word stands for, or else those of what it may have been meant to be."""
    parts = _parts_of(term)
    if parts or " " in term or not _LEAST_MENDED <= len(term) <= _MOST_MENDED:
        return parts
    return next(filter(None, (_exactly(word, _LEAST_MENDED) for word in _mended(term))), 0)


def _exactly(term: str, least: int = 0) -> int:
    is_pair, parts = " " in term, 0
    for word, is_whole, part in _BY_BEGINNING.get(term[:_BEGINNING], ()):
        if (
            (term == word if is_whole else term.startswith(word))
            and len(word) >= least
            and is_pair is (" " in word)
        ):
            parts |= part
    return parts


def _mended(word: str) -> Iterator[str]:
    """What a word may have been before two letters were swapped, or one doubled or written once."""
    for at, (one, other) in enumerate(pairwise(word)):
        before, after = word[:at], word[at + 2 :]
        yield f"{before}{one}{after}" if one == other else f"{before}{other}{one}{after}"
        yield f"{before}{one}{one}{other}{after}"


#: Small words, and those of them that stand for nothing.
_EMPTY = frozenset(map(folded, EMPTY_WORDS))
_SILENT = frozenset(word for word in _EMPTY if not _exactly(word))
#: Whether a text has a word that begins like a first part of any entry.
_has_a_first = matcher_of(
    "(^|[^a-z0-9])("
    + "|".join(sorted({t.word.replace(" ", "[^a-z0-9]+") for t in _KNOWN if t.part & _FIRSTS}))
    + ")"
)


def _within(
    words: Sequence[str], parts_of: Mapping[str, int], complete: Iterable[_Wanted]
) -> Mapping[int, int]:
    """For each part of these entries, the places it stands at or a few words before, as bits."""
    wanted = _all(entry.parts for entry in complete)
    pairs = ((at, f"{one} {other}") for at, (one, other) in enumerate(pairwise(words), 1))
    known = (place for place in chain(enumerate(words), pairs) if place[1] in parts_of)
    terms: defaultdict[str, int] = defaultdict(int)
    for at, term in islice(known, _MOST_HITS):
        terms[term] |= 1 << at
    places: defaultdict[int, int] = defaultdict(int)
    for term, bits in terms.items():
        for part in _each(parts_of[term] & wanted):
            places[part] |= bits
    return {part: _spread(bits) for part, bits in places.items()}


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
        number != other and (unit == against or not (unit and against))
        for no, (number, unit) in enumerate(counts)
        for other, against in counts[no + 1 :]
    )


def _counts(plain: str) -> Iterator[tuple[str, str]]:
    """The numbers of a text that are no names of things, each with what it counts, or ""."""
    for figure in islice(_FIGURE.finditer(plain), _MOST_FIGURES):
        start, end = figure.span()
        before = words_of(plain[max(start - _AROUND, 0) : start]).replace(".", " ").split()[-2:]
        after = words_of(plain[end : end + _AROUND]).split()[:2]
        if (_exactly(" ".join(before)) | _all(map(_exactly, before[-1:]))) & _NUMBERED:
            continue
        number = figure[0].rstrip(".,")
        unit = after[0].strip(".") if after and number == figure[0] else ""
        if (
            plain[start - 1 : start] in _SIGNS
            or _AMOUNT.search(number)
            or not _CURRENCIES.isdisjoint((unit, *before[-1:]))
        ):
            unit = "€"
        elif unit in _EMPTY or (_exactly(unit) | _exactly(" ".join(after))) & _BETWEEN:
            unit = ""
        yield number.removesuffix(".00").removesuffix(",00"), unit
