"""JSON read strictly: what other parsers let pass in silence becomes a reason code."""

import hashlib
import json
import re
from decimal import Decimal, InvalidOperation
from math import isfinite
from typing import Any, NoReturn

import orjson

from schemas.errors import ContractError
from schemas.reasons import Reason

__all__ = [
    "MAX_DEPTH",
    "MAX_VALUES",
    "Digits",
    "as_json",
    "exact_decoder",
    "exact_json",
    "has_more_values",
    "keeping_decoder",
    "keeps_digits",
    "loses_digits",
    "marked",
    "parse_json",
    "read_exact",
    "read_json",
    "read_ours",
    "refuse_depth",
    "unmarked",
]

MAX_DEPTH = 32
#: Commas, colons and brackets of one record. Each value takes longer than its characters.
MAX_VALUES = 40_000
_BYTES_EACH = 5

#: Every bracket as a square one, and all that is none.
_SQUARE = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")
_RUNS, _OPENS = re.compile(rb"\[++|\]++"), ord("[")
#: Levels that are taken off as a whole, before the others are counted one by one.
_FLAT = 4
#: No integer of less digits is too large.
_LONG = b"9" * 19
_NINES = bytes.maketrans(b"012345678", b"9" * 9)
_LONG_INTEGER = re.compile(rb"(?<![0-9.eE+-])-?[0-9]{19,}+(?![0-9.eE])")

#: Digits of any number that a double always gives back.
_SURE_DIGITS = 15
_MOST_DIGITS = 400
#: Numbers that may say more than a double or a 64-bit integer, and how many are looked at.
_LONG_NUMBER = re.compile(
    rb"[-0-9](?:(?<=-)(?<![eE]-)0(?![0-9.eE])|[0-9.]{15,}+[0-9eE+-]*+"
    rb"|[0-9.]*+[eE][+-]?+[0-9]{3,}+)"
)
_MOST_LONG = 1_000
_NUMERALS = bytes.maketrans(b"012345678.E", b"9" * 10 + b"e")
_LONG_NUMERAL, _LONG_EXPONENT = b"9" * 16, b"9e999"
#: A minus zero, as our own writer puts it between other values.
_MINUS_ZEROS = (b":-0", b",-0", b"[-0")
_TEXT_OR_LONG = re.compile(rb'"(?:[^"\\]++|\\.)*+"|' + _LONG_NUMBER.pattern)


class Digits(float):
    """A number that keeps its text, because the value alone would say another one."""

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
        """Equal to what says the same number, digit by digit."""
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
        """The number itself, for who can count with it."""
        is_whole = not set(self.text) & set(".eE")
        return int(self.text) if is_whole and len(self.text) <= _MOST_DIGITS else Decimal(self.text)


def parse_json(value: bytes) -> Any:
    """Parse UTF-8 JSON, in time that grows with its length alone.

    Raises ContractError for text that is not UTF-8, not JSON, nested deeper than 32 levels, that
    names a key twice, that holds NaN, infinities or integers beyond 64 bits, half a character, or
    more than 40,000 commas, colons and brackets between its values where these are also more than
    one in five bytes.
    """
    if _has_too_many(value):
        detail = f"more than {MAX_VALUES} commas, colons and brackets, and one in five bytes"
        raise ContractError(Reason.TOO_LARGE, detail)
    try:
        parsed = orjson.loads(value)
    except orjson.JSONDecodeError:
        raise _mistake(value) from None
    if not _is_plain(value, parsed):
        _refuse_what_passed(value, parsed)
    return parsed


def read_json(value: bytes) -> Any:
    """The same for who does not ask what is wrong: None for what `parse_json` refuses.

    A number that would lose a digit keeps them all, as `Digits`; one beyond all doubles is refused.
    """
    if _has_too_many(value):
        return None
    try:
        if not loses_digits(value):
            parsed = orjson.loads(value)
            _refuse_what_passed(value, parsed)
            return parsed
        refuse_depth(value)
        parsed = _KEEPING.decode(value.decode())
        as_json(parsed)
    except (ContractError, RecursionError, TypeError, ValueError):
        return None
    return parsed


def read_ours(value: bytes) -> Any:
    """JSON that one of us has written, with every digit."""
    return read_exact(value.decode()) if _is_long(value) else orjson.loads(value)


