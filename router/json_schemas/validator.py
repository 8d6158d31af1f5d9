"""JSON Schemas that others wrote: compiled within bounds, and validated within a budget.

Every such schema, a producer's or a policy's, is compiled here and nowhere else. No connection is
opened, patterns run on an engine that is linear in the text, and the cost of a validation is
computed before it starts (`router/json_schemas/cost.py` says why).
"""

import contextlib
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any

import jsonschema_rs
import orjson

from router.json_schemas.budget import BUDGET, Costs
from router.json_schemas.cost import SchemaError, UnusableSchemaError, costs_of
from schemas.json_numbers import Digits

__all__ = [
    "SchemaError",
    "UnusableSchemaError",
    "Validator",
    "compile_schema",
    "compile_together",
    "forget_schemas",
]

#: The engine without backtracking; the size of a compiled pattern is bounded too.
_PATTERNS = jsonschema_rs.RegexOptions(size_limit=256 << 10, dfa_size_limit=64 << 10)
_MOST_PROBLEMS = 20
#: Raised for values nested too deeply, for the library or for us, or with half a character.
_UNREADABLE = (ValueError, RecursionError)
#: How many times the bounds of one schema those of a request's tools may use together.
_MOST_TOGETHER = 2.0


@dataclass(frozen=True, slots=True)
class Validator:
    """A schema that is within bounds, ready to validate."""

    _compiled: jsonschema_rs.Validator
    _costs: Costs

    @property
    def part(self) -> float:
        """The largest share of any limit on schemas that it uses, 0 to 1."""
        return self._costs.part

    def is_valid(self, value: Any) -> bool:
        """True when a value is within the budget and breaks no rule."""
        return self.fault(value, "the") is None

    def fault(self, value: Any, whose: str) -> str | None:
        """What is wrong with a value, to be read after "the object"; None when nothing is.

        A rule is named by its path in the schema, because the path in a reply may hold the model's
        own words. `whose` goes before it: "the format's".
        """
        work, is_explained = self._costs.of(value)
        if work > BUDGET:
            return f"is too large or too deep to be validated against {whose} schema"
        try:
            value = _countable(value)
            if self._compiled.is_valid(value):
                return None
            if not is_explained:
                return f"breaks {whose} schema; it is too large to say which rule"
            self._compiled.validate(value)
        except jsonschema_rs.ValidationError as broken:
            error = broken
        except _UNREADABLE:
            return f"cannot be validated against {whose} schema"
        else:
            return None
        rule = "/".join(str(step) for step in error.schema_path)
        missing = getattr(error.kind, "property", None)
        return f"breaks {whose} rule {rule}" + (f": {missing}" if missing else "")

    def problems(self, value: Any) -> list[tuple[list[str | int], str]]:
        """The paths in a value that break a rule, with the rule in words: the first 20 of them."""
        _, is_explained = self._costs.of(value)
        with contextlib.suppress(*_UNREADABLE):
            if is_explained:
                errors = islice(self._compiled.iter_errors(_countable(value)), _MOST_PROBLEMS)
                return [(error.instance_path, error.message) for error in errors]
        fault = self.fault(value, "the format's")
        return [] if fault is None else [([], f"it {fault}")]


def _countable(value: Any) -> Any:
    """A value with numbers of types that the library knows, digit by digit the same."""
    try:
        orjson.dumps(value)
    except TypeError:
        return _with_numbers(value)
    return value


def _with_numbers(value: Any) -> Any:
    match value:
        case Digits():
            return value.number
        case dict():
            return {name: _with_numbers(inner) for name, inner in value.items()}
        case list():
            return [_with_numbers(inner) for inner in value]
        case _:
            return value


def compile_schema(schema: bytes, *, is_ours: bool = True) -> Validator:
    """The validator of a schema, kept: compiling costs more than a hundred validations.

    `is_ours` is False for a producer's schema: those have a cache of their own, so that many of
    them do not push out the policy's. Raises SchemaError for a schema that is out of bounds, and
    its subclass UnusableSchemaError for one that is no JSON Schema.
    """
    return _ours(schema) if is_ours else _theirs(schema)


@lru_cache(maxsize=32)
def compile_together(schemas: tuple[bytes | None, ...]) -> tuple[Validator | None, ...]:
    """The validators of a request's tools, kept; None for one whose schema cannot be used.

    Together they may use twice the bounds of one schema: all are compiled before the next request
    has its turn. Raises SchemaError, which counts the schemas from 1.
    """
    validators: list[Validator | None] = []
    parts = 0.0
    for no, schema in enumerate(schemas, 1):
        validator = None
        if schema is not None:
            try:
                validator = _compile(schema)
                parts += validator.part
            except UnusableSchemaError as error:
                parts += error.part  # the provider may understand it
            except SchemaError as error:
                msg = f"tool {no}: {error}"
                raise SchemaError(msg) from None
        if parts > _MOST_TOGETHER:
            msg = f"tool {no}: with those before it, its schema is too large, or its patterns are"
            raise SchemaError(msg)
        validators.append(validator)
    return tuple(validators)


def forget_schemas() -> None:
    """Empty the caches: every schema is compiled again when it is next needed."""
    for kept in (_ours, _theirs, compile_together):
        kept.cache_clear()


def _compile(schema: bytes) -> Validator:
    # The size is checked first: nothing out of bounds is parsed.
    costs_of(None, len(schema))
    parsed = orjson.loads(schema)
    costs = costs_of(parsed, len(schema))
    try:
        compiled = jsonschema_rs.validator_for(
            parsed, retriever=_refuse_remote, pattern_options=_PATTERNS
        )
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        kind = getattr(error, "kind", None)
        if isinstance(kind, jsonschema_rs.ValidationErrorKind.Format) and kind.format == "regex":
            msg = "a pattern that is broken, too large, or looks around or back"
            raise SchemaError(msg) from None
        msg = f"not a usable JSON Schema: {str(error).splitlines()[0][:200]}"
        unusable = UnusableSchemaError(msg)
        unusable.part = costs.part
        raise unusable from None
    return Validator(compiled, costs)


def _refuse_remote(uri: str) -> Any:
    msg = f"it refers to {uri[:100]}; a schema must be self-contained"
    raise ValueError(msg)


_ours = lru_cache(maxsize=256)(_compile)
_theirs = lru_cache(maxsize=32)(_compile)
