"""What texts contain, by their words: claims, numbers, citations, names, contradictions.

Everything here goes by words alone and takes linear time. It makes errors, and those of a check
only escalate. Where they can, string methods split the texts: a pattern takes ten times as long.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from itertools import combinations, islice, takewhile

from router.request.languages import EMPTY_WORDS, words_of

__all__ = [
    "addresses",
    "cited",
    "conflicts",
    "is_email",
    "is_mentioned",
    "is_spaced",
    "markers",
    "most_looked_up",
    "names",
    "numbers_and_dates",
    "numbers_of",
    "quotes",
    "readings",
    "source_markers",
    "spelled_numbers",
    "stems",
    "unknown_numbers",
    "unmentioned",
    "unsupported",
    "without_list_markers",
    "written_numbers",
]

_WITHOUT_SPACES = re.compile("[\u0e00-\u0eff\u3040-\u9fff\uac00-\ud7af]")
_SHORTEST_CLAIM = 5
#: Characters of a long text, evenly spread, by which its script is found.
_SAMPLED = 10_000


def is_spaced(text: str) -> bool:
    """False for scripts without spaces between words, which cannot be split into words."""
    if text.isascii():
        return True
    sample = text[:: len(text) // _SAMPLED + 1]
    return len(_WITHOUT_SPACES.findall(sample)) * 5 < len(sample)


def stems(words: AbstractSet[str]) -> frozenset[str]:
    """The first letters of longer words, which their forms share: refund, refunds, refunded."""
    return frozenset([word[:6] for word in words if len(word) >= 5])


def unsupported(
    text: str, known_words: frozenset[str], known_stems: AbstractSet[str], overlap: float
) -> tuple[int, int]:
    """How many sentences of a lower-case text are not supported, and how many there are.

    Sentences of fewer than five words make no claim. A sentence is supported when the share of its
    words that are known, without small words, reaches `overlap`.
    """
    claimed = failed = 0
    for sentence in words_of(text).split("."):
        words = sentence.split()
        if len(words) < _SHORTEST_CLAIM:
            continue
        claimed += 1
        distinct = set(words)
        if missing := distinct - known_words:
            most = (1 - overlap) * len(distinct - EMPTY_WORDS)
            if len(missing) > most and len(missing) - len(stems(missing) & known_stems) > most:
                failed += 1
    return failed, claimed


def cited(text: str) -> int:
    """How many sentences of a text cite a source."""
    return sum(1 for sentence in text.split(". ") if _MARKER.search(sentence))


# Numbers.

_NUMBER = re.compile(r"[0-9][0-9.,'\u2019\u00a0\u202fkKmM]*")
_WESTERN = {
    chr(start + digit): str(digit) for start in (0x660, 0x6F0, 0x966, 0xFF10) for digit in range(10)
}
_SEPARATORS = re.compile(r"[.,'\u2019\u00a0\u202f]")
_SEPARATED = ".,'\u2019\u00a0\u202f"
_SCALES = {"k": 3, "m": 6}
_LONGEST = 40
_MOST_READ = 200
#: No number is longer; a list without blanks may be.
_LONGEST_READ = 1_000
_SPELLED = {
    word: str(value)
    for words, first in (
        ("zero one two three four five six seven eight nine ten eleven twelve", 0),
        (
            "january february march april may june july august september october november december",
            1,
        ),
        ("jan feb mar apr may jun jul aug sep oct nov dec", 1),
    )
    for value, word in enumerate(words.split(), first)
}
_LIST_MARKER = re.compile(r"\n[ \t]{0,8}+\d{1,2}[.)](?=[ \t])")
_MARKER = re.compile(r"\[(\d{1,3})\]")
_ANY_MARKER = re.compile(r"\[(\d{1,9})\]")


def numbers_of(text: str) -> frozenset[str]:
    """Every number of a text in each way it can be read.

    Where more than 200 have separators, the others only as they are written.
    """
    written = written_numbers(text)
    others = [number for number in written if not number.isdecimal()]
    if len(others) > _MOST_READ:
        others.sort()
    read = written.difference(others)
    padded = {number for number in read if number[0] == "0"}
    read = (read - padded).union(map(_plain, padded))
    read.update(number.rstrip(_SEPARATED) for number in others[_MOST_READ:])
    return frozenset(read.union(*map(readings, others[:_MOST_READ])))


def written_numbers(text: str) -> set[str]:
    """The numbers of a text as they are written."""
    return set(_NUMBER.findall(_western(text)))


def unknown_numbers(numbers: AbstractSet[str], known_numbers: AbstractSet[str]) -> set[str]:
    """The written numbers that are not among the known ones in any way they can be read.

    Where more than 200 have separators, the others are looked up only as they are written.
    """
    unknown = set(numbers - known_numbers)
    others = [number for number in unknown if not number.isdecimal()]
    if len(others) > _MOST_READ:
        others.sort()
    unknown -= {n for n in unknown if n[0] == "0" and n.isdecimal() and _plain(n) in known_numbers}
    read, unread = others[:_MOST_READ], others[_MOST_READ:]
    unknown.difference_update(n for n in read if not known_numbers.isdisjoint(readings(n)))
    unknown.difference_update(n for n in unread if n.rstrip(_SEPARATED) in known_numbers)
    return unknown


def readings(number: str) -> tuple[str, ...]:
    """What a written number may mean: 1,200 is twelve hundred, or 1.2 in much of Europe."""
    number = number[:_LONGEST_READ]
    if number.isdecimal():
        return (_plain(number),)
    digits = number.rstrip("kKmM")
    scale = _SCALES[number[-1].lower()] if len(number) - len(digits) == 1 else 0
    parts = _SEPARATORS.split(digits.rstrip(_SEPARATED))
    if len(digits) > _LONGEST:
        return tuple(parts)
    if not all(part.isdecimal() for part in parts):
        return tuple(parts)
    values = []
    if all(len(part) == 3 for part in parts[1:]):
        values.append("".join(parts))
    if len(parts) == 2 or (len(parts) > 2 and all(len(part) == 3 for part in parts[1:-1])):
        values.append(f"{''.join(parts[:-1])}.{parts[-1]}")
    if not values:  # a date or a version: each of its parts
        return tuple(_plain(part) for part in parts)
    plain = tuple(_plain(value) for value in values)
    # 5m may be five million, or five metres.
    return (*plain, *(_plain(_shifted(value, scale)) for value in values)) if scale else plain


def spelled_numbers(text: str) -> frozenset[str]:
    """The numbers and months that a text in lower case spells out in English."""
    words = set(words_of(text).replace(".", " ").split())
    return frozenset(_SPELLED[word] for word in words & _SPELLED.keys())


def without_list_markers(text: str) -> str:
    """The text without the numbers of its lists and its citations."""
    return _MARKER.sub(" ", _LIST_MARKER.sub("\n", f"\n{text}")[1:])


def _western(text: str) -> str:
    if not text.isascii():
        for other, digit in _WESTERN.items():
            text = text.replace(other, digit)
    return text


def _plain(number: str) -> str:
    """A number without leading zeros, and without trailing zeros behind the point."""
    whole, dot, rest = number.partition(".")
    rest = rest.rstrip("0")
    return (whole.lstrip("0") or "0") + (dot + rest if rest else "")


def _shifted(number: str, places: int) -> str:
    whole, _, rest = number.partition(".")
    rest = rest.ljust(places, "0")
    return f"{whole}{rest[:places]}.{rest[places:]}"


# Citations and quotations.

_QUOTES = (("\u201c", "\u201d"), ("\u00ab", "\u00bb"), ("\u201e", "\u201c"), ('"', '"'))
_SHORTEST_QUOTE = 3
_SOURCE_MARKER = re.compile(r"(?:\A|\n\n)\s{0,8}+(?:\[(\d{1,9})\]|(\d{1,3})[.)]\s)")


def markers(text: str) -> list[int]:
    """The numbers of the sources that a text cites as [1], each once."""
    return list(map(int, dict.fromkeys(_ANY_MARKER.findall(text)))) if "[" in text else []


def source_markers(text: str) -> set[int]:
    """The numbers that sources begin with, as [2] or 2. or 2); blank lines stand between them."""
    return {int(bracketed or counted) for bracketed, counted in set(_SOURCE_MARKER.findall(text))}


def quotes(text: str) -> Iterator[str]:
    """The quotations of three words or more in a text; shorter ones are mostly names."""
    for opening, closing in _QUOTES:
        if opening not in text:
            continue
        pieces = text.split(opening)
        if opening == closing:
            inner = pieces[1:-1:2] if len(pieces) % 2 == 0 else pieces[1::2]
        else:
            inner = [piece.partition(closing)[0] for piece in pieces[1:] if closing in piece]
        for piece in inner:
            if len(quoted := piece.split()) >= _SHORTEST_QUOTE:
                yield " ".join(quoted).rstrip(".,;:!?")


# Names.

#: A capitalised word, unless a sentence, quotation or line begins with it; or an id, anywhere.
_NAME = re.compile(
    r" (?:(?<![.!?:(\"\u201c\u201d*#>\n-] )[^\W\d_a-z]|[A-Z]{1,6}-?\d)"
    r"[^\s.,;:!?()\[\]\"'\u2019\u201c\u201d*]+"
)
_AROUND = ".,;:!?()[]<>{}\"'*\u201c\u201d"
_REACH = 64
_LISTED = re.compile(r"[,;|]")
_JOINS_BEFORE = ".-_+"
_JOINS_AFTER = "-_."
#: Places of a name that are looked at, so that no text takes long; after them it is not found.
_MOST_PLACES = 50
_MOST_LOOKED_THROUGH = 5_000_000
_LEAST_LOOKED_UP = 20


def names(text: str) -> set[str]:
    """Capitalised words, the first of a sentence left out, and ids such as AB-2231."""
    text = "\n " + text.replace("\n", "\n ").replace("(", "( ")
    return {name for match in set(_NAME.findall(text)) if (name := match[1:])[0].isupper()}


def addresses(text: str) -> set[str]:
    """E-mail addresses and URLs."""
    pieces: set[str] = set()
    for sign in ("@", "://", "www."):
        at = text.find(sign)
        while at >= 0:
            before, after = text[max(at - _REACH, 0) : at], text[at : at + 4 * _REACH]
            pieces.update((before.rpartition(" ")[2] + after.partition(" ")[0]).split())
            # Skip ahead, so that no part of a text is read more than a few times.
            at = text.find(sign, at + _REACH)
    words = {word.strip(_AROUND) for word in pieces}
    for several in [word for word in words if "@" in word and not is_email(word)]:
        words.update(part.strip(_AROUND) for part in _LISTED.split(several))
    return {word for word in words if "://" in word or "www." in word or is_email(word)}


def is_email(word: str) -> bool:
    name, at, host = word.partition("@")
    is_single = "@" not in host and _LISTED.search(word) is None
    return bool(name and at) and "." in host.strip(".") and is_single


def is_mentioned(name: str, text: str) -> bool:
    """True when a text holds a name, id or address as a whole, both in lower case.

    A name of five letters or more may have up to three more around it, as India has in Indian. A
    name of two letters may be anywhere: it is too short to tell. Hyphens are part of an id.
    """
    is_whole = _is_form if name.isalpha() else _is_apart
    at = text.find(name)
    for _ in range(_MOST_PLACES):
        if at < 0:
            return False
        if is_whole(name, text, at, at + len(name)):
            return True
        at = text.find(name, at + 1)
    return False


def unmentioned(names: AbstractSet[str], text: str) -> set[str]:
    """The names that a text in lower case does not hold.

    Those beyond `most_looked_up` count as unmentioned.
    """
    in_order, most = sorted(names), most_looked_up(text)
    return {*(name for name in in_order[:most] if not is_mentioned(name, text)), *in_order[most:]}


def most_looked_up(text: str) -> int:
    """How many things are looked up in a text, so that a long one does not take long.

    As many as 5,000,000 characters allow, and 20 at least.
    """
    return max(_MOST_LOOKED_THROUGH // max(len(text), 1), _LEAST_LOOKED_UP)


def _is_form(name: str, text: str, start: int, end: int) -> bool:
    """True when the word around a place is the name or a form of it."""
    if len(name) == 2:
        return True
    more_before = len(list(takewhile(str.isalnum, text[max(start - 4, 0) : start][::-1])))
    after = "".join(takewhile(str.isalnum, text[end : end + 4]))
    if len(name) >= 5:
        return more_before + len(after) <= 3
    return not more_before and after in ("", "s")


def _is_apart(name: str, text: str, start: int, end: int) -> bool:
    """True when neither a letter nor a joining sign is next to the name."""
    before, after = (_JOINS_BEFORE, _JOINS_AFTER) if "@" in name else ("-_", "-_")
    left, right = text[max(start - 1, 0) : start], text[end : end + 2]
    if left.isalnum() or right[:1].isalnum() or (left and left in before):
        return False
    return not (len(right) == 2 and right[0] in after and right[1].isalnum())


# Contradictions.

_TOKEN = re.compile(r"\d{4}-\d\d-\d\d|\d+(?:[.,]\d+)*|[^\W\d_]+|[%\u20ac$\u00a3]")
_FIGURE = re.compile(r"\d{4}-\d\d-\d\d|\d++(?:[.,]\d++)*+")
_DIGIT = re.compile(r"\d")
_MOST_STATEMENTS = 40
_MOST_STATED = 60
_LONGEST_STATEMENT = 400


def numbers_and_dates(text: str) -> set[str]:
    """The numbers and whole dates of a text, as they are written."""
    return set(_FIGURE.findall(text))


def conflicts(sources: Sequence[str]) -> Sequence[tuple[str, str]]:
    """Pairs of numbers or dates that two sentences state for what seems to be the same thing.

    The same thing: at least half of the longer words are shared, the same word follows, and no
    name, year or other number distinguishes the two. Only the first 40 sentences with a number are
    compared, and the first 60 numbers, so that the time stays bounded.
    """
    left = _MOST_STATED
    by_unit = defaultdict(list)
    for sentence in dict.fromkeys(islice(_statements("\n".join(sources)), _MOST_STATEMENTS)):
        tokens = _TOKEN.findall(sentence)
        written = {token.lower(): token for token in tokens}
        for number, unit in zip(tokens, (*tokens[1:], ""), strict=True):
            if number[0].isdigit() and left:
                left -= 1
                by_unit["-" in number, unit.lower()].append((number, written))
    pairs: dict[tuple[str, str], None] = {}
    for stated in by_unit.values():
        for (value, ours), (against, theirs) in combinations(stated, 2):
            if value != against and _is_conflict(value, ours, against, theirs):
                pairs[value, against] = None
    return list(pairs)


def _statements(text: str) -> Iterator[str]:
    """The beginnings of the sentences with a number in them."""
    text = text.replace("\n", ". ")
    end = 0
    while digit := _DIGIT.search(text, end):
        start = text.rfind(". ", end, digit.start())
        start, end = start + 2 if start >= 0 else end, text.find(". ", digit.end())
        end = end if end >= 0 else len(text)
        yield text[start : min(end, start + _LONGEST_STATEMENT)].removeprefix(". ")


def _is_conflict(value: str, ours: dict[str, str], against: str, theirs: dict[str, str]) -> bool:
    differing = ours.keys() ^ theirs.keys()
    if not {value, against} <= differing or not set(readings(value)).isdisjoint(readings(against)):
        return False
    differing -= {value, against}
    for token in differing:
        if token[0].isdigit() or (ours.get(token) or theirs[token])[0].isupper():
            return False
    shared = sum(1 for token in ours.keys() & theirs.keys() if len(token) >= 4)
    return shared >= 2 and shared >= sum(1 for token in differing if len(token) >= 4)
