"""The OpenAI chat-completions format, which most servers speak."""

from collections.abc import Mapping
from typing import Any

from consumers.providers.usage import buckets, estimate
from consumers.providers.wire import UnreadableError, Wire
from router.reply import FinishReason, Reply
from schemas.usage import Usage

__all__ = ["OPENAI"]

_FINISHES: Mapping[str, FinishReason] = {
    "stop": "stop",
    "eos": "stop",
    "end_turn": "stop",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "content_filter": "content_filter",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
}


def _encode(body: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    return "/chat/completions", body


def _decode(data: Any, body: Mapping[str, Any]) -> Reply:
    choice = _first_choice(data)
    message = choice.get("message")
    if not isinstance(message, dict):
        what = "choices.0.message: an object was expected"
        raise UnreadableError(what)

    text = _text(message.get("content"))
    refusal = message.get("refusal")
    served = data.get("model")
    finish = choice.get("finish_reason")
    return Reply(
        text=text,
        finish_reason=_FINISHES.get(finish, "other") if isinstance(finish, str) else "other",
        usage=_usage(data.get("usage"), text, message) or estimate(body, text),
        body=data,
        refusal=refusal if isinstance(refusal, str) and refusal else None,
        served_model=served[:200] if isinstance(served, str) and served else None,
    )


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


def _usage(said: Any, text: str, message: Mapping[str, Any]) -> Usage | None:
    if not isinstance(said, dict):
        return None

    read_from = said.get("prompt_tokens_details")
    put_into = said.get("completion_tokens_details")
    cached = read_from.get("cached_tokens") if isinstance(read_from, dict) else 0
    thought = put_into.get("reasoning_tokens") if isinstance(put_into, dict) else 0
    usage = buckets(
        prompt=said.get("prompt_tokens"),
        completion=said.get("completion_tokens"),
        cache_read=cached,
        reasoning=thought,
    )
    said_something = text or message.get("tool_calls")
    return None if usage is not None and said_something and not usage.output_side else usage


def _authorize(key: str) -> Mapping[str, str]:
    return {"authorization": f"Bearer {key}"}


OPENAI = Wire("openai", _encode, _decode, _authorize)
