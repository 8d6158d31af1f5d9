"""JSON read strictly: what other parsers let pass in silence becomes a reason code."""

import json
import math
import re
from typing import Any, NoReturn

import orjson

from schemas.errors import ContractError
from schemas.reasons import Reason

__all__ = ["MAX_DEPTH", "parse_json"]

MAX_DEPTH = 32

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def parse_json(value: bytes) -> Any:
    """Parse UTF-8 JSON.

    Raises ContractError for text that is not UTF-8, not JSON, nested deeper than 32 levels, that
    names a key twice, that holds NaN, infinities or integers beyond 64 bits, or half a character.
    """
    if (plain := _plain(value)) is not None:
        return plain
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError as error:
        detail = f"byte {error.start} is not UTF-8"
        raise ContractError(Reason.NOT_TEXT, detail) from None

    try:
        parsed = _DECODER.decode(text)
    except RecursionError:
        raise _too_deep() from None
    except json.JSONDecodeError as error:
        detail = f"line {error.lineno}, column {error.colno}: {error.msg}"
        raise ContractError(Reason.NOT_JSON, detail) from None
    except ValueError as error:  # an integer with more digits than Python converts
        raise ContractError(Reason.BAD_NUMBER, str(error).split(":", maxsplit=1)[0]) from None

    if value.count(b"{") + value.count(b"[") > MAX_DEPTH and _depth(parsed) > MAX_DEPTH:
        raise _too_deep()
    if _SURROGATE.search(value):
        _refuse_half_characters(parsed)
    return parsed


def _plain(value: bytes) -> dict[str, Any] | None:
    """One object of texts, which most requests are; None where closer looks are needed.

    Each key and each text has two quotes, so that their number shows a key named twice.
    """
    try:
        parsed = orjson.loads(value)
    except orjson.JSONDecodeError:
        return None
    # One byte is found much sooner than two, and most requests have no backslash.
    is_escaped = b"\\" in value
    if type(parsed) is not dict or (is_escaped and b"\\\\" in value):
        return None
    texts = 0
    for field in parsed.values():
        if type(field) is str:
            texts += 1
        elif field is not None and type(field) is not bool:
            return None
    quotes = value.count(b'"') - (value.count(b'\\"') if is_escaped else 0)
    return parsed if quotes == 2 * (len(parsed) + texts) else None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        detail = "an object names a key twice; which value is meant is a guess"
        raise ContractError(Reason.DUPLICATE_KEY, detail)
    return made


def _refuse_half_characters(parsed: Any) -> None:
    """Other parsers refuse a lone surrogate, those of our own later stages among them."""
    try:
        json.dumps(parsed, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise ContractError(Reason.NOT_TEXT, "half of a surrogate pair stands alone") from None


def _constant(name: str) -> NoReturn:
    raise ContractError(Reason.BAD_NUMBER, f"{name} is not a JSON number")


def _float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ContractError(Reason.BAD_NUMBER, "a number is too large for 64 bits")
    return number


def _int(text: str) -> int:
    # Twenty characters hold every 64-bit integer; converting longer text would only cost time.
    if len(text) > 20 or not -(2**63) <= int(text) < 2**63:
        raise ContractError(Reason.BAD_NUMBER, "an integer is too large for 64 bits")
    return int(text)


# The hooks for numbers cost nothing where there are none, and a request holds few.
_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_constant=_constant, parse_float=_float, parse_int=_int
)


def _depth(value: Any) -> int:
    """Levels of nesting. Walks level by level, so that depth costs no stack."""
    depth, level = 0, [value]
    while level := [item for item in level if isinstance(item, (dict, list))]:
        depth += 1
        if depth > MAX_DEPTH:
            break
        level = [
            child for item in level for child in (item.values() if isinstance(item, dict) else item)
        ]
    return depth


def _too_deep() -> ContractError:
    return ContractError(Reason.TOO_DEEP, f"more than {MAX_DEPTH} levels of nesting")
