"""The checks every task starts with: whole, not empty, not a refusal, in format, sure enough."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jsonschema_rs

from router.checks.refusals import opens_like_a_refusal
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
    #: The reply calls tools that the producer offered, instead of saying something.
    calls_tools: bool = False


@dataclass(frozen=True, slots=True)
class Check:
    """One test of a reply. `run` returns None when it passes, else what is wrong, in words."""

    name: str
    reason: Reason
    meaning: str
    #: A reply that fails.
    example: str
    run: Callable[[Judged], str | None]


def _cut_off(judged: Judged) -> str | None:
    is_cut = judged.reply.finish_reason == "length"
    return "the model stopped at its output limit" if is_cut else None


def _empty(judged: Judged) -> str | None:
    reply = judged.reply
    # A refusal without text is a refusal, which tells more.
    if judged.calls_tools or reply.refusal or reply.finish_reason == "content_filter":
        return None
    if not reply.text.strip():
        return "the reply holds no text"
    answer = (judged.output or {}).get("answer", "-")
    if isinstance(answer, str) and not answer.strip():
        return "the field answer holds no text"
    return None


def _refusal(judged: Judged) -> str | None:
    if judged.reply.refusal:
        return "the provider marks the reply as a refusal"
    if judged.reply.finish_reason == "content_filter":
        return "the provider's content filter stopped the reply"
    answer = (judged.output or {}).get("answer")
    text = answer if isinstance(answer, str) else judged.reply.text
    return "the reply begins like a refusal" if opens_like_a_refusal(text) else None


def _schema(judged: Judged) -> str | None:
    if judged.validator is None or judged.calls_tools:
        return None
    if judged.output is None:
        return "no JSON object that reads one way only was found in the reply"
    for error in judged.validator.iter_errors(judged.output):
        # The path in the schema, because the path in the reply may hold the model's own words.
        rule = "/".join(str(step) for step in error.schema_path)
        if missing := getattr(error.kind, "property", None):
            rule = f"{rule}: {missing}"
        return f"the object breaks the format's rule {rule}"
    return None


def _confidence(judged: Judged) -> str | None:
    if judged.accept is None or judged.calls_tools:
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
