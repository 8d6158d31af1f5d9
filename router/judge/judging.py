"""Judging: whether a reply passes the checks of its task."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import exp, fsum, isfinite
from typing import Any, Literal

import orjson

from router.checks import CHECKS, Asked, Judged, NamedCheck, named
from router.checks.judged import Parameters
from router.checks.verification import VERDICT_SCHEMA, VERIFICATION
from router.json_schemas.validator import Validator, compile_schema
from router.policy.table import Policy
from router.reply.normalise import asks_back, conformed, normalise_json, normalise_text
from router.reply.reply import Reply
from router.request.request_schemas import compiled, format_of
from schemas.attempt import Step
from schemas.request import Request
from schemas.verdict import CheckResult, Verdict

__all__ = [
    "VERIFICATION_CHECKS",
    "OutputContract",
    "judge",
    "output_contract",
    "verification_contract",
]

#: The checks of a verifier's reply. Tasks cannot name its own one.
VERIFICATION_CHECKS = (
    *named("cut_off", "empty", "refusal", "schema"),
    NamedCheck(VERIFICATION, Parameters()),
)

[_TOOL_CALLS] = named("tool_calls")
_PASSED = {name: CheckResult(check=name, passed=True) for name in (*CHECKS, VERIFICATION.name)}


@dataclass(frozen=True, slots=True)
class OutputContract:
    """The format an answer must have."""

    name: str
    #: None for plain text.
    schema: Mapping[str, Any] | None
    validator: Validator | None
    #: True when the format has a number named `confidence`, by which the model says how sure it is.
    has_confidence: bool = False
    #: True when the producer offered tools: calling one is an answer.
    has_tools: bool = False
    #: Where the confidence comes from. `token_probability` needs `logprobs: true` in the call.
    confidence_from: Literal["stated", "token_probability"] = "stated"
    #: False for a schema from the producer: its answers are not rewritten.
    is_ours: bool = True
    #: True when a model may ask the user back: the format has `next_action: ask_user`.
    may_ask: bool = False
    #: True when texts over the format's `maxLength` are shortened instead of rejected.
    shortens: bool = False


def output_contract(
    request: Request, policy: Policy, task: str | None, step: Step
) -> OutputContract:
    """The format of a step's answer: the request's own, else its chat body's, else the task's.

    Raises ContractError when the request brings a schema that cannot be used.
    """
    if step == "classify":
        return _compiled("classify", orjson.dumps(_classify_schema(policy)))
    extra = request.input.model_extra or {}
    has_tools = bool(extra.get("tools") or extra.get("functions"))
    asked_for = format_of(request)
    if isinstance(asked_for, dict):
        written, validator = compiled(asked_for)
        contract = _contract("own", orjson.loads(written), validator, is_ours=False)
    else:
        name = asked_for or (policy.tasks[task].format if task in policy.tasks else "answer")
        schema = {"type": "object"} if asked_for == "json" else policy.formats.get(name)
        if asked_for == "text" or schema is None:
            contract = OutputContract("text", None, None)
        else:
            contract = _compiled(name, orjson.dumps(schema), is_ours=asked_for != "json")
    row = policy.tasks.get(task or "")
    if row is None:
        return replace(contract, has_tools=True) if has_tools else contract

    may_ask = contract.may_ask and row.clarify
    if has_tools or row.confidence != "stated" or row.shorten or may_ask != contract.may_ask:
        return replace(
            contract,
            has_tools=has_tools,
            confidence_from=row.confidence,
            may_ask=may_ask,
            shortens=row.shorten and contract.is_ours,
        )
    return contract


def verification_contract() -> OutputContract:
    """The format of a verifier's verdict."""
    return _compiled("verify", orjson.dumps(VERDICT_SCHEMA))


def judge(
    reply: Reply,
    contract: OutputContract,
    accept: float,
    checks: Sequence[NamedCheck],
    asked: Asked,
) -> Verdict:
    """Run every check that the task names. The first that fails is the reason."""
    # A tool call counts only where tools were offered, or a model could skip every check with one.
    calls_tools = contract.has_tools and bool(reply.tool_calls)
    output = {"tool_calls": reply.tool_calls} if calls_tools else _normalised(reply, contract)
    by_tokens = contract.confidence_from == "token_probability"
    confidence = _token_probability(reply) if by_tokens else _stated(output)
    says_how_sure = by_tokens or contract.has_confidence
    if calls_tools:  # it states no confidence, and mostly its tokens have no probabilities
        says_how_sure = by_tokens and confidence is not None
    elif contract.may_ask and asks_back(output):  # being unsure is a good reason to ask
        says_how_sure = False
    judged = Judged(
        reply=reply,
        output=output,
        validator=contract.validator,
        confidence=confidence,
        accept=accept if says_how_sure else None,
        asked=asked,
        calls_tools=calls_tools,
    )
    results = []
    if calls_tools:
        checks = _for_tool_calls(checks)
    elif asked.must_call and _TOOL_CALLS not in checks:
        checks = [_TOOL_CALLS, *checks]  # the producer demands a call, whatever the task checks
    for each in checks:
        check = each.check
        detail = check.run(judged, each.parameters)
        results.append(
            _PASSED[check.name]
            if detail is None
            else CheckResult(check=check.name, passed=False, reason=check.reason, detail=detail)
        )
    passed = all(result.passed for result in results)
    if passed and output is None:  # the task does without the schema check
        output = normalise_text(reply.text)
    return Verdict(
        outcome="accepted" if passed else "rejected",
        checks=results,
        confidence=confidence,
        output=output,
    )


def _normalised(reply: Reply, contract: OutputContract) -> dict[str, Any] | None:
    if contract.schema is None:
        return normalise_text(reply.text)

    parsed = normalise_json(reply.text)
    if parsed is None:
        return None
    return conformed(parsed, contract.schema, ours=contract.is_ours, shorten=contract.shortens)


def _for_tool_calls(checks: Sequence[NamedCheck]) -> Sequence[NamedCheck]:
    """The checks with `tool_calls` in place of `schema`: a tool call has its tool's own schema."""
    names = [each.check.name for each in checks]
    if "schema" not in names or "tool_calls" in names:
        return checks
    return [_TOOL_CALLS if each.check.name == "schema" else each for each in checks]


def _token_probability(reply: Reply) -> float | None:
    """The geometric mean of the probabilities of the reply's tokens."""
    match reply.body:
        case {"choices": [{"logprobs": {"content": [_, *_] as tokens}}, *_]}:
            logprobs = [token.get("logprob") for token in tokens if isinstance(token, dict)]
        case _:
            return None
    numbers = [value for value in logprobs if isinstance(value, (int, float))]
    if len(numbers) < len(tokens) or bool in map(type, numbers):
        return None
    return exp(min(fsum(numbers) / len(tokens), 0.0)) if all(map(isfinite, numbers)) else None


def _stated(output: Mapping[str, Any] | None) -> float | None:
    """The stated confidence, if it is a number from 0 to 1; a boolean or a text is none."""
    stated = (output or {}).get("confidence")
    if isinstance(stated, bool) or not isinstance(stated, (int, float)):
        return None
    return float(stated) if 0 <= stated <= 1 else None


def _classify_schema(policy: Policy) -> dict[str, Any]:
    """The classify format, with the policy's tasks as its choices."""
    schema = policy.formats["classify"]
    properties = {**schema.get("properties", {}), "task": {"enum": list(policy.tasks)}}
    return {**schema, "properties": properties}


@lru_cache(maxsize=256)
def _compiled(name: str, schema: bytes, *, is_ours: bool = True) -> OutputContract:
    """The contract of a format, kept: compiling costs more than a hundred validations."""
    return _contract(name, orjson.loads(schema), compile_schema(schema), is_ours=is_ours)


def _contract(name: str, parsed: Any, validator: Validator, *, is_ours: bool) -> OutputContract:
    match parsed:
        case {"properties": {"confidence": {"type": kind}}}:
            has_confidence = kind == "number" or (isinstance(kind, list) and "number" in kind)
        case _:
            has_confidence = False
    match parsed:
        case {"properties": {"answer": _, "next_action": {"enum": [*actions]}}}:
            may_ask = "ask_user" in actions
        case _:
            may_ask = False
    return OutputContract(
        name, parsed, validator, has_confidence, is_ours=is_ours, may_ask=may_ask and is_ours
    )
