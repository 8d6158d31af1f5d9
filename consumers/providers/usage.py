"""Usage: the provider's own count where it can be true, else our estimate."""

from collections.abc import Mapping
from typing import Any

import orjson

from router.pricing import estimate_tokens
from schemas.usage import Usage

__all__ = ["buckets", "estimate", "reserve"]

#: More tokens than any call has; a count above it is a mistake.
_MOST = 10_000_000
_DEFAULT_OUTPUT = 1024


def estimate(body: Mapping[str, Any], output: str) -> Usage:
    """Our own count of a call: what was sent, and what came back as text."""
    return Usage(
        input_tokens=_input_tokens(body), output_tokens=estimate_tokens(output), estimated=True
    )


def reserve(body: Mapping[str, Any]) -> Usage:
    """The most a call can have used up when nobody knows whether it ran."""
    limit = body.get("max_completion_tokens") or body.get("max_tokens") or _DEFAULT_OUTPUT
    return Usage(
        input_tokens=_input_tokens(body),
        output_tokens=limit if isinstance(limit, int) else _DEFAULT_OUTPUT,
        estimated=True,
    )


def buckets(
    *, prompt: Any, completion: Any, cache_read: Any = 0, cache_write: Any = 0, reasoning: Any = 0
) -> Usage | None:
    """Disjoint buckets from totals that contain their parts; None when the counts cannot be true.

    `prompt` includes both caches, `completion` includes reasoning. None counts as 0 for the parts.
    """
    read, written, thought = cache_read or 0, cache_write or 0, reasoning or 0
    counts = (prompt, completion, read, written, thought)
    if any(type(count) is not int or not 0 <= count <= _MOST for count in counts):
        return None
    if prompt == 0 or read + written > prompt or thought > completion:
        return None

    return Usage(
        input_tokens=prompt - read - written,
        cache_read_tokens=read,
        cache_write_tokens=written,
        output_tokens=completion - thought,
        reasoning_tokens=thought,
    )


def _input_tokens(body: Mapping[str, Any]) -> int:
    tokens = 8
    for message in body.get("messages") or ():
        content = message.get("content") if isinstance(message, dict) else None
        tokens += 4 + estimate_tokens(content if isinstance(content, str) else _dumped(content))
    if tools := body.get("tools"):
        tokens += estimate_tokens(_dumped(tools))
    return tokens


def _dumped(value: Any) -> str:
    try:
        return orjson.dumps(value).decode() if value else ""
    except TypeError:  # half a character, which counts for nothing here
        return str(value)
