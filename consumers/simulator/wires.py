"""The two wire formats: how a chat is read, and how a reply and an error are written."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from consumers.simulator.answers import Said
from schemas.usage import Usage

__all__ = ["WIRES", "Wire"]


@dataclass(frozen=True, slots=True)
class Wire:
    """One provider API."""

    name: str
    path: str
    messages: Callable[[Mapping[str, Any]], list[dict[str, Any]]]
    reply: Callable[[str, str, Said, Usage], dict[str, Any]]
    error: Callable[[str, str], dict[str, Any]]


def _openai_reply(seq: str, model: str, said: Said, usage: Usage) -> dict[str, Any]:
    message = {
        "role": "assistant",
        "content": None if said.refusal else said.text,
        "refusal": said.text if said.refusal else None,
    }
    return {
        "id": f"chatcmpl-{seq}",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": model,
        "choices": [
            {"index": 0, "message": message, "logprobs": None, "finish_reason": said.finish}
        ],
        "usage": {
            "prompt_tokens": usage.input_side,
            "completion_tokens": usage.output_side,
            "total_tokens": usage.total_tokens,
        },
    }


def _openai_error(code: str, message: str) -> dict[str, Any]:
    return {
        "error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    }


def _anthropic_messages(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    system = body.get("system")
    texts = [part.get("text", "") for part in system] if isinstance(system, list) else [system]
    said = [{"role": "system", "content": text} for text in texts if text]
    return [*said, *body["messages"]]


def _anthropic_reply(seq: str, model: str, said: Said, usage: Usage) -> dict[str, Any]:
    stop = {"stop": "end_turn", "length": "max_tokens"}[said.finish]
    return {
        "id": f"msg_{seq}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [{"type": "text", "text": said.text}] if said.text else [],
        "stop_reason": "refusal" if said.refusal else stop,
        "stop_sequence": None,
        "usage": {"input_tokens": usage.input_side, "output_tokens": usage.output_side},
    }


def _anthropic_error(code: str, message: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": code, "message": message}}


WIRES = (
    Wire(
        "openai",
        "/v1/chat/completions",
        lambda body: list(body["messages"]),
        _openai_reply,
        _openai_error,
    ),
    Wire("anthropic", "/v1/messages", _anthropic_messages, _anthropic_reply, _anthropic_error),
)
