"""The Google Gemini generateContent format.

The format has no fields for parallel_tool_calls, logit_bias and reasoning_effort, so they are left
out.
"""

import re
from collections.abc import Mapping
from math import isfinite
from typing import Any

import orjson

from consumers.providers.chat import (
    Call,
    Outcome,
    Part,
    Text,
    asked_format,
    called,
    likely_token,
    reply_of,
    stops_of,
    tools_of,
    turns_of,
)
from consumers.providers.conversations import RULES
from consumers.providers.gemini_schemas import subset
from consumers.providers.parts import read_content
from consumers.providers.shapes import dict_of, dicts_of
from consumers.providers.usage import Counts, added
from consumers.providers.wire import UnreadableError, Wire
from router.reply.reply import FinishReason, Reply

__all__ = ["GEMINI"]

_FINISHES: Mapping[str, FinishReason] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "LANGUAGE": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "IMAGE_SAFETY": "content_filter",
    "MODEL_ARMOR": "content_filter",
}
_VERSION = re.compile(r"gemini-([0-9]{1,3})")
#: Fields of a chat body, and their names under `generationConfig`.
_SETTINGS = {
    "temperature": "temperature",
    "top_p": "topP",
    "seed": "seed",
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
    "logprobs": "responseLogprobs",
    "top_logprobs": "logprobs",
}


def _encode(body: Mapping[str, Any]) -> Mapping[str, Any]:
    system, turns = turns_of(body, RULES["gemini"])
    wants_json, schema = asked_format(body)
    functions, choice = tools_of(body)
    if wants_json and functions and not _takes_both(body):
        system.append(Text(_in_words(schema)))
        wants_json, schema = False, None
    sent: dict[str, Any] = {
        "contents": [
            {
                "role": "user" if turn.role == "user" else "model",
                "parts": [_part(part) for part in turn.parts],
            }
            for turn in turns
        ]
    }
    if system:
        sent["systemInstruction"] = {"parts": [_part(text) for text in system]}
    config = {name: body[given] for given, name in _SETTINGS.items() if body.get(given) is not None}
    if limit := body.get("max_completion_tokens") or body.get("max_tokens"):
        config["maxOutputTokens"] = limit
    if stops := stops_of(body):
        config["stopSequences"] = stops
    if wants_json:
        config["responseMimeType"] = "application/json"
    if schema:
        config["responseJsonSchema"] = subset(schema)
    if config:
        sent["generationConfig"] = config
    if functions:
        declarations = [_declaration(function) for function in functions]
        sent["tools"] = [{"functionDeclarations": declarations}]
        sent["toolConfig"] = {"functionCallingConfig": _calling_config(choice)}
    return sent


def _takes_both(body: Mapping[str, Any]) -> bool:
    """True for a model that takes tools and a JSON format in one call: Gemini from 3 on.

    https://ai.google.dev/gemini-api/docs/structured-output, googleapis/python-genai#867
    """
    version = _VERSION.search(str(body.get("model", "")))
    return version is not None and int(version[1]) >= 3


def _in_words(schema: Mapping[str, Any] | None) -> str:
    words = "Unless you call a function, answer with one JSON object and nothing else."
    if schema is None:
        return words
    return f"{words} It follows this JSON Schema: {orjson.dumps(schema).decode()}"


def _part(part: Part) -> dict[str, Any]:
    match part:
        case Text(text):
            return {"text": text}
        case Call(call_id, name, arguments, extra):
            call: dict[str, Any] = {
                "functionCall": {"id": call_id, "name": name, "args": arguments}
            }
            google = dict_of(dict_of(extra).get("google"))
            if "thought_signature" in google:
                call["thoughtSignature"] = google["thought_signature"]
            return call
        case Outcome(call_id, name, text):
            response = {"id": call_id, "name": name, "response": {"result": text}}
            return {"functionResponse": response}


def _declaration(function: Mapping[str, Any]) -> dict[str, Any]:
    declaration = {"name": function["name"]}
    if text := function.get("description"):
        declaration["description"] = text
    if parameters := function.get("parameters"):
        declaration["parametersJsonSchema"] = subset(parameters)
    return declaration


