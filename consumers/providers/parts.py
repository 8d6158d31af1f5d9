"""A message's content in every shape in which servers send it: text, parts, objects."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from consumers.providers.wire import UnreadableError
from router.reply.normalise import normalise_json
from schemas.json_numbers import as_json, exact_json

__all__ = ["NO_ARGUMENTS", "Content", "arguments_text", "json_text", "read_content"]

NO_ARGUMENTS = "{}"
#: What models and servers write for a call without arguments.
_NOTHING = frozenset(("", "{}", "[]", "null", "none", "undefined", '""', '"{}"', "''"))
_THOUGHT = re.compile("think|thought|reason", re.IGNORECASE)
_TEXTS = ("text", "output_text", "input_text", "text_delta", "message", "markdown", "paragraph")
#: Fields that only a part has; an object with others beside its text is an answer.
_OF_PARTS = {
    *("type", "text", "content", "value", "annotations", "citations", "cache_control", "index"),
    *("id", "logprobs", "role", "phase", "signature", "thoughtSignature", "thought"),
}
#: Fields in which a part of JSON holds it, as text or as an object.
_JSON = ("json", "value", "data", "object", "content", "text")
_MAX_DEPTH = 8


@dataclass(slots=True)
class Content:
    """What a message holds: the texts of the answer, and what else there is."""

    texts: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    #: How many parts are of other kinds, such as pictures.
    others: int = 0

    @property
    def text(self) -> str:
        """The whole answer. Parts may split a word, so nothing is put between them."""
        return "".join(self.texts)


def read_content(value: Any, where: str, *, has_calls: bool = False) -> Content:
    """A message's content: text, a list of parts or of texts, one part, or an object.

    An object that is not a part is the answer itself, as JSON. Raises UnreadableError where text
    was expected and something else is there, or where there are parts and none is text, unless the
    message `has_calls`.
    """
    content = Content()
    if isinstance(value, dict) and not _is_part(value) and "type" not in value:
        content.texts.append(json_text(value))
    else:
        _add(value, content, where, 0)
    if content.others and not (has_calls or content.texts or content.thoughts or content.refusals):
        what = f"{where}: text was expected"
        raise UnreadableError(what)
    return content


def _add(part: Any, content: Content, where: str, depth: int) -> None:
    match part:
        case None:
            pass
        case str():
            content.texts.append(part)
        case list() if depth < _MAX_DEPTH:
            for inner in part:
                _add(inner, content, where, depth + 1)
        case {"type": str(kind)} if _THOUGHT.search(kind):
            content.thoughts += _leaves(part)
        case {"thought": thought} if thought and (len(part) == 1 or _is_part(part)):
            content.thoughts += _leaves(part)
        case {"type": "refusal"}:
            content.refusals += _leaves(part)
        case {"type": str(kind)} if "json" in kind.lower() and (value := _json_of(part)):
            content.texts.append(value if isinstance(value, str) else json_text(value))
        case dict() if _is_part(part):
            inner = next(part[name] for name in ("text", "content", "value") if name in part)
            _add(inner, content, where, depth + 1)
        case {"type": str()}:
            content.others += 1
        case dict():
            content.texts.append(json_text(part))
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
    """The value of a part of a type such as `json` or `output_json`."""
    return next((part[name] for name in _JSON if part.get(name)), None)


def _leaves(value: Any, depth: int = 0) -> Iterator[str]:
    """The texts in a part, without the fields that only describe it."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list) and depth < _MAX_DEPTH:
        for inner in value:
            yield from _leaves(inner, depth + 1)
    elif isinstance(value, dict) and depth < _MAX_DEPTH:
        for name, inner in value.items():
            if name not in ("type", "id", "signature", "thoughtSignature", "data", "format"):
                yield from _leaves(inner, depth + 1)


def arguments_text(arguments: Any) -> str:
    """A tool call's arguments as text, whatever type they have; without any, an empty object.

    Text stays as it is, for the check of tool calls to judge, unless it is an object that was
    encoded as JSON twice or stands in a fence. Objects keep every digit of their numbers.
    """
    if arguments is None or arguments == []:
        return NO_ARGUMENTS
    if not isinstance(arguments, str):
        return json_text(arguments)
    if len(arguments) < 40 and arguments.strip().lower() in _NOTHING:
        return NO_ARGUMENTS
    is_wrapped = arguments.lstrip().startswith(("```", '"{'))
    if is_wrapped and (meant := normalise_json(arguments)) is not None:
        return json_text(meant)
    return arguments if arguments.strip() != NO_ARGUMENTS else NO_ARGUMENTS


def json_text(value: Any) -> str:
    """A value of a reply as JSON, with every digit."""
    try:
        return as_json(value).decode()
    except TypeError:  # integers beyond 64 bits, half a character
        return exact_json(value)
