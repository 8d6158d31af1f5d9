"""What a format's schema says of one value: its control, and what is expected in it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Literal

from consumers.console.showing import pretty
from consumers.texts import escaped, plain
from schemas.json_numbers import exact_json

__all__ = ["ABSENT", "Kind", "Shape", "bounds_of", "is_number", "members", "options_of", "shape_of"]
__all__ += ["shown"]

_DEEPEST = 5
_MOST_REFERENCES = 8
_MOST_OPTIONS_NAMED = 12


class _Absent(Enum):
    ABSENT = "absent"


#: The value of a field that is not there.
ABSENT: Final = _Absent.ABSENT
Kind = Literal["text", "number", "choice", "json", "group", "list"]


@dataclass(frozen=True, slots=True)
class Shape:
    """What the schema says of one value."""

    kind: Kind
    node: Mapping[str, Any]
    is_nullable: bool = False
    #: Of a choice: its values.
    options: Sequence[Any] = ()

    @property
    def expects(self) -> str:
        return f"{_noun_of(self)} was expected"


def shape_of(node: Any, root: Mapping[str, Any], value: Any, depth: int) -> Shape:
    """The shape of a value, which may be absent or break the schema."""
    node, is_nullable = _resolved(node, root)
    named = node.get("type", [])
    types = [named] if isinstance(named, str) else list(named)
    is_nullable = is_nullable or "null" in types
    types = [name for name in types if name != "null"] or _types_of(value)
    options = [node["const"]] if "const" in node else node.get("enum")
    if isinstance(options, list) and not any(isinstance(one, (dict, list)) for one in options):
        is_nullable = is_nullable or None in options
        given = [option for option in options if option is not None]
        return Shape("choice", node, is_nullable, given)
    match types:
        case ["string"]:
            return Shape("text", node, is_nullable)
        case ["boolean"]:
            return Shape("choice", node, is_nullable, [True, False])
        case ["number" | "integer"] | ["number" | "integer", "number" | "integer"]:
            return Shape("number", node, is_nullable)
        case ["object" | "array"] if is_nullable or depth > _DEEPEST:
            pass
        case ["object"] if isinstance(node.get("properties"), Mapping):
            if value is ABSENT or isinstance(value, Mapping):
                return Shape("group", node)
        case ["array"] if isinstance(node.get("items"), Mapping) and "prefixItems" not in node:
            if value is ABSENT or isinstance(value, list):
                return Shape("list", node)
        case _:
            pass
    return Shape("json", node, is_nullable)


def _resolved(node: Any, root: Mapping[str, Any]) -> tuple[Mapping[str, Any], bool]:
    """A schema without references and alternatives to null; True where it may be null."""
    is_nullable = False
    for _ in range(_MOST_REFERENCES):
        if not isinstance(node, Mapping):
            break
        if isinstance(reference := node.get("$ref"), str):
            node = _target(reference, root)
            continue
        several = node.get("anyOf", node.get("oneOf"))
        if not isinstance(several, list) or "type" in node:
            return node, is_nullable
        others = [one for one in several if one != {"type": "null"}]
        if len(others) != 1 or len(several) == 1:
            return node, is_nullable
        [node], is_nullable = others, True
    return {}, is_nullable


def _target(reference: str, root: Mapping[str, Any]) -> Any:
    """What a reference within the schema refers to."""
    target: Any = root if reference.startswith("#") else None
    for step in reference.split("/")[1:]:
        if not isinstance(target, Mapping):
            return None
        target = target.get(step.replace("~1", "/").replace("~0", "~"))
    return target


def members(shape: Shape, value: Any) -> Iterator[tuple[str, Any, Any, bool]]:
    """The fields of an object: name, schema, value, and whether it must be there.

    Fields of the value that the schema does not name come last.
    """
    known = value if isinstance(value, Mapping) else {}
    properties, required = shape.node["properties"], shape.node.get("required", ())
    for name, inner in properties.items():
        yield name, inner, known.get(name, ABSENT), name in required
    for name, part in known.items():
        if name not in properties:
            yield name, {}, part, False


def _types_of(value: Any) -> list[str]:
    """The type of a value of which the schema says none."""
    match value:
        case bool():
            return ["boolean"]
        case str():
            return ["string"]
        case int() | float():
            return ["number"]
        case _:
            return []


def shown(value: Any, shape: Shape) -> str:
    """What a control shows of a value."""
    if value is ABSENT or value is None:
        return ""
    if shape.kind == "text" and isinstance(value, str):
        return plain(value)
    if shape.kind in ("text", "json"):
        return escaped(pretty(value))
    if shape.kind == "number":
        return exact_json(value) if is_number(value) else ""
    written = exact_json(value)
    return written if written in map(exact_json, shape.options) else ""


def options_of(shape: Shape, value: Any, *, is_required: bool) -> Sequence[tuple[str, str]]:
    if shape.kind != "choice":
        return ()
    options = [(exact_json(option), _in_words(option)) for option in shape.options]
    if shape.is_nullable or not is_required:
        return [("", "nothing"), *options]
    return options if shown(value, shape) else [("", "choose one"), *options]


def bounds_of(shape: Shape) -> Mapping[str, str]:
    if shape.kind != "number":
        return {}
    node, bounds = shape.node, {}
    for name, attribute in (("minimum", "min"), ("maximum", "max")):
        if is_number(node.get(name)):
            bounds[attribute] = exact_json(node[name])
    bounds["step"] = "1" if node.get("type") in ("integer", ["integer"]) else "any"
    return bounds


def _noun_of(shape: Shape) -> str:
    """What a value has to be, in words."""
    node = shape.node
    match shape.kind:
        case "choice":
            names = [_in_words(option) for option in shape.options]
            more = ", …" if len(names) > _MOST_OPTIONS_NAMED else ""
            return f"one of {', '.join(names[:_MOST_OPTIONS_NAMED])}{more}"
        case "number":
            noun = "a whole number" if "integer" in str(node.get("type")) else "a number"
            above, below = node.get("exclusiveMinimum"), node.get("exclusiveMaximum")
            noun += f" above {exact_json(above)}" if is_number(above) else ""
            noun += f" below {exact_json(below)}" if is_number(below) else ""
            return noun + _range(node.get("minimum"), node.get("maximum"))
        case "text":
            kinds = {"date": "a date such as 2026-03-01", "date-time": "a time in ISO 8601"}
            if (kind := kinds.get(str(node.get("format")))) is not None:
                return kind
            noun = "a text" + _range(node.get("minLength"), node.get("maxLength"), "character")
            pattern = node.get("pattern")
            return f"{noun} that fits {pattern}" if isinstance(pattern, str) else noun
        case "list":
            return "a list" + _range(node.get("minItems"), node.get("maxItems"), "item")
        case _:
            return "an object" if shape.kind == "group" else "JSON that fits the format"


def _range(least: Any, most: Any, unit: str = "") -> str:
    """Limits in words: ` from 1 to 5`, ` of at least 1 character`."""
    low, high = is_number(least), is_number(most)
    if not low and not high:
        return ""
    end = most if high else least
    units = f" {unit}{'' if end == 1 else 's'}" if unit else ""
    if low and high:
        return f" from {exact_json(least)} to {exact_json(most)}{units}"
    return f" of at {'least' if low else 'most'} {exact_json(end)}{units}"


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _in_words(option: Any) -> str:
    if isinstance(option, bool):
        return "yes" if option else "no"
    return option if isinstance(option, str) and option else exact_json(option)
