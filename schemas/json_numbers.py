"""The numbers of JSON with every digit, where a double or a 64-bit integer would lose some."""

import hashlib
import json
import re
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from itertools import islice
from math import isfinite
from typing import Any

import orjson

__all__ = [
    "MOST_DIGITS",
    "Digits",
    "as_json",
    "can_keep_digits",
    "exact_decoder",
    "exact_json",
    "keeps_digits",
    "loses_digits",
    "marked",
    "read_exact",
    "read_lossless",
    "read_ours",
    "unescaped",
    "unmarked",
    "without_texts",
]

#: No integer with fewer characters is too large for 64 bits.
_SHORTEST_LONG = 19
_LARGEST = str(2**63 - 1)
#: Digits that a double always keeps.
_SURE_DIGITS = 15
MOST_DIGITS = 400
#: Numbers that may have more digits than a double or a 64-bit integer, and how many are tested.
_LONG_NUMBER = re.compile(
    rb"[-0-9](?:(?<=-)(?<![eE]-)0(?![0-9.eE])|[0-9.]{15,}+[0-9eE+-]*+"
    rb"|[0-9.]*+[eE][+-]?+[0-9]{3,}+)"
)
_MOST_TESTED = 3_000
#: Numbers that may have to be read digit by digit, each of which takes as long as ten others.
_MOST_LONG = 1_000
_NUMERALS = bytes.maketrans(b"012345678.E", b"9" * 10 + b"e")
_LONG_NUMERAL, _LONG_EXPONENT = b"9" * 16, b"9e999"
#: A minus zero, as our own writer puts it between other values.
_MINUS_ZEROS = (b":-0", b",-0", b"[-0")
_TEXT_OR_LONG = re.compile(rb'"(?:[^"\\]++|\\.)*+"|' + _LONG_NUMBER.pattern)


