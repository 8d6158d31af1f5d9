"""Normalising: from what a model wrote to the object it meant, in its format's own voice."""

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from json import JSONDecodeError, JSONDecoder
from typing import Any

from router.dates import iso_date, iso_moment
from schemas.json_text import has_more_values, read_json

__all__ = [
    "MOST_VALUES",
    "asks_back",
    "comparable",
    "normalise_json",
    "normalise_text",
    "trimmed",
    "voiced",
]

_FENCE = "```"
_OPENED = re.compile(r"```[a-zA-Z0-9_-]*+[ \t]*+\n?")
_THINKS = re.compile(r"<(think|thinking|reasoning)>")
_PROBE = JSONDecoder()
#: Commas, colons and brackets between the values of an answer.
MOST_VALUES = 20_000
#: What has no text in it to be brought into form.
_AS_IT_IS = frozenset((int, float, bool, type(None)))
#: More starts or blocks of code than these, and the text is no answer with an object in it.
_MOST_STARTS = 20
_MOST_BLOCKS = 200
#: A quote or a backquote; not an apostrophe.
_QUOTED = re.compile(r"[\"`]|(?<!\w)'").search
_BLANK_LINES = re.compile(r"(?:[^\S\n]*+\n)*+")
_QUESTIONS = ("?", "\uff1f", "\u061f")
_AFTER_QUESTION = " \n\"')]*_\u201d\u00bb"
_WHOLE_SENTENCES = re.compile(r"(?s).*[.!?\u3002\uff01\uff1f][\"')\]]*+(?=\s)")


def normalise_json(text: str) -> dict[str, Any] | None:
    """The JSON object of a reply, out of fences and surrounding prose.

    Strict where it matters: an object with a key twice, NaN or infinity counts as none, and so do
    several objects that differ, because which one was meant would be a guess. What a model thinks
    aloud first is no part of its reply. Text with more than 200 blocks of code holds no object, and
    one with more than 20,000 commas, colons and brackets between its values counts as none.
    """
    text = _after_thoughts(text.strip().lstrip("\ufeff"))
    if text.startswith("{") and text.endswith("}") and (found := _strict(text)) is not None:
        return found
    fenced = [block.strip() for block in islice(_blocks(text), _MOST_BLOCKS + 1)]
    if len(fenced) > _MOST_BLOCKS:
        return None
    objects = [one for each in fenced if each[:1] == "{" and (one := _strict(each)) is not None]
    objects = objects or _embedded(text)
    return objects[0] if objects and all(one == objects[0] for one in objects) else None


def normalise_text(text: str) -> dict[str, Any]:
    """A plain reply as an object."""
    text = text.strip()
    opened = _OPENED.match(text)
    if opened and text.endswith(_FENCE) and opened.end() <= len(text) - len(_FENCE):
        block = text[opened.end() : -len(_FENCE)]
        # Text between two blocks of code is no part of either.
        text = text if _FENCE in block else block.strip()
    return {"answer": trimmed(text)}


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
        if _FENCE in value:
            pieces = value.split(_FENCE)
            pieces[::2] = map(_folded, pieces[::2])
            pieces[1::2] = map(str.rstrip, pieces[1::2])
            return pieces
        return _folded(value)
    if isinstance(value, Mapping):
        return {name: comparable(one) for name, one in value.items()}
    if isinstance(value, list):
        return [comparable(one) for one in value]
    return value


def _folded(text: str) -> str:
    return " ".join(text.casefold().split()).rstrip(".")


def _voiced(value: Any, field: Any, ours: bool, shorten: bool) -> Any:
    if isinstance(value, str):
        return _said(value, field, shorten) if ours else _edged(value)
    if isinstance(value, dict):
        return voiced(
            value, field if isinstance(field, Mapping) else {}, ours=ours, shorten=shorten
        )
    if isinstance(value, list):
        inner = field.get("items") if isinstance(field, Mapping) else None
        return [
            one if type(one) in _AS_IT_IS or not one else _voiced(one, inner, ours, shorten)
            for one in value
        ]
    return value


def _edged(text: str) -> str:
    """Text without blanks around it; where further lines follow, the first keeps its indent."""
    text = text.rstrip()
    if "\n" not in (said := text.lstrip()):
        return said
    blank = _BLANK_LINES.match(text)
    return text[blank.end() :] if blank else text


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
    whole = _WHOLE_SENTENCES.match(text[: most + 1])
    if whole and whole.end() * 2 >= most:
        return whole[0]
    room = text[: most - 1]
    if " " not in text[most - 2 : most]:
        room, _, cut = room.rpartition(" ")
        room = room or cut  # one word alone is cut through
    return room.rstrip(" ,;:-") + "\u2026"


def _after_thoughts(text: str) -> str:
    """What a model says after it has thought aloud."""
    thinks = _THINKS.match(text)
    if thinks is None:
        return text
    mark = f"</{thinks[1]}>"
    end = text.find(mark, thinks.end())
    return text if end < 0 else text[end + len(mark) :].lstrip()


def _blocks(text: str) -> Iterator[str]:
    """What stands between fences. Each character is looked at once, whatever the text."""
    at = text.find(_FENCE)
    while at >= 0 and (opened := _OPENED.match(text, at)):
        end = text.find(_FENCE, opened.end())
        if end < 0:
            return
        yield text[opened.end() : end]
        at = text.find(_FENCE, end + len(_FENCE))


def _strict(text: str) -> dict[str, Any] | None:
    raw = text.encode("utf-8", "replace")
    found = None if has_more_values(raw, MOST_VALUES) else read_json(raw)
    return found if isinstance(found, dict) else None


def _embedded(text: str) -> list[dict[str, Any]]:
    """The whole objects in prose, outermost ones, in their order.

    What begins like an object and is none is read anew from each brace in it, which could take
    long: all such tries together read no more than the text is long.
    """
    found: list[dict[str, Any]] = []
    start, wasted = text.find("{"), 0
    for _ in range(_MOST_STARTS):
        if start < 0:
            return found
        try:
            _, end = _PROBE.raw_decode(text, start)
        except JSONDecodeError as error:
            if error.pos >= len(text) or error.msg.startswith("Unterminated"):
                return []  # cut off: what is inside is a part of the answer, not the answer
            wasted += error.pos - start
            if wasted > len(text):
                return found
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
