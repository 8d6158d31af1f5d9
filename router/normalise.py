"""Normalising: from what a model wrote to the object it meant, in its format's own voice."""

import json
import re
from collections.abc import Mapping
from json import JSONDecodeError, JSONDecoder
from typing import Any

from router.dates import iso_date, iso_moment
from schemas.errors import ContractError
from schemas.json_text import parse_json

__all__ = ["asks_back", "comparable", "normalise_json", "normalise_text", "trimmed", "voiced"]

_FENCE = re.compile(r"```[a-zA-Z0-9_-]*[ \t]*\n?(.*?)```", re.DOTALL)
_THOUGHTS = re.compile(r"\A<(think(?:ing)?|reasoning)>.*?</\1>\s*", re.DOTALL)
_PROBE = JSONDecoder()
#: Only text that matches can hold half a character, which no UTF-8 text can carry on.
_MAY_BE_HALF = re.compile(r"\\u[dD][89a-fA-F]")
#: More starts than this, and the text is no answer with an object in it.
_MOST_STARTS = 20
#: A quote or a backquote; not an apostrophe.
_QUOTED = re.compile(r"[\"`]|(?<!\w)'").search
_BLANK_LINES = re.compile(r"\A(?:[^\S\n]*\n)+")
_QUESTIONS = ("?", "\uff1f", "\u061f")
_AFTER_QUESTION = " \n\"')]*_\u201d\u00bb"
_SENTENCE_END = re.compile(r"([.!?\u3002\uff01\uff1f][\"')\]]*)(?=\s)")


def normalise_json(text: str) -> dict[str, Any] | None:
    """The JSON object of a reply, out of fences and surrounding prose.

    Strict where it matters: an object with a key twice, NaN or infinity counts as none, and so do
    several objects that differ, because which one was meant would be a guess. What a model thinks
    aloud first is no part of its reply.
    """
    text = _THOUGHTS.sub("", text.strip().lstrip("\ufeff"))
    if text.startswith("{") and text.endswith("}") and (found := _strict(text)) is not None:
        return found
    fenced = (match[1].strip() for match in _FENCE.finditer(text))
    objects = [one for each in fenced if each[:1] == "{" and (one := _strict(each)) is not None]
    objects = objects or _embedded(text)
    return objects[0] if objects and all(one == objects[0] for one in objects) else None


def normalise_text(text: str) -> dict[str, Any]:
    """A plain reply as an object."""
    fenced = _FENCE.fullmatch(text.strip())
    # Text between two blocks of code is no part of either.
    is_one_block = fenced is not None and "```" not in fenced[1]
    return {"answer": trimmed((fenced[1] if fenced and is_one_block else text).strip())}


def voiced(
    output: Mapping[str, Any],
    schema: Mapping[str, Any],
    *,
    ours: bool = True,
    shorten: bool = False,
) -> dict[str, Any]:
    """An answer as its format has it, whatever model gave it: the same again when given again.

    Fields in the format's order and texts trimmed. In a format of ours also: choices in the
    format's own spelling, dates and times in ISO 8601 where they can be read one way only, and
    what the format has one value for (`const`, `default`) where the model left it out. With
    `shorten`, texts over `maxLength` end at the last sentence or word that fits. A producer's own
    format is the producer's: nothing is rewritten there.
    """
    fields = schema.get("properties")
    if not isinstance(fields, Mapping):
        fields = {}
    made = {}
    for name, field in fields.items():
        if name in output:
            made[name] = _voiced(output[name], field, ours, shorten)
        elif ours and isinstance(field, Mapping):
            if "const" in field:
                made[name] = field["const"]
            elif "default" in field:
                made[name] = field["default"]
    for name, value in output.items():
        if name not in fields:
            made[name] = _voiced(value, None, ours, shorten)
    return made


