"""The OpenAI chat-completions format, which most servers speak."""

from collections.abc import Mapping
from math import isfinite
from typing import Any

from consumers.providers.chat import EXTRA, called, likely_token, reply_of
from consumers.providers.conversations import RULES, fitted_messages
from consumers.providers.parts import json_text, read_content
from consumers.providers.shapes import dict_of, dicts_of
from consumers.providers.usage import Counts, counts_of
from consumers.providers.wire import UnreadableError, Wire
from router.json_schemas.strict import strict_form
from router.reply.reply import FinishReason, Reply

__all__ = ["OPENAI"]

#: The fields in which servers put the model's thoughts, some of them in two of these.
_THOUGHTS = ("reasoning_content", "reasoning", "thinking", "thought", "thoughts")
_FINISHES: Mapping[str, FinishReason] = {
    "stop": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "complete": "stop",
    "end_of_turn": "stop",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "content_filter": "content_filter",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "tool_use": "tool_calls",
}
#: A response format needs a name, and where it is just JSON the prompt has to contain that word.
_NAME, _JSON_ONLY = "answer", "Answer with one JSON object and nothing else."


def _encode(body: Mapping[str, Any]) -> Mapping[str, Any]:
    sent = {
        **body,
        "stream": False,
        "messages": fitted_messages(body.get("messages") or (), RULES["openai"]),
    }
    if sent.get("tool_choice") == "any":  # another format's word
        sent["tool_choice"] = "required"
    match body.get("response_format"):
        case {"type": "json_schema", "json_schema": {"schema": schema} as json_schema}:
            json_schema = {"name": _NAME, **json_schema}
            if "strict" not in json_schema:
                # Where the schema has a strict form, the model is held to it while it writes.
                form = strict_form(schema, all_required=True)
                if form is not None and form.get("type") == "object":
                    json_schema = {**json_schema, "schema": form, "strict": True}
            sent["response_format"] = {"type": "json_schema", "json_schema": json_schema}
        case {"type": "json_object"} if "json" not in str(sent["messages"]).lower():
            sent["messages"].insert(0, {"role": "system", "content": _JSON_ONLY})
        case _:
            pass
    return sent


def _decode(data: Any, body: Mapping[str, Any]) -> Reply:
    choice = _first_choice(data)
    message = choice.get("message")
    if not isinstance(message, dict):
        what = "choices.0.message: an object was expected"
        raise UnreadableError(what)

    finish, calls, refusal = choice.get("finish_reason"), _calls(message), message.get("refusal")
    content = message.get("content")
    answer = read_content(content, "choices.0.message.content", has_calls=bool(calls))
    if not isinstance(refusal, str):
        refusal = "".join(answer.refusals)
    thoughts = [message.get(name) for name in _THOUGHTS] + answer.thoughts
    # A new body, because compatible servers leave out, rename and add fields.
    return reply_of(
        body,
        reply_id=data.get("id"),
        served=data.get("model"),
        created=data.get("created"),
        text=answer.text,
        finish=_finish(finish) if finish else None,
        counts=_counts(data),
        calls=calls,
        refusal=refusal or None,
        logprobs=_logprobs(choice.get("logprobs")),
        thoughts="".join(dict.fromkeys(str(thought) for thought in thoughts if thought)),
    )


def _counts(data: Any) -> Counts | None:
    reply = dict_of(data)
    return counts_of(reply.get("usage") or dict_of(reply.get("x_groq")).get("usage"))


def _finish(reason: Any) -> FinishReason:
    return _FINISHES.get(reason.lower(), "other") if isinstance(reason, str) else "other"


def _calls(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The tool calls with their types corrected; a model's mistakes are left to a check."""
    calls = message.get("tool_calls")
    if isinstance(calls, list) and calls:
        return [_call(index, dict_of(call)) for index, call in enumerate(calls)]
    # The older form of a call.
    function = message.get("function_call")
    return [_call(0, {"function": function})] if isinstance(function, dict) else []


def _call(index: int, call: Mapping[str, Any]) -> dict[str, Any]:
    custom = call.get("custom")
    if isinstance(custom, dict):
        given = custom.get("input")
        fields = {
            "name": str(custom.get("name") or ""),
            "input": given if isinstance(given, str) else json_text(given) if given else "",
        }
        return {"id": str(call.get("id") or f"call_{index}"), "type": "custom", "custom": fields}
    function = dict_of(call.get("function"))
    arguments = function.get("arguments")
    return called(call.get("id"), index, function.get("name"), arguments, call.get(EXTRA))


def _logprobs(logprobs: Any) -> list[dict[str, Any]] | None:
    """The tokens with their probabilities; None unless every token has one."""
    tokens = dicts_of(dict_of(logprobs).get("content"))
    likely_tokens = [
        likely_token(
            str(token.get("token", "")),
            token["logprob"],
            [
                likely_token(str(other.get("token", "")), other["logprob"])
                for other in dicts_of(token.get("top_logprobs"))
                if _is_number(other.get("logprob"))
            ],
        )
        for token in tokens
        if _is_number(token.get("logprob"))
    ]
    return likely_tokens if likely_tokens and len(likely_tokens) == len(tokens) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value)


def _first_choice(data: Any) -> dict[str, Any]:
    choices = dict_of(data).get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        what = "choices: a list with an object was expected"
        raise UnreadableError(what)

    return choices[0]


OPENAI = Wire("openai", "/chat/completions", _encode, _decode, _counts)
