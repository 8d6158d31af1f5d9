"""Judging: is this reply an answer we can defend?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jsonschema_rs
import orjson

from router.checks import CHECKS, Judged
from router.normalise import in_order, normalise_json, normalise_text
from router.policy.load import refuse_remote
from router.policy.table import Policy
from router.reply import Reply
from schemas.attempt import Step
from schemas.errors import ContractError
from schemas.reasons import Reason
from schemas.request import Request
from schemas.verdict import CheckResult, Verdict

__all__ = ["OutputContract", "judge", "output_contract"]


@dataclass(frozen=True, slots=True)
class OutputContract:
    """The format an answer must have."""

    name: str
    #: None for plain text.
    schema: Mapping[str, Any] | None
    validator: jsonschema_rs.Validator | None

    @property
    def has_confidence(self) -> bool:
        """True when the format asks the model how sure it is."""
        return self.schema is not None and "confidence" in self.schema.get("properties", {})


def output_contract(
    request: Request, policy: Policy, task: str | None, step: Step
) -> OutputContract:
    """The format of a step's answer: the request's own, else the task's.

    Raises ContractError when the request brings a schema that cannot be used.
    """
    if step == "classify":
        return _compiled("classify", orjson.dumps(_classify_schema(policy)))
    wanted = request.output_format
    if wanted == "text":
        return OutputContract("text", None, None)
    if isinstance(wanted, dict):
        try:
            return _compiled("own", orjson.dumps(wanted))
        except (ValueError, jsonschema_rs.ValidationError):
            detail = "output_format: a JSON Schema that is whole in itself was expected"
            raise ContractError(Reason.INVALID_FIELD, detail) from None
    name = policy.tasks[task].format if task in policy.tasks else "answer"
    schema = policy.formats.get(name)
    return OutputContract("text", None, None) if schema is None else _compiled(name, orjson.dumps(schema))


def judge(
    reply: Reply, contract: OutputContract, accept: float, checks: Sequence[str]
) -> Verdict:
    """Run every check that the task names. The first that fails is the reason."""
    output = _normalised(reply, contract)
    confidence = _confidence(output)
    judged = Judged(
        reply=reply,
        output=output,
        validator=contract.validator,
        confidence=confidence,
        accept=accept if contract.has_confidence else None,
    )
    results = []
    for name in checks:
        check = CHECKS[name]
        detail = check.run(judged)
        results.append(
            CheckResult(
                check=name,
                passed=detail is None,
                reason=None if detail is None else check.reason,
                detail=detail or "",
            )
        )
    passed = all(result.passed for result in results)
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


def _classify_schema(policy: Policy) -> dict[str, Any]:
    """The classify format with the policy's own tasks as the only ones to choose from."""
    schema = policy.formats["classify"]
    properties = {**schema.get("properties", {}), "task": {"enum": list(policy.tasks)}}
    return {**schema, "properties": properties}


@lru_cache(maxsize=256)
def _compiled(name: str, schema: bytes) -> OutputContract:
    """Compiling costs more than a hundred validations."""
    parsed = orjson.loads(schema)
    validator = jsonschema_rs.validator_for(parsed, retriever=refuse_remote)
    return OutputContract(name, parsed, validator)
