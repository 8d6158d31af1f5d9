"""YAML read strictly: no duplicate keys, no aliases, no tags, no surprising scalars.

The library's own loader silently takes the last of two equal keys, reads `no` as false and
`12:30:00` as a number. So only its parser is used here; what a node means is decided below.
"""

import re
from typing import Any

import yaml

from router.errors import Problem

__all__ = ["read_yaml"]

Path = tuple[str | int, ...]

_INT = re.compile(r"-?(?:0|[1-9][0-9]*)")
_FLOAT = re.compile(r"-?(?:0|[1-9][0-9]*)\.[0-9]+(?:[eE][+-]?[0-9]+)?")
_CONSTANTS = {"true": True, "false": False, "null": None, "": None, "~": None}
#: Words that YAML 1.1 turns into booleans or numbers and people mean as text, or the other way.
_AMBIGUOUS = re.compile(
    r"(?:yes|no|on|off|y|n|true|false|null)|[-+]?\.(?:nan|inf)|[-+]?[0-9][0-9_]*(?::[0-9_]+)+"
    r"|[-+]?[0-9][0-9_]*_[0-9_]*|0[xo][0-9a-f]+|\+[0-9.]+|0[0-9]+|[-+]?(?:nan|inf(?:inity)?)",
    re.IGNORECASE,
)


def _meant(text: str) -> str:
    """How to write what was probably meant, as advice."""
    lower = text.lower().lstrip("+-.")
    if lower.startswith(("nan", "inf")):
        return "a finite number was expected, for example 0.75"
    if ":" in lower:
        return "a duration is written 30s, 15m or 6h; quote it where a text is meant"
    if lower[:1].isdigit():
        return "write a number plainly, for example 1000 or 1.5; quote it where a text is meant"
    return "write true or false; quote it where a text is meant"


def read_yaml(text: str) -> tuple[Any, dict[Path, int], list[Problem]]:
    """The value, the line of every path in it, and what is wrong with it."""
    reader = _Reader()
    try:
        refused = _refused(text)
        if refused is not None:
            return None, {}, [refused]
        node = yaml.compose(text, Loader=yaml.CSafeLoader if _HAS_C else yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        return None, {}, [Problem(line, "", f"not YAML: {error.problem}")]
    except (yaml.YAMLError, UnicodeEncodeError) as error:
        return None, {}, [Problem(1, "", f"not YAML: {str(error).splitlines()[0]}")]
    if node is None:
        return None, {}, [Problem(1, "", "the file is empty")]

    value = reader.read(node, ())
    return value, reader.lines, reader.problems


_HAS_C = hasattr(yaml, "CSafeLoader")
_MAX_DEPTH = 24


def _refused(text: str) -> Problem | None:
    """The first thing that must not be composed: aliases expand, and deep nesting recurses."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader if _HAS_C else yaml.SafeLoader):
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            return Problem(line, "", "anchors and aliases are not supported; write the value out")
        if tag := getattr(event, "tag", None):
            return Problem(line, "", f"the tag {tag} is not supported; write the plain value")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            return Problem(line, "", f"more than {_MAX_DEPTH} levels of nesting")
    return None


class _Reader:
    def __init__(self) -> None:
        self.lines: dict[Path, int] = {}
        self.problems: list[Problem] = []

    def read(self, node: yaml.Node, path: Path) -> Any:
        self.lines[path] = node.start_mark.line + 1
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.read(item, (*path, index)) for index, item in enumerate(node.value)]
        return self._scalar(node, path)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = key_node.value
            if not isinstance(key_node, yaml.ScalarNode):
                self._wrong(key_node, path, "a key must be a word")
                continue
            if key in fields:
                first = self.lines[(*path, key)]
                self._wrong(key_node, (*path, key), f"named twice; first on line {first}")
                continue
            fields[key] = self.read(value_node, (*path, key))
            self.lines[(*path, key)] = key_node.start_mark.line + 1
        return fields

    def _scalar(self, node: yaml.Node, path: Path) -> Any:
        text = str(node.value)
        if getattr(node, "style", None) in ('"', "'", "|", ">"):
            return text
        if text in _CONSTANTS:
            return _CONSTANTS[text]
        if _INT.fullmatch(text):
            return int(text) if len(text) < 19 else self._wrong(node, path, "a number too long")
        if _FLOAT.fullmatch(text):
            return float(text)
        if _AMBIGUOUS.fullmatch(text):
            message = f"{text!r} could mean several things: {_meant(text)}"
            return self._wrong(node, path, message)
        return text

    def _wrong(self, node: yaml.Node, path: Path, message: str) -> None:
        where = ".".join(str(step) for step in path)
        self.problems.append(Problem(node.start_mark.line + 1, where, message))
