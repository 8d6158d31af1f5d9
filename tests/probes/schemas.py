"""JSON Schemas and answers that cost more than they look: each ends soon, refused or judged.

A hostile schema comes as `output_format`, as the chat body's `response_format` and as a tool's
`parameters`. It goes through the code that the processes run: intake, route, the worker's
preparation, every provider's format, and the judging of answers. What is measured is the time on
the processor, for which a process's event loop would have stood still.
"""

import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import orjson

from consumers.policies import Policies
from consumers.providers.wires import WIRES
from consumers.rules import load_rules
from consumers.settings import Settings
from consumers.stages.route import Router
from consumers.stages.tier_run import TierRun
from router.checks import named
from router.errors import PolicyError
from router.json_schemas.cost import SchemaError
from router.json_schemas.validator import Validator, compile_schema, forget_schemas
from router.judge.judging import judge
from router.policy.load import load_policy
from router.prompts.chat_fields import CHAT_FIELDS
from router.reply.reply import Reply
from schemas.base import Tier
from schemas.codec import read_dead_letter, read_envelope
from schemas.escalation import Assignment
from schemas.intake import read_request
from schemas.reasons import Reason
from schemas.topics import Topics
from schemas.usage import Usage
from tests.builders import NOON, POLICY_FILE, a_record, a_worker, decided
from tests.probes.report import ProbeClass, Report

__all__ = ["CLASS", "hostile_bodies"]

MOST_SECONDS = 0.05
_RULES = load_rules(Settings())
_TOPICS = Topics()
_REFUSED = (Reason.UNSUPPORTED_SCHEMA, Reason.INVALID_FIELD, Reason.TOO_DEEP, Reason.TOO_LARGE)
_OBJECT = {"type": "object"}
_SIZES = (10, 30, 100, 300, 1_000, 4_000)


class Hostile(NamedTuple):
    """A schema, and answers to be held against it."""

    name: str
    schema: Any
    answers: tuple[Any, ...] = ({"a": 1}, {})


def _ladder(keyword: str, levels: int, width: int, ground: Any = None) -> dict[str, Any]:
    """Levels of branches, each of which refers to the next one several times."""
    steps = {f"s{no}": {keyword: [{"$ref": f"#/$defs/s{no + 1}"}] * width} for no in range(levels)}
    return {
        **_OBJECT,
        "allOf": [{"$ref": "#/$defs/s0"}],
        "$defs": {**steps, f"s{levels}": ground or _OBJECT},
    }


def _around(levels: int, wrap: Callable[[Any], Any], inner: Any) -> Any:
    for _ in range(levels):
        inner = wrap(inner)
    return inner


def _branches() -> Iterator[Hostile]:
    for keyword in ("allOf", "anyOf", "oneOf"):
        for levels, width in ((20, 10), (24, 2), (6, 10), (3, 10), (2, 40)):
            yield Hostile(f"{keyword} {levels}x{width}", _ladder(keyword, levels, width))
        yield Hostile(f"{keyword} that fails", _ladder(keyword, 3, 8, {"required": ["zz"]}))
    for name, wrap in (
        ("not", lambda one: {"not": one}),
        ("if", lambda one: {"if": one, "then": one, "else": one}),
        ("dependentSchemas", lambda one: {"dependentSchemas": {"a": one, "b": one}}),
        ("anyOf unevaluated", lambda one: {"anyOf": [one], "unevaluatedProperties": False}),
        ("allOf unevaluated", lambda one: {"allOf": [one, one], "unevaluatedItems": False}),
        ("types", lambda one: {"type": ["object", "null", "array"], "properties": {"a": one}}),
    ):
        levels = 12 if name in ("if", "dependentSchemas", "allOf unevaluated") else 14
        yield Hostile(f"{name} nested", _around(levels, wrap, {"required": ["a"]}))


