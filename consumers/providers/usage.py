"""Usage: the provider's own count where it can be true, else never less than our estimate.

Where providers that speak the OpenAI format put their counts stands in `usage.yaml`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, Decimal, InvalidOperation
from importlib.resources import files
from typing import Any

import orjson
import yaml

from consumers.providers.shapes import dict_of, dicts_of
from router.reply.reply import Oddity
from router.request.tokens import estimate_tokens
from schemas.usage import Usage

__all__ = ["Counts", "added", "booked", "counts_of", "estimate", "most", "reserve", "stated_micros"]

_FILE = files("consumers.providers") / "usage.yaml"
_TABLES: Mapping[str, Any] = yaml.safe_load(_FILE.read_text(encoding="utf-8"))
_PLACES: Mapping[str, Sequence[str]] = _TABLES["counts"]
_COSTS = {place: Decimal(unit) for place, unit in _TABLES["costs"].items()}
_READS_WITHIN = ("prompt_tokens_details.cached_tokens",)
_WRITES_WITHIN = [place for place in _PLACES["cache_write"] if place.startswith("prompt_")]
#: A header with the cost, in dollars.
_COST_HEADER = "x-litellm-response-cost"
_MOST_MICROS = 10**12
_DEFAULT_OUTPUT = 1024
#: More tokens than any model writes.
_MOST_OUTPUT = 1_000_000
#: Tokens that a provider may add to a prompt: its instructions, a template, the tools explained.
_ADDED_INPUT = 4096
#: No whole text has so many characters per token; a long run of blanks comes nearest.
_DENSEST = 64


@dataclass(frozen=True, slots=True)
class Counts:
    """A provider's own counts, unchecked. `prompt` includes caches, `completion` reasoning."""

    prompt: Any
    completion: Any
    #: None counts as 0 for the parts.
    cache_read: Any = None
    cache_write: Any = None
    #: Those of `cache_write` that are kept for an hour.
    cache_write_1h: Any = None
    reasoning: Any = None
    #: All of them together, where the provider states it.
    total: Any = None
    #: True when the provider states the same count twice with different values.
    contradicts: bool = False
    #: How many tokens of caches are beside `prompt`, unless the total says otherwise.
    beside: int = 0


def counts_of(usage: Any) -> Counts | None:
    """The counts of a `usage` in the OpenAI format, wherever the provider puts them."""
    if not isinstance(usage, dict):
        return None
    values = {name: _at(usage, places) for name, places in _PLACES.items()}
    prompt, completion, total = (_first(values[name]) for name in ("prompt", "completion", "total"))
    # DeepSeek also states the two parts of the prompt.
    miss, hit = usage.get("prompt_cache_miss_tokens"), usage.get("prompt_cache_hit_tokens")
    parts = added(miss, hit) if miss is not None else 0
    is_less = type(parts) is int and 0 <= (_count(prompt) or 0) < parts
    prompt = parts if is_less else prompt
    repeated = [values[name] for name in ("cache_read", "cache_write", "reasoning")]
    # Reading from a cache is cheap: of counts that differ the least is booked.
    read, written = _chosen(values["cache_read"], min), _chosen(values["cache_write"], max)
    return Counts(
        prompt=prompt,
        completion=completion,
        cache_read=read,
        cache_write=written,
        cache_write_1h=_chosen(values["cache_write_1h"], max),
        reasoning=_chosen(values["reasoning"], max),
        total=total,
        contradicts=is_less or any(len({*map(_count, same)} - {0}) > 1 for same in repeated),
        beside=_beside(usage, *(max(_count(count) or 0, 0) for count in (prompt, read, written))),
    )


def _beside(usage: Mapping[str, Any], prompt: int, read: int, written: int) -> int:
    """How many tokens of caches cannot be within the prompt, so that they are beside it.

    LiteLLM's proxy of 2025 adds the reads to the prompt, and not the writes.
    """
    if read + written <= prompt:
        return 0
    if read <= prompt and _at(usage, _READS_WITHIN) and not _at(usage, _WRITES_WITHIN):
        return written
    is_beside = _at(usage, _TABLES["often_beside"]) or (written and max(read, written) > prompt)
    return read + written if is_beside else 0


