"""The table of checks, and how a task of the policy names one, with or without parameters."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, LiteralString

from pydantic import GetCoreSchemaHandler, TypeAdapter
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from router.checks import basic, content, form, sources
from router.checks.judged import Check, Parameters

__all__ = ["CHECKS", "DEFAULT_CHECKS", "NamedCheck", "check_rows", "named"]

CHECKS: Mapping[str, Check] = {
    check.name: check
    for check in (
        basic.CUT_OFF,
        basic.EMPTY,
        basic.REFUSAL,
        form.TOOL_CALLS,
        basic.SCHEMA,
        basic.CONFIDENCE,
        form.LENGTH,
        form.LANGUAGE,
        sources.GROUNDING,
        sources.ENTITIES,
        sources.CONFLICTS,
        sources.NUMBERS,
        content.REQUIRED,
        content.FORBIDDEN,
    )
}


#: The loader of policies adds the known names to the message.
_UNKNOWN: LiteralString = "unknown_check"


@dataclass(frozen=True, slots=True)
class NamedCheck:
    """A check as a task names it: `refusal`, or `length: {most_words: 120}`."""

    check: Check
    parameters: Parameters

    @classmethod
    def __get_pydantic_core_schema__(cls, _: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Validate it as a row with one field, so that a mistake is reported at its place."""
        fields = {
            name: core_schema.typed_dict_field(
                handler.generate_schema(check.parameters), required=False
            )
            for name, check in CHECKS.items()
        }
        row = core_schema.typed_dict_schema(fields, extra_behavior="forbid")
        written = core_schema.union_schema([core_schema.literal_schema(list(CHECKS)), row])
        return core_schema.no_info_after_validator_function(
            _from_row,
            core_schema.no_info_before_validator_function(
                _as_row, row, json_schema_input_schema=written
            ),
            serialization=core_schema.plain_serializer_function_ser_schema(_as_written),
        )


def named(*rows: str | Mapping[str, Mapping[str, Any]]) -> list[NamedCheck]:
    """Checks as a policy writes them: a name, or a name with its parameters."""
    return _MANY.validate_python(list(rows))


def _as_row(value: Any) -> Any:
    row = {value: {}} if isinstance(value, str) else value
    if not isinstance(row, dict) or len(row) != 1:
        msg = "one check's name, or one name with its parameters, is expected here"
        raise ValueError(msg)
    [(name, parameters)] = row.items()
    if name not in CHECKS:
        raise PydanticCustomError(_UNKNOWN, _UNKNOWN)
    return {name: {} if parameters is None else parameters}


def _from_row(row: Mapping[str, Parameters]) -> NamedCheck:
    [(name, parameters)] = row.items()
    return NamedCheck(CHECKS[name], parameters)


def _as_written(given: NamedCheck) -> Any:
    name, parameters = given.check.name, given.parameters
    return (
        {name: parameters.model_dump(exclude_unset=True)} if parameters.model_fields_set else name
    )


def check_rows() -> list[dict[str, str]]:
    """The table of checks, for people: what each tests, and what a policy may set."""
    return [
        {
            "check": check.name,
            "reason": check.reason.value,
            "passes when": check.meaning,
            "fails, for example": check.example,
            "parameters": "; ".join(
                f"{name}: {field.description}" if field.description else name
                for name, field in check.parameters.model_fields.items()
            )
            or "none",
        }
        for check in CHECKS.values()
    ]


_MANY = TypeAdapter(list[NamedCheck])
#: The checks of a task that names none.
DEFAULT_CHECKS = tuple(named("cut_off", "empty", "refusal", "tool_calls", "schema", "confidence"))
