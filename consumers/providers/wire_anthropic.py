"""The Anthropic Messages format.

The format has no fields for seed, penalties and logprobs, so they are left out. So are temperature
and top_p, which newer models refuse and older ones do not need.
"""

from collections.abc import Mapping
from typing import Any

from consumers.providers.chat import (
    Call,
    Outcome,
    Part,
    Text,
    asked_format,
    called,
    reply_of,
    stops_of,
    tools_of,
    turns_of,
)
from consumers.providers.conversations import RULES
from consumers.providers.parts import read_content
from consumers.providers.shapes import dict_of, dicts_of
from consumers.providers.usage import Counts, added
from consumers.providers.wire import UnreadableError, Wire
from router.json_schemas.strict import strict_form
from router.reply.reply import FinishReason, Reply

__all__ = ["ANTHROPIC"]

_FINISHES: Mapping[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
_EFFORTS = ("low", "medium", "high", "xhigh", "max")
_JSON_ONLY = "Answer with one JSON object and nothing else."
_DEFAULT_LIMIT = 1024


def _encode(body: Mapping[str, Any]) -> Mapping[str, Any]:
    system, turns = turns_of(body, RULES["anthropic"])
    wants_json, schema = asked_format(body)
    form = strict_form(schema, all_required=False) if schema else None
    if wants_json and form is None:
        system.append(Text(_JSON_ONLY))
    sent: dict[str, Any] = {
        "model": body.get("model"),
        "stream": False,
        "max_tokens": body.get("max_completion_tokens") or body.get("max_tokens") or _DEFAULT_LIMIT,
        "messages": [
            {"role": turn.role, "content": [_block(part) for part in turn.parts]} for turn in turns
        ],
    }
    if system:
        sent["system"] = [_block(text) for text in system]
    config: dict[str, Any] = {}
    if form is not None:
        config["format"] = {"type": "json_schema", "schema": form}
    if body.get("reasoning_effort") in _EFFORTS:
        config["effort"] = body["reasoning_effort"]
    if config:
        sent["output_config"] = config
    # The API refuses stops of white space alone.
    if stops := [stop for stop in stops_of(body) if stop.strip()]:
        sent["stop_sequences"] = stops
    functions, choice = tools_of(body)
    if functions:
        sent["tools"] = [_tool(function) for function in functions]
        sent["tool_choice"] = _tool_choice(choice, body)
    return sent


def _block(part: Part) -> dict[str, Any]:
    match part:
        case Text(text, is_cached):
            block = {"type": "text", "text": text}
            return {**block, "cache_control": {"type": "ephemeral"}} if is_cached else block
        case Call(call_id, name, arguments):
            return {"type": "tool_use", "id": call_id, "name": name, "input": arguments}
        case Outcome(call_id, _, text):
            result = {"type": "tool_result", "tool_use_id": call_id}
            return {**result, "content": text} if text.strip() else result


def _tool(function: Mapping[str, Any]) -> dict[str, Any]:
    # The schema has to be an object without alternatives at its top; checks enforce the rest.
    given = function.get("parameters") or {"properties": {}}
    left_out = ("anyOf", "allOf", "oneOf")
    schema = {keyword: value for keyword, value in given.items() if keyword not in left_out}
    tool = {"name": function["name"], "input_schema": {**schema, "type": "object"}}
    return {**tool, "description": text} if (text := function.get("description")) else tool


def _tool_choice(choice: Any, body: Mapping[str, Any]) -> dict[str, Any]:
    sent: dict[str, Any]
    match choice:
        case "none":
            return {"type": "none"}
        case "required":
            sent = {"type": "any"}
        case {"function": {"name": name}}:
            sent = {"type": "tool", "name": name}
        case _:
            sent = {"type": "auto"}
    if body.get("parallel_tool_calls") is False:
        sent["disable_parallel_tool_use"] = True
    return sent


def _decode(data: Any, body: Mapping[str, Any]) -> Reply:
    content = dict_of(data).get("content")
    if content is None:
        what = "content: a list was expected"
        raise UnreadableError(what)

    calls = [
        called(block.get("id"), index, block.get("name"), block.get("input"))
        for index, block in enumerate(dicts_of(content))
        if block.get("type") == "tool_use"
    ]
    answer = read_content(content, "content", has_calls=bool(calls))
    stop = data.get("stop_reason")
    return reply_of(
        body,
        reply_id=data.get("id"),
        served=data.get("model"),
        text=answer.text,
        finish=_FINISHES.get(stop, "other") if isinstance(stop, str) else "other",
        counts=_counts(data),
        calls=calls,
        thoughts="".join(answer.thoughts),
        refusal=_refusal(data, answer.text) if stop == "refusal" else None,
    )


def _refusal(data: Mapping[str, Any], text: str) -> str:
    explanation = dict_of(data.get("stop_details")).get("explanation")
    return text or (explanation if isinstance(explanation, str) else "") or "refused"


def _counts(data: Any) -> Counts | None:
    usage = dict_of(data).get("usage")
    if not isinstance(usage, dict):
        return None

    # In this format the caches are beside the input, not within it.
    read, written = usage.get("cache_read_input_tokens"), usage.get("cache_creation_input_tokens")
    by_lifetime = dict_of(usage.get("cache_creation"))
    for_an_hour = by_lifetime.get("ephemeral_1h_input_tokens")
    written = written or added(by_lifetime.get("ephemeral_5m_input_tokens") or 0, for_an_hour)
    return Counts(
        prompt=added(usage.get("input_tokens"), read, written),
        completion=usage.get("output_tokens"),
        cache_read=read,
        cache_write=written,
        cache_write_1h=for_an_hour,
        reasoning=dict_of(usage.get("output_tokens_details")).get("thinking_tokens"),
    )


ANTHROPIC = Wire(
    "anthropic",
    "/messages",
    _encode,
    _decode,
    _counts,
    key_header="x-api-key",
    headers={"anthropic-version": "2023-06-01"},
)
