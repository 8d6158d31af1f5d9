"""Joins a stream, which some servers send unasked, into the reply that it carries.

Takes server-sent events, and JSON by lines or in a list. A stream without its end is refused: it
holds only a part of a reply.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import orjson

from consumers.providers.shapes import dict_of, dicts_of
from consumers.providers.wire import UnreadableError
from schemas.json_numbers import read_lossless
from schemas.json_text import MAX_VALUES, has_more_values, refuse_depth

__all__ = ["chunks_of", "joined"]

_DONE = "[DONE]"
#: The fewest characters per line of a real stream, and how many blank lines it may have besides.
_SHORTEST, _MOST_BLANK = 16, 1_000
#: The texts of a delta, to each of which later deltas add.
_GROWING = ("content", "reasoning_content", "reasoning", "thinking", "refusal")


def chunks_of(raw: bytes) -> list[dict[str, Any]] | None:
    """The JSON objects of a stream, in order; None for what is no stream."""
    text = raw.decode("utf-8", "replace").strip()
    is_sse = text.startswith(("data:", "event:", "id:", "retry:", ":"))
    if not is_sse and not text.startswith("{"):
        return None
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    if len(lines) > len(text) // _SHORTEST + _MOST_BLANK:
        return None
    chunks: list[dict[str, Any]] = []
    for event in _events(lines) if is_sse else filter(str.strip, lines):
        if event.strip() == _DONE:
            continue
        if not isinstance(chunk := _read(event), dict):
            return None
        chunks.append(chunk)
    return chunks if len(chunks) > 1 or (chunks and is_sse) else None


def _events(lines: list[str]) -> Iterator[str]:
    """The data of a stream's events: https://html.spec.whatwg.org/#server-sent-events."""
    data = ""
    for line in lines:
        if line.startswith("data:"):
            # Some servers leave out the blank line between two events.
            if data and (data == _DONE or _read(data) is not None):
                yield data
                data = ""
            data += line[5:].strip()
        elif data and not line.strip():
            yield data
            data = ""
    if data:
        yield data


def _read(text: str) -> Any:
    """A chunk, with every digit; None for what is no JSON. Raises ContractError for its depth."""
    raw = text.encode("utf-8", "replace")
    if has_more_values(raw, MAX_VALUES):
        return None
    try:
        orjson.loads(raw)
        refuse_depth(raw)
        return read_lossless(raw)
    except ValueError:
        return None


def joined(wire: str, chunks: list[dict[str, Any]], *, is_done: bool) -> Any:
    """The reply in the provider's own form. Raises UnreadableError for a stream without its end."""
    for index, chunk in enumerate(chunks):
        if chunk.get("error"):
            # With what came before: a model that had begun to answer has run, and was paid for.
            begun, _ = _JOINS[wire](chunks[:index])
            return {**begun, **chunk} if index and _says_something(begun) else chunk
    reply, has_end = _JOINS[wire](chunks)
    if not (has_end or is_done):
        what = "the stream stops before its end"
        raise UnreadableError(what)
    return reply


def _says_something(reply: Any) -> bool:
    """True where a reply that broke off holds a part of an answer, or its usage."""
    if reply.get("content") or reply.get("candidates") or reply.get("usage"):
        return True
    messages = [choice["message"] for choice in dicts_of(reply.get("choices"))]
    return any(value for fields in messages for name, value in fields.items() if name != "role")


def _openai(chunks: list[dict[str, Any]]) -> tuple[Any, bool]:
    message: dict[str, Any] = {"role": "assistant", "content": None}
    calls: dict[Any, dict[str, Any]] = {}
    tokens: list[Any] = []
    reply: dict[str, Any] = {}
    finish = None
    for chunk in chunks:
        reply |= {
            name: chunk[name] for name in ("id", "model", "created", "usage") if chunk.get(name)
        }
        for choice in dicts_of(chunk.get("choices")):
            if choice.get("index", 0) != 0:
                continue
            finish = choice.get("finish_reason") or finish
            if isinstance(choice.get("message"), dict):  # the whole reply, as one event
                return {**chunk, **reply}, True
            delta = dict_of(choice.get("delta"))
            for name in _GROWING:
                message[name] = _longer(message.get(name), delta.get(name))
            for position, piece in enumerate(dicts_of(delta.get("tool_calls"))):
                _grow_call(calls, piece, position)
            if isinstance(function := delta.get("function_call"), dict):
                _grow_call(calls, {"index": 0, "function": function}, 0)
            tokens += dicts_of(dict_of(choice.get("logprobs")).get("content"))
    message = {"content": None, **_without_none(message)}
    if calls:
        message["tool_calls"] = list(calls.values())
    logprobs = {"content": tokens} if tokens else None
    choice = {"index": 0, "message": message, "finish_reason": finish, "logprobs": logprobs}
    return {**reply, "choices": [choice]}, finish is not None


