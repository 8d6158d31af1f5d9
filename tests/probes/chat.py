"""Fields of a chat body that must not reach a provider, in every format, on every level.

Each goes the whole way of a request: read as intake reads it, rendered, put into the chat body and
into the provider's own format. Nothing of a field that no list names may be in the bytes, and the
bytes may hold no other names than the published ones, which are written down here once more.
"""

import copy
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

from consumers.providers.client import _with_added
from consumers.providers.settings import ProviderSettings, sent_fields
from consumers.providers.wires import WIRES
from consumers.rules import load_rules
from consumers.settings import Settings
from router.attempt.question import question_of
from router.policy.table import Model
from schemas.base import Tier
from schemas.errors import ContractError
from schemas.intake import read_request
from tests.probes.report import ProbeClass, Report

__all__ = ["CLASS", "hostile_chats"]

_MARK = "hostile-7f3a"
_NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
_RULES = load_rules(Settings())

#: Of gateways, servers and newer interfaces: other addresses, keys, models, prices, tools.
_TOP = (
    "base_url", "api_base", "api_key", "api_version", "api_type", "organization", "project",
    "custom_llm_provider", "models", "fallbacks", "context_window_fallback_dict", "route",
    "provider", "plugins", "transforms", "extra_body", "extra_headers", "extra_query", "headers",
    "mock_response", "mock_tool_calls", "mock_timeout", "num_retries", "max_retries", "timeout",
    "force_timeout", "proxy", "http_client", "ssl_verify", "litellm_params", "litellm_metadata",
    "litellm_call_id", "guardrails", "cache", "caching", "no-log", "tags", "user_config",
    "drop_params",
    "allowed_openai_params", "vertex_credentials", "aws_access_key_id", "azure_ad_token",
    "best_of", "ignore_eos", "min_tokens", "use_beam_search", "echo", "suffix", "prompt",
    "prompt_logprobs", "guided_json", "guided_regex", "guided_grammar", "structured_outputs",
    "chat_template", "chat_template_kwargs", "documents", "add_generation_prompt", "priority",
    "kv_transfer_params", "lora_request", "stop_token_ids", "bad_words", "logits_processors",
    "vllm_xargs", "mm_processor_kwargs", "max_thinking_tokens", "top_k", "min_p", "top_a",
    "repetition_penalty", "keep_alive", "options", "num_ctx", "format", "raw", "template", "images",
    "user", "metadata", "store", "safety_identifier", "prompt_cache_key", "prompt_cache_retention",
    "service_tier", "prediction", "modalities", "audio", "web_search_options", "stream_options",
    "reasoning", "include_reasoning", "usage", "previous_response_id", "conversation", "background",
    "include", "instructions", "truncation", "mcp_servers", "container", "context_management",
    "thinking", "system", "betas", "speed", "inference_geo", "output_config", "tool_config",
    "toolConfig", "systemInstruction", "generationConfig", "safetySettings", "cachedContent",
    "labels", "contents", "safe_prompt", "random_seed", "search_parameters", "deferred",
    "__proto__", "MODEL", "Model ", "base_url\u0000", "api\u200bkey", "constructor", "",
)  # fmt: skip
#: Names that are listed, with values that they must not have.
_WRONG: Mapping[str, tuple[Any, ...]] = {
    "temperature": (_MARK, [_MARK], 1e308, {"x": _MARK}),
    "top_p": (_MARK, 3), "seed": (_MARK, 2**63, {"x": _MARK}),
    "presence_penalty": (_MARK, -1e9), "frequency_penalty": ({"x": _MARK},),
    "stop": ([_MARK] * 400, [[_MARK]], {"x": _MARK}, _MARK * 100, [{"x": _MARK}]),
    "logit_bias": ({_MARK: 1}, {str(n): 1 for n in range(100_000)}, {"1": _MARK}, {"1": 1e9}),
    "logprobs": (_MARK, 1, {"x": _MARK}), "top_logprobs": (10**9, _MARK, True),
    "reasoning_effort": (_MARK, {"x": _MARK}, [_MARK]), "verbosity": (_MARK, {"x": _MARK}),
    "parallel_tool_calls": (_MARK, {"x": _MARK}),
    "max_tokens": (10**9, _MARK, {"x": _MARK}, True, -1, 1.5),
    "max_completion_tokens": (10**9, _MARK, {"x": _MARK}),
    "functions": (_MARK, {"x": _MARK}, [{"name": {"x": _MARK}}], [{"name": _MARK * 99}]),
    "function_call": (_MARK, {"name": "a", "url": _MARK}, {"name": {"x": _MARK}}),
    "response_format": (
        _MARK, {"type": _MARK}, {"type": "json_object", "x": _MARK},
        {"type": "grammar", "x": _MARK},
        {"type": "json_schema", "json_schema": _MARK},
        {"type": "json_schema", "json_schema": {"schema": _MARK}},
        {"type": "json_schema", "json_schema": {"name": _MARK + "!", "schema": {"type": "object"}}},
        {"type": "json_schema", "json_schema": {"schema": {"type": "object"}, "url": _MARK}},
        {"type": "json_schema", "json_schema": {"schema": {"type": "object"}}, "strict": _MARK},
    ),
    "tool_choice": (
        _MARK, {"type": _MARK}, {"type": "mcp", "server_label": _MARK},
        {"type": "function", "function": {"name": _MARK}},
        {"type": "function", "function": {"name": "look_up", "url": _MARK}},
        {"type": "function", "function": {"name": {"x": _MARK}}},
        {"type": "allowed_tools", "allowed_tools": {"mode": _MARK, "tools": []}},
        {"type": "allowed_tools",
         "allowed_tools": {"mode": "auto", "tools": [{"type": "mcp", "x": _MARK}]}},
    ),
}  # fmt: skip
_LOOK_UP = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}
#: Tools that run at the provider's or call out from there, and functions with more to them.
_TOOLS: tuple[Any, ...] = (
    {"type": "mcp", "server_label": _MARK, "server_url": "https://" + _MARK},
    {"type": "web_search", "filters": {"x": _MARK}},
    {"type": "web_search_preview", "search_context_size": _MARK},
    {"type": "web_search_20250305", "name": _MARK},
    {"type": "web_fetch_20250910", "name": _MARK},
    {"type": "code_interpreter", "container": _MARK}, {"type": "file_search", "x": [_MARK]},
    {"type": "computer_use_preview", "environment": _MARK},
    {"type": "computer_20250124", "name": _MARK}, {"type": "bash_20250124", "name": _MARK},
    {"type": "text_editor_20250728", "name": _MARK}, {"type": "image_generation", "x": _MARK},
    {"type": "local_shell", "x": _MARK}, {"type": "shell", "x": _MARK},
    {"type": "apply_patch", "x": _MARK}, {"type": "memory_20250818", "name": _MARK},
    {"type": "custom", "custom": {"name": _MARK}}, {"type": "namespace", "name": _MARK},
    {"type": "openrouter:web_search", "x": _MARK}, {"type": "browser_search", "x": _MARK},
    {"type": "connector", "connector_id": _MARK}, {"type": "retrieval", "x": _MARK},
    {"googleSearch": {"x": _MARK}}, {"codeExecution": {"x": _MARK}}, {"urlContext": {"x": _MARK}},
    {"google_search_retrieval": {"x": _MARK}}, {"functionDeclarations": [{"name": _MARK}]},
    {"function": {"name": _MARK}}, {"type": ["function"], "function": {"name": _MARK}},
    {"type": "function", "name": _MARK}, {"type": "function", "function": _MARK},
    {**_LOOK_UP, "server_url": _MARK}, {**_LOOK_UP, "cache_control": {"x": _MARK}},
    {**_LOOK_UP, "defer_loading": _MARK}, {**_LOOK_UP, "allowed_callers": [_MARK]},
    {"type": "function", "function": {"name": "a", "url": _MARK}},
    {"type": "function", "function": {"name": "a", "parameters": _MARK}},
    {"type": "function", "function": {"name": "a", "strict": _MARK}},
    {"type": "function", "function": {"name": "a", "description": {"x": _MARK}}},
    {"type": "function", "function": {"name": _MARK * 50}},
    {"type": "function", "function": {"name": ["a", _MARK]}}, _MARK, [_MARK],
)  # fmt: skip
#: Beside a message's role and content, by role.
_MESSAGE: tuple[tuple[str, str, Any], ...] = (
    *((role, "name", _MARK) for role in ("system", "developer", "user", "assistant", "tool")),
    *((role, "cache_control", {"type": "ephemeral", "x": _MARK}) for role in ("system", "user")),
    ("user", "tool_calls", [{"id": _MARK, "function": {"name": "a", "arguments": "{}"}}]),
    ("user", "tool_call_id", _MARK), ("user", "attachments", [{"url": _MARK}]),
    ("user", "image_url", _MARK), ("user", "metadata", {"x": _MARK}), ("user", "id", _MARK),
    ("assistant", "audio", {"id": _MARK}), ("assistant", "prefix", _MARK),
    ("assistant", "function_call", {"name": _MARK, "arguments": "{}"}),
    ("assistant", "reasoning_content", _MARK), ("assistant", "reasoning", _MARK),
    ("assistant", "reasoning_details", [{"data": _MARK}]), ("assistant", "annotations", [_MARK]),
    ("assistant", "thinking_blocks", [_MARK]), ("assistant", "provider_specific_fields", _MARK),
    ("assistant", "refusal", {"x": _MARK}), ("assistant", "tool_calls", _MARK),
    ("assistant", "tool_calls", [_MARK, [_MARK]]),
    ("assistant", "tool_calls", [{"id": {"x": _MARK}, "function": {"name": "a"}}]),
    ("assistant", "tool_calls", [{"id": "1", "type": "mcp", "mcp": {"x": _MARK}}]),
    ("assistant", "tool_calls", [{"id": "1", "type": "custom", "custom": {"name": _MARK}}]),
    ("assistant", "tool_calls", [{"id": "1", "function": {"name": {"x": _MARK}}}]),
    ("assistant", "tool_calls", [{"id": "1", "function": {"name": "a", "url": _MARK}}]),
    ("assistant", "tool_calls", [{"id": "1", "function": {"name": "a", "arguments": [_MARK]}}]),
    ("assistant", "tool_calls", [{"id": "1", "function": {"name": "a"}, "x": _MARK}]),
    ("assistant", "tool_calls", [{"id": "1", "function": {"name": "a"}, "extra_content": _MARK}]),
    ("assistant", "tool_calls",
     [{"id": "1", "function": {"name": "a"}, "extra_content": {"google": {"x": _MARK}}}]),
    ("assistant", "tool_calls",
     [{"id": "1", "function": {"name": "a"},
       "extra_content": {"google": {"thought_signature": [_MARK]}}}]),
    ("tool", "is_error", _MARK), ("tool", "tool_call_id", {"x": _MARK}),
)  # fmt: skip
_PART = (
    "cache_control", "annotations", "citations", "image_url", "input_audio", "file", "url",
    "source", "prompt_cache_breakpoint", "context", "__proto__",
)  # fmt: skip
#: What each format's body may hold, by path; `*` is anything below. Written by its documentation.
_TOOL_CALL = ("messages.tool_calls.id", "messages.tool_calls.type",
              "messages.tool_calls.function.name", "messages.tool_calls.function.arguments",
              "messages.tool_calls.extra_content.google.thought_signature")  # fmt: skip