def _recursion() -> Iterator[Hostile]:
    yield Hostile("itself", {"$ref": "#"})
    yield Hostile("itself by allOf", {**_OBJECT, "allOf": [{"$ref": "#"}]})
    yield Hostile(
        "two in a circle",
        {
            "$ref": "#/$defs/a",
            "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/b"}]}, "b": {"not": {"$ref": "#/$defs/a"}}},
        },
    )
    yield Hostile(
        "$dynamicRef",
        {**_OBJECT, "$dynamicAnchor": "x", "properties": {"a": {"$dynamicRef": "#x"}}},
    )
    yield Hostile("$recursiveRef", {**_OBJECT, "properties": {"a": {"$recursiveRef": "#"}}})
    chain: Any = 1
    for _ in range(28):
        chain = {"a": chain}
    for width in (2, 3, 10):
        twice = {"properties": {"a": {"$ref": "#"}}}
        yield Hostile(
            f"a child {width} times", {"allOf": [twice] * width}, (chain, {"a": {"a": 1}})
        )
        kinds = [
            {"required": ["k"], "properties": {"k": {"const": no}, "a": {"$ref": "#"}}}
            for no in range(width)
        ]
        yield Hostile(f"a union of {width}", {**_OBJECT, "anyOf": kinds}, (chain, {"a": {"k": 1}}))
    names = {
        f"n{no}": {"properties": {f"p{one}": {"$ref": f"#/$defs/n{one}"} for one in range(30)}}
        for no in range(30)
    }
    yield Hostile("all refer to all", {"$ref": "#/$defs/n0", "$defs": names}, ({"p1": {"p2": {}}},))
    later = {
        f"n{no}": {"allOf": [{"$ref": f"#/$defs/n{one}"} for one in range(no + 1, 40)]}
        for no in range(40)
    }
    yield Hostile("all refer to later ones", {"$ref": "#/$defs/n0", "$defs": later})
    many: dict[str, Any] = {f"p{no}": {} for no in range(900)}
    yield Hostile(
        "one large part 900 times",
        {"$defs": {"a": {"properties": many}}, "allOf": [{"$ref": "#/$defs/a"}] * 900},
    )
    yield Hostile(
        "an id that moves references",
        {"$defs": {"a": {"$id": "x:y", "properties": {"a": {"$ref": "#"}}}}, "$ref": "#/$defs/a"},
    )
    for target in (
        "https://127.0.0.1:1/x",
        "file:///etc/passwd",
        "#x",
        "#/$defs/none",
        "other.json",
        "urn:x",
    ):
        yield Hostile(f"$ref {target}", {**_OBJECT, "properties": {"a": {"$ref": target}}})
    yield Hostile("a foreign dialect", {"$schema": "https://127.0.0.1:1/dialect", **_OBJECT})


def _sizes() -> Iterator[Hostile]:
    fields = {f"p{no}": {"type": "string"} for no in range(1_900)}
    yield Hostile("1,900 fields", {**_OBJECT, "properties": fields}, (dict.fromkeys(fields, "x"),))
    yield Hostile(
        "60,000 fields", {**_OBJECT, "properties": {f"p{no}": True for no in range(15_000)}}
    )
    yield Hostile("500 kB of words", {**_OBJECT, "description": "x" * 500_000})
    yield Hostile("60 kB of required", {**_OBJECT, "required": [f"f{no}" for no in range(6_000)]})
    deep = _around(13, lambda one: {"properties": {"a": one}}, {})
    yield Hostile("deep", deep)
    yield Hostile("too deep", _around(40, lambda one: {"items": one}, {}))
    yield Hostile(
        "20,000 choices", {"properties": {"a": {"enum": [f"c{no}" for no in range(8_000)]}}}
    )
    choice = [[0] * 200 + [no] for no in range(90)]
    yield Hostile(
        "long lists as choices",
        {"properties": {"a": {"items": {"enum": choice}}}},
        ({"a": [[0] * 201] * 300},),
    )
    objects = [{"a": [no] * 5} for no in range(600)]
    yield Hostile(
        "objects as choices",
        {"additionalProperties": {"items": {"enum": objects}}},
        ({"a": objects * 5},),
    )
    words = [f"{'c' * 12}{no}" for no in range(3_000)]
    yield Hostile(
        "choices that fail",
        {"additionalProperties": {"items": {"enum": words}}},
        ({"a": ["none"] * 2_000},),
    )


