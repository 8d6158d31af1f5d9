"""Every wire format under the simulated provider's fault menu: what each fault becomes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import orjson
import pytest
from pydantic import SecretStr

from consumers.lab.simulator import RunningSimulator, SimulatorSettings, simulator
from consumers.providers.client import Providers
from consumers.providers.outcomes import failed_status
from consumers.providers.settings import ProviderSettings
from consumers.providers.usage import estimate, reserve
from consumers.providers.wires import WIRES
from router.attempt.pricing import cost_micros
from router.reply.reply import CallFailure, Oddity, Reply
from schemas.reasons import Reason
from schemas.usage import Usage
from tests.builders import NOON, the_policy
from tests.unit.consumers.servers import a_response, sending, serving

ROOTS = {"openai": "/v1", "anthropic": "/v1", "gemini": "/v1beta"}
BODY: dict[str, Any] = {
    "model": "sim-large",
    "max_tokens": 200,
    "messages": [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "How do I reset my password?"},
    ],
}


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture(params=sorted(WIRES))
def wire(request) -> str:
    return str(request.param)


@asynccontextmanager
async def provided(
    wire: str, fault: str | None = None, **fields
) -> AsyncIterator[tuple[Providers, RunningSimulator]]:
    async with simulator(SimulatorSettings(latency_scale=0)) as running:
        root = running.base_url.removesuffix("/v1")
        headers = {"x-sim-fault": SecretStr(fault)} if fault else {}
        settings = ProviderSettings(
            base_url=root + ROOTS[wire], wire=wire, allow_private=True, headers=headers, **fields
        )
        async with Providers({"p": settings}) as providers:
            yield providers, running


async def outcome_of(wire: str, fault: str | None = None, **fields) -> Reply | CallFailure:
    async with provided(wire, fault, **fields) as (providers, _):
        return await providers.call(
            "p", BODY, attempt_id="r.1.1", request_id="r", timeout=timedelta(seconds=2)
        )


async def a_reply(wire: str, fault: str | None = None) -> Reply:
    outcome = await outcome_of(wire, fault)
    assert isinstance(outcome, Reply), outcome
    return outcome


async def test_a_call_is_answered_alike_whatever_the_format(wire):
    reply = await a_reply(wire)

    assert reply.text
    assert (reply.finish_reason, reply.served_model, reply.oddities) == ("stop", "sim-large", ())
    assert reply.body["object"] == "chat.completion"
    assert reply.body["choices"][0]["message"]["content"] == reply.text
    assert reply.body["created"] > 0
    assert not reply.usage.estimated


async def test_the_ledger_and_the_providers_bill_agree(wire):
    price = the_policy().models["sim-large"].price
    async with provided(wire) as (providers, running):
        reply = await providers.call(
            "p", BODY, attempt_id="r.1.1", request_id="r", timeout=timedelta(seconds=2)
        )
        assert cost_micros(reply.usage, price) == running.bill.total_micros


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("malformed_json", Reason.UNREADABLE_REPLY),
        ("truncated_json", Reason.UNREADABLE_REPLY),
        ("html_page", Reason.UNREADABLE_REPLY),
        ("other_call", Reason.UNREADABLE_REPLY),
        ("reset", Reason.OUTCOME_UNKNOWN),
        ("cut", Reason.OUTCOME_UNKNOWN),
        ("http_500", Reason.PROVIDER_ERROR),
        ("http_503", Reason.THROTTLED),
        ("http_429", Reason.THROTTLED),
        ("http_429_quota", Reason.PROVIDER_REJECTED),
        ("http_401", Reason.PROVIDER_REJECTED),
        ("http_403", Reason.PROVIDER_REJECTED),
        ("context_too_long", Reason.CONTEXT_OVERFLOW),
        ("redirect", Reason.PROVIDER_REJECTED),
    ],
)
async def test_a_fault_is_the_same_failure_in_every_format(wire, fault, reason):
    failure = await outcome_of(wire, fault)

    assert isinstance(failure, CallFailure)
    assert failure.reason is reason
    if reason in (Reason.UNREADABLE_REPLY, Reason.OUTCOME_UNKNOWN):
        assert failure.usage.input_tokens > 0, "the model may have run"


async def test_a_reply_without_a_choice_is_unreadable_and_one_without_content_is_empty(wire):
    outcome = await outcome_of(wire, "empty_choices")

    if wire == "anthropic":
        assert isinstance(outcome, Reply)
        assert outcome.text == ""
    else:
        assert isinstance(outcome, CallFailure)
        assert outcome.reason is Reason.UNREADABLE_REPLY


@pytest.mark.parametrize(
    ("count", "is_told"),
    [
        pytest.param(9, True, id="what was used"),
        pytest.param(0, False, id="nothing written, though something came"),
        pytest.param(-9, False, id="no count"),
        pytest.param(None, False, id="nothing said"),
    ],
)
async def test_an_answer_that_cannot_be_read_is_booked_at_what_its_reply_says(wire, count, is_told):
    reply = {
        "openai": {
            "choices": [{"message": {"content": [{"type": "image"}]}}],
            "usage": {"prompt_tokens": 40, "completion_tokens": count},
        },
        "anthropic": {
            "content": [{"type": "image"}],
            "usage": {"input_tokens": 40, "output_tokens": count},
        },
        "gemini": {
            "candidates": [{"content": {"parts": [{"text": 7}]}}],
            "usageMetadata": {"promptTokenCount": 40, "candidatesTokenCount": count},
        },
    }[wire]
    async with serving(sending(a_response(orjson.dumps(reply)))) as server:
        entry = ProviderSettings(base_url=server.url, wire=wire, allow_private=True)
        async with Providers({"p": entry}) as providers:
            failure = await providers.call(
                "p", BODY, attempt_id="r.1.1", request_id="r", timeout=timedelta(seconds=2)
            )

    assert isinstance(failure, CallFailure)
    assert failure.reason is Reason.UNREADABLE_REPLY
    told = Usage(input_tokens=40, output_tokens=9)
    assert failure.usage == (told if is_told else reserve(BODY))


@pytest.mark.parametrize(
    ("fault", "finish", "refused"),
    [
        ("refusal", ("stop", "content_filter"), True),
        ("content_filter", ("content_filter",), None),
        ("cut_off", ("length",), False),
        ("wrong_schema", ("stop",), False),
    ],
)
async def test_what_the_model_does_is_a_reply_to_be_judged(wire, fault, finish, refused):
    reply = await a_reply(wire, fault)

    assert reply.finish_reason in finish
    if refused is not None and wire != "gemini":  # which refuses in words alone
        assert bool(reply.refusal) is refused


@pytest.mark.parametrize(
    "error",
    [
        {"code": "content_filter", "message": "The response was filtered"},
        {"code": "400", "message": "litellm.BadRequestError: ContentPolicyViolationError: no"},
        {"type": None, "message": "triggering Azure OpenAI's content management policy."},
        {"code": "invalid_prompt", "message": "Invalid prompt"},
        {"innererror": {"code": "ResponsibleAIPolicyViolation"}, "message": "no"},
        {"message": "Output blocked by content filtering policy"},
    ],
)
def test_a_filtered_prompt_is_known_however_a_gateway_says_it(error):
    raw = orjson.dumps({"error": error})

    assert failed_status(400, {}, raw, NOON) is None
    assert failed_status(500, {}, raw, NOON) is not None


def test_a_moderated_input_is_a_refusal_although_it_says_forbidden():
    error = {"code": 403, "message": "X requires moderation and your input was flagged"}

    assert failed_status(403, {}, orjson.dumps({"error": error}), NOON) is None


@pytest.mark.parametrize(
    "quoted", ["API key not valid", "content management policy", "maximum context length"]
)
def test_what_an_error_quotes_of_a_request_says_nothing_of_its_cause(quoted):
    said = f"1 validation error: {{'loc': ('body', 'tools'), 'input': '{'x' * 200}{quoted}'}}"

    failure = failed_status(400, {}, orjson.dumps({"error": {"message": said}}), NOON)
    assert failure is not None
    assert (failure.reason, failure.refuses) == (Reason.PROVIDER_REJECTED, None)


async def test_a_prompt_that_is_filtered_with_an_error_is_a_refusal():
    reply = await a_reply("openai", "prompt_filtered")

    assert (reply.finish_reason, reply.text) == ("content_filter", "")
    assert reply.refusal


async def test_nothing_is_asked_twice_and_a_revoked_key_stays_out_of_the_words(wire, monkeypatch):
    monkeypatch.setenv("A_KEY", "sk-canary")
    async with provided(wire, "http_403", api_key_env="A_KEY") as (providers, running):
        outcome = await providers.call(
            "p", BODY, attempt_id="r.1.1", request_id="r", timeout=timedelta(seconds=2)
        )

    assert running.bill.count == 1
    assert "canary" not in repr(outcome)


@pytest.mark.parametrize(
    ("fault", "flagged"),
    [
        ("usage_missing", Oddity.USAGE_MISSING),
        ("usage_negative", Oddity.USAGE_INVALID),
        ("usage_zero", Oddity.USAGE_ZERO),
        ("usage_huge", Oddity.USAGE_HUGE),
        ("usage_over_limit", Oddity.OVER_LIMIT),
    ],
)
async def test_an_odd_count_is_flagged_and_booked_between_estimate_and_reserve(
    wire, fault, flagged
):
    reply = await a_reply(wire, fault)
    least, most = estimate(BODY, reply.text), reserve(BODY)

    assert flagged in reply.oddities
    assert reply.usage.estimated
    assert reply.usage.output_side >= least.output_tokens
    assert reply.usage.output_side <= most.output_tokens
    assert reply.usage.input_side <= max(most.input_tokens, 100)
    assert reply.usage.input_side > 0


async def test_another_model_is_named_in_the_reply(wire):
    assert (await a_reply(wire, "other_model")).served_model == "sim-other"


async def test_a_key_goes_into_the_formats_own_header(wire, monkeypatch):
    monkeypatch.setenv("A_KEY", "secret")
    async with provided(wire, api_key_env="A_KEY") as (providers, running):
        await providers.call(
            "p", BODY, attempt_id="r.1.1", request_id="r", timeout=timedelta(seconds=2)
        )
        names = set(running.bill.lines[0].header_names)

    own = {"openai": "authorization", "anthropic": "x-api-key", "gemini": "x-goog-api-key"}
    assert names & set(own.values()) == {own[wire]}
    assert ("anthropic-version" in names) == (wire == "anthropic")


async def test_a_structured_answer_follows_the_schema(wire):
    schema = {
        "type": "object",
        "additionalProperties": False,
        "required": ["label"],
        "properties": {"label": {"enum": ["one", "two"]}},
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "label", "schema": schema}}
    async with provided(wire) as (providers, _):
        reply = await providers.call(
            "p",
            {**BODY, "response_format": wanted},
            attempt_id="r.1.1",
            request_id="r",
            timeout=timedelta(seconds=2),
        )

    assert isinstance(reply, Reply)
    assert reply.text in ('{"label": "one"}', '{"label": "two"}')


_TOOLS = [
    {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}},
    {"type": "function", "function": {"name": "pay", "parameters": {"type": "object"}}},
    {"type": "custom", "custom": {"name": "free_text"}},
]


@pytest.mark.parametrize("mode", ["auto", "required"])
def test_only_the_tools_that_are_allowed_are_offered_where_a_format_cannot_name_them(mode):
    allowed = {"mode": mode, "tools": [{"type": "function", "function": {"name": "look_up"}}]}
    choice = {"type": "allowed_tools", "allowed_tools": allowed}
    body = {**BODY, "tools": _TOOLS, "tool_choice": choice}

    to_anthropic = WIRES["anthropic"].encode(body)
    assert [tool["name"] for tool in to_anthropic["tools"]] == ["look_up"]
    assert to_anthropic["tool_choice"]["type"] == ("auto" if mode == "auto" else "any")
    to_gemini = WIRES["gemini"].encode(body)
    [tools] = to_gemini["tools"]
    assert [tool["name"] for tool in tools["functionDeclarations"]] == ["look_up"]
    calling = to_gemini["toolConfig"]["functionCallingConfig"]
    assert calling["mode"] == ("AUTO" if mode == "auto" else "ANY")
    assert WIRES["openai"].encode(body)["tools"] == _TOOLS
