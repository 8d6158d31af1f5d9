"""The simulated provider, judged by the official clients of the APIs it speaks."""

import asyncio
import gzip
from pathlib import Path
from typing import Any

import aiohttp
import anthropic
import openai
import orjson
import pytest

from consumers.lab.simulator import DEFAULT_MODELS, SimulatorSettings, simulator
from consumers.lab.simulator.faults import FAULTS
from router.attempt.pricing import cost_micros
from schemas.usage import Usage

INSTANT = SimulatorSettings(latency_scale=0)
ASKED = [{"role": "user", "content": "How do I reset my password for account 7711?"}]
LABEL = {
    "type": "json_schema",
    "json_schema": {
        "name": "label",
        "strict": True,
        "schema": {
            "type": "object",
            "additionalProperties": False,
            "required": ["team", "confidence"],
            "properties": {
                "team": {"enum": ["billing", "account_access"]},
                "confidence": {"type": "number"},
            },
        },
    },
}


def a_strict_openai(base_url: str) -> openai.AsyncOpenAI:
    """Refuses any reply that is not exactly what the API promises."""
    return openai.AsyncOpenAI(
        base_url=base_url, api_key="none", max_retries=0, _strict_response_validation=True
    )


async def test_the_openai_client_accepts_every_reply_strictly() -> None:
    async with simulator(INSTANT) as running, a_strict_openai(running.base_url) as client:
        for model in DEFAULT_MODELS:
            for number in range(10):
                messages: Any = [{"role": "user", "content": f"Where is order {number}?"}]
                reply = await client.chat.completions.create(model=model, messages=messages)
                assert reply.choices[0].finish_reason in ("stop", "length")
                assert reply.usage is not None
        listed = [model.id async for model in client.models.list()]

    assert listed == list(DEFAULT_MODELS)


async def test_the_anthropic_client_accepts_every_reply_strictly() -> None:
    async with simulator(INSTANT) as running:
        client = anthropic.AsyncAnthropic(
            base_url=running.base_url.removesuffix("/v1"),
            api_key="none",
            max_retries=0,
            _strict_response_validation=True,
        )
        async with client:
            for number in range(20):
                reply = await client.messages.create(
                    model="sim-medium",
                    max_tokens=100,
                    system="Be short.",
                    messages=[{"role": "user", "content": f"Where is order {number}?"}],
                )
                assert reply.stop_reason in ("end_turn", "max_tokens", "refusal")
            listed = [model.id async for model in client.models.list()]

    assert listed == list(DEFAULT_MODELS)


async def test_no_reply_is_longer_than_its_limit() -> None:
    asked: Any = {"model": "sim-large", "messages": ASKED}
    async with simulator(INSTANT) as running, a_strict_openai(running.base_url) as client:
        whole = await client.chat.completions.create(**asked)
        cut = await client.chat.completions.create(**asked, max_tokens=3)

    assert (whole.choices[0].finish_reason, cut.choices[0].finish_reason) == ("stop", "length")
    assert cut.usage is not None
    assert cut.usage.completion_tokens == 3
    text = whole.choices[0].message.content or ""
    assert text.startswith(cut.choices[0].message.content or "?")


async def test_structured_output_follows_the_schema_and_the_text() -> None:
    async with simulator(INSTANT) as running, a_strict_openai(running.base_url) as client:
        body: Any = {"model": "sim-large", "messages": ASKED, "response_format": LABEL}
        reply = await client.chat.completions.create(**body)

    said = orjson.loads(reply.choices[0].message.content or "")
    assert said["team"] == "account_access"
    assert 0 <= said["confidence"] <= 1


@pytest.mark.parametrize(
    ("body", "status"),
    [
        pytest.param({"model": "no-such", "messages": ASKED}, 404, id="an unknown model"),
        pytest.param({"model": "sim-small", "messages": ASKED, "stream": True}, 400, id="a stream"),
        pytest.param({"model": "sim-small"}, 400, id="a body without messages"),
        pytest.param({"model": "sim-small", "messages": []}, 400, id="no messages"),
        pytest.param({"model": "sim-small", "messages": ASKED, "n": 2}, 400, id="two choices"),
    ],
)
async def test_what_it_does_not_do_it_refuses_in_the_apis_own_words(
    body: dict[str, Any], status: int
) -> None:
    async with simulator(INSTANT) as running, aiohttp.ClientSession() as session:
        url = f"{running.base_url}/chat/completions"
        async with session.post(url, data=orjson.dumps(body)) as reply:
            said = await reply.json()

    assert reply.status == status
    assert said["error"]["message"]