_PUBLISHED: Mapping[str, frozenset[str]] = {
    "openai": frozenset((
        "model", "stream", "messages.role", "messages.content", "messages.content.type",
        "messages.content.text", "messages.refusal", "messages.tool_call_id", *_TOOL_CALL,
        "max_tokens", "max_completion_tokens", "response_format.type",
        "response_format.json_schema.name", "response_format.json_schema.description",
        "response_format.json_schema.strict", "response_format.json_schema.schema.*",
        "tools.type", "tools.function.name", "tools.function.description",
        "tools.function.strict", "tools.function.parameters.*", "tool_choice", "tool_choice.type",
        "tool_choice.function.name", "tool_choice.allowed_tools.mode",
        "tool_choice.allowed_tools.tools.type", "tool_choice.allowed_tools.tools.function.name",
        "functions.name", "functions.description", "functions.parameters.*", "functions.strict",
        "function_call", "function_call.name", "parallel_tool_calls", "temperature", "top_p",
        "seed", "stop", "presence_penalty", "frequency_penalty", "logit_bias.*", "logprobs",
        "top_logprobs", "reasoning_effort", "verbosity",
    )),
    "anthropic": frozenset((
        "model", "stream", "max_tokens", "messages.role", "messages.content.type",
        "messages.content.text",
        "messages.content.id", "messages.content.name", "messages.content.input.*",
        "messages.content.tool_use_id", "messages.content.content", "system.type", "system.text",
        "output_config.format.type", "output_config.format.schema.*", "output_config.effort",
        "stop_sequences", "tools.name", "tools.description", "tools.input_schema.*",
        "tool_choice.type", "tool_choice.name", "tool_choice.disable_parallel_tool_use",
    )),
    "gemini": frozenset((
        "contents.role", "contents.parts.text", "contents.parts.functionCall.id",
        "contents.parts.functionCall.name", "contents.parts.functionCall.args.*",
        "contents.parts.thoughtSignature", "contents.parts.functionResponse.id",
        "contents.parts.functionResponse.name", "contents.parts.functionResponse.response.result",
        "systemInstruction.parts.text",
        *(f"generationConfig.{name}" for name in (
            "temperature", "topP", "seed", "presencePenalty", "frequencyPenalty",
            "responseLogprobs", "logprobs", "maxOutputTokens", "stopSequences",
            "responseMimeType", "responseJsonSchema.*",
        )),
        "tools.functionDeclarations.name", "tools.functionDeclarations.description",
        "tools.functionDeclarations.parametersJsonSchema.*",
        "toolConfig.functionCallingConfig.mode",
        "toolConfig.functionCallingConfig.allowedFunctionNames",
    )),
}  # fmt: skip


