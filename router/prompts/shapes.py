"""Shapes: which parts of somebody else's JSON value are kept, and which are left out.

A shape keeps what it names and leaves out everything else. A value of another type or size than the
shape allows is left out as a whole.
"""

import re
from collections.abc import Callable, Mapping, MutableSet
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

__all__ = [
    "LEFT_OUT",
    "Either",
    "Listed",
    "Plain",
    "Record",
    "Shape",
    "fields_of",
    "flag",
    "json_value",
    "number",
    "text",
    "whole",
    "word",
]

#: In place of a value that is left out; JSON's own null is a value.
LEFT_OUT: Any = object()
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class Plain:
    """A value that is kept as it is or not at all."""

    fits: Callable[[Any], bool]

    def kept(self, value: Any, path: str, left_out: MutableSet[str]) -> Any:
        """What is kept of a value; `left_out` gains the paths of what is not."""
        if self.fits(value):
            return value
        left_out.add(path)
        return LEFT_OUT

    def extended(self, path: str, shape: "Shape") -> "Shape":
        """This shape, unchanged: a plain value has no fields."""
        del path, shape
        return self


@dataclass(frozen=True, slots=True)
class Record:
    """An object of named fields. It is left out if a required field, or every field, is missing."""

    fields: Mapping[str, "Shape"]
    required: frozenset[str] = field(default=frozenset())

    def kept(self, value: Any, path: str, left_out: MutableSet[str]) -> Any:
        if not isinstance(value, dict):
            left_out.add(path)
            return LEFT_OUT
        result = {}
        for name, inner in value.items():
            if inner is None:  # null means the same as a missing field
                continue
            where = _below(path, name)
            shape = self.fields.get(name)
            if shape is None:
                left_out.add(where)
            elif (kept := shape.kept(inner, where, left_out)) is not LEFT_OUT:
                result[name] = kept
        if self.required - result.keys() or (value and not result):
            left_out.add(path)
            return LEFT_OUT
        return result

    def extended(self, path: str, shape: "Shape") -> "Shape":
        """This shape with one more field, by its dotted path."""
        name, _, rest = path.partition(".")
        present = self.fields.get(name)
        if rest:
            shape = (present or Record({})).extended(rest, shape)
        elif present is not None:
            return self
        return replace(self, fields={**self.fields, name: shape})


@dataclass(frozen=True, slots=True)
class Listed:
    """A list of at most `most` values of one shape; a longer one is left out."""

    item: "Shape"
    most: int

    def kept(self, value: Any, path: str, left_out: MutableSet[str]) -> Any:
        if not isinstance(value, list) or len(value) > self.most:
            left_out.add(path)
            return LEFT_OUT
        items = [self.item.kept(item, path, left_out) for item in value]
        return [item for item in items if item is not LEFT_OUT] or LEFT_OUT

    def extended(self, path: str, shape: "Shape") -> "Shape":
        """This shape with the field in each value of the list."""
        return replace(self, item=self.item.extended(path, shape))


@dataclass(frozen=True, slots=True)
class Either:
    """One of several shapes, told apart by a field of the value, else by its JSON type."""

    shapes: Mapping[str, "Shape"]
    #: The field whose text names the shape of an object; "" where there is one shape of object.
    tag: str = ""

    def kept(self, value: Any, path: str, left_out: MutableSet[str]) -> Any:
        kind = type(value).__name__
        if self.tag and isinstance(value, dict):
            named = value.get(self.tag)
            kind = named if isinstance(named, str) else ""
        shape = self.shapes.get(kind)
        if shape is None:
            left_out.add(path)
            return LEFT_OUT
        return shape.kept(value, path, left_out)

    def extended(self, path: str, shape: "Shape") -> "Shape":
        """This shape with the field in each of its alternatives."""
        return replace(
            self, shapes={name: inner.extended(path, shape) for name, inner in self.shapes.items()}
        )


Shape = Plain | Record | Listed | Either


def fields_of(shape: Shape, path: str = "") -> frozenset[str]:
    """The dotted paths of all fields of a shape; a list adds no step to them."""
    if isinstance(shape, Record):
        named = {_below(path, name): inner for name, inner in shape.fields.items()}
        return frozenset(named).union(*(fields_of(inner, where) for where, inner in named.items()))
    if isinstance(shape, Listed):
        return fields_of(shape.item, path)
    options = shape.shapes.values() if isinstance(shape, Either) else ()
    return frozenset().union(*(fields_of(option, path) for option in options))


def flag() -> Shape:
    return Plain(lambda value: type(value) is bool)


def whole(least: int, most: int) -> Shape:
    return Plain(lambda value: type(value) is int and least <= value <= most)


def number(least: float, most: float) -> Shape:
    return Plain(lambda value: type(value) in (int, float) and least <= value <= most)


def word(*words: str) -> Shape:
    return Plain(lambda value: isinstance(value, str) and value in words)


def text(most: int, pattern: str | None = None) -> Shape:
    """Text of 1 to `most` characters that matches the whole pattern."""
    rule = re.compile(pattern) if pattern else None
    return Plain(
        lambda value: (
            isinstance(value, str)
            and 0 < len(value) <= most
            and (rule is None or rule.fullmatch(value) is not None)
        )
    )


def json_value(most_bytes: int) -> Shape:
    """Any JSON value of at most `most_bytes`."""

    def fits(value: Any) -> bool:
        try:
            return len(orjson.dumps(value)) <= most_bytes
        except TypeError:  # half a character, or deeper than anybody reads
            return False

    return Plain(fits)


def _below(path: str, name: str) -> str:
    """A path with one more step; an odd name is not repeated."""
    step = name if _NAME.fullmatch(name) else "(an odd name)"
    return f"{path}.{step}" if path else step
