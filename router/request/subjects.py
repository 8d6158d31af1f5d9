"""Which delicate subject a text speaks of: money, law, health or security, by its words.

Texts in languages without a table of words have no subject. Accents and case do not count.
"""

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Container, Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

from router.request.languages import words_of
from router.request.subject_words import SUBJECTS, WORDS, Subject

__all__ = ["LANGUAGES", "SUBJECTS", "Subject", "subjects_of"]

#: The languages that have words here.
LANGUAGES: Sequence[str] = tuple(WORDS["money"])
#: Amounts of money in words; `_AMOUNT` finds those in figures and signs, which become a `€`.
_AMOUNTS = (
    "€/eur/usd/gbp/chf/pln/=euro/=euros/=eurow/=dollar/=dollars/=pounds/=reais/=zlotych/=zloty/zl"
)
#: Each begins with a sign or a digit, which the search skips to quickly.
_AMOUNT = re.compile(
    r"[$€£](?:[ ]?[$€£])*+|\d(?<![\d.,:]\d)\d{0,5}+[.,]\d\d(?![.,:]?\d)"
    r"|(\d)(?:eur|euros?|usd|gbp|chf|pln|zl)\b"
)
#: The most words apart that the parts of an entry may be.
_APART = 12
#: Characters that are read of a long text, whose question comes first or last.
_FIRST, _LAST = 15_000, 5_000
#: Words of a text that are looked at because an entry may begin with them.
_MOST_HITS = 2_000
_MOST_AMOUNTS = 500
#: Letters of a word by which its entries are looked up.
_BEGINNING = 4


class _Part(NamedTuple):
    """Part `no` of `parts` parts, all of which make the entry `entry` of a subject."""

    word: str
    is_whole: bool
    entry: int
    no: int
    parts: int
    subject: Subject


def _parts() -> Iterator[_Part]:
    entry = 0
    for subject, by_language in WORDS.items():
        for line in by_language.values():
            for written in line.split():
                entry += 1
                parts = written.split("+")
                for no, part in enumerate(parts):
                    for word in part.replace("€", _AMOUNTS).split("/"):
                        plain = word.removeprefix("=")
                        is_whole = plain != word or len(plain) < _BEGINNING
                        yield _Part(plain, is_whole, entry, no, len(parts), subject)


def _by_beginning() -> Mapping[str, Sequence[_Part]]:
    by_beginning: dict[str, list[_Part]] = {}
    for part in _parts():
        by_beginning.setdefault(part.word[:_BEGINNING], []).append(part)
    return by_beginning


_BY_BEGINNING = _by_beginning()
#: The first words of entries of two words in a row.
_FIRST_OF_TWO = frozenset(part.word.partition("_")[0] for part in _parts() if "_" in part.word)
#: Accents, which NFKD separates from their letters.
_ACCENTS = re.compile("[\u0300-\u036f]+")
#: Invisible characters, within a word or between two.
_HIDDEN = re.compile("[\u00ad\u200b-\u200f\u2060-\u2064\ufeff]+")
#: Cyrillic letters that look like Latin ones.
_ALIKE = str.maketrans("\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0455", "aeopcyxis")


def subjects_of(text: str) -> Sequence[Subject]:
    """The subjects a text speaks of, in the order of `SUBJECTS`. Takes linear time.

    Of more than 20,000 characters, the first 15,000 and the last 5,000 are read.
    """
    if len(text) > _FIRST + _LAST:
        text = f"{text[:_FIRST]} {text[-_LAST:]}"
    folded = _folded(text)
    spoken_of = _spoken_of(_HIDDEN.sub("", folded))
    if _HIDDEN.search(folded):
        spoken_of |= _spoken_of(_HIDDEN.sub(" ", folded))
    return [subject for subject in SUBJECTS if subject in spoken_of]


def _spoken_of(folded: str) -> set[Subject]:
    words = words_of(_AMOUNT.sub(r"\1 € ", folded, count=_MOST_AMOUNTS)).replace(".", " ").split()
    known = set(words)
    firsts = known & _FIRST_OF_TWO
    begins = islice((at for at, word in enumerate(words[:-1]) if word in firsts), _MOST_HITS)
    pairs = {at + 1: f"{words[at]}_{words[at + 1]}" for at in begins}
    may_begin = (term for term in known.union(pairs.values()) if term[:_BEGINNING] in _BY_BEGINNING)
    parts_of = {term: _parts_of(term) for term in may_begin}
    parts_of = {term: parts for term, parts in parts_of.items() if parts}

    every = [part for parts in parts_of.values() for part in parts]
    subjects = {part.subject for part in every if part.parts == 1}
    present = {(part.entry, part.no) for part in every if part.subject not in subjects}
    whole = Counter(entry for entry, _ in present)
    # Only entries of which every part is somewhere in the text have to be looked at.
    parts_of = {
        term: parts
        for term, parts_all in parts_of.items()
        if (parts := [part for part in parts_all if whole[part.entry] == part.parts > 1])
    }
    places: defaultdict[tuple[int, Subject], defaultdict[int, list[int]]]
    places = defaultdict(lambda: defaultdict(list))
    hits = _hits(words, pairs, parts_of) if parts_of else ()
    for at, word in islice(hits, _MOST_HITS):
        for part in parts_of[word]:
            places[part.entry, part.subject][part.no].append(at)
    for (entry, subject), each in places.items():
        if subject not in subjects and len(each) == whole[entry] and _are_near([*each.values()]):
            subjects.add(subject)
    return subjects


def _hits(
    words: Sequence[str], pairs: Mapping[int, str], wanted: Container[str]
) -> Iterator[tuple[int, str]]:
    """Where the words and pairs of words are that are wanted."""
    for at, word in enumerate(words):
        if word in wanted:
            yield at, word
        if at in pairs and pairs[at] in wanted:
            yield at, pairs[at]


def _are_near(places: Sequence[Sequence[int]]) -> bool:
    """True where every part is within a few words of the others."""
    rarest = min(places, key=len)
    for at in rarest:
        near = sorted(
            (place, no)
            for no, each in enumerate(places)
            for place in each[bisect_left(each, at - _APART) : bisect_right(each, at + _APART)]
        )
        last = [-_APART - 1] * len(places)
        for place, no in near:
            last[no] = place
            if place - min(last) <= _APART:
                return True
    return False


def _parts_of(term: str) -> Sequence[_Part]:
    """The parts that a word, or two words in a row, stand for."""
    return [
        part
        for part in _BY_BEGINNING.get(term[:_BEGINNING], ())
        if (term == part.word if part.is_whole else term.startswith(part.word))
    ]


def _folded(text: str) -> str:
    """A text without case and accents."""
    if text.isascii():
        return text.lower()
    apart = unicodedata.normalize("NFKD", text.casefold()).replace("\u0142", "l")
    return _ACCENTS.sub("", apart).translate(_ALIKE)
