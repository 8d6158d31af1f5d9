"""Strict forms of JSON Schemas: what providers can enforce while a model writes."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import orjson

__all__ = ["strict_form"]

#: Keywords that every provider enforces. All others are checked once the answer is there.
_PLAIN = frozenset({"type", "title", "description", "$ref"})
_TYPES = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}
#: Keywords that cannot be left out without allowing other answers, or forbidding some.
_SHAPES = frozenset(
    {
        "additionalItems", "allOf", "dependentSchemas", "else", "if", "not", "oneOf",
        "patternProperties", "prefixItems", "propertyNames", "then", "unevaluatedProperties",
    }
)  # fmt: skip
#: Keywords with schemas or fields in them, by the type that they apply to.
_INNER_OF = {"object": ("properties", "required", "additionalProperties"), "array": ("items",)}
_INNER = (*_INNER_OF["object"], *_INNER_OF["array"])


def strict_form(schema: Any, *, all_required: bool) -> dict[str, Any] | None:
    """The part of a JSON Schema that a model can be held to while it writes.

    Bounds and lengths move into the description. None where the rest would allow other answers
    than the schema does: open objects, for example, and with `all_required` fields that may be
    absent.

    Every call brings its format again, so forms are kept and shared: do not change one.
    """
    try:
        return _kept(orjson.dumps(schema), all_required=all_required)
    except TypeError:  # not JSON
        return _form(schema, all_required=all_required)


@lru_cache(maxsize=256)
def _kept(schema: bytes, *, all_required: bool) -> dict[str, Any] | None:
    return _form(orjson.loads(schema), all_required=all_required)


def _form(schema: Any, *, all_required: bool) -> dict[str, Any] | None:
    if not isinstance(schema, dict) or not _SHAPES.isdisjoint(schema):
        return None

    if "const" in schema or "enum" in schema:
        return _choice(schema)
    if isinstance(kinds := schema.get("type"), list) and "anyOf" not in schema:
        schema = _by_kind(schema, kinds)
    form = {name: value for name, value in schema.items() if name in _PLAIN}
    inner: dict[str, Any] = {}
    for name in ("properties", "$defs"):
        if name in schema:
            inner[name] = _forms(schema[name], all_required=all_required)
    if "items" in schema:
        inner["items"] = _form(schema["items"], all_required=all_required)
    if "anyOf" in schema:
        options = schema["anyOf"] if isinstance(schema["anyOf"], list) else [None]
        forms = [_form(option, all_required=all_required) for option in options]
        inner["anyOf"] = None if None in forms else forms
    if None in inner.values():
        return None

    if schema.get("type") == "object" or "properties" in schema:
        if not _is_closed(schema, all_required=all_required):
            return None
        form |= {"required": schema.get("required", []), "additionalProperties": False}
    kept = _PLAIN | {"properties", "$defs", "items", "anyOf", "required", "additionalProperties"}
    rest = {name: value for name, value in schema.items() if name not in kept}
    if rest:
        rules = ", ".join(f"{name}: {value}" for name, value in rest.items())
        form["description"] = f"{form.get('description', '')} ({rules})".strip()
    return form | inner or None


def _by_kind(schema: Mapping[str, Any], kinds: Sequence[Any]) -> dict[str, Any]:
    """One option for each type, with the keywords for that type: inner schemas come in one alone.

    Copies of them in every option would double the size at every level.
    """
    rest = {name: value for name, value in schema.items() if name not in ("type", "$defs")}
    options = []
    for kind in kinds:
        others = set(_INNER) - set(_INNER_OF.get(str(kind), ()))
        options.append({**{n: v for n, v in rest.items() if n not in others}, "type": kind})
    return {"anyOf": options} | ({"$defs": schema["$defs"]} if "$defs" in schema else {})


def _is_closed(schema: Mapping[str, Any], *, all_required: bool) -> bool:
    """True for an object that allows no fields beside its own."""
    required, fields = schema.get("required", []), schema.get("properties", {})
    if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
        return False
    is_whole = not all_required or set(fields) == set(required)
    return is_whole and schema.get("additionalProperties") is False


def _choice(schema: Mapping[str, Any]) -> dict[str, Any] | None:
    """A choice of values, grouped by type, because providers refuse a value without a type."""
    options = [schema["const"]] if "const" in schema else schema["enum"]
    by_type: dict[str, list[Any]] = {}
    for option in options if isinstance(options, list) else ():
        name = _TYPES.get(type(option))
        if name is None:
            return None
        by_type.setdefault(name, []).append(option)
    forms = [{"type": name, "enum": values} for name, values in by_type.items()]
    described = {name: schema[name] for name in ("title", "description") if name in schema}
    if not forms:
        return None
    return {**described, **forms[0]} if len(forms) == 1 else {**described, "anyOf": forms}


def _forms(schemas: Any, *, all_required: bool) -> dict[str, Any] | None:
    if not isinstance(schemas, dict):
        return None

    forms = {name: _form(schema, all_required=all_required) for name, schema in schemas.items()}
    return None if None in forms.values() else forms
