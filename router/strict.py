"""JSON Schemas as models can be held to them while they write."""

from collections.abc import Mapping
from typing import Any

__all__ = ["strict_form"]

#: What decoding under a schema knows everywhere. All else is checked after the answer came.
_PLAIN = frozenset({"type", "enum", "const", "title", "description", "$ref"})
#: Keywords that cannot be left out without letting other answers through, or forbidding some.
_SHAPES = frozenset(
    {
        "additionalItems",
        "allOf",
        "dependentSchemas",
        "else",
        "if",
        "not",
        "oneOf",
        "patternProperties",
        "prefixItems",
        "propertyNames",
        "then",
        "unevaluatedProperties",
    }
)


def strict_form(schema: Any, *, all_required: bool) -> dict[str, Any] | None:
    """The part of a JSON Schema that a model can be held to while it writes.

    Bounds and lengths move into the description. None where the rest would allow other answers
    than the schema does: open objects, for example, and with `all_required` fields that may be
    absent.
    """
    if not isinstance(schema, dict) or not _SHAPES.isdisjoint(schema):
        return None

    if isinstance(kinds := schema.get("type"), list) and "anyOf" not in schema:
        single = {name: value for name, value in schema.items() if name != "type"}
        schema = {"anyOf": [{**single, "type": kind} for kind in kinds]}
    form = {name: value for name, value in schema.items() if name in _PLAIN}
    inner: dict[str, Any] = {}
    for name in ("properties", "$defs"):
        if name in schema:
            inner[name] = _forms(schema[name], all_required=all_required)
    if "items" in schema:
        inner["items"] = strict_form(schema["items"], all_required=all_required)
    if "anyOf" in schema:
        options = schema["anyOf"] if isinstance(schema["anyOf"], list) else [None]
        forms = [strict_form(one, all_required=all_required) for one in options]
        inner["anyOf"] = None if None in forms else forms
    if None in inner.values():
        return None

    if _is_object(schema):
        required = schema.get("required", [])
        if not isinstance(required, list) or not all(isinstance(one, str) for one in required):
            return None
        is_whole = not all_required or set(inner.get("properties", ())) == set(required)
        if schema.get("additionalProperties") is not False or not is_whole:
            return None
        form |= {"required": required, "additionalProperties": False}
    known = _PLAIN | {"properties", "$defs", "items", "anyOf", "required", "additionalProperties"}
    rest = {name: value for name, value in schema.items() if name not in known}
    if rest:
        said = ", ".join(f"{name}: {value}" for name, value in rest.items())
        form["description"] = f"{form.get('description', '')} ({said})".strip()
    return form | inner or None


def _is_object(schema: Mapping[str, Any]) -> bool:
    return schema.get("type") == "object" or "properties" in schema


def _forms(schemas: Any, *, all_required: bool) -> dict[str, Any] | None:
    if not isinstance(schemas, dict):
        return None

    forms = {name: strict_form(one, all_required=all_required) for name, one in schemas.items()}
    return None if None in forms.values() else forms
