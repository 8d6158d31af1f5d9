"""JSON read strictly: what other parsers let pass in silence becomes a reason code."""

import json
import re
from typing import Any, NoReturn

import orjson

from schemas.errors import ContractError
from schemas.reasons import Reason

__all__ = [
    "MAX_DEPTH",
    "MAX_VALUES",
    "Digits",
    "exact_decoder",
    "exact_json",
    "has_more_values",
    "keeps_digits",
    "loses_digits",
    "parse_json",
    "read_exact",
    "read_json",
    "refuse_depth",
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


class Digits(float):
    """A number that keeps its text, because the value alone would say another one."""

    __slots__ = ("text",)

    def __new__(cls, text: str) -> "Digits":
        """The nearest value, with the text."""
        made = super().__new__(cls, text)
        made.text = text
        return made

    text: str


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

    None also where a number would lose a digit.
    """
    if _has_too_many(value) or loses_digits(value):
        return None
    try:
        parsed = orjson.loads(value)
        _refuse_what_passed(value, parsed)
    except (orjson.JSONDecodeError, ContractError):
        return None
    return parsed


def read_exact(text: str) -> Any:
    """JSON whose numbers keep every digit, those that Python would round as `Digits`.

    Slower than `parse_json`: for what `loses_digits`. Raises ValueError and RecursionError.
    """
    return _EXACT.decode(text)


def exact_json(value: Any, *, ascii_only: bool = False) -> str:
    """A value as JSON, each number as it was written."""
    match value:
        case Digits():
            return value.text
        case dict():
            fields = (
                f"{exact_json(str(name), ascii_only=ascii_only)}:"
                f"{exact_json(one, ascii_only=ascii_only)}"
                for name, one in value.items()
            )
            return "{" + ",".join(fields) + "}"
        case list() | tuple():
            return "[" + ",".join(exact_json(one, ascii_only=ascii_only) for one in value) + "]"
        case _:
            return json.dumps(value, ensure_ascii=ascii_only, allow_nan=False)


def loses_digits(value: bytes) -> bool:
    """True for JSON with a number that a double or a 64-bit integer does not say as written.

    Also for JSON with more than a thousand numbers that would have to be looked at.
    """
    numerals = value.translate(_NUMERALS, b"+-")
    if _LONG_NUMERAL not in numerals and _LONG_EXPONENT not in numerals and b"-0" not in value:
        return False
    for no, found in enumerate(_LONG_NUMBER.finditer(_bare(value))):
        if no >= _MOST_LONG or not keeps_digits(found[0].decode("ascii")):
            return True
    return False


def keeps_digits(number: str) -> bool:
    """True when the value that JSON's number is read as, written as long, has the same digits."""
    mantissa, _, exponent = number.lower().partition("e")
    if not exponent and "." not in mantissa:
        # Twenty characters hold every 64-bit integer; converting longer text costs time.
        return number != "-0" and len(number) <= 20 and -(2**63) <= int(number) < 2**63
    if len(number) > _MOST_DIGITS:
        return False
    digits = mantissa.lstrip("-").replace(".", "").strip("0")
    if not digits:
        return True
    value = abs(float(number))
    if len(digits) <= _SURE_DIGITS and 1e-290 < value < 1e300:
        return True
    written = f"{value:.{len(digits) - 1}e}".partition("e")[0]
    return written.replace(".", "") == digits


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
        for found in _LONG_INTEGER.finditer(_bare(value)):
            # Twenty characters hold every 64-bit integer; converting longer text costs time.
            if len(found[0]) > 20 or not -(2**63) <= int(found[0]) < 2**63:
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
    """Why text is no JSON."""
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


def exact_decoder(**how: Any) -> json.JSONDecoder:
    """A decoder that keeps every digit, with more of Python's own options."""
    return json.JSONDecoder(parse_float=_number, parse_int=_integer, **how)


_EXACT = exact_decoder()
_DECODER = json.JSONDecoder(parse_constant=_constant)


def _too_deep() -> ContractError:
    return ContractError(Reason.TOO_DEEP, f"more than {MAX_DEPTH} levels of nesting")
