"""Agreement: how many of several answers to one question are the same."""

import math
from collections.abc import Sequence
from typing import Any, Literal

from router.policy.table import Agreement
from router.reply.normalise import comparable, normalise_json
from schemas.attempt import Attempt

__all__ = ["Standing", "agreeing", "standing"]

Standing = Literal["agreed", "open", "disagreed"]


def standing(answers: Sequence[Attempt], rule: Agreement) -> Standing:
    """Whether enough answers agree with the first one; open while further answers can decide it.

    Self-consistency by a vote (Wang et al. 2022, arXiv:2203.11171), which ends as soon as further
    answers could change nothing: those are not paid for.
    """
    needed = math.ceil(rule.share * rule.samples - 1e-9)
    count = agreeing(answers, rule)
    if count >= needed:
        return "agreed"
    return "disagreed" if count + rule.samples - len(answers) < needed else "open"


def agreeing(answers: Sequence[Attempt], rule: Agreement) -> int:
    """How many judged answers agree with the first one, that one included."""
    values = [_compared(answer, rule.fields) for answer in answers]
    return sum(1 for value in values if value is not None and value == values[0])


def _compared(answer: Attempt, fields: Sequence[str]) -> Sequence[Any] | None:
    """The fields that are compared, normalised; None for an answer that failed its checks."""
    output = answer.verdict.output if answer.verdict else None
    if answer.outcome != "accepted" or output is None:
        return None
    if isinstance(calls := output.get("tool_calls"), list):
        return [_called(call) for call in calls]
    if not any(field in output for field in fields):
        # Without any of these fields all of the answer has to agree, but for its confidence.
        return [comparable({**output, "confidence": None})]
    return [comparable(output.get(field)) for field in fields]


def _called(call: Any) -> Any:
    """A tool call's name and parsed arguments, without its id, which differs every time."""
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict):
        return call
    arguments = function.get("arguments")
    read = normalise_json(arguments) if isinstance(arguments, str) else arguments
    return function.get("name"), arguments if read is None else read
