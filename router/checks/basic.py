"""The checks every task starts with: whole, not empty, not a refusal, in format, sure enough."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jsonschema_rs

from router.reply import Reply
from schemas.reasons import Reason

__all__ = ["CHECKS", "Check", "Judged"]


@dataclass(frozen=True, slots=True)
class Judged:
    """What a check looks at."""

    reply: Reply
    #: The normalised answer; None when the reply could not be brought into the task's format.
    output: Mapping[str, Any] | None
    #: None for plain text.
    validator: jsonschema_rs.Validator | None
    #: The model's own confidence, 0 to 1; None when it gave no usable number.
    confidence: float | None
    #: The least confidence to accept; None where the format has no such field.
    accept: float | None


@dataclass(frozen=True, slots=True)
class Check:
    """One test of a reply. `run` returns None when it passes, else what is wrong, in words."""

    name: str
    reason: Reason
    meaning: str
    #: A reply that fails.
    example: str
    run: Callable[[Judged], str | None]


#: How models refuse. Matched at the start of an answer only: a quoted apology is no refusal.
_REFUSES = re.compile(
    r"\W*(?:i(?:'|’)?m sorry|i am sorry|sorry|i apologi[sz]e|unfortunately)?\W*(?:but)?\W*(?:as an ai[^.,]*,)?"
    r"\W*i(?:'m| am)?\s*(?:can(?:'|’)?t|cannot|can not|won(?:'|’)?t|unable to|not able to|not allowed to)"
    r"\s+(?:help|assist|comply|do that|provide|answer|discuss|fulfil)",
    re.IGNORECASE,
)


def _cut_off(judged: Judged) -> str | None:
    is_cut = judged.reply.finish_reason == "length"
    return "the model stopped at its output limit" if is_cut else None


def _empty(judged: Judged) -> str | None:
    is_answered = judged.reply.text.strip() or judged.reply.refusal
    if is_answered or judged.reply.finish_reason == "tool_calls":
        return None
    return "the reply holds no text"


def _refusal(judged: Judged) -> str | None:
    if judged.reply.refusal:
        return "the provider marks the reply as a refusal"
    if judged.reply.finish_reason == "content_filter":
        return "the provider's content filter stopped the reply"
    answer = (judged.output or {}).get("answer")
    text = answer if isinstance(answer, str) else judged.reply.text
    return "the reply begins like a refusal" if _REFUSES.match(text) else None


def _schema(judged: Judged) -> str | None:
    if judged.validator is None or judged.reply.finish_reason == "tool_calls":
        return None
    if judged.output is None:
        return "no JSON object was found in the reply"
    for error in judged.validator.iter_errors(judged.output):
        where = ".".join(str(step) for step in error.instance_path) or "the object"
        rule = "/".join(str(step) for step in error.schema_path)
        return f"{where} breaks the format's rule {rule}"
    return None


def _confidence(judged: Judged) -> str | None:
    if judged.accept is None or judged.reply.finish_reason == "tool_calls":
        return None
    if judged.confidence is None:
        return f"no usable confidence; at least {judged.accept:g} was expected"
    # Written so that a number that compares with nothing fails.
    if not (judged.confidence >= judged.accept):
        return f"confidence {judged.confidence:g}; at least {judged.accept:g} was expected"
    return None


CHECKS: Mapping[str, Check] = {
    check.name: check
    for check in (
        Check(
            "cut_off",
            Reason.CUT_OFF,
            "the reply ended where the model wanted it to",
            'finish_reason "length"',
            _cut_off,
        ),
        Check("empty", Reason.EMPTY, "the reply says something", "three spaces", _empty),
        Check(
            "refusal",
            Reason.REFUSED,
            "the model did the work",
            "I'm sorry, but I can't help with that.",
            _refusal,
        ),
        Check(
            "schema",
            Reason.SCHEMA_FAILED,
            "the answer has the fields of the task's format",
            '{"label": 3}',
            _schema,
        ),
        Check(
            "confidence",
            Reason.LOW_CONFIDENCE,
            "the model is as sure as the tier demands",
            '{"label": "bug", "confidence": 0.4}',
            _confidence,
        ),
    )
}
