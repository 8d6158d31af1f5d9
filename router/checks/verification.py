"""The check of a verification: the verdict of a model on another model's answer."""

from router.checks.judged import Check, Judged, Parameters
from schemas.reasons import Reason

__all__ = ["VERDICT_SCHEMA", "VERIFICATION"]

#: What a verifier answers.
VERDICT_SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["verdict", "confidence", "problems"],
    "properties": {
        "verdict": {"enum": ["right", "wrong", "unsure"]},
        "confidence": {"type": "number", "minimum": 0, "maximum": 1},
        "problems": {"type": "array", "items": {"type": "string"}, "maxItems": 20},
    },
}


def _found_right(judged: Judged, _: Parameters) -> str | None:
    output = judged.output or {}
    verdict, problems = output.get("verdict"), output.get("problems")
    if verdict not in ("right", "wrong", "unsure"):
        return None  # no verdict at all: the schema check fails
    count = len(problems) if isinstance(problems, list) else 0
    if verdict != "right":
        return f"the verdict is {verdict}, with {count} problems"
    if count:
        return f"the verdict is right, but it lists {count} problems"
    accept = judged.accept or 0.0
    if judged.confidence is None or not (judged.confidence >= accept):
        sure = "no usable confidence" if judged.confidence is None else f"{judged.confidence:g}"
        return f"found right with {sure}; at least {accept:g} was expected"
    return None


VERIFICATION = Check(
    "verifier",
    Reason.VERIFIER_REJECTED,
    "another model has read the answer and found it right",
    '{"verdict": "wrong", "confidence": 0.9, "problems": ["the date is not in the source"]}',
    _found_right,
)
