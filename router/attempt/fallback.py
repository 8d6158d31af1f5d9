"""Fallbacks: our own texts, published in place of a model's answer."""

from collections.abc import Mapping, Sequence
from typing import Any

from router.policy.table import Policy, Task
from router.prompts.files import CannedReply
from router.prompts.rendering import Prompts
from router.route.routing import GiveUp
from schemas.attempt import Attempt
from schemas.reasons import Reason

__all__ = [
    "canned_output",
    "default_text",
    "falls_back",
    "missing_texts",
    "question_back",
    "tool_failed",
    "while_in_review",
]

#: Reasons for which a safe default may stand in. With any other, a person has to look.
_NOBODY_ANSWERED = (
    Reason.NO_TIER_LEFT,
    Reason.NO_MODEL_TAKES_IT,
    Reason.NOT_WORTH_CLIMBING,
    Reason.ATTEMPTS_EXHAUSTED,
    Reason.PROVIDER_UNAVAILABLE,
    Reason.DEADLINE_PASSED,
    Reason.DEADLINE_UNREACHABLE,
)


def falls_back(task: Task | None, gave_up: GiveUp) -> bool:
    """True when the task's safe default is published instead of a dead letter."""
    if task is None or task.last_resort != "safe_default":
        return False
    return gave_up.reason in _NOBODY_ANSWERED


def while_in_review(task: Task | None, attempts: Sequence[Attempt]) -> CannedReply | None:
    """What is published while a person has a request of the task; None: nothing.

    Where no model made a tool call that fits, somebody waits for what the tool was to do: so calm
    words are published even where the task is silent.
    """
    if task is None or task.while_in_review == "silent":
        return "tool_failed" if tool_failed(attempts) else None
    return "safe_default" if task.while_in_review == "safe_default" else "in_review"


def tool_failed(attempts: Sequence[Attempt]) -> bool:
    """True where the last answer was a tool call that the tool would not take."""
    answers = [attempt for attempt in attempts if attempt.step == "answer" and attempt.was_judged]
    return bool(answers) and answers[-1].reason is Reason.TOOL_CALL_BROKEN


def default_text(task: str, attempts: Sequence[Attempt], prompts: Prompts) -> str:
    """The task's safe default, in words that fit a tool call that failed where one did."""
    calm = prompts.text(task, "tool_failed") if tool_failed(attempts) else None
    return calm or prompts.text(task, "safe_default") or ""


def canned_output(text: str, schema: Mapping[str, Any] | None) -> dict[str, Any]:
    """A text of ours as an answer in the task's format, if that has a field `answer`.

    Its other fields are filled as far as they have choices, with the first one; the confidence is
    0. In any other format the text stands alone.
    """
    properties = (schema or {}).get("properties", {})
    if "answer" not in properties:
        return {"answer": text}
    output: dict[str, Any] = {}
    for name, field in properties.items():
        if name == "answer":
            output[name] = text
        elif name == "confidence":
            output[name] = 0.0
        elif isinstance(field, Mapping) and field.get("enum"):
            output[name] = field["enum"][0]
    return output


def question_back(text: str, schema: Mapping[str, Any] | None) -> dict[str, Any]:
    """A question of ours to the user as an answer in the task's format, which has `next_action`."""
    return {**canned_output(text, schema), "next_action": "ask_user"}


def missing_texts(policy: Policy, prompts: Prompts) -> list[str]:
    """The texts and verification prompts that the policy needs and are missing, as sentences."""
    missing = []
    for name, task in policy.tasks.items():
        needed: list[CannedReply] = []
        if task.on_refusal == "deliver":
            needed.append("refusal")
        if "safe_default" in (task.last_resort, task.while_in_review):
            needed.append("safe_default")
        if task.while_in_review == "notify":
            needed.append("in_review")
        if task.worth is not None or task.over_share == "caveat":
            needed.append("caveat")
        if task.worth is not None and task.clarify:
            needed.append("clarification")
        missing += [
            f"task {name}: no text {kind} is in {name}/contract.yaml or _default/contract.yaml"
            for kind in needed
            if prompts.text(name, kind) is None
        ]
        if task.verify is not None and not prompts.can_verify(task.verify.prompt, task.verify.tier):
            missing.append(f"task {name}: no prompt {task.verify.prompt} to read its answers by")
    return missing
