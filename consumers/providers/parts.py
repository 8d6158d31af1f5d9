"""What a model said, in every shape in which servers hand it over: text, parts, objects."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from consumers.providers.wire import UnreadableError
from schemas.json_numbers import as_json, exact_json

__all__ = ["NO_ARGUMENTS", "Said", "arguments_text", "json_text", "said_in"]

NO_ARGUMENTS = "{}"
#: What models and servers write where a tool takes no arguments.
_NOTHING = frozenset(("", "{}", "[]", "null", "none", "undefined", '""', '"{}"', "''"))
_THOUGHT = re.compile("think|thought|reason", re.IGNORECASE)
_TEXTS = ("text", "output_text", "input_text", "text_delta", "message", "markdown", "paragraph")
#: Fields that only a part has; an object with others beside its text is an answer.
_OF_PARTS = {
    *("type", "text", "content", "value", "annotations", "citations", "cache_control", "index"),
    *("id", "logprobs", "role", "phase", "signature", "thoughtSignature", "thought"),
}
#: Where a part that is JSON has it, as text or as an object.
_JSON = ("json", "value", "data", "object", "content", "text")
_DEEPEST = 8


@dataclass(slots=True)
class Said:
    """The text of an answer, with what stands beside it."""

    texts: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    #: Parts of other kinds than text.
    others: int = 0

    @property
    def text(self) -> str:
        """All of it. A word may be cut anywhere, so nothing is put between its parts."""
        return "".join(self.texts)


def said_in(content: Any, where: str, *, is_beside: bool = False) -> Said:
    """What a message's content says: text, a list of parts or of texts, one part, an object.

    An object that is no part is the answer itself, as JSON. Raises UnreadableError for a text that
    is none, and where there is something and nothing of it is text, unless it `is_beside` calls.
    """
    said = Said()
    if isinstance(content, dict) and not _is_part(content) and "type" not in content:
        said.texts.append(json_text(content))
    else:
        _hear(content, said, where, 0)
    if said.others and not (is_beside or said.texts or said.thoughts or said.refusals):
        what = f"{where}: text was expected"
        raise UnreadableError(what)
    return said


def _hear(part: Any, said: Said, where: str, depth: int) -> None:
    match part:
        case None:
            pass
        case str():
            said.texts.append(part)
        case list() if depth < _DEEPEST:
            for one in part:
                _hear(one, said, where, depth + 1)
        case {"type": str(kind)} if _THOUGHT.search(kind):
            said.thoughts += _leaves(part)
        case {"thought": thought} if thought and (len(part) == 1 or _is_part(part)):
            said.thoughts += _leaves(part)
        case {"type": "refusal"}:
            said.refusals += _leaves(part)
        case {"type": str(kind)} if "json" in kind.lower() and (value := _json_of(part)):
            said.texts.append(value if isinstance(value, str) else json_text(value))
        case dict() if _is_part(part):
            inner = next(part[name] for name in ("text", "content", "value") if name in part)
            _hear(inner, said, where, depth + 1)
        case {"type": str()}:
            said.others += 1
        case dict():
            said.texts.append(json_text(part))
        case _:
            what = f"{where}: text was expected"
            raise UnreadableError(what)


def _is_part(part: Mapping[str, Any]) -> bool:
    kind = part.get("type")
    if isinstance(kind, str) and kind.lower() in _TEXTS:
        return not part.keys().isdisjoint(("text", "content", "value"))
    is_text = "text" in part or (kind is None and part.keys() == {"value"})
    return is_text and part.keys() <= _OF_PARTS


def _json_of(part: Mapping[str, Any]) -> Any:
    """What a part of a type such as `json` or `output_json` holds."""
    return next((part[name] for name in _JSON if part.get(name)), None)


def _leaves(value: Any, depth: int = 0) -> Iterator[str]:
    """The texts in a part, but for what only says what kind of a part it is."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list) and depth < _DEEPEST:
        for one in value:
            yield from _leaves(one, depth + 1)
    elif isinstance(value, dict) and depth < _DEEPEST:
        for name, one in value.items():
            if name not in ("type", "id", "signature", "thoughtSignature", "data", "format"):
                yield from _leaves(one, depth + 1)


def arguments_text(said: Any) -> str:
    """A tool call's arguments as text, whatever they came as; none at all are an empty object.

    Text stays as it is, for the check of tool calls, but for an object that was written as JSON
    twice. Objects keep every digit of their numbers.
    """
    if said is None or said == []:
        return NO_ARGUMENTS
    if not isinstance(said, str):
        return json_text(said)
    if len(said) < 40 and said.strip().lower() in _NOTHING:
        return NO_ARGUMENTS
    if said.lstrip()[:1] == '"':
        try:
            inner = orjson.loads(said)
        except orjson.JSONDecodeError:
            return said
        if isinstance(inner, str) and (inner.strip()[:1] == "{" or not inner.strip()):
            return arguments_text(inner)
    return said if said.strip() != NO_ARGUMENTS else NO_ARGUMENTS


def json_text(value: Any) -> str:
    """A value of a reply as JSON, with every digit."""
    try:
        return as_json(value).decode()
    except TypeError:  # integers beyond 64 bits, half a character
        return exact_json(value)
