"""A provider's own counts are read wherever it puts them, and never lower the ledger."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from consumers.providers.usage import booked, counts_of, stated_micros
from consumers.providers.wires import WIRES
from router.attempt.pricing import cost_micros
from router.policy.models import Price
from router.reply.reply import Oddity, Reply

#: A chat that may well have 400 tokens.
BODY: dict[str, Any] = {
    "model": "m",
    "max_tokens": 500,
    "messages": [{"role": "user", "content": "How do I change an address? " * 40}],
}


def buckets(said: dict[str, Any]) -> tuple[list[int], tuple[Oddity, ...]]:
    """Input, cache read, cache write, output and reasoning, and what is odd."""
    usage, odd = booked(BODY, "ok", counts_of(said))
    fields = (
        usage.input_tokens,
        usage.cache_read_tokens,
        usage.cache_write_tokens,
        usage.output_tokens,
        usage.reasoning_tokens,
    )
    return list(fields), odd


def chat(**more: Any) -> dict[str, Any]:
    plain = {"prompt_tokens": 300, "completion_tokens": 20, "total_tokens": 320}
    return {**plain, **more}


def details(**more: Any) -> dict[str, Any]:
    return chat(prompt_tokens_details=more)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        pytest.param(details(cached_tokens=200), [100, 200, 0, 20, 0], id="OpenAI"),
        pytest.param(chat(cached_tokens=200), [100, 200, 0, 20, 0], id="Kimi, Together"),
        pytest.param(
            chat(prompt_cache_hit_tokens=200, prompt_cache_miss_tokens=100),
            [100, 200, 0, 20, 0],
            id="DeepSeek",
        ),
        pytest.param(
            chat(num_cached_tokens=200, prompt_token_details={"cached_tokens": 200}),
            [100, 200, 0, 20, 0],
            id="Mistral",
        ),
        pytest.param(
            chat(
                cache_creation_input_tokens=50,
                cache_read_input_tokens=200,
                prompt_tokens_details={"cached_tokens": 200, "cache_creation_tokens": 50},
            ),
            [50, 200, 50, 20, 0],
            id="LiteLLM's proxy",
        ),
        pytest.param(
            chat(cache_creation_input_tokens=50), [250, 0, 50, 20, 0], id="its writes alone"
        ),
        pytest.param(
            details(cached_tokens=0, cache_write_tokens=50), [250, 0, 50, 20, 0], id="OpenRouter"
        ),
        pytest.param(
            details(cached_tokens=0, cache_creation_input_tokens=50),
            [250, 0, 50, 20, 0],
            id="DashScope",
        ),
        pytest.param(
            {
                "prompt_tokens": 50,
                "completion_tokens": 20,
                "total_tokens": 320,
                "cache_read_input_tokens": 250,
                "cache_creation_input_tokens": 0,
            },
            [50, 250, 0, 20, 0],
            id="Bedrock behind a gateway: caches are beside the prompt",
        ),
        pytest.param(
            {
                "prompt_tokens": 250,
                "completion_tokens": 20,
                "total_tokens": 320,
                "cache_read_input_tokens": 200,
                "cache_creation_input_tokens": 50,
            },
            [50, 200, 50, 20, 0],
            id="reads are within the prompt, writes beside it",
        ),
        pytest.param(
            {
                "inputTokens": 50,
                "outputTokens": 20,
                "totalTokens": 320,
                "cacheReadInputTokens": 200,
                "cacheWriteInputTokens": 50,
            },
            [50, 200, 50, 20, 0],
            id="Bedrock's own names",
        ),
        pytest.param(
            {
                "promptTokenCount": 300,
                "candidatesTokenCount": 20,
                "totalTokenCount": 420,
                "thoughtsTokenCount": 100,
                "cachedContentTokenCount": 200,
            },
            [100, 200, 0, 20, 100],
            id="Vertex's own names",
        ),
        pytest.param(
            {
                "input_tokens": 300,
                "output_tokens": 120,
                "total_tokens": 420,
                "input_tokens_details": {"cached_tokens": 200},
                "output_tokens_details": {"reasoning_tokens": 100},
            },
            [100, 200, 0, 20, 100],
            id="as of Responses",
        ),
        pytest.param(
            {"tokens": {"input_tokens": 300, "output_tokens": 20}}, [300, 0, 0, 20, 0], id="Cohere"
        ),
        pytest.param(
            chat(total_tokens=420, completion_tokens_details={"reasoning_tokens": 100}),
            [300, 0, 0, 20, 100],
            id="xAI counts reasoning beside the completion",
        ),
        pytest.param(
            chat(completion_tokens=120, total_tokens=420, reasoning_tokens=100),
            [300, 0, 0, 20, 100],
            id="Perplexity",
        ),
    ],
)
def test_counts_are_read_where_they_stand(said: dict[str, Any], expected: list[int]) -> None:
    assert buckets(said) == (expected, ())


#: 44 tokens of input, 56 read from a cache, 200 written to one and 20 of output.
_CACHES = {"cache_creation_input_tokens": 200, "cache_read_input_tokens": 56}


def within(**details: Any) -> dict[str, Any]:
    return {"prompt_tokens_details": details}


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(
            {
                **_CACHES,
                **within(cached_tokens=56, cache_creation_tokens=200),
                "prompt_tokens": 300,
            },
            id="LiteLLM's proxy: all within the prompt",
        ),
        pytest.param(
            {**_CACHES, **within(cached_tokens=56), "prompt_tokens": 100, "total_tokens": 120},
            id="LiteLLM's proxy of 2025: reads within it, writes beside it",
        ),
        pytest.param(
            {**_CACHES, **within(cached_tokens=56), "prompt_tokens": 44, "total_tokens": 320},
            id="Portkey: both beside it, and in the total",
        ),
        pytest.param(
            {**_CACHES, "prompt_tokens": 44, "total_tokens": 64},
            id="Portkey's streams: both beside it, and not in the total",
        ),
        pytest.param(
            {
                **within(cached_tokens=56, cached_creation_tokens=200),
                "prompt_tokens": 44,
                "total_tokens": 64,
            },
            id="New API: both beside it, with the names of OpenAI",
        ),
        pytest.param(
            {"inputTokens": 44, "cacheReadInputTokens": 56, "cacheWriteInputTokens": 200},
            id="Bedrock: both beside it",
        ),
        pytest.param(
            {**within(cached_tokens=56, cache_write_tokens=200), "prompt_tokens": 44},
            id="more than the prompt cannot be within it",
        ),
    ],
)
def test_caches_count_once_within_the_prompt_or_beside_it(said: dict[str, Any]) -> None:
    usage, odd = booked(BODY, "ok", counts_of({"completion_tokens": 20, **said}))
    prices = {"input": "1.00", "cache_read": "0.10", "cache_write": "1.25", "output": "4.00"}
    price = Price.model_validate({**prices, "source": "a test", "as_of": "2026-01-01"})

    assert (usage.input_tokens, usage.cache_read_tokens, usage.cache_write_tokens) == (44, 56, 200)
    assert (cost_micros(usage, price), odd) == (380, ())


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        pytest.param(
            {
                "prompt_tokens": 2006,
                "completion_tokens": 300,
                "total_tokens": 2306,
                "prompt_tokens_details": {"cached_tokens": 1920},
                "completion_tokens_details": {"reasoning_tokens": 0},
                "cache_creation_input_tokens": 0,
            },
            [86, 1920, 0, 300, 0],
            id="LiteLLM",
        ),
        pytest.param(
            {
                "prompt_tokens": 125,
                "completion_tokens": 48,
                "total_tokens": 173,
                "prompt_tokens_details": {"text_tokens": 125, "cached_tokens": 98},
            },
            [27, 98, 0, 48, 0],
            id="xAI",
        ),
    ],
)
def test_the_examples_of_documents_are_read(said: dict[str, Any], expected: list[int]) -> None:
    assert buckets(said) == (expected, ())


_VECTORS = yaml.safe_load(Path(__file__).with_name("usage_vectors.yaml").read_text("utf-8"))


@pytest.mark.parametrize("vector", [pytest.param(one, id=one["name"]) for one in _VECTORS])
def test_what_was_published_is_booked_and_priced(vector: dict[str, Any]) -> None:
    """Provider by provider; `from` says where the example stands."""
    place = "usageMetadata" if vector["wire"] == "gemini" else "usage"
    counts = WIRES[vector["wire"]].counts({place: vector["usage"]})
    asked = {
        "max_tokens": 4000,
        "messages": [{"role": "user", "content": "word" * sum(vector["booked"][:3])}],
    }

    usage, odd = booked(asked, "ok", counts)

    fields = "input", "cache_read", "cache_write", "cache_write_1h", "output", "reasoning"
    assert [getattr(usage, f"{name}_tokens") for name in fields] == vector["booked"]
    assert list(odd) == vector.get("odd", [])
    price = Price.model_validate(
        {**vector["price"], "source": vector["from"], "as_of": "2026-11-01"}
    )
    paid = price.batch if vector.get("is_batch") else price
    assert paid is not None
    assert cost_micros(usage, paid) == vector["micros"]
    if "stated" in vector:
        assert stated_micros({place: vector["usage"]}, {}) == vector["stated"]


@pytest.mark.parametrize(
    "said",
    [
        {"cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 30}},
        within(
            cache_creation_tokens=50,
            cache_creation_token_details={"ephemeral_1h_input_tokens": 30},
        ),
        {"claude_cache_creation_1_h_tokens": 30},
    ],
)
def test_gateways_say_what_is_kept_for_an_hour(said: dict[str, Any]) -> None:
    usage, odd = booked(BODY, "ok", counts_of(chat(cache_creation_input_tokens=50, **said)))

    assert (usage.cache_write_tokens, usage.cache_write_1h_tokens, odd) == (50, 30, ())


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        pytest.param(chat(total_tokens=400), [300, 0, 0, 100, 0], id="more in all than in parts"),
        pytest.param(chat(total_tokens=100), [300, 0, 0, 20, 0], id="less in all"),
        pytest.param(
            {"prompt_tokens": 50, "completion_tokens": 20, "cached_tokens": 250},
            [250, 0, 0, 20, 0],
            id="more from a cache than was read",
        ),
        pytest.param(
            chat(cached_tokens=200, prompt_tokens_details={"cached_tokens": 100}),
            [200, 100, 0, 20, 0],
            id="two counts of one thing: the dearer is booked",
        ),
        pytest.param(
            {
                "prompt_tokens": 100,
                "completion_tokens": 20,
                "prompt_cache_hit_tokens": 200,
                "prompt_cache_miss_tokens": 100,
            },
            [100, 200, 0, 20, 0],
            id="both parts of a prompt are more than it",
        ),
    ],
)
def test_a_sum_that_does_not_fit_is_odd_and_never_less(
    said: dict[str, Any], expected: list[int]
) -> None:
    assert buckets(said) == (expected, (Oddity.USAGE_CONTRADICTS,))


def test_gemini_counts_thoughts_tools_and_caches() -> None:
    data = {
        "candidates": [{"content": {"parts": [{"text": "ok"}]}, "finishReason": "STOP"}],
        "usageMetadata": {
            "promptTokenCount": 250,
            "toolUsePromptTokenCount": 50,
            "cachedContentTokenCount": 200,
            "candidatesTokenCount": 20,
            "thoughtsTokenCount": 100,
            "totalTokenCount": 420,
        },
    }
    reply: Reply = WIRES["gemini"].decode(data, BODY)
    usage = reply.usage

    assert (usage.input_tokens, usage.cache_read_tokens) == (100, 200)
    assert (usage.output_tokens, usage.reasoning_tokens) == (20, 100)
    assert reply.oddities == ()

    data["usageMetadata"]["totalTokenCount"] = 500  # type: ignore[index]
    reply = WIRES["gemini"].decode(data, BODY)
    assert (reply.usage.total_tokens, reply.oddities) == (500, (Oddity.USAGE_CONTRADICTS,))


def test_anthropic_says_writes_by_how_long_they_are_kept() -> None:
    data = {
        "content": [{"type": "text", "text": "ok"}],
        "stop_reason": "end_turn",
        "usage": {
            "input_tokens": 50,
            "output_tokens": 20,
            "cache_read_input_tokens": 200,
            "cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 30},
        },
    }
    usage = WIRES["anthropic"].decode(data, BODY).usage

    assert (usage.input_tokens, usage.cache_read_tokens, usage.cache_write_tokens) == (50, 200, 50)
    assert usage.cache_write_1h_tokens == 30


def test_a_write_for_an_hour_costs_more() -> None:
    """A reply that somebody published, at the list prices of its model."""
    data = {
        "content": [{"type": "text", "text": "ok"}],
        "usage": {
            "input_tokens": 2,
            "cache_creation_input_tokens": 1273,
            "cache_read_input_tokens": 0,
            "output_tokens": 113,
            "cache_creation": {"ephemeral_1h_input_tokens": 1273, "ephemeral_5m_input_tokens": 0},
        },
    }
    usage = WIRES["anthropic"].decode(data, BODY).usage
    prices = {"input": "2", "output": "10", "cache_read": "0.2", "cache_write": "2.5"}
    price = Price.model_validate({**prices, "source": "Anthropic", "as_of": "2026-01-01"})

    assert cost_micros(usage, price) == 2 * 2 + 1273 * 4 + 113 * 10 == 6226


@pytest.mark.parametrize(
    ("usage", "headers", "micros"),
    [
        pytest.param({"cost": 0.0012345678}, {}, 1235, id="OpenRouter"),
        pytest.param({"cost": 0.00012300000000000001}, {}, 123, id="noise of a double"),
        pytest.param(
            {"cost": 0.95, "cost_details": {"upstream_inference_cost": 19}},
            {},
            19_950_000,
            id="OpenRouter with a key of one's own",
        ),
        pytest.param(
            {"cost": 0.5, "cost_details": {"upstream_inference_cost": 0.5}, "is_byok": False},
            {},
            500_000,
            id="OpenRouter with its key",
        ),
        pytest.param({"cost": {"total_cost": 0.006, "request_cost": 0.005}}, {}, 6000, id="fees"),
        pytest.param({"cost_in_usd_ticks": 37756000}, {}, 3776, id="xAI"),
        pytest.param({"estimated_cost": 2.5e-05}, {}, 25, id="DeepInfra"),
        pytest.param({}, {"x-litellm-response-cost": "3.5e-05"}, 35, id="LiteLLM's proxy"),
        pytest.param({"cost": 0.1}, {"x-litellm-response-cost": "0.2"}, 200_000, id="the larger"),
        pytest.param({"cost": -1}, {"x-litellm-response-cost": "None"}, None, id="no amounts"),
        pytest.param({"cost": True, "estimated_cost": float("nan")}, {}, None, id="no numbers"),
        pytest.param({"cost": "9" * 400, "cost_in_usd_ticks": [1]}, {}, None, id="beyond all"),
        pytest.param(None, {}, None, id="no usage"),
    ],
)
def test_what_a_provider_says_that_it_charges(
    usage: Any, headers: dict[str, str], micros: int | None
) -> None:
    assert stated_micros({"usage": usage}, headers) == micros