def _hostile() -> Iterator[tuple[str, dict[str, Any]]]:
    """Chat bodies, each with one thing that must not go on."""
    plain = {"messages": [{"role": "user", "content": "hello"}]}
    for name in _TOP:
        yield f"{name!r}", {**plain, name: {"x": [_MARK]}}
        yield f"{name!r} as text", {**plain, name: _MARK}
    for name, values in _WRONG.items():
        for number, value in enumerate(values):
            given = {**plain, name: value}
            if name == "tool_choice":
                given["tools"] = [_LOOK_UP]
            yield f"{name} {number}", given
    for number, tool in enumerate(_TOOLS):
        yield f"tool {number}", {**plain, "tools": [_LOOK_UP, tool], "tool_choice": "auto"}
        yield f"tool {number} alone", {**plain, "tools": [tool], "tool_choice": "required"}
    for number, (role, name, value) in enumerate(_MESSAGE):
        message = {"role": role, "content": "x", name: value}
        yield f"{role}.{name} {number}", {"messages": [*plain["messages"], message]}
    for name in _PART:
        part = {"type": "text", "text": "x", name: {"x": _MARK}}
        yield f"content.{name}", {"messages": [{"role": "user", "content": [part]}]}
        yield f"system content.{name}", {"messages": [{"role": "system", "content": [part]}]}


