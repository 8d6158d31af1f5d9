"""Strict reading of JSON: what other parsers silently accept is refused with a reason."""

import json
import re
from typing import Any, NoReturn

import orjson

from schemas.errors import ContractError
from schemas.json_numbers import (
    Digits,
    as_json,
    can_keep_digits,
    keeps_digits,
    loses_digits,
    unescaped,
    without_texts,
)
from schemas.reasons import Reason

__all__ = [
    "MAX_DEPTH",
    "MAX_VALUES",
    "has_more_values",
    "keeping_decoder",
    "parse_json",
    "read_json",
    "refuse_depth",
]

MAX_DEPTH = 32
#: Commas, colons and brackets of one record: a value takes more time than its characters do.
MAX_VALUES = 40_000
_BYTES_EACH = 5

#: Turns every bracket into a square one; and all bytes that are no brackets.
_SQUARE = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")
_RUNS, _OPENS = re.compile(rb"\[++|\]++"), ord("[")
#: Innermost levels that are removed at once before the others are counted.
_FLAT = 4
#: No integer with fewer digits is too large.
_LONG = b"9" * 19
_NINES = bytes.maketrans(b"012345678", b"9" * 9)
_LONG_INTEGER = re.compile(rb"(?<![0-9.eE+-])-?[0-9]{19,}+(?![0-9.eE])")


def parse_json(value: bytes) -> Any:
    """Parse UTF-8 JSON, in time that depends only on its length.

    Raises ContractError for text that is not UTF-8 or not JSON, that is nested deeper than 32
    levels, names a key twice, or holds NaN, infinities, integers beyond 64 bits, half a character,
    or more than 40,000 commas, colons and brackets between its values, if they are also more than
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
        _refuse_long_integers(value)
    return parsed


def read_json(value: bytes) -> Any:
    """Parse as `parse_json` does, but return None for what it refuses.

    A number that would lose a digit keeps them all, as `Digits`. One beyond all doubles is refused,
    and so are more than a thousand numbers of 16 digits or more of which some would lose any.
    """
    if _has_too_many(value):
        return None
    try:
        if not loses_digits(value):
            parsed = orjson.loads(value)
            _refuse_what_passed(value, parsed)
            return parsed
        if not can_keep_digits(value):
            return None
        refuse_depth(value)
        parsed = _KEEPING.decode(value.decode())
        as_json(parsed)
    except (ContractError, RecursionError, TypeError, ValueError):
        return None
    return parsed


def has_more_values(value: bytes, most: int) -> bool:
    """True for JSON with more commas, colons and brackets outside of texts than that."""
    if len(value) <= most or _marks(value) <= most:
        return False
    return _marks(without_texts(value)) > most


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
    """Refuse what the parser accepts, without a walk through the values. Raises ContractError."""
    refuse_depth(value)
    # Keys and texts have two quotes each, and the parser keeps a key that is named twice once.
    if _quotes(value) != _quotes(orjson.dumps(parsed)):
        detail = "an object names a key twice; it is not clear which value is meant"
        raise ContractError(Reason.DUPLICATE_KEY, detail)


def _refuse_long_integers(value: bytes) -> None:
    """Raise ContractError for an integer that is too large for 64 bits."""
    if _LONG in value.translate(_NINES):
        for match in _LONG_INTEGER.finditer(without_texts(value)):
            if not keeps_digits(match[0].decode("ascii")):
                raise ContractError(Reason.BAD_NUMBER, "an integer is too large for 64 bits")


def _is_too_deep(value: bytes) -> bool:
    if value.count(b"{") + value.count(b"[") <= MAX_DEPTH:
        return False
    brackets = without_texts(value).translate(_SQUARE, _NO_BRACKETS)
    for _ in range(_FLAT):  # the innermost level of all at once
        brackets = brackets.replace(b"[]", b"")
    level = deepest = 0
    for run in _RUNS.findall(brackets):
        level += len(run) if run[0] == _OPENS else -len(run)
        deepest = max(deepest, level)
    return deepest > MAX_DEPTH - _FLAT


def _quotes(value: bytes) -> int:
    return unescaped(value).count(b'"')


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
        # Other parsers refuse a lone surrogate, also those of our own later stages.
        json.dumps(parsed, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return ContractError(Reason.NOT_TEXT, "half of a surrogate pair stands alone")
    if _is_too_deep(value):
        return _too_deep()
    return ContractError(Reason.BAD_NUMBER, "a number is too large for 64 bits")


def _is_plain(value: bytes, parsed: Any) -> bool:
    """True for a flat object of texts, as most requests are: it needs no further tests.

    Keys and texts have two quotes each, so the number of quotes shows a key that is named twice.
    """
    # Searching for one byte is much faster than for two, and most requests have no backslash.
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


def _kept(text: str) -> float:
    if keeps_digits(text):
        return float(text) if set(text) & set(".eE") else int(text)
    return Digits(text)


def _kept_integer(text: str) -> float:
    return int(text) if len(text) < len(_LONG) and text != "-0" else _kept(text)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        msg = "a key is named twice"
        raise ValueError(msg)
    return fields


def keeping_decoder(**how: Any) -> json.JSONDecoder:
    """A strict decoder that keeps the digits of numbers that would lose some."""
    return json.JSONDecoder(
        parse_float=_kept,
        parse_int=_kept_integer,
        parse_constant=_constant,
        object_pairs_hook=_once,
        **how,
    )


_KEEPING = keeping_decoder()
_DECODER = json.JSONDecoder(parse_constant=_constant)


def _too_deep() -> ContractError:
    return ContractError(Reason.TOO_DEEP, f"more than {MAX_DEPTH} levels of nesting")
