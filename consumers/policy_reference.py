"""The reference of the policy file, made from the code: a schema for editors, a page for people."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from consumers.setting_list import default_of, inner_model, meanings, shown, type_of
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
    return _HEAD + "".join(_sections(Policy, "", set()))


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


def _sections(row: type[BaseModel], place: str, known: set[type[BaseModel]]) -> Iterator[str]:
    """The section of a kind of row, then those of the rows inside it."""
    title = f"`{place}`" if place else "The whole file"
    yield f"\n## {title}\n\n{' '.join((row.__doc__ or '').split())}\n\n"
    yield "| Field | Value | Default | Meaning |\n|---|---|---|---|\n"
    inside: dict[type[BaseModel], str] = {}
    for name, info in row.model_fields.items():
        is_list = get_origin(info.annotation) is list
        below, is_named = inner_model(get_args(info.annotation)[0] if is_list else info.annotation)
        value = type_of(info.annotation, info.metadata).replace("JSON list", "list")
        default = "none" if info.default_factory else shown(default_of(info))
        if below is not None:
            at = f"{place}.{name}".lstrip(".") + "[]" * is_list + ".NAME" * is_named
            value, default = f"the fields of `{at}`", "required" if info.is_required() else "none"
            if below not in known:
                known.add(below)
                inside[below] = at
        yield f"| `{name}` | {value} | {default} | {meanings(row).get(name, '')} |\n"
    for kind, at in inside.items():
        yield from _sections(kind, at, known)
