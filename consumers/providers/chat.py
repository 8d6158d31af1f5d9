"""Takes chat bodies in the OpenAI form apart, and builds replies in that form.

Formats other than OpenAI's encode from these parts; every format builds its replies here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from consumers.providers.conversations import Rules, fitted_messages
from consumers.providers.parts import NO_ARGUMENTS, arguments_text
from consumers.providers.shapes import dict_of, dicts_of
from consumers.providers.usage import Counts, booked
from router.reply.reply import FinishReason, Reply
from router.reply.thoughts import without_thoughts
from schemas.json_numbers import Digits, read_lossless
from schemas.json_text import has_more_values
from schemas.usage import Usage

__all__ = [
    "EXTRA",
    "Call",
    "Outcome",
    "Text",
    "Turn",
    "arguments_of",
    "asked_format",
    "called",
    "likely_token",
    "reply_of",
    "stops_of",
    "tools_of",
    "turns_of",
]

#: The field of a tool call with what its provider needs to see again in later requests.
EXTRA = "extra_content"
#: The user's text where a format demands a user's turn and the conversation has none.
_BEGIN, _CONTINUE = "Begin.", "Continue."
#: The most commas, colons and brackets of arguments whose numbers keep every digit.
_MOST_EXACT = 10_000


@dataclass(frozen=True, slots=True)
class Text:
    """A text of a message. `is_cached` asks the provider to cache the prompt up to here."""

    text: str
    is_cached: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call of the model."""

    id: str
    name: str
    arguments: dict[str, Any]
    #: The call's `EXTRA`, unchanged.
    extra: Any = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a tool call."""

    id: str
    name: str
    text: str


Part = Text | Call | Outcome


@dataclass(frozen=True, slots=True)
class Turn:
    """Consecutive messages of one side; a tool's outcome belongs to the user's side."""

    role: Literal["user", "assistant"]
    parts: list[Part]


def turns_of(body: Mapping[str, Any], rules: Rules) -> tuple[list[Text], list[Turn]]:
    """The system's texts, and at least one turn of the user or the assistant.

    The turns follow the rules of the format, also where it demands that the user comes first and
    last.
    """
    system: list[Text] = []
    turns: list[Turn] = []
    names: dict[str, str] = {}
    for message in fitted_messages(body.get("messages") or (), rules):
        role = message.get("role")
        if role in ("system", "developer"):
            system += _texts(message.get("content"))
            continue
        parts: list[Part] = list(_texts(message.get("content")))
        if role == "tool":
            text = "\n".join(part.text for part in parts if isinstance(part, Text))
            call_id = str(message.get("tool_call_id", ""))
            parts = [Outcome(call_id, names.get(call_id, call_id), text)]
        for fields in dicts_of(message.get("tool_calls") if role == "assistant" else None):
            call = _call(fields)
            names[call.id] = call.name
            parts.append(call)
        side: Literal["user", "assistant"] = "assistant" if role == "assistant" else "user"
        if turns and turns[-1].role == side:
            turns[-1].parts.extend(parts)
        elif parts:
            turns.append(Turn(side, parts))
    if not turns:  # these formats refuse an empty conversation
        turns, system = [Turn("user", list(system) or [Text(_BEGIN)])], []
    if rules.user_frames and turns[0].role != "user":
        turns.insert(0, Turn("user", [Text(_BEGIN)]))
    if rules.user_frames and turns[-1].role != "user":
        turns.append(Turn("user", [Text(_CONTINUE)]))
    return system, turns


def asked_format(body: Mapping[str, Any]) -> tuple[bool, dict[str, Any] | None]:
    """Whether JSON is asked for, and the JSON Schema it should follow."""
    match body.get("response_format"):
        case {"type": "json_schema", "json_schema": {"schema": dict(schema)}}:
            return True, schema
        case {"type": "json_object" | "json_schema"}:
            return True, None
        case _:
            return False, None


def tools_of(body: Mapping[str, Any]) -> tuple[list[dict[str, Any]], Any]:
    """The functions that may be called, and the `tool_choice` among them.

    `allowed_tools` exists in OpenAI's format alone, so the functions are narrowed to the allowed
    ones here. Tools of other types than `function` are left out: no other format has them.
    """
    functions = dicts_of([tool.get("function") for tool in dicts_of(body.get("tools"))])
    offered = [function for function in functions if function.get("name")]
    match choice := body.get("tool_choice"):
        case {"type": "allowed_tools", "allowed_tools": {"tools": [*allowed], **rest}}:
            allowed = dicts_of([tool.get("function", tool) for tool in dicts_of(allowed)])
            names = {function.get("name") for function in allowed}
            offered = [function for function in offered if function["name"] in names]
            choice = rest.get("mode")
        case "any":
            choice = "required"
        case _:
            pass
    return offered, choice


def stops_of(body: Mapping[str, Any]) -> list[str]:
    """The texts before which the model should stop."""
    stop = body.get("stop")
    texts = stop if isinstance(stop, list) else [stop]
    return [text for text in texts if isinstance(text, str) and text]


def reply_of(  # noqa: PLR0913  a reply has as many parts
    sent: Mapping[str, Any],
    *,
    reply_id: Any,
    served: Any,
    text: str,
    finish: FinishReason | None,
    counts: Counts | None,
    created: Any = None,
    calls: Sequence[Mapping[str, Any]] = (),
    refusal: str | None = None,
    logprobs: Sequence[Mapping[str, Any]] | None = None,
    thoughts: str = "",
) -> Reply:
    """A reply whose body is a chat completion made of these parts, and of nothing else.

    `finish` is None where a server never says how a reply ended. `calls` and `logprobs` are in
    the completion's own form: see `called` and `likely_token`. `thoughts` are paid for but not
    passed on, nor are those that the model wrote into its text: this is the one place where a
    model's output becomes an answer, before any check.
    """
    written_text = text
    text, inline_thoughts = without_thoughts(text)
    refusal = without_thoughts(refusal)[0] or "refused" if refusal else None
    # A filter's refusal was not written by the model.
    paid_text = written_text or ("" if finish == "content_filter" else refusal or "")
    paid_calls = (str(call.get("function") or call.get("custom") or "") for call in calls)
    output = "".join((thoughts, paid_text, *paid_calls))
    if logprobs is not None and (inline_thoughts or thoughts):
        logprobs = _of_answer(logprobs, text)
    usage, oddities = booked(sent, output, counts)
    finish = finish or _likely_finish(sent, usage, calls)
    model = served[:200] if isinstance(served, str) and served else None
    message: dict[str, Any] = {
        "role": "assistant",
        "content": text if text or not (calls or refusal) else None,
        "refusal": refusal,
    }
    if calls:
        message["tool_calls"] = calls
    choice = {
        "index": 0,
        "message": message,
        "logprobs": None if logprobs is None else {"content": logprobs, "refusal": None},
        # A chat completion has no word for other endings.
        "finish_reason": "stop" if finish == "other" else finish,
    }
    body = {
        "id": reply_id[:200] if isinstance(reply_id, str) else "",
        "object": "chat.completion",
        "created": created if type(created) is int and 0 < created < 2**53 else 0,
        "model": model or str(sent.get("model", "")),
        "choices": [choice],
        "usage": _usage(usage),
    }
    return Reply(
        text=text,
        finish_reason=finish,
        usage=usage,
        body=body,
        refusal=refusal,
        served_model=model,
        oddities=oddities,
    )


def called(call_id: Any, no: int, name: Any, arguments: Any, extra: Any = None) -> dict[str, Any]:
    """A tool call in the form of a chat completion; `no` makes an id for a call without one."""
    call = {
        "id": str(call_id or f"call_{no}"),
        "type": "function",
        "function": {
            "name": name if isinstance(name, str) else "",
            "arguments": arguments_text(arguments),
        },
    }
    return call if extra is None else {**call, EXTRA: extra}


def likely_token(
    token: str, logprob: float, others: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    """A token and the logarithm of its probability in the form of a chat completion."""
    # Only our own JSON writer can write `Digits`; a completion may be written by others.
    logprob = float(logprob) if type(logprob) is Digits else logprob
    return {"token": token, "logprob": logprob, "bytes": None, "top_logprobs": list(others)}


def _likely_finish(
    sent: Mapping[str, Any], usage: Usage, calls: Sequence[Mapping[str, Any]]
) -> FinishReason:
    """How a reply ended where the server does not say: it is whole if it stayed below its limit.

    It came as one JSON document, so nothing was lost on the way; the model can only have run into
    its limit, which the count of tokens shows.
    """
    limit = sent.get("max_completion_tokens") or sent.get("max_tokens")
    if isinstance(limit, int) and usage.output_side >= limit:
        return "length"
    return "tool_calls" if calls else "stop"


def _texts(content: Any) -> list[Text]:
    if isinstance(content, str):
        return [Text(content)] if content else []
    parts = [part for part in dicts_of(content) if part.get("text")]
    return [Text(str(part["text"]), "cache_control" in part) for part in parts]


def _call(call: Mapping[str, Any]) -> Call:
    function = dict_of(call.get("function"))
    arguments = arguments_of(function.get("arguments"))
    return Call(str(call.get("id", "")), str(function.get("name", "")), arguments, call.get(EXTRA))


def arguments_of(value: Any) -> dict[str, Any]:
    """A tool call's arguments as an object, which the other formats demand, whatever they are."""
    text = arguments_text(value)
    if text == NO_ARGUMENTS:
        return {}
    try:
        raw = text.encode()
        is_long = has_more_values(raw, _MOST_EXACT)
        arguments = orjson.loads(raw) if is_long else read_lossless(raw)
    except (ValueError, RecursionError):
        arguments = None
    return arguments if isinstance(arguments, dict) else {"arguments": value}


def _of_answer(
    tokens: Sequence[Mapping[str, Any]], text: str
) -> Sequence[Mapping[str, Any]] | None:
    """The tokens of an answer without those of its thoughts; None where they cannot be told."""
    written = "".join(str(token.get("token", "")) for token in tokens).rstrip()
    answer_start = len(written) - len(text)
    if not text or written[max(answer_start, 0) :] != text:
        return None
    kept = []
    token_end = 0
    for token in tokens:
        token_end += len(str(token.get("token", "")))
        if token_end > answer_start:
            kept.append(token)
    return kept


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.input_side,
        "completion_tokens": usage.output_side,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cache_read_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }
