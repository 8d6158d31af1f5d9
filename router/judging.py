"""Judging: is this reply an answer we can defend?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import jsonschema_rs
import orjson

from router.checks import CHECKS, Judged
from router.checks.reading import READING, VERDICT_SCHEMA
from router.normalise import in_order, normalise_json, normalise_text
from router.policy.load import refuse_remote
from router.policy.table import Policy
from router.reply import Reply
from schemas.attempt import Step
from schemas.errors import ContractError
from schemas.reasons import Reason
from schemas.request import Request
from schemas.verdict import CheckResult, Verdict

__all__ = ["READING_CHECKS", "OutputContract", "judge", "output_contract", "reading_contract"]

#: What a verifier's reply goes through.
READING_CHECKS = ("cut_off", "empty", "refusal", "schema", READING.name)

#: A verdict's own check is not for tasks to name: its step brings it along.
_ALL = {**CHECKS, READING.name: READING}
_PASSED = {name: CheckResult(check=name, passed=True) for name in _ALL}
#: A pattern that needs more steps than these on one string counts as not matched.
_PATTERNS = jsonschema_rs.FancyRegexOptions(backtrack_limit=10_000)


@dataclass(frozen=True, slots=True)
class OutputContract:
    """The format an answer must have."""

    name: str
    #: None for plain text.
    schema: Mapping[str, Any] | None
    validator: jsonschema_rs.Validator | None
    #: True when the format asks the model how sure it is: a number named `confidence`.
    has_confidence: bool = False
    #: True when the producer offered tools, so that calling one is an answer.
    has_tools: bool = False


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
    wanted = request.output_format or _response_format(extra.get("response_format"))
    if isinstance(wanted, dict):
        try:
            contract = _compiled("own", orjson.dumps(wanted))
        except (ValueError, TypeError, jsonschema_rs.ValidationError):
            detail = "output_format: a JSON Schema that is whole in itself was expected"
            raise ContractError(Reason.INVALID_FIELD, detail) from None
    else:
        name = wanted or (policy.tasks[task].format if task in policy.tasks else "answer")
        schema = {"type": "object"} if wanted == "json" else policy.formats.get(name)
        if wanted == "text" or schema is None:
            contract = OutputContract("text", None, None)
        else:
            contract = _compiled(name, orjson.dumps(schema))
    return replace(contract, has_tools=True) if has_tools else contract


def reading_contract() -> OutputContract:
    """The format of a verifier's verdict."""
    return _compiled("verify", orjson.dumps(VERDICT_SCHEMA))


def judge(reply: Reply, contract: OutputContract, accept: float, checks: Sequence[str]) -> Verdict:
    """Run every check that the task names. The first that fails is the reason."""
    # A tool call counts only where tools were offered, or a model could skip every check with one.
    calls_tools = contract.has_tools and bool(reply.tool_calls)
    output = {"tool_calls": reply.tool_calls} if calls_tools else _normalised(reply, contract)
    confidence = _confidence(output)
    judged = Judged(
        reply=reply,
        output=output,
        validator=contract.validator,
        confidence=confidence,
        accept=accept if contract.has_confidence else None,
        calls_tools=calls_tools,
    )
    results = []
    for name in checks:
        check = _ALL[name]
        detail = check.run(judged)
        results.append(
            _PASSED[name]
            if detail is None
            else CheckResult(check=name, passed=False, reason=check.reason, detail=detail)
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

    found = normalise_json(reply.text)
    return None if found is None else in_order(found, contract.schema)


def _confidence(output: Mapping[str, Any] | None) -> float | None:
    """A number from 0 to 1, not a boolean and not text that looks like one."""
    stated = (output or {}).get("confidence")
    if isinstance(stated, bool) or not isinstance(stated, (int, float)):
        return None
    return float(stated) if 0 <= stated <= 1 else None


def _response_format(value: Any) -> str | dict[str, Any] | None:
    """The format that an OpenAI chat body asks for; None when it says nothing we know."""
    match value:
        case {"type": "text"}:
            return "text"
        case {"type": "json_object"}:
            return "json"
        case {"type": "json_schema", "json_schema": {"schema": dict(schema)}}:
            return schema
        case _:
            return None


def _classify_schema(policy: Policy) -> dict[str, Any]:
    """The classify format with the policy's own tasks as the only ones to choose from."""
    schema = policy.formats["classify"]
    properties = {**schema.get("properties", {}), "task": {"enum": list(policy.tasks)}}
    return {**schema, "properties": properties}


@lru_cache(maxsize=256)
def _compiled(name: str, schema: bytes) -> OutputContract:
    """Compiling costs more than a hundred validations."""
    parsed = orjson.loads(schema)
    validator = jsonschema_rs.validator_for(
        parsed, retriever=refuse_remote, pattern_options=_PATTERNS
    )
    match parsed:
        case {"properties": {"confidence": {"type": kind}}}:
            has_confidence = kind == "number" or (isinstance(kind, list) and "number" in kind)
        case _:
            has_confidence = False
    return OutputContract(name, parsed, validator, has_confidence)
