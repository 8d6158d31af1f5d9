"""JSON Schemas as Gemini takes them.

Of `responseJsonSchema` its reference lists the keywords that it supports
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
_MAPS = {"properties": "properties", "$defs": "$defs", "definitions": "$defs"}
_LISTS = frozenset(("prefixItems", "anyOf", "oneOf"))
_ONES = frozenset(("items", "additionalProperties"))


def subset(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a JSON Schema that Gemini takes."""
    if isinstance(ref := schema.get("$ref"), str):
        # Beside it only what begins with a dollar may stand.
        made: dict[str, Any] = {"$ref": ref.replace("#/definitions/", "#/$defs/", 1)}
        if isinstance(inner := schema.get("$defs") or schema.get("definitions"), dict):
            made["$defs"] = {name: _one(one) for name, one in inner.items()}
        return made
    made = {}
    for name, value in schema.items():
        if name in _PLAIN:
            made[name] = value
        elif name in _MAPS and isinstance(value, dict):
            made[_MAPS[name]] = {key: _one(one) for key, one in value.items()}
        elif name in _LISTS and isinstance(value, list):
            made[name] = [_one(one) for one in value]
        elif name in _ONES:
            made[name] = _one(value)
        elif name == "enum" and _are_plain(value):
            made[name] = value
        elif name == "const" and _are_plain([value]):
            made["enum"] = [value]
    return made


def _one(schema: Any) -> Any:
    return subset(schema) if isinstance(schema, Mapping) else schema


def _are_plain(values: Any) -> bool:
    """True for texts and numbers, which are all that may be listed."""
    return isinstance(values, list) and all(
        isinstance(one, str | int | float) and not isinstance(one, bool) for one in values
    )
