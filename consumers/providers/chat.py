"""Chats in the OpenAI form taken apart, and replies put together in it.

For the formats that are not OpenAI's own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from consumers.providers.conversations import Rules, fitted_messages
from consumers.providers.parts import NO_ARGUMENTS, arguments_text
from consumers.providers.usage import Counts, booked
from router.judge.reply import FinishReason, Reply
from router.judge.thoughts import without_thoughts
from schemas.json_numbers import Digits, loses_digits, read_exact
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
    "dicts_of",
    "likely_token",
    "reply_of",
    "stops_of",
    "tools_of",
    "turns_of",
]

#: In a tool call: what the provider wants to see again when the call comes back to it.
EXTRA = "extra_content"
#: What the user says where a format wants him to and he has said nothing.
_BEGIN, _CONTINUE = "Begin.", "Continue."
#: Commas, colons and brackets of arguments that are read digit by digit.
_MOST_EXACT = 10_000


@dataclass(frozen=True, slots=True)
class Text:
    """Something said. `is_cached` asks the provider to keep all up to here."""

    text: str
    is_cached: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """A tool called by the model."""

    id: str
    name: str
    arguments: dict[str, Any]
    #: As the provider gave it with the call.
    extra: Any = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a tool gave back."""

    id: str
    name: str
    text: str


Part = Text | Call | Outcome


@dataclass(frozen=True, slots=True)
class Turn:
    """All that one side says before the other does; a tool's outcome is the user's."""

    role: Literal["user", "assistant"]
    parts: list[Part]


def turns_of(body: Mapping[str, Any], rules: Rules) -> tuple[list[Text], list[Turn]]:
    """The system's texts, and the turns of the others, of whom there is at least one.

    The turns hold to the rules of the format; where it wants the user first and last, he is.
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
            said = "\n".join(part.text for part in parts if isinstance(part, Text))
            no = str(message.get("tool_call_id", ""))
            parts = [Outcome(no, names.get(no, no), said)]
        for call in dicts_of(message.get("tool_calls") if role == "assistant" else None):
            made = _call(call)
            names[made.id] = made.name
            parts.append(made)
        side: Literal["user", "assistant"] = "assistant" if role == "assistant" else "user"
        if turns and turns[-1].role == side:
            turns[-1].parts.extend(parts)
        elif parts:
            turns.append(Turn(side, parts))
    if not turns:  # these formats want somebody to speak
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


def dicts_of(value: Any) -> list[dict[str, Any]]:
    """The objects of a list; nothing where there is no list."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def tools_of(body: Mapping[str, Any]) -> tuple[list[dict[str, Any]], Any]:
    """The functions that may be called, and the choice among them.

    Formats that cannot name the tools allowed are given no others. Tools that are no functions
    exist in no other format.
    """
    functions = [tool.get("function") for tool in dicts_of(body.get("tools"))]
    offered = [one for one in dicts_of(functions) if one.get("name")]
    match choice := body.get("tool_choice"):
        case {"type": "allowed_tools", "allowed_tools": {"tools": [*allowed], **rest}}:
            names = [one.get("function", one) for one in dicts_of(allowed)]
            known = {one.get("name") for one in dicts_of(names)}
            offered = [one for one in offered if one["name"] in known]
            choice = rest.get("mode")
        case "any":
            choice = "required"
        case _:
            pass
    return offered, choice


def stops_of(body: Mapping[str, Any]) -> list[str]:
    """Where the model should stop."""
    stop = body.get("stop")
    stops = stop if isinstance(stop, list) else [stop]
    return [one for one in stops if isinstance(one, str) and one]


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
    the completion's own form: see `called` and `likely_token`. `thoughts` are paid for and not
    passed on, and no more are those that the model wrote into its text: this is the one place
    where what was said becomes an answer, before any check.
    """
    written_text = text
    text, aloud = without_thoughts(text)
    refusal = without_thoughts(refusal)[0] or "refused" if refusal else None
    # A filter's refusal is no model's text.
    said = written_text or ("" if finish == "content_filter" else refusal or "")
    written = (str(one.get("function") or one.get("custom") or "") for one in calls)
    output = "".join((thoughts, said, *written))
    if logprobs is not None and (aloud or thoughts):
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
        # The form knows no other ending than these.
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
    """A tool call as a chat completion holds it; `no` numbers those that have no id."""
    made = {
        "id": str(call_id or f"call_{no}"),
        "type": "function",
        "function": {
            "name": name if isinstance(name, str) else "",
            "arguments": arguments_text(arguments),
        },
    }
    return made if extra is None else {**made, EXTRA: extra}


def likely_token(
    token: str, logprob: float, others: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    """A token and the logarithm of its probability as a chat completion holds them."""
    # A number with its text beside it is written by nobody else.
    logprob = float(logprob) if type(logprob) is Digits else logprob
    return {"token": token, "logprob": logprob, "bytes": None, "top_logprobs": list(others)}


def _likely_finish(
    sent: Mapping[str, Any], usage: Usage, calls: Sequence[Mapping[str, Any]]
) -> FinishReason:
    """How a reply ended where nobody says: it is whole if it stayed below its limit.

    It came as one JSON document, so nothing was lost on the way; what is left is that the model
    ran into its limit, which the count of tokens shows.
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
    function = call.get("function")
    function = function if isinstance(function, dict) else {}
    arguments = arguments_of(function.get("arguments"))
    return Call(str(call.get("id", "")), str(function.get("name", "")), arguments, call.get(EXTRA))


def arguments_of(said: Any) -> dict[str, Any]:
    """Arguments as the object that the other formats want, whatever they are."""
    text = arguments_text(said)
    if text == NO_ARGUMENTS:
        return {}
    try:
        raw = text.encode("utf-8", "replace")
        is_exact = not has_more_values(raw, _MOST_EXACT) and loses_digits(raw)
        arguments = read_exact(text) if is_exact else orjson.loads(text)
    except (ValueError, RecursionError):
        arguments = None
    return arguments if isinstance(arguments, dict) else {"arguments": said}


def _of_answer(
    tokens: Sequence[Mapping[str, Any]], text: str
) -> Sequence[Mapping[str, Any]] | None:
    """The tokens of an answer without those of its thoughts; None where they cannot be told."""
    written = "".join(str(token.get("token", "")) for token in tokens).rstrip()
    begins = len(written) - len(text)
    if not text or written[max(begins, 0) :] != text:
        return None
    kept = []
    at = 0
    for token in tokens:
        at += len(str(token.get("token", "")))
        if at > begins:
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