def _grow_call(calls: dict[Any, dict[str, Any]], piece: Mapping[str, Any], position: int) -> None:
    key = piece.get("index")
    if key is None:  # calls differ by their ids; a piece without one continues the latest call
        key = piece.get("id") or (next(reversed(calls)) if calls else position)
    call = calls.setdefault(key, {"id": None, "type": "function", "function": {}})
    call |= {
        name: value for name, value in piece.items() if value and name not in ("function", "index")
    }
    function = call["function"]
    for name, value in dict_of(piece.get("function")).items():
        if name != "name" or function.get(name) != value:  # some repeat the name in every piece
            function[name] = _longer(function.get(name), value)


def _longer(before: Any, more: Any) -> Any:
    """A text or a list with what follows it; of anything else the later value that is not empty."""
    if more is None:
        return before
    if isinstance(before, str) and isinstance(more, str):
        return before + more
    if isinstance(before, list) and isinstance(more, list):
        return before + more
    return more if before in (None, "") or more not in ("", []) else before


def _anthropic(chunks: list[dict[str, Any]]) -> tuple[Any, bool]:
    reply: dict[str, Any] = {"content": []}
    blocks: dict[Any, dict[str, Any]] = {}
    has_end = False
    for chunk in chunks:
        match chunk:
            case {"type": "message", "content": list()}:  # the whole reply, as one event
                return chunk, True
            case {"type": "message_start", "message": dict(message)}:
                reply |= message
            case {"type": "content_block_start", "index": index, "content_block": dict(block)}:
                blocks[index] = dict(block)
            case {"type": "content_block_delta", "index": index, "delta": dict(delta)}:
                _grow_block(blocks.setdefault(index, {"type": "text", "text": ""}), delta)
            case {"type": "message_delta"}:
                reply |= _without_none(chunk.get("delta"))
                reply["usage"] = {
                    **_without_none(reply.get("usage")),
                    **_without_none(chunk.get("usage")),
                }
                has_end = has_end or bool(reply.get("stop_reason"))
            case {"type": "message_stop"}:
                has_end = True
            case _:
                pass
    reply["content"] = [_finished(block) for block in blocks.values()]
    return reply, has_end


def _grow_block(block: dict[str, Any], delta: Mapping[str, Any]) -> None:
    for name in ("text", "thinking", "partial_json"):
        if name in delta:
            block[name] = _longer(block.get(name), delta[name])


def _finished(block: dict[str, Any]) -> dict[str, Any]:
    """A block with the input that came as pieces of JSON. It stays text, for a check to judge."""
    pieces = block.pop("partial_json", "")
    return {**block, "input": pieces} if pieces else block


def _without_none(value: Any) -> dict[str, Any]:
    return {name: inner for name, inner in dict_of(value).items() if inner is not None}


def _gemini(chunks: list[dict[str, Any]]) -> tuple[Any, bool]:
    reply: dict[str, Any] = {}
    parts: list[Any] = []
    candidate: dict[str, Any] = {}
    for chunk in chunks:
        reply |= _without_none({**chunk, "candidates": None})
        for update in dicts_of(chunk.get("candidates"))[:1]:
            more_parts = dict_of(update.get("content")).get("parts")
            parts += more_parts if isinstance(more_parts, list) else []
            candidate |= _without_none({**update, "content": None})
    if candidate or parts:
        reply["candidates"] = [{**candidate, "content": {"role": "model", "parts": parts}}]
    is_blocked = bool(reply.get("promptFeedback"))
    return reply, bool(candidate.get("finishReason")) or is_blocked


_Join = Callable[[list[dict[str, Any]]], tuple[Any, bool]]
_JOINS: Mapping[str, _Join] = {"openai": _openai, "anthropic": _anthropic, "gemini": _gemini}