def as_json(value: Any, option: int = 0) -> bytes:
    """A value as JSON, each number as it was written. Raises TypeError."""
    return orjson.dumps(value, default=_as_written, option=option)


def marked(value: bytes) -> tuple[bytes, str | None]:
    """JSON with texts in place of its numbers that a parser would round: `unmarked` undoes it.

    With what these texts begin with; None where there are none. It is made from the whole, so that
    nothing in it can look like one.
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
    except ValueError:  # no JSON, which its parser will say
        return value, None


def unmarked(value: Any, mark: str) -> Any:
    """A value with its numbers in place again."""
    match value:
        case str():
            return Digits(value[len(mark) :]) if value.startswith(mark) else value
        case dict():
            return {name: unmarked(inner, mark) for name, inner in value.items()}
        case list():
            return [unmarked(inner, mark) for inner in value]
        case _:
            return value


def read_exact(text: str) -> Any:
    """JSON whose numbers keep every digit, those that Python would round as `Digits`.

    Slower than `parse_json`: for what `loses_digits`. Raises ValueError and RecursionError.
    """
    return _EXACT.decode(text)


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


def loses_digits(value: bytes) -> bool:
    """True for JSON with a number that a double or a 64-bit integer does not say as written.

    Also for JSON with more than a thousand numbers that would have to be looked at.
    """
    numerals = value.translate(_NUMERALS, b"+-")
    if _LONG_NUMERAL not in numerals and _LONG_EXPONENT not in numerals and b"-0" not in value:
        return False
    for no, match in enumerate(_LONG_NUMBER.finditer(_bare(value))):
        if no >= _MOST_LONG or not keeps_digits(match[0].decode("ascii")):
            return True
    return False


def keeps_digits(number: str) -> bool:
    """True when the value that JSON's number is read as is written with the same digits again."""
    mantissa, _, exponent = number.lower().partition("e")
    if not exponent and "." not in mantissa:
        # Twenty characters hold every 64-bit integer; converting longer text costs time.
        return number != "-0" and len(number) <= 20 and -(2**63) <= int(number) < 2**63
    if len(number) > _MOST_DIGITS:
        return False
    value = abs(float(number))
    written = repr(value)
    if written == number:  # as most programs write it
        return True
    digits = mantissa.lstrip("-").replace(".", "").strip("0")
    if not digits or (len(digits) <= _SURE_DIGITS and 1e-290 < value < 1e300):
        return True
    written = written.partition("e")[0]
    return written.replace(".", "").strip("0") == digits


def has_more_values(value: bytes, most: int) -> bool:
    """True for JSON with more commas, colons and brackets outside of texts than that."""
    if len(value) <= most or _marks(value) <= most:
        return False
    return _marks(_bare(value)) > most