def hostile_chats() -> Iterator[dict[str, Any]]:
    """The bodies alone, for whoever sends them through a running flow."""
    return (body for _, body in _hostile())


def _sent(body: Mapping[str, Any], wire: str, **settings: Any) -> tuple[dict[str, Any], list[str]]:
    """The provider's own form of a request's call, and what was left out of it."""
    raw = orjson.dumps({"id": "r-1", "task": "extraction", "input": body})
    request = read_request(raw, {}, fallback_id="r-1")
    question = question_of("answer", Tier.LOW, "extraction", request, _RULES.policy, _RULES.prompts)
    provider = ProviderSettings(base_url="https://models.example/v1", wire=wire, **settings)
    fields = sent_fields({"p": provider}, "p")
    asked, left_out = question.body(request, _model(wire), fields)
    sent = _with_added(WIRES[wire].encode(asked), asked, fields)
    return orjson.loads(orjson.dumps(sent)), left_out


def _model(wire: str) -> Model:
    row = next(iter(_RULES.policy.models.values()))
    return row.model_copy(update={"id": f"a-{wire}-model", "drops": (), "refuses": ()})


def _paths(value: Any, path: str = "") -> Iterator[str]:
    """The paths of all plain values; a list's are those of its values."""
    if isinstance(value, dict):
        for name, one in value.items():
            yield from _paths(one, f"{path}.{name}" if path else name)
        if not value:
            yield path
    elif isinstance(value, list):
        for one in value:
            yield from _paths(one, path)
    else:
        yield path


