"""The Anthropic Messages format.

Left out, because the format has no field for it: seed, penalties, logprobs. Also temperature and
top_p, which its newer models refuse and its older ones do without.
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
    dicts_of,
    reply_of,
    stops_of,
    tools_of,
    turns_of,
)
from consumers.providers.conversations import RULES
from consumers.providers.parts import said_in
from consumers.providers.usage import Counts, added
from consumers.providers.wire import UnreadableError, Wire
from router.json_schemas.strict import strict_form
from router.judge.reply import FinishReason, Reply

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
    # Each has to hold more than white space.
    if stops := [one for one in stops_of(body) if one.strip()]:
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
        case Call(no, name, arguments):
            return {"type": "tool_use", "id": no, "name": name, "input": arguments}
        case Outcome(no, _, text):
            result = {"type": "tool_result", "tool_use_id": no}
            return {**result, "content": text} if text.strip() else result


def _tool(function: Mapping[str, Any]) -> dict[str, Any]:
    # An object, and none of several at its top: what else the schema says is checked afterwards.
    given = function.get("parameters") or {"properties": {}}
    schema = {name: one for name, one in given.items() if name not in ("anyOf", "allOf", "oneOf")}
    made = {"name": function["name"], "input_schema": {**schema, "type": "object"}}
    return {**made, "description": text} if (text := function.get("description")) else made


def _tool_choice(wanted: Any, body: Mapping[str, Any]) -> dict[str, Any]:
    choice: dict[str, Any]
    match wanted:
        case "none":
            return {"type": "none"}
        case "required":
            choice = {"type": "any"}
        case {"function": {"name": name}}:
            choice = {"type": "tool", "name": name}
        case _:
            choice = {"type": "auto"}
    if body.get("parallel_tool_calls") is False:
        choice["disable_parallel_tool_use"] = True
    return choice


def _decode(data: Any, body: Mapping[str, Any]) -> Reply:
    content = data.get("content") if isinstance(data, dict) else None
    if content is None:
        what = "content: a list was expected"
        raise UnreadableError(what)

    blocks = dicts_of(content)
    calls = [block for block in blocks if block.get("type") == "tool_use"]
    said = said_in(content, "content", is_beside=bool(calls))
    text = said.text
    stop = data.get("stop_reason")
    return reply_of(
        body,
        reply_id=data.get("id"),
        served=data.get("model"),
        text=text,
        finish=_FINISHES.get(stop, "other") if isinstance(stop, str) else "other",
        counts=_counts(data),
        calls=[
            called(one.get("id"), no, one.get("name"), one.get("input"))
            for no, one in enumerate(blocks)
            if one.get("type") == "tool_use"
        ],
        thoughts="".join(said.thoughts),
        refusal=_refusal(data, text) if stop == "refusal" else None,
    )


def _refusal(data: Mapping[str, Any], text: str) -> str:
    details = data.get("stop_details")
    said = details.get("explanation") if isinstance(details, dict) else None
    return text or (said if isinstance(said, str) else "") or "refused"


def _counts(data: Any) -> Counts | None:
    said = data.get("usage") if isinstance(data, dict) else None
    if not isinstance(said, dict):
        return None

    # Here the caches are beside the input, not within it.
    read, written = said.get("cache_read_input_tokens"), said.get("cache_creation_input_tokens")
    by_time = said.get("cache_creation")  # how long it is kept; all of it is written
    if not written and isinstance(by_time, dict):
        names = ("ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens")
        written = added(*(by_time.get(name) or 0 for name in names))
    details = said.get("output_tokens_details")
    return Counts(
        prompt=added(said.get("input_tokens"), read, written),
        completion=said.get("output_tokens"),
        cache_read=read,
        cache_write=written,
        reasoning=details.get("thinking_tokens") if isinstance(details, dict) else None,
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