def trimmed(text: str) -> str:
    """Text without blanks around it, and with single ones in it.

    Text of several lines keeps its layout, and so does what holds quotes, where blanks may count.
    """
    text = _edged(text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text)
    may_collapse = ("  " in text or "\t" in text) and "\n" not in text
    return " ".join(text.split()) if may_collapse and not _QUOTED(text) else text


def comparable(value: Any) -> Any:
    """What is left of a value to compare: case, spacing and a final full stop say nothing.

    In blocks of code between fences, case and spacing count.
    """
    if isinstance(value, str):
        if "```" in value:
            pieces = value.split("```")
            return [one.rstrip() if no % 2 else comparable(one) for no, one in enumerate(pieces)]
        return " ".join(value.casefold().split()).rstrip(".")
    if isinstance(value, Mapping):
        return {name: comparable(one) for name, one in value.items()}
    if isinstance(value, list):
        return [comparable(one) for one in value]
    return value


def _voiced(value: Any, field: Any, ours: bool, shorten: bool) -> Any:
    if isinstance(value, str):
        return _said(value, field, shorten) if ours else _edged(value)
    if isinstance(value, dict):
        return voiced(
            value, field if isinstance(field, Mapping) else {}, ours=ours, shorten=shorten
        )
    if isinstance(value, list):
        inner = field.get("items") if isinstance(field, Mapping) else None
        return [_voiced(one, inner, ours, shorten) for one in value]
    return value


def _edged(text: str) -> str:
    """Text without blanks around it; where further lines follow, the first keeps its indent."""
    text = text.rstrip()
    return text.lstrip() if "\n" not in text.lstrip() else _BLANK_LINES.sub("", text)


def _said(text: str, field: Any, shorten: bool) -> str:
    """A text as its field of the format has it."""
    text = trimmed(text)
    if not isinstance(field, Mapping):
        return text
    if "enum" in field or "const" in field:
        options = field.get("enum", [field.get("const")])
        if not isinstance(options, list) or text in options:
            return text
        meant = comparable(text)
        alike = [one for one in options if isinstance(one, str) and comparable(one) == meant]
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
    """The beginning of a text, up to its last whole sentence, or word, in so many characters."""
    ends = [match.end(1) for match in _SENTENCE_END.finditer(text[: most + 1])]
    if ends and ends[-1] * 2 >= most:
        return text[: ends[-1]]
    room = text[: most - 1]
    if " " not in text[most - 2 : most]:
        room, _, cut = room.rpartition(" ")
        room = room or cut  # one word alone is cut through
    return room.rstrip(" ,;:-") + "\u2026"


def _strict(text: str) -> dict[str, Any] | None:
    try:
        found = parse_json(text.encode("utf-8", "replace"))
        if _MAY_BE_HALF.search(text):
            json.dumps(found, ensure_ascii=False).encode()
    except (ContractError, UnicodeEncodeError):
        return None
    return found if isinstance(found, dict) else None


def _embedded(text: str) -> list[dict[str, Any]]:
    """The whole objects in prose, outermost ones, in their order."""
    found: list[dict[str, Any]] = []
    start = text.find("{")
    for _ in range(_MOST_STARTS):
        if start < 0:
            return found
        try:
            _, end = _PROBE.raw_decode(text, start)
        except JSONDecodeError as error:
            if error.pos >= len(text) or error.msg.startswith("Unterminated"):
                return []  # cut off: what is inside is a part of the answer, not the answer
            start = text.find("{", start + 1)
            continue
        except (RecursionError, ValueError):
            return []
        read = _strict(text[start:end])
        if read is None:
            return []
        found.append(read)
        start = text.find("{", end)
    return found


def asks_back(output: Mapping[str, Any] | None) -> bool:
    """True for a question to the user; the action alone would let a poor answer pass."""
    answer = (output or {}).get("answer")
    is_question = isinstance(answer, str) and answer.rstrip(_AFTER_QUESTION).endswith(_QUESTIONS)
    return is_question and (output or {}).get("next_action") == "ask_user"