def stated_micros(data: Any, headers: Mapping[str, str]) -> int | None:
    """What a provider says it charges for a call, in micro-dollars, rounded up once.

    If it states several figures, the largest.
    """
    usage = dict_of(dict_of(data).get("usage"))
    stated = [_micros(headers.get(_COST_HEADER), Decimal(1_000_000))]
    for place, unit in _COSTS.items():
        stated += [_micros(cost, unit) for cost in _at(usage, [place])]
    if usage.get("is_byok") is not False:
        # With the customer's own key, `cost` is OpenRouter's fee, on top of the provider's charge.
        [fee, *_] = [_micros(cost, _COSTS["cost"]) for cost in _at(usage, ["cost"])] or [0]
        for cost in _at(usage, ["cost_details.upstream_inference_cost"]):
            stated.append((_micros(cost, _COSTS["cost"]) or 0) + (fee or 0))
    return max((micros for micros in stated if micros), default=None)


def _micros(cost: Any, unit: Decimal) -> int | None:
    if isinstance(cost, bool) or not isinstance(cost, (int, float, str)):
        return None
    try:
        # Millionths of a micro-dollar are rounding noise of a double.
        exact = (Decimal(str(cost)) * unit).quantize(Decimal("1e-6"))
        micros = int(exact.to_integral_value(rounding=ROUND_CEILING))
    except (InvalidOperation, OverflowError, ValueError):
        return None
    return micros if 0 <= micros <= _MOST_MICROS else None


def _first(values: Sequence[Any]) -> Any:
    """The first value that counts something, else the first value."""
    return next((value for value in values if _count(value)), next(iter(values), None))


def _chosen(values: Sequence[Any], choose: Callable[[list[int]], int]) -> Any:
    """One of several values of the same count, or the first that is not a count, to be flagged."""
    counts = [_count(value) for value in values]
    for value, count in zip(values, counts, strict=True):
        if count is None or count < 0:
            return value
    positive = [count for count in counts if count]
    return choose(positive) if positive else None


def _at(usage: Mapping[str, Any], places: Sequence[str]) -> list[Any]:
    """The values in these places."""
    values = []
    for place in places:
        value: Any = usage
        for name in place.split("."):
            value = dict_of(value).get(name)
        if value is not None:
            values.append(value)
    return values


def added(count: Any, *more: Any) -> Any:
    """The sum of counts; a value that is not a count is returned as it is, to be flagged."""
    counts = [count, *(other or 0 for other in more)]
    wrong = [value for value in counts if type(value) is not int or value < 0]
    return wrong[0] if wrong else sum(counts)


def estimate(body: Mapping[str, Any], output: str) -> Usage:
    """Our own estimate of a call, from the body that was sent and the text of the reply."""
    return Usage(
        input_tokens=_input_tokens(body), output_tokens=estimate_tokens(output), estimated=True
    )


def reserve(body: Mapping[str, Any]) -> Usage:
    """The most that a call can have used when nobody knows whether it ran."""
    return Usage(
        input_tokens=_input_tokens(body),
        output_tokens=_output_limit(body) or _DEFAULT_OUTPUT,
        estimated=True,
    )


def most(body: Mapping[str, Any]) -> Usage:
    """The most that a call can be booked at, whatever its provider counts."""
    return Usage(
        input_tokens=_most_input(body),
        output_tokens=_output_limit(body) or _DEFAULT_OUTPUT,
        estimated=True,
    )


def booked(
    body: Mapping[str, Any], output: str, counts: Counts | None
) -> tuple[Usage, tuple[Oddity, ...]]:
    """What a reply is booked at, in disjoint buckets, and what is odd about its counts.

    An odd count is booked at the larger of it and our estimate, but never above what the call could
    cost at most: no provider can lower the ledger by it, nor blow it up.
    """
    if counts is None:
        return estimate(body, output), (Oddity.USAGE_MISSING,)

    oddities: list[Oddity] = []
    counts = _fitted(counts, oddities)
    prompt = _input(body, counts.prompt, oddities)
    completion = _output(body, output, counts.completion, oddities)
    stated = (counts.cache_read, counts.cache_write, counts.reasoning)
    parts = [_count(part or 0) for part in stated]
    if any(part is None or part < 0 for part in parts):
        oddities.append(Oddity.USAGE_INVALID)
        parts = [0, 0, 0]
    read, written, thought = (part or 0 for part in parts)
    if read + written > prompt or thought > completion:
        # Thoughts are part of the output and caches part of the input: the larger is booked.
        oddities.append(Oddity.USAGE_CONTRADICTS)
        completion = max(completion, min(thought, _output_limit(body) or _MOST_OUTPUT))
        prompt = max(prompt, min(read + written, _most_input(body)))
        read, written, thought = 0, 0, 0
    usage = Usage(
        input_tokens=prompt - read - written,
        cache_read_tokens=read,
        cache_write_tokens=written,
        cache_write_1h_tokens=min(max(_count(counts.cache_write_1h) or 0, 0), written),
        output_tokens=completion - thought,
        reasoning_tokens=thought,
        estimated=bool(oddities),
    )
    return usage, tuple(dict.fromkeys(oddities))


