"""A schema kept to while writing never lets through another answer than the schema itself."""

from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.json_schemas.strict import strict_form
from tests.builders import the_policy

CLOSED = {"type": "object", "additionalProperties": False}


@pytest.mark.parametrize("name", sorted(the_policy().formats))
def test_every_shipped_format_has_a_strict_form(name):
    assert strict_form(the_policy().formats[name], all_required=True)


def test_bounds_become_words():
    schema = {"type": "integer", "minimum": 1, "maximum": 5, "description": "Stars."}

    assert strict_form(schema, all_required=True) == {
        "type": "integer",
        "description": "Stars. (minimum: 1, maximum: 5)",
    }


@pytest.mark.parametrize(
    ("schema", "form"),
    [
        ({"enum": ["a", "b"]}, {"type": "string", "enum": ["a", "b"]}),
        ({"type": "integer", "const": 3}, {"type": "integer", "enum": [3]}),
        (
            {"enum": ["a", None], "description": "If known."},
            {
                "description": "If known.",
                "anyOf": [{"type": "string", "enum": ["a"]}, {"type": "null", "enum": [None]}],
            },
        ),
        ({"enum": [["a"]]}, None),
        ({"enum": []}, None),
    ],
)
def test_every_choice_has_a_type(schema, form):
    assert strict_form(schema, all_required=True) == form


@pytest.mark.parametrize(
    "schema",
    [
        pytest.param(True, id="anything"),
        pytest.param({}, id="anything, as an object"),
        pytest.param({"type": "object"}, id="an open object"),
        pytest.param({"type": "object", "additionalProperties": {"type": "string"}}, id="a map"),
        pytest.param({**CLOSED, "patternProperties": {"^x": {}}}, id="names by pattern"),
        pytest.param({"not": {"type": "string"}}, id="not"),
        pytest.param({"oneOf": [{"type": "string"}]}, id="exactly one of"),
        pytest.param({"type": "array", "items": {"type": "object"}}, id="open within a list"),
        pytest.param({"anyOf": [{"type": "object"}]}, id="open within a choice"),
        pytest.param({**CLOSED, "properties": []}, id="nonsense"),
    ],
)
def test_what_cannot_be_kept_to_has_none(schema):
    assert strict_form(schema, all_required=False) is None


def test_fields_that_may_be_absent_are_for_those_who_can():
    schema = {**CLOSED, "properties": {"a": {"type": "string"}}}

    assert strict_form(schema, all_required=True) is None
    assert strict_form(schema, all_required=False) is not None


leaves = st.sampled_from(
    [
        {"type": "string", "minLength": 2},
        {"type": "integer", "minimum": 0},
        {"type": ["string", "null"]},
        {"enum": ["a", "b", None]},
        {"const": 3},
        {"type": "boolean"},
    ]
)


def objects(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    fields = st.dictionaries(st.sampled_from("abc"), inner, min_size=1)
    return fields.map(
        lambda properties: {**CLOSED, "properties": properties, "required": sorted(properties)}
    )


schemas = st.recursive(
    leaves,
    lambda inner: (
        objects(inner)
        | inner.map(lambda item: {"type": "array", "items": item, "maxItems": 3})
        | st.lists(inner, min_size=1, max_size=2).map(lambda many: {"anyOf": many})
    ),
    max_leaves=5,
)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 4) | st.sampled_from(["", "a", "abc"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("abcd"), inner),
    max_leaves=5,
)


@given(schemas, values)
def test_whatever_the_schema_allows_its_strict_form_allows(schema, value):
    form = strict_form(schema, all_required=True)

    assert form is not None
    if jsonschema_rs.is_valid(schema, value):
        assert jsonschema_rs.is_valid(form, value)


@given(
    st.recursive(
        values,
        lambda inner: st.dictionaries(
            st.sampled_from(
                [
                    "type",
                    "properties",
                    "items",
                    "anyOf",
                    "required",
                    "enum",
                    "$defs",
                    "additionalProperties",
                ]
            ),
            inner,
        ),
    )
)
def test_no_schema_of_a_producer_breaks_it(schema):
    strict_form(schema, all_required=True)
