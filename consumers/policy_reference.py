"""The reference of the policy file, made from the code: a schema for editors, a page for people."""

import json
import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from consumers.field_meanings import meanings
from router.policy.table import Policy
from router.request.signals import TEXT_SIGNALS
from schemas.spans import span_text

__all__ = ["policy_page", "policy_schema"]

_HEAD = f"""# The policy file

Every field and condition of the routing policy ([routing.yaml](../deploy/policy/routing.yaml)).
`tierline policy check` tests a file, and `tierline policy show` prints it for people. Editors with
the YAML language server complete, explain and check the fields: the first line of the file names
its schema. `NAME` is a name of your choice, and `[]` an entry of a list. The signals that
`rules[].when.text` may name are {", ".join(f"`{name}`" for name in TEXT_SIGNALS)}.
This page is made by `make generate`.
"""


def policy_schema() -> dict[str, Any]:
    """The JSON Schema of a policy file; `tierline policy check` finds more mistakes than it can."""
    return Policy.model_json_schema(schema_generator=_Described)


def policy_page() -> str:
    """The page, in Markdown."""
    schema = policy_schema()
    return _HEAD + "".join(_Sections(schema["$defs"]).of(schema, ""))


class _Described(GenerateJsonSchema):
    """A schema with the meaning of every field, and with spans as the file writes them."""

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        written = super().model_schema(schema)
        model: type[BaseModel] = schema["cls"]
        for name, words in meanings(model).items():
            if name in written.get("properties", {}):
                written["properties"][name]["description"] = words
        return written

    def encode_default(self, dft: Any) -> Any:
        match dft:
            case timedelta():
                return span_text(dft)
            case BaseModel():
                # Without what properties have kept in it.
                return {n: self.encode_default(getattr(dft, n)) for n in type(dft).model_fields}
            case _:
                return super().encode_default(dft)


class _Sections:
    """A section for each kind of row, in the order in which the file first has one."""

    def __init__(self, kinds: Mapping[str, Any]) -> None:
        self._kinds = kinds
        #: Where each kind of row stands in the file.
        self._places: dict[str, str] = {}

    def of(self, row: Mapping[str, Any], place: str) -> Iterator[str]:
        """The section of a row, then those of the rows inside it."""
        known = len(self._places)
        title = f"`{place}`" if place else "The whole file"
        yield f"\n## {title}\n\n{' '.join(row['description'].split())}\n\n"
        yield "| Field | Value | Default | Meaning |\n|---|---|---|---|\n"
        for name, field in row["properties"].items():
            value = self._value(field, f"{place}.{name}".lstrip("."))
            default = "required" if name in row.get("required", ()) else _default(field)
            yield f"| `{name}` | {value} | {default} | {field.get('description', '')} |\n"
        for kind in list(self._places)[known:]:
            yield from self.of(self._kinds[kind], self._places[kind])

    def _value(self, field: Mapping[str, Any], place: str) -> str:
        """What a field may hold, in words."""
        match field:
            case {"$ref": str(ref)}:
                kind = ref.rpartition("/")[2]
                if "properties" not in self._kinds[kind]:
                    return self._value(self._kinds[kind], place)
                anchor = re.sub(r"[^\w-]", "", self._places.setdefault(kind, place).lower())
                return f"[fields](#{anchor})"
            case {"anyOf": [*options]}:
                held = (self._value(each, place) for each in options if each != {"type": "null"})
                return " or ".join(dict.fromkeys(held))
            case {"properties": _}:  # only a check has its parameters inside
                return "its name with [parameters](checks.md)"
            case {"type": "array", "items": items}:
                return f"a list: {self._value(items, f'{place}[]')}"
            case {"additionalProperties": dict(each)}:
                names = self._value(field.get("propertyNames", {}), place)
                return f"by {names}: {self._value(each, f'{place}.NAME')}"
            case {"patternProperties": each}:
                return f"by name: {self._value(next(iter(each.values())), f'{place}.NAME')}"
            case _:
                return _plain(field)


def _plain(field: Mapping[str, Any]) -> str:
    match field:
        case {"enum": [*words]}:
            return ", ".join(f"`{word}`" for word in words)
        case {"type": "number" | "integer" as kind}:
            return f"a {'whole ' * (kind == 'integer')}number{_bounds(field)}"
        case {"type": "string", "examples": [example, *_]}:
            return f"a span, such as `{example}`"
        case {"type": "boolean"}:
            return "`true`, `false`"
        case {"type": "object"}:
            return "a JSON object"
        case _:
            return "text" if "type" in field else "name"


def _bounds(field: Mapping[str, Any]) -> str:
    least, most = field.get("minimum"), field.get("maximum")
    if most is not None:
        return f" from {least} to {most}"
    return "" if least is None else f", at least {least}"


def _default(field: Mapping[str, Any]) -> str:
    value = field.get("default")
    if isinstance(value, dict):
        return "as there"
    if value in (None, []):
        return "none"
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"
