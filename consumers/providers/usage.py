"""Usage: the provider's own count where it can be true, else never less than our estimate."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from router.pricing import estimate_tokens
from router.reply import Oddity
from schemas.usage import Usage

__all__ = ["Counts", "added", "booked", "estimate", "reserve"]

_DEFAULT_OUTPUT = 1024
#: More than any model writes.
_MOST_OUTPUT = 1_000_000
#: What a provider may add to a prompt: its own instructions, a template, how tools are explained.
_ADDED_INPUT = 4096
#: No text has so many characters to a token on the whole; a long run of blanks comes nearest.
_DENSEST = 64


@dataclass(frozen=True, slots=True)
class Counts:
    """What a provider counted, as it said it. `prompt` includes caches, `completion` reasoning."""

    prompt: Any
    completion: Any
    #: None counts as 0 for the parts.
    cache_read: Any = None
    cache_write: Any = None
    reasoning: Any = None


def added(count: Any, *more: Any) -> Any:
    """Counts together; one that is no count comes back as it is, to be found odd."""
    counts = [count, *(one or 0 for one in more)]
    wrong = [one for one in counts if type(one) is not int or one < 0]
    return wrong[0] if wrong else sum(counts)


def estimate(body: Mapping[str, Any], output: str) -> Usage:
    """Our own count of a call: what was sent, and what came back as text."""
    return Usage(
        input_tokens=_input_tokens(body), output_tokens=estimate_tokens(output), estimated=True
    )


def reserve(body: Mapping[str, Any]) -> Usage:
    """The most a call can have used up when nobody knows whether it ran."""
    return Usage(
        input_tokens=_input_tokens(body),
        output_tokens=_output_limit(body) or _DEFAULT_OUTPUT,
        estimated=True,
    )


def booked(
    body: Mapping[str, Any], output: str, counts: Counts | None
) -> tuple[Usage, tuple[Oddity, ...]]:
    """What a reply is booked at, in disjoint buckets, and what is odd about its counts.

    An odd count is booked at the larger of it and our estimate, but within what the call could
    cost at most: no provider can lower the ledger by it, nor blow it up.
    """
    if counts is None:
        return estimate(body, output), (Oddity.USAGE_MISSING,)

    odd: list[Oddity] = []
    prompt = _input(body, counts.prompt, odd)
    completion = _output(body, output, counts.completion, odd)
    given = (counts.cache_read, counts.cache_write, counts.reasoning)
    parts = [_count(part or 0) for part in given]
    if any(part is None or part < 0 for part in parts):
        odd.append(Oddity.USAGE_INVALID)
        parts = [0, 0, 0]
    read, written, thought = (part or 0 for part in parts)
    if read + written > prompt or thought > completion:
        # What was thought was written: the larger is booked.
        odd.append(Oddity.USAGE_CONTRADICTS)
        completion = max(completion, min(thought, _output_limit(body) or _MOST_OUTPUT))
        read, written, thought = 0, 0, 0
    usage = Usage(
        input_tokens=prompt - read - written,
        cache_read_tokens=read,
        cache_write_tokens=written,
        output_tokens=completion - thought,
        reasoning_tokens=thought,
        estimated=bool(odd),
    )
    return usage, tuple(dict.fromkeys(odd))


def _input(body: Mapping[str, Any], said: Any, odd: list[Oddity]) -> int:
    problem, count = _problem(said), _count(said) or 0
    # What is small anyway is not worth the counting.
    if problem is None and count > _ADDED_INPUT and count > _most_input(body):
        problem = Oddity.USAGE_HUGE
    elif problem is None and count * _DENSEST < _text_length(body):
        problem = Oddity.USAGE_SMALL
    if problem is None:
        return count

    odd.append(problem)
    likely = _input_tokens(body)
    return likely if problem is Oddity.USAGE_HUGE else max(likely, count)


def _output(body: Mapping[str, Any], output: str, said: Any, odd: list[Oddity]) -> int:
    problem = _problem(said)
    if problem is Oddity.USAGE_ZERO and not output:
        return 0

    limit, count = _output_limit(body) or _MOST_OUTPUT, _count(said) or 0
    if problem is None and count > limit:
        problem = Oddity.OVER_LIMIT
    elif problem is None and count * _DENSEST < len(output):
        problem = Oddity.USAGE_SMALL
    if problem is None:
        return count

    odd.append(problem)
    return max(min(count, limit), min(estimate_tokens(output), limit))


def _problem(said: Any) -> Oddity | None:
    if said is None:
        return Oddity.USAGE_MISSING
    if type(said) not in (int, float) or (count := _count(said)) is None or count < 0:
        return Oddity.USAGE_INVALID
    return Oddity.USAGE_ZERO if count == 0 else None


def _count(said: Any) -> int | None:
    """A count, also where a server writes it as text or with a decimal point."""
    if type(said) is int:
        return said
    if type(said) is float and said.is_integer():
        return int(said)
    return int(said) if isinstance(said, str) and len(said) < 12 and said.isdecimal() else None


def _most_input(body: Mapping[str, Any]) -> int:
    """The most a prompt can be: no token is shorter than a byte, and a provider adds a little.

    Where it searches or runs something on its own side nobody can say how much it reads.
    """
    runs_itself = body.get("web_search_options") or any(
        isinstance(tool, dict) and tool.get("type", "function") not in ("function", "custom")
        for tool in body.get("tools") or ()
    )
    if runs_itself:
        return _MOST_OUTPUT
    return _ADDED_INPUT + len(_dumped(body).encode("utf-8", "surrogatepass"))


def _output_limit(body: Mapping[str, Any]) -> int | None:
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    return limit if type(limit) is int and limit > 0 else None


def _text_length(body: Mapping[str, Any]) -> int:
    """The characters sent as plain text; parts may be pictures, which have few tokens."""
    said = (one.get("content") for one in body.get("messages") or () if isinstance(one, dict))
    return sum(len(content) for content in said if isinstance(content, str))


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