def _is_published(path: str, published: frozenset[str]) -> bool:
    steps = path.split(".")
    above = {".".join(steps[:number]) + ".*" for number in range(len(steps) + 1)}
    return path in published or bool(above & published) or f"{path}.*" in published


def _problem(body: Mapping[str, Any], wire: str) -> str | None:
    try:
        sent, left_out = _sent(body, wire)
    except ContractError:  # a dead letter: nothing is sent
        return None
    if unknown := sorted({one for one in _paths(sent) if not _is_published(one, _PUBLISHED[wire])}):
        return f"{wire} was sent {unknown[:3]}"
    if _MARK in orjson.dumps(sent).decode():
        return f"{wire} was sent the value"
    limit = _model(wire).max_output_tokens
    if any(type(one) is int and one > limit for name, one in sent.items() if "max_" in name):
        return f"{wire} may write more than the policy allows"
    is_lowered = any(name.startswith("max_") for name in body)
    if not left_out and not is_lowered:
        return f"{wire}: nothing says that it was left out"
    return None


async def _run(report: Report, bootstrap: str) -> None:
    del bootstrap
    for name, body in _hostile():
        for wire in WIRES:
            kept = copy.deepcopy(body)
            report.note(f"{wire} {name}", through=_problem(kept, wire))
    plain = {"messages": [{"role": "user", "content": "hello"}]}
    given = {**plain, "tools": [_LOOK_UP], "tool_choice": "auto", "stop": ["x"], "max_tokens": 9}
    for wire in WIRES:
        sent, left_out = _sent(given, wire)
        is_whole = not left_out and all(one in str(sent) for one in ("hello", "look_up", "x"))
        report.check(f"{wire} harmless", is_blocked=is_whole, otherwise="a part of it is missing")
    for wire in WIRES:  # what the settings of one provider let through is let through there alone
        opened, _ = _sent({**plain, "top_k": 7, "min_p": _MARK}, wire, chat_fields={"top_k"})
        is_it_alone = opened.get("top_k") == 7 and _MARK not in str(opened)
        report.check(f"{wire} by settings", is_blocked=is_it_alone)
        huge, _ = _sent({**plain, "top_k": "x" * 100_000}, wire, chat_fields={"top_k"})
        report.check(f"{wire} by settings, huge", is_blocked="top_k" not in huge)


CLASS = ProbeClass("chat", 80, _run)