_PATTERNS = (
    "^(a+)+$",
    "(x+x+)+y",
    "^(a|a)*b$",
    "(a?){128}a{128}c",
    "a[ab]{180}c",
    "a[^c]{300}c",
    r"(\w{1,235}a?)*c",
    "(.{0,60}a){3}c",
    "((a{1,50}){1,50}){1,50}",
    "(a{1,100}){1,100}",
    r"\p{L}{1,500}",
    "(?=a)b",
    r"(a)\1",
    "(?<=a)b",
    "(",
    "[",
    "(?i)" + "|".join(f"w{i}" for i in range(400)),
    "(" * 2_000,
    "a{99999}",
    "(?x)(a b c) {1000}",
    "[()]{200}(a[)]b){90}",
    ".{1,200}c",
)


def _patterns() -> Iterator[Hostile]:
    texts = ("ab" * 8_000, "a" * 300, "aé€" * 2_000, "x" * 200_000)
    for no, pattern in enumerate(_PATTERNS):
        schema = {**_OBJECT, "additionalProperties": {"pattern": pattern}}
        yield Hostile(f"pattern {no}: {pattern[:30]}", schema, tuple({"a": text} for text in texts))
    names = {f"k{no}": no for no in range(2_000)}
    by_pattern = {
        "patternProperties": {f"^k.*{no}$": {} for no in range(8)},
        "additionalProperties": False,
    }
    yield Hostile("names by pattern", by_pattern, (names,))
    yield Hostile(
        "names by pattern, unevaluated",
        {**by_pattern, "anyOf": [by_pattern], "unevaluatedProperties": False},
        (names,),
    )
    yield Hostile(
        "names of fields",
        {"propertyNames": {"pattern": "a[ab]{100}c"}},
        ({"ab" * 20_000: 1, **names},),
    )
    yield Hostile("300 patterns", {"allOf": [{"pattern": f"x{no}"} for no in range(300)]})
    yield Hostile(
        "12 large patterns",
        {
            "allOf": [
                {"properties": {"a": {"pattern": rf"\p{{L}}{{1,{no}}}"}}} for no in range(1, 13)
            ]
        },
    )
    yield Hostile(
        "format: regex",
        {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "properties": {"a": {"format": "regex"}},
        },
        ({"a": r"\p{L}" * 30_000},),
    )
    for form in ("idn-hostname", "email", "uri-template", "iri", "date-time", "json-pointer"):
        schema = {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "properties": {"a": {"format": form}},
        }
        yield Hostile(
            f"format: {form}", schema, ({"a": "xn--" + "a9." * 60_000}, {"a": "ü{" * 60_000})
        )


def _values() -> Iterator[Hostile]:
    unique = {"additionalProperties": {"uniqueItems": True}}
    for name, items in {
        "100,000 numbers": list(range(100_000)),
        "50,000 numbers of 63 bits": [2**62 + no for no in range(50_000)],
        "1,000 numbers of 63 bits": [2**62 + no for no in range(1_000)],
        "20,000 tiny numbers": [no * 5e-324 for no in range(20_000)],
        "objects with large numbers": [{"a": 2**62 + no} for no in range(5_000)],
        "20,000 nested objects": [{"a": {"b": {"c": no}}} for no in range(20_000)],
        "16 long lists": [[0] * 5_000 + [no] for no in range(16)],
    }.items():
        yield Hostile(f"unique: {name}", unique, ({"a": items},))
    nested = _around(10, lambda one: {"uniqueItems": True, "items": one}, {})
    yield Hostile(
        "unique in unique",
        {"additionalProperties": nested},
        ({"a": _around(10, lambda one: [one, 1, [one]], [1, 2])},),
    )
    yield Hostile(
        "contains",
        {"additionalProperties": {"contains": {"const": 5}, "minContains": 9_999}},
        ({"a": list(range(100_000))},),
    )
    failing = {"additionalProperties": {"items": {"anyOf": [{"type": "null"}] * 10}}}
    objects = [{"a": "x" * 50} for _ in range(20_000)]
    for name, schema in {
        "each item fails ten times": failing,
        "each item fails": {"additionalProperties": {"items": {"type": "null"}}},
        "the whole fails 50 times": {"additionalProperties": {"anyOf": [{"type": "null"}] * 50}},
        "each item fails by oneOf": {
            "additionalProperties": {"items": {"oneOf": [{"required": ["z"]}, {"type": "null"}]}}
        },
    }.items():
        yield Hostile(name, schema, tuple({"a": objects[:size]} for size in (20_000, 1_000, 200)))
    yield Hostile(
        "multipleOf",
        {"additionalProperties": {"items": {"multipleOf": 1e-5}}},
        ({"a": [1.1e300 * no for no in range(20_000)]},),
    )
    deep: Any = _around(600, lambda one: [one], 1)
    yield Hostile(
        "an answer of 600 levels",
        {"additionalProperties": {"items": {"$ref": "#/additionalProperties"}}},
        ({"a": deep},),
    )
    yield Hostile(
        "a text of a megabyte",
        {"additionalProperties": {"minLength": 5, "pattern": "^a.*b$"}},
        ({"a": "a" * 1_000_000},),
    )
    yield Hostile(
        "40,000 fields",
        {"additionalProperties": {"type": "integer"}, "maxProperties": 5},
        ({f"k{no}": no for no in range(40_000)},),
    )


