"""Usage: the provider's own count where it can be true, else never less than our estimate.

Where providers that speak the OpenAI format put their counts is one table, `_PLACES`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, Decimal, InvalidOperation
from typing import Any

import orjson

from router.attempt.pricing import estimate_tokens
from router.judge.reply import Oddity
from schemas.usage import Usage

__all__ = ["Counts", "added", "booked", "counts_of", "estimate", "reserve", "stated_micros"]

#: Every place of a count, below `usage`, with who writes it there (their API references, read in
#: 2026-11). A count that stands in several places is the same one.
_PLACES: Mapping[str, tuple[str, ...]] = {
    "prompt": (
        "prompt_tokens",
        "input_tokens",  # Responses, Anthropic
        "inputTokens",  # Bedrock's Converse
        "promptTokenCount",  # Vertex
        "tokens.input_tokens",  # Cohere
        "billed_units.input_tokens",
    ),
    "completion": (
        "completion_tokens",
        "output_tokens",
        "outputTokens",
        "candidatesTokenCount",
        "tokens.output_tokens",
        "billed_units.output_tokens",
    ),
    "total": ("total_tokens", "totalTokens", "totalTokenCount"),
    "cache_read": (
        "prompt_tokens_details.cached_tokens",  # OpenAI, xAI, Groq, Fireworks, Zhipu, DashScope
        "cached_tokens",  # Moonshot (Kimi), Together
        "prompt_cache_hit_tokens",  # DeepSeek
        "cache_read_input_tokens",  # LiteLLM's proxy, Portkey
        "prompt_tokens_details.cache_read_input_tokens",
        "prompt_tokens_details.cache_read_tokens",
        "prompt_token_details.cached_tokens",  # Mistral
        "num_cached_tokens",  # Mistral, vLLM
        "input_tokens_details.cached_tokens",  # Responses
        "cache_read_tokens",
        "cacheReadInputTokens",  # Bedrock
        "cacheReadInputTokenCount",
        "cachedContentTokenCount",  # Vertex
    ),
    "cache_write": (
        "prompt_tokens_details.cache_write_tokens",  # OpenRouter
        "prompt_tokens_details.cache_creation_tokens",  # LiteLLM's proxy
        "prompt_tokens_details.cache_creation_input_tokens",  # DashScope
        "prompt_tokens_details.cached_creation_tokens",  # New API
        "cache_creation_input_tokens",  # LiteLLM's proxy, Portkey
        "cache_creation_tokens",
        "cache_write_tokens",
        "input_tokens_details.cache_write_tokens",
        "cacheWriteInputTokens",  # Bedrock
        "cacheWriteInputTokenCount",
    ),
    "reasoning": (
        "completion_tokens_details.reasoning_tokens",  # OpenAI and most others
        "output_tokens_details.reasoning_tokens",  # Responses
        "output_tokens_details.thinking_tokens",  # Anthropic
        "completion_tokens_details.thinking_tokens",
        "reasoning_tokens",  # Perplexity, Together
        "thoughtsTokenCount",  # Vertex
    ),
}

#: Where what is charged for a call stands, below `usage`, and micro-dollars for each unit of it.
_COSTS: Mapping[str, Decimal] = {
    "cost": Decimal(1_000_000),  # OpenRouter: credits are dollars
    "cost.total_cost": Decimal(1_000_000),  # Perplexity, its fees for each call included
    "estimated_cost": Decimal(1_000_000),  # DeepInfra
    "cost_in_usd_ticks": Decimal("1e-4"),  # xAI, its own tools included
}
#: The same as a header, in dollars.
_COST_HEADER = "x-litellm-response-cost"
_MOST_MICROS = 10**12
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
    #: What all of them are together, where it is said.
    total: Any = None
    #: True when the same count is said twice, and not alike.
    contradicts: bool = False


def counts_of(said: Any) -> Counts | None:
    """The counts of a `usage` in the OpenAI format, wherever the provider puts them."""
    if not isinstance(said, dict):
        return None
    found = {name: _found(said, places) for name, places in _PLACES.items()}
    prompt, completion, total = (_first(found[name]) for name in ("prompt", "completion", "total"))
    # DeepSeek says both parts of the prompt.
    miss, hit = said.get("prompt_cache_miss_tokens"), said.get("prompt_cache_hit_tokens")
    parts = added(miss, hit) if miss is not None else 0
    is_less = type(parts) is int and 0 <= (_count(prompt) or 0) < parts
    several = [found[name] for name in ("cache_read", "cache_write", "reasoning")]
    return Counts(
        prompt=parts if is_less else prompt,
        completion=completion,
        # What was read from a cache is cheap: of counts that differ the least is booked.
        cache_read=_one(found["cache_read"], min),
        cache_write=_one(found["cache_write"], max),
        reasoning=_one(found["reasoning"], max),
        total=total,
        contradicts=is_less or any(len({*map(_count, one)} - {0}) > 1 for one in several),
    )


def stated_micros(data: Any, headers: Mapping[str, str]) -> int | None:
    """What a provider says that it charges for a call, in micro-dollars, rounded up once.

    Where it says several figures, the largest.
    """
    usage = data.get("usage") if isinstance(data, dict) else None
    usage = usage if isinstance(usage, dict) else {}
    said = [_micros(headers.get(_COST_HEADER), Decimal(1_000_000))]
    for place, unit in _COSTS.items():
        said += [_micros(one, unit) for one in _found(usage, [place])]
    if usage.get("is_byok") is not False:
        # With a key of one's own OpenRouter's cost is its fee; its provider charges beside it.
        [fee, *_] = [_micros(one, _COSTS["cost"]) for one in _found(usage, ["cost"])] or [0]
        for one in _found(usage, ["cost_details.upstream_inference_cost"]):
            said.append((_micros(one, _COSTS["cost"]) or 0) + (fee or 0))
    return max((one for one in said if one), default=None)


def _micros(said: Any, unit: Decimal) -> int | None:
    if isinstance(said, bool) or not isinstance(said, (int, float, str)):
        return None
    try:
        # Millionths of a micro-dollar are noise of a double.
        micros = (Decimal(str(said)) * unit).quantize(Decimal("1e-6"))
        found = int(micros.to_integral_value(rounding=ROUND_CEILING))
    except (InvalidOperation, OverflowError, ValueError):
        return None
    return found if 0 <= found <= _MOST_MICROS else None


def _first(values: Sequence[Any]) -> Any:
    """The first that counts something; else what is said there."""
    return next((one for one in values if _count(one)), next(iter(values), None))


def _one(values: Sequence[Any], choose: Callable[[list[int]], int]) -> Any:
    """One of several counts of the same; one that is no count comes back, to be found odd."""
    counts = [_count(one) for one in values]
    for value, count in zip(values, counts, strict=True):
        if count is None or count < 0:
            return value
    some = [one for one in counts if one]
    return choose(some) if some else None


def _found(said: Mapping[str, Any], places: Sequence[str]) -> list[Any]:
    """What stands in these places."""
    values = []
    for place in places:
        name, _, inner = place.partition(".")
        value = said.get(name)
        if inner:
            value = value.get(inner) if isinstance(value, dict) else None
        if value is not None:
            values.append(value)
    return values


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
    counts = _fitted(counts, odd)
    prompt = _input(body, counts.prompt, odd)
    completion = _output(body, output, counts.completion, odd)
    given = (counts.cache_read, counts.cache_write, counts.reasoning)
    parts = [_count(part or 0) for part in given]
    if any(part is None or part < 0 for part in parts):
        odd.append(Oddity.USAGE_INVALID)
        parts = [0, 0, 0]
    read, written, thought = (part or 0 for part in parts)
    if read + written > prompt or thought > completion:
        # What was thought was written, and what a cache holds was read: the larger is booked.
        odd.append(Oddity.USAGE_CONTRADICTS)
        completion = max(completion, min(thought, _output_limit(body) or _MOST_OUTPUT))
        prompt = max(prompt, min(read + written, _most_input(body)))
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


def _fitted(counts: Counts, odd: list[Oddity]) -> Counts:
    """Counts whose sum is the total that is said.

    Some providers count reasoning beside what was written, some caches beside the input. What is
    in the total and nowhere else is booked as output; that, and a total that is too small, is odd.
    """
    prompt, completion, total = map(_count, (counts.prompt, counts.completion, counts.total))
    if counts.contradicts:
        odd.append(Oddity.USAGE_CONTRADICTS)
    if prompt is None or completion is None or min(prompt, completion) < 0:
        return counts
    if not total or total == prompt + completion:
        return counts
    parts = [_count(one or 0) or 0 for one in (counts.cache_read, counts.cache_write)]
    thought = _count(counts.reasoning or 0) or 0
    rest = total - prompt - completion
    for more in (0, sum(parts), *parts):
        for written in (thought, 0):
            if rest == more + written:
                return replace(counts, prompt=prompt + more, completion=completion + written)
    odd.append(Oddity.USAGE_CONTRADICTS)
    return replace(counts, completion=completion + max(rest, 0))


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
