"""The OpenAI chat-completions format, which most servers speak."""

from collections.abc import Mapping
from math import isfinite
from typing import Any

from consumers.providers.chat import EXTRA, called, dicts_of, likely_token, reply_of
from consumers.providers.conversations import RULES, fitted_messages
from consumers.providers.parts import json_text, said_in
from consumers.providers.usage import Counts, counts_of
from consumers.providers.wire import UnreadableError, Wire
from router.json_schemas.strict import strict_form
from router.judge.reply import FinishReason, Reply

__all__ = ["OPENAI"]

#: Where servers put what the model thought, some of them in two places.
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
#: A format has to have a name, and the word JSON has to be said where an object is asked for.
_NAME, _JSON_ONLY = "answer", "Answer with one JSON object and nothing else."


def _encode(body: Mapping[str, Any]) -> Mapping[str, Any]:
    made = {
        **body,
        "stream": False,
        "messages": fitted_messages(body.get("messages") or (), RULES["openai"]),
    }
    if made.get("tool_choice") == "any":  # another format's word
        made["tool_choice"] = "required"
    match body.get("response_format"):
        case {"type": "json_schema", "json_schema": {"schema": schema} as wanted}:
            wanted = {"name": _NAME, **wanted}
            if "strict" not in wanted:
                # Held to the schema while it writes, where the schema can be kept to so.
                form = strict_form(schema, all_required=True)
                if form is not None and form.get("type") == "object":
                    wanted = {**wanted, "schema": form, "strict": True}
            made["response_format"] = {"type": "json_schema", "json_schema": wanted}
        case {"type": "json_object"} if "json" not in str(made["messages"]).lower():
            made["messages"].insert(0, {"role": "system", "content": _JSON_ONLY})
        case _:
            pass
    return made


def _decode(data: Any, body: Mapping[str, Any]) -> Reply:
    choice = _first_choice(data)
    message = choice.get("message")
    if not isinstance(message, dict):
        what = "choices.0.message: an object was expected"
        raise UnreadableError(what)

    content, finish = message.get("content"), choice.get("finish_reason")
    calls, refused = _calls(message), message.get("refusal")
    said = said_in(content, "choices.0.message.content", is_beside=bool(calls))
    if not isinstance(refused, str):
        refused = "".join(said.refusals)
    thoughts = [message.get(name) for name in _THOUGHTS] + said.thoughts
    # Put together anew: compatible servers leave out, rename and add what a reader trips over.
    return reply_of(
        body,
        reply_id=data.get("id"),
        served=data.get("model"),
        created=data.get("created"),
        text=said.text,
        finish=_finish(finish) if finish else None,
        counts=_counts(data),
        calls=calls,
        refusal=refused or None,
        logprobs=_logprobs(choice.get("logprobs")),
        thoughts="".join(dict.fromkeys(str(one) for one in thoughts if one)),
    )


def _counts(data: Any) -> Counts | None:
    if not isinstance(data, dict):
        return None
    groq = data.get("x_groq")
    return counts_of(data.get("usage") or (groq.get("usage") if isinstance(groq, dict) else None))


def _finish(said: Any) -> FinishReason:
    return _FINISHES.get(said.lower(), "other") if isinstance(said, str) else "other"


def _calls(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The tool calls with their types mended; what the model got wrong is left to a check."""
    said = message.get("tool_calls")
    if isinstance(said, list) and said:
        return [_call(no, one) for no, one in enumerate(said)]
    # As older servers say it.
    function = message.get("function_call")
    return [_call(0, {"function": function})] if isinstance(function, dict) else []


def _call(no: int, said: Any) -> dict[str, Any]:
    said = said if isinstance(said, dict) else {}
    custom = said.get("custom")
    if isinstance(custom, dict):
        given = custom.get("input")
        fields = {
            "name": str(custom.get("name") or ""),
            "input": given if isinstance(given, str) else json_text(given) if given else "",
        }
        return {"id": str(said.get("id") or f"call_{no}"), "type": "custom", "custom": fields}
    function = said.get("function")
    function = function if isinstance(function, dict) else {}
    extra = said.get(EXTRA)
    return called(said.get("id"), no, function.get("name"), function.get("arguments"), extra)


def _logprobs(said: Any) -> list[dict[str, Any]] | None:
    """What each token's probability was; nothing unless every token has one."""
    tokens = dicts_of(said.get("content") if isinstance(said, dict) else None)
    made = [
        likely_token(
            str(one.get("token", "")),
            one["logprob"],
            [
                likely_token(str(other.get("token", "")), other["logprob"])
                for other in dicts_of(one.get("top_logprobs"))
                if _is_number(other.get("logprob"))
            ],
        )
        for one in tokens
        if _is_number(one.get("logprob"))
    ]
    return made if made and len(made) == len(tokens) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value)


def _first_choice(data: Any) -> dict[str, Any]:
    choices = data.get("choices") if isinstance(data, dict) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        what = "choices: a list with an object was expected"
        raise UnreadableError(what)

    return choices[0]


OPENAI = Wire("openai", "/chat/completions", _encode, _decode, _counts)