class Digits(float):
    """A number that keeps its text, because the float alone would be another number."""

    __slots__ = ("text",)

    def __new__(cls, text: str) -> "Digits":
        digits = super().__new__(cls, text)
        digits.text = text
        return digits

    text: str

    def __str__(self) -> str:
        return self.text

    __repr__ = __str__

    def __eq__(self, other: object) -> bool:
        """Equal to any number with the same digits."""
        if not isinstance(other, (int, float)):
            return NotImplemented
        try:
            return Decimal(self.text) == Decimal(str(other))
        except InvalidOperation:
            return self.text == str(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = float.__hash__

    @property
    def number(self) -> int | Decimal:
        """The exact number, an int where it is whole and not too long."""
        is_whole = not set(self.text) & set(".eE")
        return int(self.text) if is_whole and len(self.text) <= MOST_DIGITS else Decimal(self.text)


def as_json(value: Any, option: int = 0) -> bytes:
    """A value as JSON, each number as it was written. Raises TypeError."""
    return orjson.dumps(value, default=_as_written, option=option)


def read_ours(value: bytes) -> Any:
    """JSON that Tierline has written, with every digit."""
    return read_exact(value.decode()) if _is_long(value) else orjson.loads(value)


def read_exact(text: str) -> Any:
    """JSON whose numbers keep every digit, those that Python would round as `Digits`.

    Slower than `parse_json`: for what `loses_digits`. Raises ValueError and RecursionError.
    """
    return _EXACT.decode(text)


def read_lossless(value: bytes) -> Any:
    """JSON with every digit, at the speed of the fast parser where that loses none.

    Raises ValueError and RecursionError.
    """
    return read_exact(value.decode()) if loses_digits(value) else orjson.loads(value)


def exact_json(value: Any, *, ascii_only: bool = False, gap: str = "") -> str:
    """A value as JSON, each number as it was written; `gap` follows commas and colons."""

    def written(item: Any) -> str:
        return exact_json(item, ascii_only=ascii_only, gap=gap)

    match value:
        case Digits():
            return value.text
        case dict():
            fields = (f"{written(str(name))}:{gap}{written(item)}" for name, item in value.items())
            return "{" + f",{gap}".join(fields) + "}"
        case list() | tuple():
            return "[" + f",{gap}".join(map(written, value)) + "]"
        case _:
            return json.dumps(value, ensure_ascii=ascii_only, allow_nan=False)


def exact_decoder(**how: Any) -> json.JSONDecoder:
    """A decoder that keeps every digit, with more of Python's own options."""
    return json.JSONDecoder(parse_float=_number, parse_int=_integer, **how)


def marked(value: bytes) -> tuple[bytes, str | None]:
    """JSON with texts in place of the numbers that a parser would round: `unmarked` undoes it.

    Also returns the mark with which these texts begin, or None where there are none. It is a hash
    of the whole value, so nothing else in it can begin like that.
    """
    if not _is_long(value):
        return value, None
    mark = hashlib.blake2b(value, digest_size=16).hexdigest()

    def put(match: re.Match[bytes]) -> bytes:
        text = match[0]
        if text[:1] == b'"' or keeps_digits(text.decode("ascii")):
            return text
        return b'"%b%b"' % (mark.encode(), text)

    try:
        return _TEXT_OR_LONG.sub(put, value), mark
    except ValueError:  # not JSON: its parser will refuse it
        return value, None


def unmarked(value: Any, mark: str) -> Any:
    """A value with the numbers back in place of their texts."""
    match value:
        case str():
            return Digits(value[len(mark) :]) if value.startswith(mark) else value
        case dict():
            return {name: unmarked(inner, mark) for name, inner in value.items()}
        case list():
            return [unmarked(inner, mark) for inner in value]
        case _:
            return value


def loses_digits(value: bytes) -> bool:
    """True for JSON with a number that a double or a 64-bit integer would change.

    Also for JSON with more than 3,000 numbers that would have to be tested.
    """
    numerals = value.translate(_NUMERALS, b"+-")
    if _LONG_NUMERAL not in numerals and _LONG_EXPONENT not in numerals and b"-0" not in value:
        return False
    for no, number in enumerate(_long_numbers(value)):
        if no >= _MOST_TESTED or not keeps_digits(number):
            return True
    return False


def can_keep_digits(value: bytes) -> bool:
    """False for JSON with a number beyond all doubles, or a thousand that a parser may change."""
    numbers = list(islice(_long_numbers(value), _MOST_LONG))
    return len(numbers) < _MOST_LONG and all(map(_is_within_doubles, numbers))


def _is_within_doubles(number: str) -> bool:
    value = float(number) if len(number) <= MOST_DIGITS else 0.0
    return isfinite(value) and (value != 0 or number == "-0" or keeps_digits(number))


def _long_numbers(value: bytes) -> Iterator[str]:
    for match in _LONG_NUMBER.finditer(without_texts(value)):
        if not _fits(number := match[0].decode("ascii")):
            yield number


def _fits(number: str) -> bool:
    """True for the digits of an integer of 64 bits. A negative one is left to `keeps_digits`."""
    length = len(number)
    return number.isdigit() and (
        length < _SHORTEST_LONG or (length == _SHORTEST_LONG and number <= _LARGEST)
    )


def keeps_digits(number: str) -> bool:
    """True when a JSON number has the same digits after it was parsed and written again."""
    if _fits(number):
        return True
    mantissa, _, exponent = number.lower().partition("e")
    if not exponent and "." not in mantissa:
        # Twenty characters hold every 64-bit integer; converting longer text costs time.
        return number != "-0" and len(number) <= 20 and -(2**63) <= int(number) < 2**63
    if len(number) > MOST_DIGITS:
        return False
    value = abs(float(number))
    written = repr(value)
    if written == number:  # as most programs write numbers
        return True
    digits = mantissa.lstrip("-").replace(".", "").strip("0")
    if not digits or (len(digits) <= _SURE_DIGITS and 1e-290 < value < 1e300):
        return True
    written = written.partition("e")[0]
    return written.replace(".", "").strip("0") == digits


def unescaped(value: bytes) -> bytes:
    """JSON without escaped quotes: each remaining quote begins or ends a text."""
    if b"\\" not in value:
        return value
    return value.replace(rb"\\", b"").replace(rb"\"", b"")


def without_texts(value: bytes) -> bytes:
    """JSON without its texts."""
    return b"".join(unescaped(value).split(b'"')[::2])


def _is_long(value: bytes) -> bool:
    """A quick test: True for compact JSON that may hold a number which a parser would round."""
    numerals = value.translate(_NUMERALS, b"+-")
    return (
        _LONG_NUMERAL in numerals
        or _LONG_EXPONENT in numerals
        or any(zero in value for zero in _MINUS_ZEROS)
    )


def _as_written(value: Any) -> orjson.Fragment:
    if type(value) is Digits:
        return orjson.Fragment(value.text)
    raise TypeError


def _number(text: str) -> float:
    return (
        float(text) if len(text) < len(_LONG_NUMERAL) and "e" not in text.lower() else Digits(text)
    )


def _integer(text: str) -> float:
    is_short = len(text) < _SHORTEST_LONG and text != "-0"
    return int(text) if is_short or keeps_digits(text) else Digits(text)


_EXACT = exact_decoder()
