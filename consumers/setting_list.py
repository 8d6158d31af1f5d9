"""Every setting as a row: variable, type, default, meaning, current value and its source."""

import inspect
import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from enum import Enum
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from consumers.settings import Settings
from consumers.variables import PREFIX
from schemas.spans import span_text

__all__ = [
    "SettingRow",
    "default_of",
    "inner_model",
    "meanings",
    "setting_rows",
    "shown",
    "type_of",
]

_FIELD = re.compile(r" {4}(\w+): ")

_MASK = "********"
_WORDS: Mapping[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    Decimal: "a number",
    datetime: "a time, such as 2026-01-31T12:00:00Z",
    timedelta: "a span, such as 30s",
    SecretStr: "a secret",
    Path: "a path",
}


class SettingRow(NamedTuple):
    """A setting. Every field is text to be shown; secrets are masked."""

    variable: str
    type: str
    default: str
    meaning: str
    value: str
    #: `default`, or the variable that has set the value.
    source: str


def setting_rows(
    settings: Settings | None = None, variables: Mapping[str, str] | None = None
) -> Iterator[SettingRow]:
    """All settings with their values, without `settings` with their defaults.

    Where users choose names, such as those of providers, each name in use has its own rows; if
    none is in use, the rows appear once with `<NAME>`.
    """
    set_by = {name.upper(): name for name in variables or {}}
    yield from _rows(Settings, settings, [], set_by)


def _rows(
    model: type[BaseModel], current: BaseModel | None, path: list[str], set_by: Mapping[str, str]
) -> Iterator[SettingRow]:
    for name, info in model.model_fields.items():
        field_path = [*path, name]
        value = getattr(current, name) if current is not None else None
        inner, is_named = inner_model(info.annotation)
        if inner is None:
            value = default_of(info) if current is None else value
            yield _row(model, name, info, value, field_path, set_by)
        elif not is_named:
            yield from _rows(inner, value, field_path, set_by)
        else:
            for key, named in (value or {"<NAME>": None}).items():
                yield from _rows(inner, named, [*field_path, str(key)], set_by)


def _row(
    model: type[BaseModel],
    name: str,
    info: FieldInfo,
    value: Any,
    path: list[str],
    set_by: Mapping[str, str],
) -> SettingRow:
    variable = PREFIX + "__".join(path).upper()
    parts = [PREFIX + "__".join(path[:end]).upper() for end in range(len(path), 0, -1)]
    source = next((set_by[part] for part in parts if part in set_by), "default")
    return SettingRow(
        variable,
        type_of(info.annotation, info.metadata),
        shown(default_of(info)),
        meanings(model).get(name, ""),
        shown(value),
        source,
    )


def default_of(info: FieldInfo) -> Any:
    """What a field without a value holds, or the word `required`."""
    value = info.get_default(call_default_factory=True)
    return "required" if value is PydanticUndefined else value


def inner_model(annotation: Any) -> tuple[type[BaseModel] | None, bool]:
    """The model of the fields below a field, and whether users choose names for them."""
    if get_origin(annotation) is Annotated:
        return inner_model(get_args(annotation)[0])
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, False
    if get_origin(annotation) is dict:
        inner, _ = inner_model(get_args(annotation)[1])
        return inner, True
    if get_origin(annotation) in (Union, UnionType):
        options = map(inner_model, get_args(annotation))
        return next((option for option in options if option[0] is not None), (None, False))
    return None, False


def type_of(annotation: Any, metadata: list[Any]) -> str:
    """What a field may hold, in words."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return type_of(arguments[0], [*arguments[1:], *metadata])
    if origin in (Union, UnionType):
        return " or ".join(
            type_of(option, metadata) for option in arguments if option is not NoneType
        )
    if origin is Literal:
        return ", ".join(map(str, arguments))
    if origin in (dict, Mapping, frozenset, list, tuple):
        kind = "a JSON object" if origin in (dict, Mapping) else "a JSON list"
        words = type_of(arguments[-1], [])
        return kind if words in ("text", kind) else f"{kind}: {words}"
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return ", ".join(str(member.value) for member in annotation)
    return _WORDS.get(annotation, "text") + _bounds(metadata)


def _bounds(metadata: list[Any]) -> str:
    bounds = []
    for constraint in metadata:
        match constraint:
            case FieldInfo(metadata=inner):
                return _bounds(inner)
            case Ge(ge=bound):
                bounds.append(f"at least {bound}")
            case Gt(gt=bound):
                bounds.append(f"more than {bound}")
            case Le(le=bound):
                bounds.append(f"at most {bound}")
            case _:
                pass
    return f", {' and '.join(bounds)}" if bounds else ""


def shown(value: Any) -> str:
    """A value as people write it; secrets are masked."""
    match value:
        case None:
            return "none"
        case bool():
            return str(value).lower()
        case timedelta():
            return span_text(value)
        case SecretStr():
            return _MASK
        case Enum():
            return str(value.value)
        case dict():
            return ", ".join(f"{key}: {shown(inner)}" for key, inner in value.items()) or "none"
        case frozenset() | list() | tuple():
            return ", ".join(sorted(map(shown, value))) or "none"
        case _:
            return str(value) or "empty"


@cache
def meanings(model: type[BaseModel]) -> Mapping[str, str]:
    """What each field of a model means: the `#:` comment above it."""
    by_field: dict[str, str] = {}
    comment: list[str] = []
    for line in inspect.getsource(model).splitlines():
        if line.startswith("    #: "):
            comment.append(line.removeprefix("    #: "))
        elif comment and line.startswith("    # "):
            continue
        else:
            if comment and (field := _FIELD.match(line)):
                by_field[field[1]] = _for_people(" ".join(comment))
            comment = []
    return by_field


def _for_people(comment: str) -> str:
    """A comment with values as variables have them, instead of Python's None, True and False."""
    text = re.sub(r"(^|\. )None\b", r"\1Unset", comment)
    text = re.sub(r"\bNone\b", "unset", text)
    return re.sub(r"\b(?:True|False)\b", lambda match: f"`{match[0].lower()}`", text)
