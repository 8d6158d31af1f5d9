"""The wire formats: how a chat is read, and how a reply and an error are written."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from consumers.lab.simulator.answers import ModelReply
from schemas.usage import Usage

__all__ = ["WIRES", "Chat", "Wire"]

Body = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Chat:
    """A chat, whatever format it came in."""

    messages: list[dict[str, Any]]
    #: The JSON Schema the answer should follow.
    schema: dict[str, Any] | None
    #: The most tokens to write.
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Wire:
    """One provider API."""

    name: str
    #: The paths of the API; the model is `{model}` there, else a field of the body.
    paths: Sequence[str]
    #: Raises KeyError, TypeError, ValueError or AttributeError for a body in another format.
    read: Callable[[Body], Chat]
    reply: Callable[[str, str, ModelReply, Usage], dict[str, Any]]
    #: From a status, OpenAI's code and a message to the body of an error.
    error: Callable[[int, str, str], dict[str, Any]]
    #: The fields of a reply for its choices, its model, its usage, and the output tokens in that.
    choices: str
    model: str
    usage: str
    written: str


def _openai_read(body: Body) -> Chat:
    if body.get("n") not in (None, 1):
        what = "n"
        raise ValueError(what)
    response_format = body.get("response_format") or {}
    schema = (response_format.get("json_schema") or {}).get("schema")
    max_tokens = body.get("max_completion_tokens") or body.get("max_tokens")
    return Chat(_not_empty(body["messages"]), schema, max_tokens)


def _openai_reply(seq: str, model: str, reply: ModelReply, usage: Usage) -> dict[str, Any]:
    message = {
        "role": "assistant",
        "content": None if reply.is_refusal else reply.text,
        "refusal": reply.text if reply.is_refusal else None,
    }
    return {
        "id": f"chatcmpl-{seq}",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": model,
        "choices": [
            {"index": 0, "message": message, "logprobs": None, "finish_reason": reply.finish}
        ],
        "usage": {
            "prompt_tokens": usage.input_side,
            "completion_tokens": usage.output_side,
            "total_tokens": usage.total_tokens,
        },
    }


def _openai_error(_: int, code: str, message: str) -> dict[str, Any]:
    return {
        "error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    }


def _anthropic_read(body: Body) -> Chat:
    system = body.get("system")
    texts = [part.get("text", "") for part in system] if isinstance(system, list) else [system]
    messages = [{"role": "system", "content": text} for text in texts if text]
    messages += _not_empty(body["messages"])
    output_format = (body.get("output_config") or {}).get("format") or {}
    return Chat(messages, output_format.get("schema"), body["max_tokens"])


def _anthropic_reply(seq: str, model: str, reply: ModelReply, usage: Usage) -> dict[str, Any]:
    stops = {"stop": "end_turn", "length": "max_tokens", "content_filter": "refusal"}
    return {
        "id": f"msg_{seq}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [{"type": "text", "text": reply.text}] if reply.text else [],
        "stop_reason": "refusal" if reply.is_refusal else stops[reply.finish],
        "stop_sequence": None,
        "usage": {"input_tokens": usage.input_side, "output_tokens": usage.output_side},
    }


def _anthropic_error(status: int, code: str, message: str) -> dict[str, Any]:
    kinds = {
        401: "authentication_error",
        404: "not_found_error",
        429: "rate_limit_error",
        500: "api_error",
        503: "overloaded_error",
    }
    kind = kinds.get(status, "invalid_request_error")
    kind = "billing_error" if code == "insufficient_quota" else kind
    return {"type": "error", "error": {"type": kind, "message": message}}


def _gemini_read(body: Body) -> Chat:
    instruction = body.get("systemInstruction") or {}
    system = [{"role": "system", "content": _joined(instruction)}] if instruction else []
    roles = {"model": "assistant", "user": "user"}
    messages = [
        {"role": roles[content.get("role", "user")], "content": _joined(content)}
        for content in _not_empty(body["contents"])
    ]
    config = body.get("generationConfig") or {}
    max_tokens = config.get("maxOutputTokens")
    return Chat([*system, *messages], config.get("responseJsonSchema"), max_tokens)


def _not_empty(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    if not messages:
        what = "messages"
        raise ValueError(what)
    return list(messages)


def _joined(content: Body) -> str:
    return "\n".join(str(part.get("text", "")) for part in content["parts"])


def _gemini_reply(seq: str, model: str, reply: ModelReply, usage: Usage) -> dict[str, Any]:
    stops = {"stop": "STOP", "length": "MAX_TOKENS", "content_filter": "SAFETY"}
    counts = {
        "promptTokenCount": usage.input_side,
        "candidatesTokenCount": usage.output_side,
        "totalTokenCount": usage.total_tokens,
    }
    body: dict[str, Any] = {
        "responseId": f"gen-{seq}",
        "modelVersion": model,
        "usageMetadata": counts,
    }
    if reply.finish == "content_filter" and not reply.text:
        return {**body, "promptFeedback": {"blockReason": "SAFETY"}}
    content = {"role": "model", "parts": [{"text": reply.text}]}
    candidate = {"index": 0, "content": content, "finishReason": stops[reply.finish]}
    return {**body, "candidates": [candidate]}


def _gemini_error(status: int, code: str, message: str) -> dict[str, Any]:
    names = {401: "UNAUTHENTICATED", 404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED", 500: "INTERNAL"}
    name = names.get(status, "UNAVAILABLE" if status >= 500 else "INVALID_ARGUMENT")
    error: dict[str, Any] = {"code": status, "message": message, "status": name}
    if code == "insufficient_quota":
        quota = {"quotaId": "GenerateRequestsPerDayPerProjectPerModel"}
        error["details"] = [
            {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [quota]}
        ]
    return {"error": error}


WIRES = (
    Wire(
        "openai",
        ("/v1/chat/completions",),
        _openai_read,
        _openai_reply,
        _openai_error,
        choices="choices",
        model="model",
        usage="usage",
        written="completion_tokens",
    ),
    Wire(
        "anthropic",
        ("/v1/messages",),
        _anthropic_read,
        _anthropic_reply,
        _anthropic_error,
        choices="content",
        model="model",
        usage="usage",
        written="output_tokens",
    ),
    Wire(
        "gemini",
        ("/v1/models/{model}:generateContent", "/v1beta/models/{model}:generateContent"),
        _gemini_read,
        _gemini_reply,
        _gemini_error,
        choices="candidates",
        model="modelVersion",
        usage="usageMetadata",
        written="candidatesTokenCount",
    ),
)
