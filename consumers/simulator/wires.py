"""The wire formats: how a chat is read, and how a reply and an error are written."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from consumers.simulator.answers import Said
from schemas.usage import Usage

__all__ = ["WIRES", "Chat", "Wire"]

Body = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Chat:
    """What was asked, whatever the format."""

    messages: list[dict[str, Any]]
    #: The JSON Schema the answer should follow.
    schema: dict[str, Any] | None
    #: Most tokens to write.
    most: int | None = None


@dataclass(frozen=True, slots=True)
class Wire:
    """One provider API."""

    name: str
    #: Where it is served; `{model}` is read from there, else from the body.
    paths: Sequence[str]
    #: Raises KeyError, TypeError, ValueError or AttributeError for what is no such chat.
    read: Callable[[Body], Chat]
    reply: Callable[[str, str, Said, Usage], dict[str, Any]]
    #: A status, a code as OpenAI has it, and words, as the API's own error.
    error: Callable[[int, str, str], dict[str, Any]]
    #: Where a reply holds its choices, its model, its counts, and the count of what was written.
    choices: str
    model: str
    usage: str
    written: str


def _openai_read(body: Body) -> Chat:
    if body.get("n") not in (None, 1):
        what = "n"
        raise ValueError(what)
    wanted = body.get("response_format") or {}
    schema = (wanted.get("json_schema") or {}).get("schema")
    most = body.get("max_completion_tokens") or body.get("max_tokens")
    return Chat(_some(body["messages"]), schema, most)


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


def _openai_error(_: int, code: str, message: str) -> dict[str, Any]:
    return {
        "error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    }


def _anthropic_read(body: Body) -> Chat:
    system = body.get("system")
    texts = [part.get("text", "") for part in system] if isinstance(system, list) else [system]
    said = [{"role": "system", "content": text} for text in texts if text]
    wanted = (body.get("output_config") or {}).get("format") or {}
    return Chat([*said, *_some(body["messages"])], wanted.get("schema"), body["max_tokens"])


def _anthropic_reply(seq: str, model: str, said: Said, usage: Usage) -> dict[str, Any]:
    stops = {"stop": "end_turn", "length": "max_tokens", "content_filter": "refusal"}
    return {
        "id": f"msg_{seq}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [{"type": "text", "text": said.text}] if said.text else [],
        "stop_reason": "refusal" if said.refusal else stops[said.finish],
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
    told = body.get("systemInstruction") or {}
    system = [{"role": "system", "content": _joined(told)}] if told else []
    roles = {"model": "assistant", "user": "user"}
    said = [
        {"role": roles[content.get("role", "user")], "content": _joined(content)}
        for content in _some(body["contents"])
    ]
    wanted = body.get("generationConfig") or {}
    return Chat([*system, *said], wanted.get("responseJsonSchema"), wanted.get("maxOutputTokens"))


def _some(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    if not messages:
        what = "messages"
        raise ValueError(what)
    return list(messages)


def _joined(content: Body) -> str:
    return "\n".join(str(part.get("text", "")) for part in content["parts"])


def _gemini_reply(seq: str, model: str, said: Said, usage: Usage) -> dict[str, Any]:
    stops = {"stop": "STOP", "length": "MAX_TOKENS", "content_filter": "SAFETY"}
    counts = {
        "promptTokenCount": usage.input_side,
        "candidatesTokenCount": usage.output_side,
        "totalTokenCount": usage.total_tokens,
    }
    reply: dict[str, Any] = {
        "responseId": f"gen-{seq}",
        "modelVersion": model,
        "usageMetadata": counts,
    }
    if said.finish == "content_filter" and not said.text:
        return {**reply, "promptFeedback": {"blockReason": "SAFETY"}}
    content = {"role": "model", "parts": [{"text": said.text}]}
    candidate = {"index": 0, "content": content, "finishReason": stops[said.finish]}
    return {**reply, "candidates": [candidate]}


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
