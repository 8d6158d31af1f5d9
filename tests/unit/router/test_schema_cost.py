"""What a schema costs: ordinary ones pass, and the estimate is never below what is evaluated."""

import json
from pathlib import Path
from typing import Any

import orjson
import pytest

from router.json_schemas.budget import BUDGET
from router.json_schemas.cost import SchemaError, costs_of
from router.json_schemas.pattern_cost import positions
from router.json_schemas.validator import Validator, compile_schema

TREE: dict[str, Any] = {
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "left": {"$ref": "#/$defs/node"},
                "right": {"$ref": "#/$defs/node"},
                "value": {"type": "integer"},
            },
            "required": ["value"],
        }
    },
    "$ref": "#/$defs/node",
}
FILTER: dict[str, Any] = {
    "anyOf": [
        {"required": ["all"], "properties": {"all": {"items": {"$ref": "#"}}}},
        {"required": ["any"], "properties": {"any": {"items": {"$ref": "#"}}}},
        {"required": ["not"], "properties": {"not": {"$ref": "#"}}},
        {"required": ["field"], "properties": {"field": {"type": "string"}}},
    ]
}


def compiled(schema: Any) -> Validator:
    return compile_schema(orjson.dumps(schema))


@pytest.mark.parametrize("file", sorted(Path("schemas/published").glob("*.json")), ids=str)
def test_every_published_contract_is_within_bounds(file):
    assert not compile_schema(file.read_bytes()).is_valid([])


def test_a_recursive_format_validates_deep_answers():
    value: dict[str, Any] = {"value": 1}
    for number in range(14):
        value = {"value": number, "left": value, "right": {"value": number}}

    assert compiled(TREE).fault(value, "the format's") is None
    value["left"]["left"]["value"] = "one"
    fault = compiled(TREE).fault(value, "the format's")
    assert fault is not None
    assert fault.endswith("value/type")


def test_a_union_of_recursive_kinds_costs_no_more_with_depth_where_their_fields_differ():
    assert costs_of(FILTER, 0).is_live
    assert compiled(FILTER).is_valid({"all": [{"field": "a"}, {"not": {"field": "b"}}]})


def test_an_answer_over_the_budget_fails_in_words():
    ours = compiled({"items": {"anyOf": [{"type": "null"}, {"type": "string"}]}})

    assert "too large" in str(ours.fault([1] * BUDGET, "the format's"))
    assert "too large to say which rule" in str(ours.fault([1] * 2_000, "the format's"))
    assert ours.fault([1], "the format's") == "breaks the format's rule items/anyOf"
    assert [words for _, words in ours.problems([1] * 2_000)]


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"required": [f"n{no}" for no in range(6_000)]}, {"a": "x" * 40_000}),
        ({"dependentRequired": {"a": [f"n{no}" for no in range(500)]}}, {"a": "x" * 40_000}),
        ({"allOf": [{"required": ["b"]}] * 500}, {"a": "x" * 40_000}),
        ({"propertyNames": {"maxLength": 1}}, {f"k{no}": no for no in range(1_000)}),
    ],
    ids=lambda part: next(iter(part)),
)
def test_errors_that_would_copy_a_value_many_times_are_not_made(schema, value):
    fault = "it breaks the format's schema; it is too large to say which rule"
    assert compiled(schema).problems(value) == [([], fault)]


def test_what_an_ordinary_answer_breaks_is_told_rule_by_rule():
    item = {"properties": {"n": {"type": "string"}, "no": {"type": "integer"}}, "required": ["n"]}
    ours = compiled({"properties": {"items": {"items": item}}, "required": ["items"]})

    problems = ours.problems({"items": [{"n": 7, "no": no} for no in range(20)]})

    assert problems[0] == (["items", 0, "n"], '7 is not of type "string"')
    assert len(problems) == 20


@pytest.mark.parametrize("keyword", ["allOf", "anyOf", "oneOf"])
def test_the_estimate_counts_every_evaluation_of_references_that_multiply(keyword):
    steps = {f"s{no}": {keyword: [{"$ref": f"#/$defs/s{no + 1}"}] * 3} for no in range(4)}
    schema = {"$ref": "#/$defs/s0", "$defs": {**steps, "s4": {"type": "object"}}}

    work, _ = costs_of(schema, 0).of({})

    assert work >= 3**4


@pytest.mark.parametrize(
    ("reference", "name"),
    [("#/$defs/a%20b", "a b"), ("#/$defs/a~1b", "a/b"), ("#/$defs/%C3%A9", "é")],
)
def test_references_are_read_as_the_library_reads_them(reference, name):
    ours = compiled({"$defs": {name: {"type": "integer"}}, "items": {"$ref": reference}})

    assert ours.is_valid([1])
    assert not ours.is_valid(["one"])


@pytest.mark.parametrize(
    ("pattern", "least"),
    [
        ("a{500}", 500),
        ("((ab){10}c){20}", 420),
        ("(a{2}){3}{4}", 24),
        (r"\(a{9}", 9),
        ("[(]a{9}", 9),
    ],
)
def test_repeats_of_a_pattern_are_counted_out(pattern, least):
    assert positions(pattern) >= least


def test_a_schema_over_the_bounds_says_which():
    with pytest.raises(SchemaError, match="65536"):
        compile_schema(json.dumps({"description": "x" * 70_000}).encode())
    with pytest.raises(SchemaError, match="subschemas"):
        compiled({"properties": {f"p{no}": {} for no in range(3_000)}})
