"""The part of JSON Schema that Gemini takes.

The reference of `responseJsonSchema` lists the keywords that it supports
(https://ai.google.dev/api/generate-content#GenerationConfig, read in 2026-11). The answer is
checked against the whole schema afterwards.
"""

from collections.abc import Mapping
from typing import Any

__all__ = ["subset"]

_PLAIN = frozenset(
    (
        "$id",
        "$anchor",
        "type",
        "format",
        "title",
        "description",
        "required",
        "propertyOrdering",
        "minItems",
        "maxItems",
        "minimum",
        "maximum",
    )
)
#: Keywords that hold schemas by name, a list of schemas, or one schema.
_SCHEMAS_BY_NAME = {"properties": "properties", "$defs": "$defs", "definitions": "$defs"}
_SCHEMA_LISTS = frozenset(("prefixItems", "anyOf", "oneOf"))
_SCHEMAS = frozenset(("items", "additionalProperties"))


def subset(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a JSON Schema that Gemini takes."""
    if isinstance(ref := schema.get("$ref"), str):
        # Beside `$ref` Gemini takes only keywords that begin with a dollar.
        kept: dict[str, Any] = {"$ref": ref.replace("#/definitions/", "#/$defs/", 1)}
        if isinstance(definitions := schema.get("$defs") or schema.get("definitions"), dict):
            kept["$defs"] = {name: _inner(inner) for name, inner in definitions.items()}
        return kept
    kept = {}
    for keyword, value in schema.items():
        if keyword in _PLAIN:
            kept[keyword] = value
        elif keyword in _SCHEMAS_BY_NAME and isinstance(value, dict):
            kept[_SCHEMAS_BY_NAME[keyword]] = {name: _inner(inner) for name, inner in value.items()}
        elif keyword in _SCHEMA_LISTS and isinstance(value, list):
            kept[keyword] = [_inner(inner) for inner in value]
        elif keyword in _SCHEMAS:
            kept[keyword] = _inner(value)
        elif keyword == "enum" and _are_plain(value):
            kept[keyword] = value
        elif keyword == "const" and _are_plain([value]):
            kept["enum"] = [value]
    return kept


def _inner(schema: Any) -> Any:
    """A schema below another one, which may also be `true` or `false`."""
    return subset(schema) if isinstance(schema, Mapping) else schema


def _are_plain(values: Any) -> bool:
    """True for texts and numbers, which are the only values that Gemini's `enum` takes."""
    return isinstance(values, list) and all(
        isinstance(value, str | int | float) and not isinstance(value, bool) for value in values
    )
