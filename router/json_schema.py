"""Compiling JSON Schemas that others wrote: no connection is opened, no pattern runs away."""

from functools import lru_cache
from typing import Any

import jsonschema_rs
import orjson

__all__ = ["breaks", "compile_schema", "refuse_remote"]

#: A pattern that needs more steps than these on one string counts as not matched.
_PATTERNS = jsonschema_rs.FancyRegexOptions(backtrack_limit=10_000)


def refuse_remote(uri: str) -> Any:
    """A schema that points elsewhere is refused: loading a policy opens no connection."""
    msg = f"the schema refers to {uri}; a schema must be whole in itself"
    raise ValueError(msg)


@lru_cache(maxsize=256)
def compile_schema(schema: bytes) -> jsonschema_rs.Validator:
    """The validator of a schema. Compiling costs more than a hundred validations.

    Raises ValueError or jsonschema_rs.ValidationError for a schema that cannot be used.
    """
    return jsonschema_rs.validator_for(
        orjson.loads(schema), retriever=refuse_remote, pattern_options=_PATTERNS
    )


def breaks(validator: jsonschema_rs.Validator, value: Any) -> str | None:
    """The first rule that a value breaks; None when it breaks none.

    Named by its path in the schema, because the path in a reply may hold the model's own words.
    """
    for error in validator.iter_errors(value):
        rule = "/".join(str(step) for step in error.schema_path)
        missing = getattr(error.kind, "property", None)
        return f"{rule}: {missing}" if missing else rule
    return None
