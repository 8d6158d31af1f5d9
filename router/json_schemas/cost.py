"""What a JSON Schema costs: bounds on what may be compiled, and on what a validation may take.

The library holds the interpreter's lock while it validates, so no thread and no timeout can end a
validation. Its cost is therefore computed first, from the schema's structure and the value's size,
and nothing is started that could take long.

A schema is evaluated at a value, and through `properties`, `items` and the like at the values in
it. Branches (`allOf`, `anyOf`, `$ref`, ...) are evaluated at the same value once more, so
references that multiply, and recursion, show as weights that grow from level to level.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import orjson

from router.json_schemas.budget import BUDGET, REPEATED_BYTES, Costs
from router.json_schemas.pattern_cost import is_wide, positions
from schemas.errors import TierlineError

__all__ = ["MAX_BYTES", "SchemaError", "UnusableSchemaError", "costs_of"]

MAX_BYTES = 64 << 10
_MOST_LEVELS = 32
_MOST_SUBSCHEMAS = 1_500
_MOST_CHOICES = 5_000
_MOST_POSITIONS = 2_000
#: Patterns with classes beyond ASCII, which make the compiled engine large.
_MOST_WIDE = 8
#: Steps of this module's walk, a few tenths of a microsecond each.
_MOST_STEPS = 15_000
#: What one value of up to eight levels may cost. A tenth of the budget, so that answers have room.
_MOST_WEIGHT = 12_000
_SHALLOW = 8

_SAME = ("$ref", "not", "if", "then", "else")
_SAME_LISTS = ("allOf", "anyOf", "oneOf")
_SAME_MAPS = ("dependentSchemas", "dependencies")
_FIELDS = ("additionalProperties", "unevaluatedProperties", "propertyNames")
_ITEMS = ("items", "additionalItems", "contains", "unevaluatedItems")
#: References whose target depends on how a validation got there: their cost cannot be known.
_DYNAMIC = ("$dynamicRef", "$recursiveRef")
#: One position of a pattern at `BYTES` bytes: 40 nanoseconds a byte, where nothing matches early.
_POSITION = 13

_ESCAPED = re.compile(r"(?:%[0-9A-Fa-f]{2})+")

_Key = str | int
#: Any field, and any item.
_ANY_FIELD, _ANY_ITEM = "", -1


class SchemaError(TierlineError, ValueError):
    """A schema that is refused; the message says why, for people."""


class UnusableSchemaError(SchemaError):
    """A schema that is not valid JSON Schema, or refers to another document."""

    #: The largest share of any limit on schemas that it uses, 0 to 1.
    part = 0.0


def _refuse(why: str) -> NoReturn:
    raise SchemaError(why)


@dataclass(slots=True)
class _Node:
    """One subschema: its cost at one value, and the subschemas for the values inside."""

    weight: int = 1
    #: How many errors it may have there, without those of its branches.
    errors: int = 0
    #: The nodes evaluated at the same value, and how often.
    same: Counter[int] = field(default_factory=Counter)
    #: The nodes evaluated at fields (text) and items (number).
    inner: dict[_Key, dict[int, int]] = field(default_factory=dict)

    def add(self, key: _Key, node: int, times: int = 1) -> None:
        counts = self.inner.setdefault(key, {})
        counts[node] = counts.get(node, 0) + times


def costs_of(schema: Any, size: int) -> Costs:
    """The costs of a schema of `size` bytes. Raises SchemaError for one that is out of bounds."""
    if size > MAX_BYTES:
        _refuse(f"{size} bytes; a schema may have {MAX_BYTES}")
    if not isinstance(schema, dict):
        return Costs((1,), (1,), is_live=True)
    _check_document(schema)
    walk = _Walk(schema)
    return walk.costs()


def _check_document(schema: Mapping[str, Any]) -> None:
    """Check the rules for every part of a schema, evaluated or not. Raises SchemaError."""
    is_oldest = "draft-04" in str(schema.get("$schema", ""))
    level: list[Any] = [schema]
    depth = 0
    while level:
        depth += 1
        if depth > _MOST_LEVELS:
            _refuse(f"more than {_MOST_LEVELS} levels; a schema may have {_MOST_LEVELS}")
        below: list[Any] = []
        for item in level:
            if isinstance(item, list):
                below.extend(item)
                continue
            below.extend(item.values())
            if item is schema:
                continue
            for name in ("$id", "$schema", *(("id",) if is_oldest else ())):
                if isinstance(item.get(name), str):
                    _refuse(f"{name} inside a schema; it may stand at its top alone")
        level = [inner for inner in below if isinstance(inner, (dict, list))]


class _Walk:
    """Reads a schema into nodes, each once, and computes their weights."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self._root = schema
        #: The subschemas by number; the first two stand for `true` and for hashing equal items.
        self._nodes: list[_Node] = [_Node(), _Node()]
        self._nodes[1].inner = {_ANY_FIELD: {1: 1}, _ANY_ITEM: {1: 1}}
        self._numbers: dict[int, int] = {}
        self._unread: list[tuple[int, dict[str, Any]]] = []
        self._targets: dict[str, Any] = {}
        self._steps = self._choices = self._positions = self._wide = 0
        self._has_unique = self._has_names = False

    def costs(self) -> Costs:
        """The costs of the whole. Raises SchemaError."""
        root = self._number(self._root)
        while self._unread:
            number, schema = self._unread.pop()
            self._read(self._nodes[number], schema)
        flat = self._flattened()
        weights, is_live = self._by_level(flat, root, [node.weight for node in flat])
        errors, _ = self._by_level(flat, root, [node.errors for node in flat])
        if max(weights[: _SHALLOW + 1]) > _MOST_WEIGHT:
            _refuse("its references and branches multiply; one value costs too much")
        part = max(
            len(self._nodes) / _MOST_SUBSCHEMAS,
            self._steps / _MOST_STEPS,
            self._choices / _MOST_CHOICES,
            self._positions / _MOST_POSITIONS,
            self._wide / _MOST_WIDE,
        )
        return Costs(weights, errors, is_live, self._has_unique, self._has_names, min(part, 1.0))

    def _number(self, schema: Any) -> int:
        if not isinstance(schema, dict):
            return 0
        number = self._numbers.get(id(schema))
        if number is None:
            number = self._numbers[id(schema)] = len(self._nodes)
            if number > _MOST_SUBSCHEMAS:
                _refuse(f"more than {_MOST_SUBSCHEMAS} subschemas")
            self._nodes.append(_Node())
            self._unread.append((number, schema))
        return number

    def _read(self, node: _Node, schema: dict[str, Any]) -> None:
        node.weight += len(schema) // 2
        for name in _DYNAMIC:
            if name in schema:
                _refuse(f"{name} is not supported; $ref is")
        node.errors += len(schema)  # one error for each rule, at most; for `required` see below
        self._read_values(node, schema)
        self._read_branches(node, schema)
        self._read_fields(node, schema)
        self._read_items(node, schema)

    def _read_branches(self, node: _Node, schema: dict[str, Any]) -> None:
        for name in _SAME:
            if name in schema:
                branch = schema[name]
                node.same[self._number(self._target(branch) if name == "$ref" else branch)] += 1
        for name in _SAME_LISTS:
            for branch in _list(schema.get(name)):
                node.same[self._number(branch)] += 1
        for name in _SAME_MAPS:
            for branch in _dict(schema.get(name)).values():
                node.weight += 1
                if isinstance(branch, dict):
                    node.same[self._number(branch)] += 1
        if "unevaluatedProperties" in schema or "unevaluatedItems" in schema:
            # To know what was evaluated, branches are evaluated again.
            node.same = Counter({branch: 3 * times for branch, times in node.same.items()})

    def _read_fields(self, node: _Node, schema: dict[str, Any]) -> None:
        properties = _dict(schema.get("properties"))
        node.weight += len(properties) // 2
        for name, subschema in properties.items():
            node.add(name or "\0", self._number(subschema))
        for pattern, subschema in _dict(schema.get("patternProperties")).items():
            node.add(_ANY_FIELD, self._number(subschema))
            node.add(_ANY_FIELD, self._pattern(pattern))
        for name in _FIELDS:
            if name in schema:
                node.add(_ANY_FIELD, self._number(schema[name]))

    def _read_items(self, node: _Node, schema: dict[str, Any]) -> None:
        for name in _ITEMS:
            if isinstance(schema.get(name), (dict, bool)):
                node.add(_ANY_ITEM, self._number(schema[name]))
        for items in (_list(schema.get("prefixItems")), _list(schema.get("items"))):
            for no, subschema in enumerate(items):
                node.add(no, self._number(subschema))

    def _read_values(self, node: _Node, schema: dict[str, Any]) -> None:
        choices = [*_list(schema.get("enum")), *([schema["const"]] if "const" in schema else ())]
        if choices:
            self._choices += len(choices)
            node.errors += len(orjson.dumps(choices)) // REPEATED_BYTES
            # Plain choices are looked up; lists and objects are compared part by part.
            composed = [choice for choice in choices if isinstance(choice, (dict, list))]
            node.weight += 1 + (len(orjson.dumps(composed)) if composed else 0)
        if self._choices > _MOST_CHOICES:
            _refuse(f"more than {_MOST_CHOICES} choices (enum)")
        if isinstance(schema.get("not"), dict):
            node.errors += len(orjson.dumps(schema["not"])) // REPEATED_BYTES
        if "propertyNames" in schema:
            self._has_names = True
        required = len(_list(schema.get("required")))
        node.weight += required // 2
        node.errors += required
        for name in ("dependentRequired", "dependencies"):
            for needed in _dict(schema.get(name)).values():
                node.weight += 1 + len(_list(needed))
                node.errors += len(_list(needed))
        if isinstance(schema.get("multipleOf"), float):
            node.weight += 100
        if schema.get("format") == "regex":
            _refuse("format: regex is not supported")
        if isinstance(pattern := schema.get("pattern"), str):
            node.same[self._pattern(pattern)] += 1
        if schema.get("uniqueItems") is True:
            self._has_unique = True
            node.add(_ANY_ITEM, 1)

    def _pattern(self, pattern: str) -> int:
        """A node that costs what the pattern does, on `BYTES` bytes."""
        count = min(positions(pattern), _MOST_POSITIONS + 1)
        self._positions += count
        self._wide += is_wide(pattern)
        if self._positions > _MOST_POSITIONS or self._wide > _MOST_WIDE:
            _refuse("its patterns are too many, too long, or repeat too much")
        self._nodes.append(_Node(weight=count * _POSITION))
        return len(self._nodes) - 1

    def _target(self, reference: Any) -> Any:
        """What a `$ref` points at. Raises SchemaError."""
        if not isinstance(reference, str):
            return True
        if reference in self._targets:
            return self._targets[reference]
        if reference != "#" and not reference.startswith("#/"):
            msg = "a $ref that points elsewhere; a schema must be self-contained"
            raise UnusableSchemaError(msg)
        target: Any = self._root
        for step in _ESCAPED.sub(_unescaped, reference[2:]).split("/") if reference != "#" else ():
            name = step.replace("~1", "/").replace("~0", "~")
            try:
                target = target[int(name) if isinstance(target, list) else name]
            except (KeyError, IndexError, ValueError, TypeError):
                msg = "a $ref that points to nothing"
                raise UnusableSchemaError(msg) from None
        self._targets[reference] = target
        return target

    def _flattened(self) -> list[_Node]:
        """Every node with the costs and inner nodes of its branches added to it."""
        flat: dict[int, _Node] = {}
        for number in self._branches_first():
            node = self._nodes[number]
            if len(node.same) == 1 and not node.inner:  # a $ref alone, as most are
                [(other, times)] = node.same.items()
                if times == 1:
                    branch = flat[other]
                    flat[number] = _Node(
                        min(node.weight + branch.weight, BUDGET),
                        min(node.errors + branch.errors, BUDGET),
                        inner=branch.inner,
                    )
                    continue
            whole = _Node(node.weight, node.errors)
            for key, counts in node.inner.items():
                whole.inner[key] = dict(counts)
                self._step(len(counts))
            for other, times in node.same.items():
                branch = flat[other]
                whole.weight += times * branch.weight
                whole.errors += times * branch.errors
                for key, counts in branch.inner.items():
                    self._step(len(counts))
                    for inner, often in counts.items():
                        whole.add(key, inner, times * often)
            whole.weight, whole.errors = min(whole.weight, BUDGET), min(whole.errors, BUDGET)
            flat[number] = whole
        return [flat[number] for number in range(len(self._nodes))]

    def _branches_first(self) -> Iterator[int]:
        """All nodes, each after those that are evaluated at the same value."""
        done: set[int] = set()
        for start in range(len(self._nodes)):
            path: dict[int, Iterator[int]] = {}
            if start not in done:
                path[start] = iter(self._nodes[start].same)
            while path:
                number = next(reversed(path))
                for other in path[number]:
                    if other in path:
                        _refuse("a $ref that leads back to itself at the same value")
                    if other not in done:
                        path[other] = iter(self._nodes[other].same)
                        break
                else:
                    done.add(number)
                    del path[number]
                    yield number

    def _by_level(
        self, flat: Sequence[_Node], root: int, now: list[int]
    ) -> tuple[tuple[int, ...], bool]:
        """The most units or errors of one value, by level below the root; `now` is by node."""
        by_level = [now[root]]
        while len(by_level) <= _MOST_LEVELS:
            last = now
            now = [min(self._heaviest(node, last), BUDGET) for node in flat]
            by_level.append(now[root])
            if now == last:
                return tuple(by_level), True
        return tuple(by_level), False

    def _heaviest(self, node: _Node, below: Sequence[int]) -> int:
        """The most that one field or one item of a value costs, `below` by node."""
        if not node.inner:
            return 0
        sums: dict[_Key, int] = {}
        for key, counts in node.inner.items():
            self._step(len(counts))
            sums[key] = sum(times * below[inner] for inner, times in counts.items())
        fields = sums.pop(_ANY_FIELD, 0)
        items = sums.pop(_ANY_ITEM, 0)
        named = max((total for key, total in sums.items() if isinstance(key, str)), default=0)
        placed = max((total for key, total in sums.items() if isinstance(key, int)), default=0)
        return max(fields + named, items + placed)

    def _step(self, steps: int) -> None:
        self._steps += steps
        if self._steps > _MOST_STEPS:
            _refuse("its references lead to too many subschemas")


def _unescaped(match: re.Match[str]) -> str:
    """The characters of percent-encoding in a reference."""
    return bytes.fromhex(match[0].replace("%", "")).decode("utf-8", "replace")


def _dict(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