def _has_too_many(value: bytes) -> bool:
    return has_more_values(value, max(MAX_VALUES, len(value) // _BYTES_EACH))


def _marks(value: bytes) -> int:
    brackets = value.count(b"[") + value.count(b"{")
    return value.count(b",") + value.count(b":") + 2 * brackets


def refuse_depth(value: bytes) -> None:
    """Raise ContractError for JSON that is nested deeper than 32 levels."""
    if _is_too_deep(value):
        raise _too_deep()


def _refuse_what_passed(value: bytes, parsed: Any) -> None:
    """Refuse what the parser lets pass. Nothing here walks through the values one by one."""
    refuse_depth(value)
    # A key and a text have two quotes each, and of a key named twice only one is left.
    if _quotes(value) != _quotes(orjson.dumps(parsed)):
        detail = "an object names a key twice; which value is meant is a guess"
        raise ContractError(Reason.DUPLICATE_KEY, detail)
    if _LONG in value.translate(_NINES):
        for match in _LONG_INTEGER.finditer(_bare(value)):
            # Twenty characters hold every 64-bit integer; converting longer text costs time.
            if len(match[0]) > 20 or not -(2**63) <= int(match[0]) < 2**63:
                raise ContractError(Reason.BAD_NUMBER, "an integer is too large for 64 bits")


def _is_too_deep(value: bytes) -> bool:
    if value.count(b"{") + value.count(b"[") <= MAX_DEPTH:
        return False
    brackets = _bare(value).translate(_SQUARE, _NO_BRACKETS)
    for _ in range(_FLAT):  # the innermost level of all at once
        brackets = brackets.replace(b"[]", b"")
    level = deepest = 0
    for run in _RUNS.findall(brackets):
        level += len(run) if run[0] == _OPENS else -len(run)
        deepest = max(deepest, level)
    return deepest > MAX_DEPTH - _FLAT


def _unescaped(value: bytes) -> bytes:
    """JSON without escaped quotes: every quote that is left begins or ends a text."""
    if b"\\" not in value:
        return value
    return value.replace(rb"\\", b"").replace(rb"\"", b"")


def _quotes(value: bytes) -> int:
    return _unescaped(value).count(b'"')


def _bare(value: bytes) -> bytes:
    """JSON without its texts."""
    return b"".join(_unescaped(value).split(b'"')[::2])


def _mistake(value: bytes) -> ContractError:
    """The reason why a text is not JSON."""
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError as error:
        return ContractError(Reason.NOT_TEXT, f"byte {error.start} is not UTF-8")
    try:
        parsed = _DECODER.decode(text)
    except RecursionError:
        return _too_deep()
    except json.JSONDecodeError as error:
        detail = f"line {error.lineno}, column {error.colno}: {error.msg}"
        return ContractError(Reason.NOT_JSON, detail)
    except ContractError as error:
        return error
    except ValueError as error:  # an integer with more digits than Python converts
        return ContractError(Reason.BAD_NUMBER, str(error).split(":", maxsplit=1)[0])
    try:
        # Other parsers refuse a lone surrogate, those of our own later stages among them.
        json.dumps(parsed, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return ContractError(Reason.NOT_TEXT, "half of a surrogate pair stands alone")
    if _is_too_deep(value):
        return _too_deep()
    return ContractError(Reason.BAD_NUMBER, "a number is too large for 64 bits")


def _is_plain(value: bytes, parsed: Any) -> bool:
    """True for one object of texts, which most requests are and which needs no closer look.

    Each key and each text has two quotes, so that their number shows a key named twice.
    """
    # One byte is found much sooner than two, and most requests have no backslash.
    is_escaped = b"\\" in value
    if type(parsed) is not dict or (is_escaped and b"\\\\" in value):
        return False
    texts = 0
    for field in parsed.values():
        if type(field) is str:
            texts += 1
        elif field is not None and type(field) is not bool:
            return False
    quotes = value.count(b'"') - (value.count(b'\\"') if is_escaped else 0)
    return quotes == 2 * (len(parsed) + texts)


def _constant(name: str) -> NoReturn:
    raise ContractError(Reason.BAD_NUMBER, f"{name} is not a JSON number")


def _number(text: str) -> float:
    return (
        float(text) if len(text) < len(_LONG_NUMERAL) and "e" not in text.lower() else Digits(text)
    )


def _integer(text: str) -> float:
    is_short = len(text) < len(_LONG) and text != "-0"
    return int(text) if is_short or keeps_digits(text) else Digits(text)


def _kept(text: str) -> float:
    """A number with its digits. Raises ValueError for what is larger or smaller than any double."""
    if keeps_digits(text):
        return float(text) if set(text) & set(".eE") else int(text)
    value = float(text) if len(text) <= _MOST_DIGITS else 0.0
    if not isfinite(value) or (value == 0 and text != "-0"):
        msg = "a number that no double comes near"
        raise ValueError(msg)
    return Digits(text)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        msg = "a key twice"
        raise ValueError(msg)
    return fields


def keeping_decoder(**how: Any) -> json.JSONDecoder:
    """A strict decoder that keeps the digits of numbers that would lose some."""
    return json.JSONDecoder(
        parse_float=_kept,
        parse_int=_kept,
        parse_constant=_constant,
        object_pairs_hook=_once,
        **how,
    )


def _is_long(value: bytes) -> bool:
    """True for compact JSON that may hold a number which a parser rounds; a quick test."""
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


def exact_decoder(**how: Any) -> json.JSONDecoder:
    """A decoder that keeps every digit, with more of Python's own options."""
    return json.JSONDecoder(parse_float=_number, parse_int=_integer, **how)


_EXACT = exact_decoder()
_KEEPING = keeping_decoder()
_DECODER = json.JSONDecoder(parse_constant=_constant)


def _too_deep() -> ContractError:
    return ContractError(Reason.TOO_DEEP, f"more than {MAX_DEPTH} levels of nesting")
