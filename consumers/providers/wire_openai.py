"""The OpenAI chat-completions format, which most servers speak."""

from collections.abc import Mapping
from typing import Any

from consumers.providers.usage import Counts, added, booked
from consumers.providers.wire import UnreadableError, Wire
from router.reply import FinishReason, Reply
from router.strict import strict_form
from schemas.usage import Usage

__all__ = ["OPENAI"]

_FINISHES: Mapping[str, FinishReason] = {
    "stop": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "complete": "stop",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "content_filter": "content_filter",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "tool_use": "tool_calls",
}


def _encode(body: Mapping[str, Any]) -> Mapping[str, Any]:
    match body.get("response_format"):
        case {"type": "json_schema", "json_schema": {"schema": schema} as wanted} if (
            "strict" not in wanted
        ):
            # Held to the schema while it writes, where the schema can be kept to so.
            form = strict_form(schema, all_required=True)
            if form is not None and form.get("type") == "object":
                strict = {**wanted, "schema": form, "strict": True}
                return {**body, "response_format": {"type": "json_schema", "json_schema": strict}}
    return body


def _decode(data: Any, body: Mapping[str, Any]) -> Reply:
    choice = _first_choice(data)
    message = choice.get("message")
    if not isinstance(message, dict):
        what = "choices.0.message: an object was expected"
        raise UnreadableError(what)

    text = _text(message.get("content"))
    refusal = message.get("refusal")
    refusal = refusal if isinstance(refusal, str) and refusal else None
    served = data.get("model")
    finish = choice.get("finish_reason")
    output = text or refusal or ("called" if message.get("tool_calls") else "")
    usage, oddities = booked(body, output, _counts(data.get("usage")))
    # Compatible servers leave out what nobody misses until the result is read.
    for name, value in (("id", ""), ("object", "chat.completion"), ("model", body.get("model"))):
        data.setdefault(name, value)
    return Reply(
        text=text,
        finish_reason=_finish(finish, message, body, usage),
        usage=usage,
        body=data,
        refusal=refusal,
        served_model=served[:200] if isinstance(served, str) and served else None,
        oddities=oddities,
    )


def _finish(
    said: Any, message: Mapping[str, Any], sent: Mapping[str, Any], usage: Usage
) -> FinishReason:
    """How the reply ended; where a server never says, it is whole if it stayed below its limit.

    The body came as one JSON document, so nothing was lost on the way; what is left is that the
    model ran into its limit, which the count of tokens shows.
    """
    if isinstance(said, str):
        return _FINISHES.get(said.lower(), "other")
    if said is not None:
        return "other"
    limit = sent.get("max_completion_tokens") or sent.get("max_tokens")
    if isinstance(limit, int) and usage.output_side >= limit:
        return "length"
    return "tool_calls" if message.get("tool_calls") else "stop"


def _first_choice(data: Any) -> dict[str, Any]:
    choices = data.get("choices") if isinstance(data, dict) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        what = "choices: a list with an object was expected"
        raise UnreadableError(what)

    return choices[0]


def _text(content: Any) -> str:
    """The content as text; some servers send it in parts."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        return "".join(part for part in parts if isinstance(part, str))

    what = "choices.0.message.content: text was expected"
    raise UnreadableError(what)


def _counts(said: Any) -> Counts | None:
    if not isinstance(said, dict):
        return None

    read_from = said.get("prompt_tokens_details")
    put_into = said.get("completion_tokens_details")
    read_from = read_from if isinstance(read_from, dict) else {}
    put_into = put_into if isinstance(put_into, dict) else {}
    prompt, completion = said.get("prompt_tokens"), said.get("completion_tokens")
    thought, total = put_into.get("reasoning_tokens"), said.get("total_tokens")
    if thought and total == added(prompt, completion, thought):
        completion = added(completion, thought)  # some servers count reasoning beside it
    return Counts(
        prompt=prompt,
        completion=completion,
        cache_read=read_from.get("cached_tokens"),
        cache_write=read_from.get("cache_write_tokens"),
        reasoning=thought,
    )


OPENAI = Wire("openai", "/chat/completions", _encode, _decode)