def _fitted(counts: Counts, oddities: list[Oddity]) -> Counts:
    """Counts whose sum is the stated total.

    Some providers count reasoning beside the output, some count caches beside the input. Tokens
    that only the total has are booked as output; that, and a total that is too small, is odd.
    """
    prompt, completion, total = map(_count, (counts.prompt, counts.completion, counts.total))
    if counts.contradicts:
        oddities.append(Oddity.USAGE_CONTRADICTS)
    if prompt is None or completion is None or min(prompt, completion) < 0:
        return counts
    if not total or total == prompt + completion:
        return replace(counts, prompt=prompt + counts.beside) if counts.beside else counts
    caches = [_count(cache or 0) or 0 for cache in (counts.cache_read, counts.cache_write)]
    reasoning = _count(counts.reasoning or 0) or 0
    rest = total - prompt - completion
    for more_input in (0, sum(caches), *caches):
        for more_output in (reasoning, 0):
            if rest == more_input + more_output:
                return replace(
                    counts, prompt=prompt + more_input, completion=completion + more_output
                )
    oddities.append(Oddity.USAGE_CONTRADICTS)
    return replace(counts, completion=completion + max(rest, 0))


def _input(body: Mapping[str, Any], stated: Any, oddities: list[Oddity]) -> int:
    problem, count = _problem(stated), _count(stated) or 0
    # Measuring the body is not worth it for a small count.
    if problem is None and count > _ADDED_INPUT and count > _most_input(body):
        problem = Oddity.USAGE_HUGE
    elif problem is None and count * _DENSEST < _text_length(body):
        problem = Oddity.USAGE_SMALL
    if problem is None:
        return count

    oddities.append(problem)
    likely = _input_tokens(body)
    return likely if problem is Oddity.USAGE_HUGE else max(likely, count)


def _output(body: Mapping[str, Any], output: str, stated: Any, oddities: list[Oddity]) -> int:
    problem = _problem(stated)
    if problem is Oddity.USAGE_ZERO and not output:
        return 0

    limit, count = _output_limit(body) or _MOST_OUTPUT, _count(stated) or 0
    if problem is None and count > limit:
        problem = Oddity.OVER_LIMIT
    elif problem is None and count * _DENSEST < len(output):
        problem = Oddity.USAGE_SMALL
    if problem is None:
        return count

    oddities.append(problem)
    return max(min(count, limit), min(estimate_tokens(output), limit))


def _problem(stated: Any) -> Oddity | None:
    if stated is None:
        return Oddity.USAGE_MISSING
    if type(stated) not in (int, float) or (count := _count(stated)) is None or count < 0:
        return Oddity.USAGE_INVALID
    return Oddity.USAGE_ZERO if count == 0 else None


def _count(value: Any) -> int | None:
    """A count, also where a server writes it as text or with a decimal point."""
    if type(value) is int:
        return value
    if type(value) is float and value.is_integer():
        return int(value)
    return int(value) if isinstance(value, str) and len(value) < 12 and value.isdecimal() else None


def _most_input(body: Mapping[str, Any]) -> int:
    """The most tokens of a prompt: one for each byte, and a little that the provider adds.

    Where the provider searches or runs tools itself, nobody can say how much the model reads.
    """
    uses_provider_tools = body.get("web_search_options") or any(
        tool.get("type", "function") not in ("function", "custom")
        for tool in dicts_of(body.get("tools"))
    )
    if uses_provider_tools:
        return _MOST_OUTPUT
    return _ADDED_INPUT + len(_dumped(body).encode("utf-8", "surrogatepass"))


def _output_limit(body: Mapping[str, Any]) -> int | None:
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    return limit if type(limit) is int and limit > 0 else None


def _text_length(body: Mapping[str, Any]) -> int:
    """The characters sent as plain text. Parts do not count: pictures have few tokens."""
    contents = (message.get("content") for message in dicts_of(body.get("messages")))
    return sum(len(content) for content in contents if isinstance(content, str))


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
