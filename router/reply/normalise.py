"""Normalising: the object in a model's reply, with its values as the format writes them."""

import re
from collections.abc import Mapping
from json import JSONDecodeError, JSONDecoder
from typing import Any

from router.reply.dates import iso_date, iso_moment
from schemas.errors import ContractError
from schemas.json_numbers import Digits, as_json
from schemas.json_text import has_more_values, keeping_decoder, read_json

__all__ = [
    "MOST_VALUES",
    "asks_back",
    "comparable",
    "conformed",
    "normalise_json",
    "normalise_text",
    "trimmed",
]

_FENCE = "```"
_OPENED = re.compile(r"```[a-zA-Z0-9_-]*+[ \t]*+\n?")
#: An object, with the fence before it, or a fence before something else. A brace begins an object
#: where a name or its end follows.
_BEGINS = re.compile(r"(```[a-zA-Z0-9_-]*+\s*+)(?:\{(?=\s*+[\"}]))?+|\{(?=\s*+[\"}])")
_LINE_STARTS = ("", "\n")
_CLOSES = re.compile(r"\s*+(?:```|\Z)")
_PROBE = JSONDecoder(strict=False)
#: Characters that JSON wants escaped within texts.
_LINES = re.compile(r"[\x00-\x1f]").search
#: Commas, colons and brackets between the values of an answer.
MOST_VALUES = 20_000
#: Types that hold no text: their values stay as they are.
_AS_IT_IS = frozenset((int, float, bool, type(None), Digits))
#: A text with more objects or blocks of code is no answer with an object in it.
_MOST_OBJECTS = 20
_MOST_BLOCKS = 200
#: A quote or a backquote; not an apostrophe.
_QUOTED = re.compile(r"[\"`]|(?<!\w)'").search
_BLANK_LINES = re.compile(r"(?:[^\S\n]*+\n)*+")
_QUESTIONS = ("?", "\uff1f", "\u061f")
_AFTER_QUESTION = " \n\"')]*_\u201d\u00bb"
_WHOLE_SENTENCES = re.compile(r"(?s).*[.!?\u3002\uff01\uff1f][\"')\]]*+(?=\s)")


def normalise_json(text: str) -> dict[str, Any] | None:
    """The JSON object of a reply, out of fences and surrounding prose.

    It is found by parsing, so fences and braces within the texts of an object do not count. Line
    breaks within texts are allowed, and numbers keep every digit. An object counts as none if it
    names a key twice, holds NaN, infinity or a number beyond all doubles, is inside of a broken
    one, or has more than 20,000 commas, colons and brackets between its values. Several objects
    that differ count as none too: nobody can say which one is meant. Text with more than 200 blocks
    of code holds no object.
    """
    text = text.strip().lstrip("\ufeff").lstrip()
    if text.startswith("{") and text.endswith("}"):
        if has_more_values(text.encode("utf-8", "replace"), MOST_VALUES):
            return None
        if (parsed := _strict(text)) is not None:
            return parsed
    if text.startswith('"{') and text.endswith('}"') and isinstance(inner := _value(text), str):
        return normalise_json(inner)  # written as JSON twice
    fenced, bare = _objects(text)
    if not fenced and bare == []:  # in a block of code, after a comment
        fenced, bare = _objects(text, skips_code=False)
    objects = fenced or bare
    if objects is None:
        return None
    # An empty object beside others is only mentioned.
    objects = [item for item in objects if item] or objects
    return objects[0] if objects and all(item == objects[0] for item in objects) else None


def normalise_text(text: str) -> dict[str, Any]:
    """A plain reply as an object."""
    text = text.strip()
    opened = _OPENED.match(text)
    if opened and text.endswith(_FENCE) and opened.end() <= len(text) - len(_FENCE):
        block = text[opened.end() : -len(_FENCE)]
        # Text between two blocks of code is no part of either.
        text = text if _FENCE in block else block.strip()
    return {"answer": trimmed(text)}


def conformed(
    output: Mapping[str, Any],
    schema: Mapping[str, Any],
    *,
    ours: bool = True,
    shorten: bool = False,
) -> dict[str, Any]:
    """An answer in its format, whatever model gave it. Doing it twice changes nothing more.

    Fields come in the format's order, and texts are trimmed. In a format of ours also: choices get
    the format's spelling, dates and times are written in ISO 8601 where they can be read in one way
    only, and fields with a `const` or `default` are added where the model left them out. With
    `shorten`, texts over `maxLength` end at the last sentence or word that fits. Nothing else is
    rewritten in a producer's own format.
    """
    fields = schema.get("properties")
    if not isinstance(fields, Mapping):
        fields = {}
    answer = {}
    for name, field in fields.items():
        if name in output:
            answer[name] = _conformed(output[name], field, ours, shorten)
        elif ours and isinstance(field, Mapping):
            if "const" in field:
                answer[name] = field["const"]
            elif "default" in field:
                answer[name] = field["default"]
    for name, value in output.items():
        if name not in fields:
            answer[name] = _conformed(value, None, ours, shorten)
    return answer


def trimmed(text: str) -> str:
    """Text without blanks around it, and with single ones in it.

    Text of several lines keeps its layout, and so does text with quotes, where blanks may matter.
    """
    text = _edged(text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text)
    may_collapse = ("  " in text or "\t" in text) and "\n" not in text
    return " ".join(text.split()) if may_collapse and not _QUOTED(text) else text


