"""Normalising: from what a model wrote to the object it meant, or nothing."""

import json
import re
from collections.abc import Mapping
from json import JSONDecodeError, JSONDecoder
from typing import Any

from schemas.errors import ContractError
from schemas.json_text import parse_json

__all__ = ["in_order", "normalise_json", "normalise_text"]

_FENCE = re.compile(r"```[a-zA-Z0-9_-]*[ \t]*\n?(.*?)```", re.DOTALL)
_PROBE = JSONDecoder()
#: Only text that matches can hold half a character, which no UTF-8 text can carry on.
_MAY_BE_HALF = re.compile(r"\\u[dD][89a-fA-F]")
#: More starts than this, and the text is no answer with an object in it.
_MOST_STARTS = 20


def normalise_json(text: str) -> dict[str, Any] | None:
    """The JSON object of a reply, out of fences and surrounding prose.

    Strict where it matters: an object with a key twice, NaN or infinity counts as none, because
    which value was meant would be a guess.
    """
    text = text.strip().lstrip("\ufeff")
    for candidate in (text, *(match[1].strip() for match in _FENCE.finditer(text))):
        if candidate.startswith("{") and candidate.endswith("}"):
            if (found := _strict(candidate)) is not None:
                return found
    return _embedded(text)


def normalise_text(text: str) -> dict[str, Any]:
    """A plain reply as an object."""
    fenced = _FENCE.fullmatch(text.strip())
    return {"answer": (fenced[1] if fenced else text).strip()}


def in_order(output: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """The fields in the order of the format, whatever order the model wrote them in."""
    wanted = [name for name in schema.get("properties", {}) if name in output]
    return {name: output[name] for name in (*wanted, *(n for n in output if n not in wanted))}


def _strict(text: str) -> dict[str, Any] | None:
    try:
        found = parse_json(text.encode("utf-8", "replace"))
        if _MAY_BE_HALF.search(text):
            json.dumps(found, ensure_ascii=False).encode()
    except (ContractError, UnicodeEncodeError):
        return None
    return found if isinstance(found, dict) else None


def _embedded(text: str) -> dict[str, Any] | None:
    """The first whole object in prose."""
    start = text.find("{")
    for _ in range(_MOST_STARTS):
        if start < 0:
            return None
        try:
            _, end = _PROBE.raw_decode(text, start)
        except JSONDecodeError as error:
            if error.pos >= len(text) or error.msg.startswith("Unterminated"):
                return None  # cut off: what is inside is a part of the answer, not the answer
            start = text.find("{", start + 1)
            continue
        except (RecursionError, ValueError):
            return None
        return _strict(text[start:end])
    return None
