"""Streams that nobody asked for, put together into the reply that they bring.

Server-sent events, and JSON a line or in a list. The end of a stream has to be there: a reply that
stops in the middle is none.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import orjson

from consumers.providers.wire import UnreadableError
from schemas.json_numbers import loses_digits, read_exact
from schemas.json_text import MAX_VALUES, has_more_values, refuse_depth

__all__ = ["chunks_of", "joined"]

_DONE = "[DONE]"
#: Characters of the shortest line in a stream of chunks, with what is said about it.
_SHORTEST, _MOST_BLANK = 16, 1_000
#: Texts of a delta that follow one another.
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
    for said in _events(lines) if is_sse else filter(str.strip, lines):
        if said.strip() == _DONE:
            continue
        if not isinstance(chunk := _read(said), dict):
            return None
        chunks.append(chunk)
    return chunks if len(chunks) > 1 or (chunks and is_sse) else None


def _events(lines: list[str]) -> Iterator[str]:
    """What the events of a stream carry: https://html.spec.whatwg.org/#server-sent-events."""
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
        parsed = orjson.loads(raw)
        refuse_depth(raw)
        return read_exact(text) if loses_digits(raw) else parsed
    except ValueError:
        return None


def joined(wire: str, chunks: list[dict[str, Any]], *, is_done: bool) -> Any:
    """The reply in the provider's own form. Raises UnreadableError for a stream without its end."""
    for no, chunk in enumerate(chunks):
        if chunk.get("error"):
            # With what came before: a model that had begun to answer has run, and was paid for.
            said, _ = _JOINS[wire](chunks[:no])
            return {**said, **chunk} if no and _says_something(said) else chunk
    reply, has_end = _JOINS[wire](chunks)
    if not (has_end or is_done):
        what = "the stream stops before its end"
        raise UnreadableError(what)
    return reply


def _says_something(reply: Any) -> bool:
    """True where a reply that broke off holds a part of an answer, or what it has used."""
    if reply.get("content") or reply.get("candidates") or reply.get("usage"):
        return True
    choices = _dicts(reply.get("choices"))
    return any(value for one in choices for name, value in one["message"].items() if name != "role")


def _openai(chunks: list[dict[str, Any]]) -> tuple[Any, bool]:
    message: dict[str, Any] = {"role": "assistant", "content": None}
    calls: dict[Any, dict[str, Any]] = {}
    tokens: list[Any] = []
    made: dict[str, Any] = {}
    finish = None
    for chunk in chunks:
        made |= {
            name: chunk[name] for name in ("id", "model", "created", "usage") if chunk.get(name)
        }
        for choice in _dicts(chunk.get("choices")):
            if choice.get("index", 0) != 0:
                continue
            finish = choice.get("finish_reason") or finish
            delta = choice.get("delta")
            if isinstance(choice.get("message"), dict):  # all of it at once, in an event
                return {**chunk, **made}, True
            delta = delta if isinstance(delta, dict) else {}
            for name in _GROWING:
                message[name] = _longer(message.get(name), delta.get(name))
            for no, call in enumerate(_dicts(delta.get("tool_calls"))):
                _grow_call(calls, call, no)
            if isinstance(function := delta.get("function_call"), dict):
                _grow_call(calls, {"index": 0, "function": function}, 0)
            probable = choice.get("logprobs")
            tokens += _dicts(probable.get("content") if isinstance(probable, dict) else None)
    said = {name: value for name, value in message.items() if value is not None}
    said = {"content": None, **said, **({"tool_calls": list(calls.values())} if calls else {})}
    probable = {"content": tokens} if tokens else None
    ended = {"index": 0, "message": said, "finish_reason": finish, "logprobs": probable}
    return {**made, "choices": [ended]}, finish is not None


def _grow_call(calls: dict[Any, dict[str, Any]], piece: Mapping[str, Any], no: int) -> None:
    index = piece.get("index")
    if index is None:  # told apart by their ids, else a piece continues the last one
        index = piece.get("id") or (next(reversed(calls)) if calls else no)
    call = calls.setdefault(index, {"id": None, "type": "function", "function": {}})
    call |= {name: one for name, one in piece.items() if name not in ("function", "index") and one}
    function = piece.get("function")
    for name, value in (function if isinstance(function, dict) else {}).items():
        grown, before = call["function"], call["function"].get(name)
        if name == "name" and before == value:
            continue  # said again with every piece
        grown[name] = _longer(before, value)


def _longer(before: Any, more: Any) -> Any:
    """A text or a list with what follows it; anything else is taken as it is."""
    if more is None:
        return before
    if isinstance(before, str) and isinstance(more, str):
        return before + more
    if isinstance(before, list) and isinstance(more, list):
        return before + more
    return more if before in (None, "") or more not in ("", []) else before


def _anthropic(chunks: list[dict[str, Any]]) -> tuple[Any, bool]:
    made: dict[str, Any] = {"content": []}
    blocks: dict[Any, dict[str, Any]] = {}
    has_end = False
    for chunk in chunks:
        match chunk:
            case {"type": "message", "content": list()}:  # all of it at once, in an event
                return chunk, True
            case {"type": "message_start", "message": dict(message)}:
                made |= message
            case {"type": "content_block_start", "index": index, "content_block": dict(block)}:
                blocks[index] = dict(block)
            case {"type": "content_block_delta", "index": index, "delta": dict(delta)}:
                _grow_block(blocks.setdefault(index, {"type": "text", "text": ""}), delta)
            case {"type": "message_delta"}:
                made |= _known(chunk.get("delta"))
                made["usage"] = {**_known(made.get("usage")), **_known(chunk.get("usage"))}
                has_end = has_end or bool(made.get("stop_reason"))
            case {"type": "message_stop"}:
                has_end = True
            case _:
                pass
    made["content"] = [_ended(block) for block in blocks.values()]
    return made, has_end


def _grow_block(block: dict[str, Any], delta: Mapping[str, Any]) -> None:
    for name in ("text", "thinking", "partial_json"):
        if name in delta:
            block[name] = _longer(block.get(name), delta[name])


def _ended(block: dict[str, Any]) -> dict[str, Any]:
    """A block whose input came as pieces of JSON, which stay text: the check reads them."""
    pieces = block.pop("partial_json", "")
    return {**block, "input": pieces} if pieces else block


def _known(said: Any) -> dict[str, Any]:
    named = said.items() if isinstance(said, dict) else ()
    return {name: value for name, value in named if value is not None}


def _gemini(chunks: list[dict[str, Any]]) -> tuple[Any, bool]:
    made: dict[str, Any] = {}
    parts: list[Any] = []
    candidate: dict[str, Any] = {}
    for chunk in chunks:
        made |= _known({**chunk, "candidates": None})
        for one in _dicts(chunk.get("candidates"))[:1]:
            content = one.get("content")
            said = content.get("parts") if isinstance(content, dict) else None
            parts += said if isinstance(said, list) else []
            candidate |= _known({**one, "content": None})
    if candidate or parts:
        made["candidates"] = [{**candidate, "content": {"role": "model", "parts": parts}}]
    is_blocked = bool(made.get("promptFeedback"))
    return made, bool(candidate.get("finishReason")) or is_blocked


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


_Join = Callable[[list[dict[str, Any]]], tuple[Any, bool]]
_JOINS: Mapping[str, _Join] = {"openai": _openai, "anthropic": _anthropic, "gemini": _gemini}