def _errors() -> Iterator[Hostile]:
    """A value that breaks many rules: each error comes with a copy of what it is about."""
    names = [f"n{no}" for no in range(6_000)]
    ground = {"required": ["zz"]}
    for name, schema in {
        "required": {"required": names},
        "dependentRequired": {"dependentRequired": {"k0": names}},
        "dependencies": {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "dependencies": {"k0": names},
        },
        "a long allOf": {"allOf": [ground] * 600},
        "a long allOf of conditions": {"allOf": [{"if": {}, "then": ground}] * 300},
        "anyOf in anyOf": _ladder("anyOf", 4, 5, ground),
        "names": {"propertyNames": {"maxLength": 0}},
        "names inside": {"additionalProperties": {"propertyNames": {"maxLength": 0}}},
        "choices": {"additionalProperties": {"enum": [f"{'c' * 60}{no}" for no in range(900)]}},
        "not": {"additionalProperties": {"not": {"description": "x" * 50_000}}},
        "items": {"additionalProperties": {"items": {"anyOf": [ground] * 5}}},
    }.items():
        flat = (dict.fromkeys((f"k{no}" for no in range(size)), 7) for size in _SIZES)
        deep = ({"k0": [{"a": no} for no in range(size)]} for size in _SIZES)
        long = ({"k0": "x" * 10 * size} for size in _SIZES)
        yield Hostile(f"errors of {name}", schema, (*flat, *deep, *long))


def _all() -> Iterator[Hostile]:
    for make in (_branches, _recursion, _sizes, _patterns, _values, _errors):
        yield from make()


class _Clock:
    """The longest time that one step held the processor."""

    def __init__(self) -> None:
        self.longest, self.where = 0.0, ""

    def run(self, where: str, step: Callable[[], Any]) -> Any:
        began = time.thread_time()
        made = step()
        took = time.thread_time() - began
        if took > self.longest:
            self.longest, self.where = took, where
        return made


