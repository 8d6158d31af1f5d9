"""Checks of an answer's form: its length, its language, its tool calls."""

from typing import Annotated

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from router.checks.judged import Check, Judged, Parameters
from router.request.languages import Language, language_of
from schemas.errors import ContractError
from schemas.json_numbers import loses_digits
from schemas.json_text import parse_json, read_json
from schemas.reasons import Reason

__all__ = ["LANGUAGE", "LENGTH", "TOOL_CALLS"]

_WORDS = "words"


class Length(Parameters):
    """How long an answer may be."""

    least_words: NonNegativeInt | None = None
    most_words: PositiveInt | None = None
    least_characters: NonNegativeInt | None = None
    most_characters: PositiveInt | None = None
    field: Annotated[
        str | None, Field(description="the field that is measured; else all the text")
    ] = None

    @model_validator(mode="after")
    def _says_something(self) -> "Length":
        limits = (
            (self.least_words, self.most_words),
            (self.least_characters, self.most_characters),
        )
        if all(limit is None for pair in limits for limit in pair):
            msg = "at least one limit is expected here, for example most_words: 120"
            raise ValueError(msg)
        if any(least is not None and most is not None and least > most for least, most in limits):
            msg = "the least is more than the most"
            raise ValueError(msg)
        return self


def _length(judged: Judged, limits: Length) -> str | None:
    text = judged.answer_text
    if limits.field is not None:
        text = (judged.output or {}).get(limits.field, "")
    if not isinstance(text, str) or (judged.calls_tools and not text):
        return None
    for unit, least, most in (
        ("characters", limits.least_characters, limits.most_characters),
        (_WORDS, limits.least_words, limits.most_words),
    ):
        if least is None and most is None:
            continue
        count = len(text.split()) if unit is _WORDS else len(text)
        if least is not None and count < least:
            return f"{count} {unit}; at least {least} were expected"
        if most is not None and count > most:
            return f"{count} {unit}; at most {most} were expected"
    return None


LENGTH = Check(
    "length",
    Reason.WRONG_LENGTH,
    "the answer is neither too short nor too long",
    "200 words where most_words is 120",
    _length,
    Length,
)


class InLanguage(Parameters):
    """Which language an answer must be in."""

    must_be: Annotated[
        Language | None, Field(description="a language; else that of the question")
    ] = None


def _language(judged: Judged, required: InLanguage) -> str | None:
    expected = required.must_be or judged.asked.language
    if expected is None:
        return None
    language = language_of(judged.answer_text)
    # It passes where either language is unsure: names, code and very short answers have none.
    return None if language in (None, expected) else f"{language}; {expected} was expected"


LANGUAGE = Check(
    "language",
    Reason.WRONG_LANGUAGE,
    "the answer is in the language of the question, or in the one that is set",
    "an English answer to a German question",
    _language,
    InLanguage,
)


def _tool_calls(judged: Judged, _: Parameters) -> str | None:
    asked = judged.asked
    if not judged.calls_tools:
        return "the request demands a tool call; there is none" if asked.must_call else None
    tools, allowed = asked.tools, asked.callable_tools
    if asked.is_one_call and len(judged.reply.tool_calls) > 1:
        return "the request allows one tool call at a time; there are several"
    for no, call in enumerate(judged.reply.tool_calls, 1):
        match call:
            case {"function": {"name": str(name), "arguments": str(text)}}:
                pass
            case _:
                return f"tool call {no} has no name or no arguments"
        if name not in tools or (allowed is not None and name not in allowed):
            return f"tool call {no} names a tool that was not offered for this"
        try:
            raw = text.encode("utf-8", "replace") or b"{}"
            # A number with more digits than a double reaches the tool as it is written.
            arguments = read_json(raw) if loses_digits(raw) else parse_json(raw)
        except ContractError:
            return f"the arguments of tool call {no} are not JSON"
        if not isinstance(arguments, dict):
            is_lost = arguments is None and raw.strip() != b"null"
            what = "cannot be read with every digit" if is_lost else "are not an object"
            return f"the arguments of tool call {no} {what}"
        validator = tools[name]
        if validator is not None and (fault := validator.fault(arguments, "the tool's")):
            return f"tool call {no}: the object of its arguments {fault}"
    return None


TOOL_CALLS = Check(
    "tool_calls",
    Reason.TOOL_CALL_BROKEN,
    "tool calls are those the request offers, allows and demands, and fit their own schemas",
    'look_up({"order": 17}) where the tool asks for a text',
    _tool_calls,
)
