"""Reads the body of a reply as JSON, leniently: the call is paid for, so what can be read is."""

import re
from collections.abc import Callable
from typing import Any

import orjson

from consumers.providers.parts import json_text
from consumers.providers.streams import chunks_of, joined
from consumers.providers.unpacking import as_utf8, read_loosely
from consumers.providers.wire import UnreadableError
from schemas.errors import ContractError
from schemas.json_numbers import read_lossless
from schemas.json_text import MAX_VALUES, has_more_values, refuse_depth

__all__ = ["parsed_body"]

#: The most commas, colons and brackets: enough for the token probabilities of a long answer.
_MOST_VALUES = 300_000
#: Fewer bytes per value than any real reply has: token probabilities without blanks take four.
_BYTES_EACH = 3
#: Fields that usually hold text. The numbers of an object there are part of the answer.
_OBJECTS = re.compile(
    rb'"(?:arguments|input|args|content|text|value|json|data|object)"\s*+:\s*+[\[{]'
)
_DONE = b"[DONE]"
#: What Google, Angular and Facebook put before JSON, so that no other site can run it as a script.
_GUARD = re.compile(rb"\s*+(?:\)\]\}',?|while\s*\(1\);|for\s*\(;;\);)")


def parsed_body(
    raw: bytes,
    content_type: str = "",
    wire: str = "openai",
    masked: Callable[[bytes], bytes] = bytes,
) -> Any:
    """The reply's JSON in its wire format, also when the server has streamed it.

    Deeper nesting than our own records may have is refused, and so are more values than can be read
    without blocking the event loop. `masked` removes secrets; it runs once more over a joined
    stream, where a secret may have been split between chunks. Raises UnreadableError.
    """
    if has_more_values(raw, min(max(MAX_VALUES, len(raw) // _BYTES_EACH), _MOST_VALUES)):
        what = "the reply has too many values"
        raise UnreadableError(what)
    try:
        text = as_utf8(raw, content_type)
        if guard := _GUARD.match(text):
            text = text[guard.end() :]
        return _parsed(masked(text), wire, masked)
    except (ValueError, TypeError, RecursionError):
        what = "the reply is not JSON"
        raise UnreadableError(what) from None
    except ContractError as error:
        what = f"the reply is not plain JSON: {error.reason.value}"
        raise UnreadableError(what) from None


def _parsed(raw: bytes, wire: str, masked: Callable[[bytes], bytes]) -> Any:
    try:
        parsed = orjson.loads(raw)
    except orjson.JSONDecodeError:
        if (chunks := chunks_of(raw)) is not None:
            whole = joined(wire, chunks, is_done=raw.rstrip().endswith(_DONE))
            return read_lossless(masked(json_text(whole).encode()))
        if has_more_values(raw, MAX_VALUES):
            raise
        refuse_depth(raw)
        return read_loosely(raw, exact=_OBJECTS.search(raw) is not None)
    refuse_depth(raw)
    if isinstance(parsed, list) and parsed and all(isinstance(chunk, dict) for chunk in parsed):
        whole = joined(wire, read_lossless(raw), is_done=False)
        return read_lossless(masked(json_text(whole).encode()))
    return read_lossless(raw) if _OBJECTS.search(raw) else parsed
