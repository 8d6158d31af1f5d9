"""The default checks but one: cut off, empty, refusal, schema and confidence.

The other default check, of tool calls, is in `form.py`.
"""

from router.checks.judged import Check, Judged, Parameters
from router.checks.refusals import opens_like_a_refusal
from schemas.reasons import Reason

__all__ = ["CONFIDENCE", "CUT_OFF", "EMPTY", "REFUSAL", "SCHEMA"]


def _cut_off(judged: Judged, _: Parameters) -> str | None:
    match judged.reply.finish_reason:
        case "length":
            return "the model stopped at its output limit"
        case "other":
            return "the provider does not say that the model came to its end"
        case _:  # a reply that a content filter stopped fails as a refusal, which says more
            return None


def _empty(judged: Judged, _: Parameters) -> str | None:
    reply = judged.reply
    # A refusal without text fails as a refusal, which says more.
    if judged.calls_tools or reply.refusal or reply.finish_reason == "content_filter":
        return None
    if not reply.text.strip():
        calls = " but a call of a tool, and none was offered" if reply.tool_calls else ""
        return f"the reply holds no text{calls}"
    answer = (judged.output or {}).get("answer", "-")
    if isinstance(answer, str) and not answer.strip():
        return "the field answer holds no text"
    return None


def _refusal(judged: Judged, _: Parameters) -> str | None:
    if judged.reply.refusal:
        return "the provider marks the reply as a refusal"
    if judged.reply.finish_reason == "content_filter":
        return "the provider's content filter stopped the reply"
    answer = (judged.output or {}).get("answer")
    text = answer if isinstance(answer, str) else judged.reply.text
    return "the reply begins like a refusal" if opens_like_a_refusal(text) else None


def _schema(judged: Judged, _: Parameters) -> str | None:
    if judged.validator is None or judged.calls_tools:
        return None
    if judged.output is None:
        return "the reply holds no JSON object that can be read in one way only, with every digit"
    fault = judged.validator.fault(judged.output, "the format's")
    return None if fault is None else f"the object {fault}"


def _confidence(judged: Judged, _: Parameters) -> str | None:
    if judged.accept is None:
        return None
    if judged.confidence is None:
        return f"no usable confidence; at least {judged.accept:g} was expected"
    # Written so that NaN fails: it compares as false with every number.
    if not (judged.confidence >= judged.accept):
        return f"confidence {judged.confidence:g}; at least {judged.accept:g} was expected"
    return None


CUT_OFF = Check(
    "cut_off",
    Reason.CUT_OFF,
    "the reply ended where the model wanted it to",
    'finish_reason "length"',
    _cut_off,
)
EMPTY = Check("empty", Reason.EMPTY, "the reply says something", "three spaces", _empty)
REFUSAL = Check(
    "refusal",
    Reason.REFUSED,
    "the model did the work",
    "I'm sorry, but I can't help with that.",
    _refusal,
)
#: Of an answer that calls tools, `tool_calls` takes its place: a tool brings its own schema.
SCHEMA = Check(
    "schema",
    Reason.SCHEMA_FAILED,
    "the answer has the fields of the task's format; a tool call, those of the tool's",
    '{"label": 3}',
    _schema,
)
CONFIDENCE = Check(
    "confidence",
    Reason.LOW_CONFIDENCE,
    "the model is as sure as the tier demands",
    '{"label": "bug", "confidence": 0.4}',
    _confidence,
)