def _bodies(schema: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    plain = {"id": "r-1", "task": "extraction", "plan": "enterprise", "input": "Order 7, please"}
    chat = {"messages": [{"role": "user", "content": "Order 7, please"}]}
    yield "output_format", {**plain, "output_format": schema}
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    yield "response_format", {**plain, "input": {**chat, "response_format": wanted}}
    tool = {"type": "function", "function": {"name": "look_up", "parameters": schema}}
    yield "tool", {**plain, "input": {**chat, "tools": [tool]}}


def hostile_bodies() -> Iterator[dict[str, Any]]:
    """Every hostile schema at every place of a request, for whoever sends them through a flow."""
    for hostile in _all():
        for _, body in _bodies(hostile.schema):
            yield {name: value for name, value in body.items() if name != "id"}


def _tried(value: bytes, answers: tuple[Any, ...], clock: _Clock) -> str | None:
    """What is wrong with a request's way; None when it ended as refused or judged."""
    router = Router(Policies(_RULES), _TOPICS, lambda: NOON)
    [out] = clock.run("route", lambda: decided(router, a_record(value)))
    if out.topic == _TOPICS.dead_letters:
        letter = read_dead_letter(out.headers)
        known = letter.reason in _REFUSED and bool(letter.detail)
        return None if known else f"refused as {letter.reason}: {letter.detail}"
    assignment, raw = read_envelope(Assignment, out.value)
    tier: Tier = assignment.route.tier
    worker = a_worker(tier, Policies(_RULES), None)  # type: ignore[arg-type]
    request = read_request(raw, {}, fallback_id="x")
    job: TierRun = clock.run("work", lambda: worker.prepare(assignment, request, raw, _RULES))
    model = next(iter(_RULES.policy.models.values()))
    for name, wire in WIRES.items():
        body, _ = job.question.body(request, model, CHAT_FIELDS[name])
        sent = orjson.dumps(clock.run(f"the format {name}", partial(wire.encode, body)))
        if len(sent) > 4 * len(value) + 20_000:
            return f"{name} is sent {len(sent)} bytes"
    for answer in answers:
        text = json.dumps(answer)
        call = {"id": "c", "type": "function", "function": {"name": "look_up", "arguments": text}}
        replied = {"choices": [{"message": {"tool_calls": [call]}, "finish_reason": "tool_calls"}]}
        calls = Reply("", "tool_calls", Usage(), replied)
        said = Reply(text, "stop", Usage(), {"choices": [{"message": {"content": text}}]})
        reply = calls if job.question.contract.has_tools else said
        checks = named("schema", "tool_calls")
        clock.run("judge", partial(judge, reply, job.question.contract, 0.5, checks, job.asked))
    return None


async def run(report: Report, _: str) -> None:
    """Try every schema in every place, and every answer against a format of the policy's own."""
    for hostile in _all():
        for place, body in _bodies(hostile.schema):
            value = orjson.dumps(body)
            _try(report, f"{hostile.name} as {place}", partial(_tried, value, hostile.answers))
        _try(report, f"{hostile.name} as the policy's own", partial(_loaded, hostile))
    _refused_by_line(report)


def _loaded(hostile: Hostile, clock: _Clock) -> str | None:
    try:
        written = orjson.dumps(hostile.schema)
        ours: Validator = clock.run("load", partial(compile_schema, written))
    except SchemaError as error:
        return None if str(error) else "refused without a word"
    for answer in hostile.answers:
        clock.run("judge", partial(ours.fault, answer, "the format's"))
        clock.run("edit", partial(ours.problems, answer))
    return None


def _try(report: Report, name: str, way: Callable[[_Clock], str | None]) -> None:
    """Try one; what took too long is measured again, as others share the processor's caches."""
    wrong: str | None = None
    for _ in range(3):
        forget_schemas()
        clock = _Clock()
        wrong = way(clock)
        if wrong is None and clock.longest > MOST_SECONDS:
            wrong = f"{clock.where} took {clock.longest * 1000:.0f} ms"
        else:
            break
    report.note(name, through=wrong)


def _refused_by_line(report: Report) -> None:
    """A policy's format that is out of bounds is named with its line."""
    shipped = POLICY_FILE.read_text(encoding="utf-8")
    for keyword in ("allOf", "anyOf", "oneOf"):
        ladder = orjson.dumps(_ladder(keyword, 8, 10)).decode()
        text = shipped.replace("\nformats:\n", f"\nformats:\n  hostile: {ladder}\n")
        line = text[: text.index("  hostile: ")].count("\n") + 1
        try:
            load_policy(text, "policy.yaml")
            wrong: str | None = "it was loaded"
        except PolicyError as error:
            wrong = None if f"policy.yaml:{line}:" in str(error) else str(error)
        report.note(f"a policy's format of {keyword}", through=wrong)


CLASS = ProbeClass("schemas", 60, run)