async def _ask(settings: SimulatorSettings, count: int = 30) -> list[str]:
    async with simulator(settings) as running, a_strict_openai(running.base_url) as client:

        async def one(number: int) -> str:
            body: Any = {
                "model": "sim-small",
                "messages": [{"role": "user", "content": f"Something about order {number}?"}],
                "response_format": LABEL,
            }
            reply = await client.chat.completions.create(**body)
            return reply.choices[0].message.content or reply.choices[0].message.refusal or ""

        return list(await asyncio.gather(*(one(number) for number in range(count))))


async def test_the_seed_decides_and_the_order_of_arrival_does_not() -> None:
    first, again = await _ask(INSTANT), await _ask(INSTANT)
    other = await _ask(SimulatorSettings(latency_scale=0, seed=2))

    assert first == again
    assert first != other


async def test_the_bill_is_what_the_tokens_cost(tmp_path: Path) -> None:
    """And every line is in the file before its reply is out."""
    file = tmp_path / "bill.jsonl"
    settings = SimulatorSettings(latency_scale=0, bill_file=file)
    async with simulator(settings) as running, a_strict_openai(running.base_url) as client:
        messages: Any = ASKED
        reply = await client.chat.completions.create(
            model="sim-medium", messages=messages, extra_headers={"x-request-id": "req-1"}
        )
        (line,) = [orjson.loads(one) for one in file.read_bytes().splitlines()]

    assert reply.usage is not None
    usage = Usage(
        input_tokens=reply.usage.prompt_tokens, output_tokens=reply.usage.completion_tokens
    )
    assert line["cost_micros"] == cost_micros(usage, DEFAULT_MODELS["sim-medium"].price)
    assert line["request_id"] == "req-1"
    assert running.bill.total_micros == line["cost_micros"]


async def test_a_caller_that_has_gone_is_billed_all_the_same() -> None:
    slow = SimulatorSettings(latency_scale=1_000)
    body = orjson.dumps({"model": "sim-small", "messages": ASKED})
    async with simulator(slow) as running, aiohttp.ClientSession() as session:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await session.post(f"{running.base_url}/chat/completions", data=body)
        bill = running.bill

    assert bill.count == 1
    assert bill.total_micros > 0


async def test_recorded_outcomes_are_answered_as_they_were(tmp_path: Path) -> None:
    file = tmp_path / "records.jsonl.gz"
    row = {
        "request_id": "req-9",
        "tier": "low",
        "output": "B",
        "tokens_in": 40,
        "tokens_out": 1,
        "latency_ms": 5,
    }
    file.write_bytes(gzip.compress(orjson.dumps(row)))
    settings = SimulatorSettings(latency_scale=0, recorded=file)
    async with simulator(settings) as running, a_strict_openai(running.base_url) as client:
        messages: Any = ASKED
        reply = await client.chat.completions.create(
            model="sim-small", messages=messages, extra_headers={"x-request-id": "req-9"}
        )

    assert reply.choices[0].message.content == "B"
    assert reply.usage is not None
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (40, 1)


@pytest.mark.parametrize("name", [name for name, fault in FAULTS.items() if fault.status >= 400])
async def test_a_refusing_fault_has_its_status_and_costs_nothing(name: str) -> None:
    async with simulator(INSTANT) as running, a_strict_openai(running.base_url) as client:
        messages: Any = ASKED
        with pytest.raises(openai.APIStatusError) as caught:
            await client.chat.completions.create(
                model="sim-small", messages=messages, extra_headers={"x-sim-fault": name}
            )

    assert caught.value.status_code == FAULTS[name].status
    assert running.bill.total_micros == 0


@pytest.mark.parametrize("name", [name for name, fault in FAULTS.items() if fault.status >= 400])
async def test_the_anthropic_client_knows_every_error(name: str) -> None:
    async with simulator(INSTANT) as running:
        root = running.base_url.removesuffix("/v1")
        client = anthropic.AsyncAnthropic(base_url=root, api_key="none", max_retries=0)
        async with client:
            with pytest.raises(anthropic.APIStatusError) as caught:
                await client.messages.create(
                    model="sim-small",
                    max_tokens=10,
                    messages=[{"role": "user", "content": "Hello 1"}],
                    extra_headers={"x-sim-fault": name},
                )

    error = caught.value.body
    assert isinstance(error, dict)
    assert error["error"]["type"] == caught.value.type


@pytest.mark.parametrize("name", ["reset", "cut"])
async def test_a_broken_reply_is_billed(name: str) -> None:
    async with simulator(INSTANT) as running, a_strict_openai(running.base_url) as client:
        messages: Any = ASKED
        with pytest.raises(openai.APIConnectionError):
            await client.chat.completions.create(
                model="sim-small", messages=messages, extra_headers={"x-sim-fault": name}
            )

    assert running.bill.total_micros > 0