def _calling_config(choice: Any) -> dict[str, Any]:
    match choice:
        case "none":
            return {"mode": "NONE"}
        case "required":
            return {"mode": "ANY"}
        case {"function": {"name": name}}:
            return {"mode": "ANY", "allowedFunctionNames": [name]}
        case _:
            return {"mode": "AUTO"}


def _decode(data: Any, body: Mapping[str, Any]) -> Reply:
    candidate, blocked = _first_candidate(data)
    parts = _parts(candidate)
    # Parts without text are calls, and what Google itself has run.
    text_parts = [part for part in parts if not isinstance(part, dict) or "text" in part]
    answer = read_content(text_parts, "candidates.0.content.parts")
    calls = [_call(index, part) for index, part in enumerate(parts) if "functionCall" in part]
    reason = candidate.get("finishReason")
    finish = _FINISHES.get(reason, "other") if isinstance(reason, str) else "other"
    if blocked:
        finish = "content_filter"
    elif calls and finish == "stop":
        finish = "tool_calls"
    return reply_of(
        body,
        reply_id=data.get("responseId"),
        served=data.get("modelVersion"),
        text=answer.text,
        finish=finish,
        counts=_counts(data),
        calls=calls,
        refusal=f"blocked: {blocked[:64]}" if blocked else None,
        logprobs=_logprobs(candidate),
        thoughts="".join(answer.thoughts),
    )


def _first_candidate(data: Any) -> tuple[dict[str, Any], str | None]:
    """The candidate, or why the prompt was blocked before there was any."""
    candidates = dict_of(data).get("candidates")
    if isinstance(candidates, list) and candidates and isinstance(candidates[0], dict):
        return candidates[0], None

    block_reason = dict_of(dict_of(data).get("promptFeedback")).get("blockReason")
    if isinstance(block_reason, str):
        return {}, block_reason

    what = "candidates: a list with an object was expected"
    raise UnreadableError(what)


def _parts(candidate: Mapping[str, Any]) -> list[Any]:
    content = candidate.get("content")
    if content is None:  # the model wrote nothing, and the finish reason says why
        return []
    parts = content.get("parts", []) if isinstance(content, dict) else content
    if not isinstance(parts, (str, list, dict)):
        what = "candidates.0.content: an object with parts was expected"
        raise UnreadableError(what)
    return parts if isinstance(parts, list) else [parts]


def _call(index: int, part: Mapping[str, Any]) -> dict[str, Any]:
    call = part["functionCall"]
    if not isinstance(call, dict) or not isinstance(call.get("name"), str):
        what = "candidates.0.content.parts.functionCall: a name was expected"
        raise UnreadableError(what)

    signature = part.get("thoughtSignature")
    extra = {"google": {"thought_signature": signature}} if signature else None
    return called(call.get("id"), index, call["name"], call.get("args"), extra)


def _logprobs(candidate: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    result = candidate.get("logprobsResult")
    if not isinstance(result, dict):
        return None

    tokens = dicts_of(result.get("chosenCandidates"))
    logprobs = [token.get("logProbability", 0.0) for token in tokens]  # a zero is left out
    if not all(isinstance(value, (int, float)) and isfinite(value) for value in logprobs):
        return None
    return [
        likely_token(str(token.get("token", "")), float(value))
        for token, value in zip(tokens, logprobs, strict=True)
    ]


def _counts(data: Any) -> Counts | None:
    usage = dict_of(data).get("usageMetadata")
    if not isinstance(usage, dict):
        return None

    thought = usage.get("thoughtsTokenCount")
    # A count of zero is left out; candidates do not include thoughts.
    return Counts(
        prompt=added(usage.get("promptTokenCount"), usage.get("toolUsePromptTokenCount")),
        completion=added(usage.get("candidatesTokenCount", 0), thought),
        cache_read=usage.get("cachedContentTokenCount"),
        reasoning=thought,
        total=usage.get("totalTokenCount"),
    )


GEMINI = Wire(
    "gemini",
    "/models/{model}:generateContent",
    _encode,
    _decode,
    _counts,
    key_header="x-goog-api-key",
)