def comparable(value: Any) -> Any:
    """A value for comparison: case, spacing and a final full stop do not count.

    In blocks of code between fences, case and spacing do count.
    """
    if isinstance(value, str):
        if _FENCE in value:
            pieces = value.split(_FENCE)
            pieces[::2] = map(_folded, pieces[::2])
            pieces[1::2] = map(str.rstrip, pieces[1::2])
            return pieces
        return _folded(value)
    if isinstance(value, Mapping):
        return {name: comparable(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [comparable(inner) for inner in value]
    return value


def _folded(text: str) -> str:
    return " ".join(text.casefold().split()).rstrip(".")


def _conformed(value: Any, field: Any, ours: bool, shorten: bool) -> Any:
    if isinstance(value, str):
        return _conformed_text(value, field, shorten) if ours else _edged(value)
    if isinstance(value, dict):
        return conformed(
            value, field if isinstance(field, Mapping) else {}, ours=ours, shorten=shorten
        )
    if isinstance(value, list):
        inner = field.get("items") if isinstance(field, Mapping) else None
        return [
            item if type(item) in _AS_IT_IS or not item else _conformed(item, inner, ours, shorten)
            for item in value
        ]
    return value


def _edged(text: str) -> str:
    """Text without blanks around it; where further lines follow, the first keeps its indent."""
    text = text.rstrip()
    if "\n" not in (stripped := text.lstrip()):
        return stripped
    blank = _BLANK_LINES.match(text)
    return text[blank.end() :] if blank else text


def _conformed_text(text: str, field: Any, shorten: bool) -> str:
    """A text as its field of the format has it."""
    text = trimmed(text)
    if not isinstance(field, Mapping):
        return text
    if "enum" in field or "const" in field:
        options = field.get("enum", [field.get("const")])
        if not isinstance(options, list) or text in options:
            return text
        meant = comparable(text)
        alike = [
            option for option in options if isinstance(option, str) and comparable(option) == meant
        ]
        return alike[0] if len(alike) == 1 else text
    if (kind := field.get("format")) is not None:
        if kind == "date":
            return iso_date(text) or text
        if kind == "date-time":
            return iso_moment(text) or text
    if shorten and isinstance(most := field.get("maxLength"), int) and 0 < most < len(text):
        return trimmed(_shortened(text, most))
    return text


def _shortened(text: str, most: int) -> str:
    """The beginning of a text, up to the last whole sentence or word within `most` characters."""
    whole = _WHOLE_SENTENCES.match(text[: most + 1])
    if whole and whole.end() * 2 >= most:
        return whole[0]
    room = text[: most - 1]
    if " " not in text[most - 2 : most]:
        room, _, cut = room.rpartition(" ")
        room = room or cut  # a single word is cut
    return room.rstrip(" ,;:-") + "\u2026"


def _strict(text: str) -> dict[str, Any] | None:
    raw = text.encode("utf-8", "replace")
    if has_more_values(raw, MOST_VALUES):
        return None
    parsed = read_json(raw)
    if parsed is None and _LINES(text):
        parsed = _value(text)
        try:
            parsed = None if parsed is None else read_json(as_json(parsed))
        except TypeError:
            return None
    return parsed if isinstance(parsed, dict) else None


def _value(text: str) -> Any:
    """JSON with line breaks in its texts; None for what is not JSON."""
    try:
        return _LOOSE.decode(text)
    except (ContractError, RecursionError, ValueError):
        return None


def _objects(
    text: str, *, skips_code: bool = True
) -> tuple[list[dict[str, Any]], list[dict[str, Any]] | None]:
    """The outermost objects of a text: those that fill a fence, and those in prose.

    None for those in prose where one is broken or cut off: objects inside of it are only parts of
    the answer.
    """
    fenced: list[dict[str, Any]] = []
    bare: list[dict[str, Any]] | None = []
    at = blocks = 0
    while begins := _BEGINS.search(text, at):
        at, is_fenced = begins.end(), begins[1] is not None
        if is_fenced:
            blocks += 1
        if blocks > _MOST_BLOCKS or len(fenced) + len(bare or ()) > _MOST_OBJECTS:
            return [], None
        if text[at - 1] != "{":
            if skips_code and text[begins.start() - 1 : begins.start()] in _LINE_STARTS:
                at = _after_block(text, at)
            continue
        try:
            _, end = _PROBE.raw_decode(text, at - 1)
        except JSONDecodeError:
            bare = None
            if not is_fenced or (at := _after_block(text, at)) == begins.end():
                break
            continue  # code that only looks like JSON
        except (RecursionError, ValueError):
            return [], None
        # The whole text has been tried before.
        is_whole = at == 1 and end == len(text)
        parsed = None if is_whole else _strict(text[at - 1 : end])
        if parsed is None:
            return [], None
        closes = _CLOSES.match(text, end) if is_fenced else None
        at = closes.end() if closes else end
        if closes:
            fenced.append(parsed)
        elif bare is not None:
            bare.append(parsed)
    return fenced, bare


def _after_block(text: str, at: int) -> int:
    """Where a block of code ends; where it begins, when it does not."""
    closed = text.find(_FENCE, at)
    return at if closed < 0 else closed + len(_FENCE)


_LOOSE = keeping_decoder(strict=False)


def asks_back(output: Mapping[str, Any] | None) -> bool:
    """True for a question to the user; `next_action` alone would let a poor answer pass."""
    answer = (output or {}).get("answer")
    is_question = isinstance(answer, str) and answer.rstrip(_AFTER_QUESTION).endswith(_QUESTIONS)
    return is_question and (output or {}).get("next_action") == "ask_user"
