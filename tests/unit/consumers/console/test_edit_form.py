"""The form of an edited answer says what the answer says, and shows where it breaks the format."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.console.edit_form import Control, controls_of, draft_of, edited_answer, fields_of
from router.json_schemas.validator import compile_schema
from router.judge.judging import OutputContract


def contract_of(schema: Mapping[str, Any], *, has_confidence: bool = False) -> OutputContract:
    return OutputContract("own", schema, compile_schema(orjson.dumps(schema)), has_confidence)


def an_object(**fields: Any) -> dict[str, Any]:
    return {"type": "object", "properties": fields}


def leaves(controls: Sequence[Control]) -> Iterator[Control]:
    for control in controls:
        yield control
        yield from leaves(control.parts)


def posted(controls: Sequence[Control]) -> dict[str, str]:
    """What a browser sends of a form that nobody has touched."""
    fields = {}
    for control in leaves(controls):
        if control.kind == "list":
            fields[f"rows{control.at}"] = str(len(control.parts))
        elif control.kind == "choice" and control.shown not in dict(control.options):
            fields[f"at{control.at}"] = control.options[0][0]
        elif control.kind != "group":
            fields[f"at{control.at}"] = control.shown.replace("\n", "\r\n")
    return fields


NAMES = st.text("ab/~.\u202e é", min_size=1, max_size=3)
TEXTS = st.text('ab \n\t\u202e\u00ad"<&é', max_size=8)
NODES: Any = st.recursive(
    st.sampled_from(
        [
            ({"type": "string"}, TEXTS),
            ({"type": ["string", "null"]}, st.none() | TEXTS),
            ({"type": "number"}, st.floats(allow_nan=False, allow_infinity=False)),
            ({"type": "integer", "minimum": 2}, st.integers(-5, 5)),
            ({"type": "boolean"}, st.booleans()),
            ({"enum": ["a", 1, True, None]}, st.sampled_from(["a", 1, True, None])),
            ({}, st.none() | st.booleans() | TEXTS | st.lists(st.integers(0, 3), max_size=2)),
            ({"anyOf": [{"type": "string"}, {"type": "null"}]}, st.none() | TEXTS),
        ]
    ),
    lambda inner: st.one_of(
        inner.map(lambda of: ({"type": "array", "items": of[0]}, st.lists(of[1], max_size=3))),
        st.dictionaries(NAMES, inner, max_size=3).map(
            lambda fields: (
                an_object(**{name: node for name, (node, _) in fields.items()}),
                st.fixed_dictionaries({}, optional={n: value for n, (_, value) in fields.items()}),
            )
        ),
    ),
    max_leaves=6,
)


@given(data=st.data())
def test_a_form_that_nobody_touches_leaves_the_answer_as_it_is(data: st.DataObject) -> None:
    fields = data.draw(st.dictionaries(NAMES, NODES, min_size=1, max_size=4))
    schema = an_object(**{name: node for name, (node, _) in fields.items()})
    values = {name: value for name, (_, value) in fields.items()}
    draft = data.draw(st.fixed_dictionaries({}, optional=values))
    draft |= data.draw(st.dictionaries(NAMES, TEXTS | st.integers(-9, 9), max_size=2))
    contract = contract_of(schema)

    controls = controls_of(draft, contract, {})
    assert controls is not None
    edited = edited_answer(draft, contract, fields_of(posted(controls)))
    assert not edited.problems
    dumps = [orjson.dumps(value, option=orjson.OPT_SORT_KEYS) for value in (edited.output, draft)]
    assert dumps[0] == dumps[1]


SCHEMA = {
    **an_object(
        name={"type": ["string", "null"]},
        level={"type": "integer", "minimum": 1, "maximum": 5},
        team={"enum": ["billing", "sales"]},
        urgent={"type": "boolean"},
        tags={"type": "array", "items": {"type": "string", "maxLength": 3}, "minItems": 1},
        address=an_object(city={"type": "string"}, code={"$ref": "#/$defs/code"}),
        lines={"type": "array", "items": an_object(sku={"type": "string"}, n={"type": "integer"})},
    ),
    "required": ["level", "team", "tags"],
    "$defs": {"code": {"type": "string", "pattern": "^[0-9]+$"}},
}
DRAFT = {"name": "Jane", "level": 2, "team": "sales", "urgent": True, "tags": ["a", "b"]}


def edited_with(**changes: str) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """The answer and its problems after changes in the form, with `_` for a slash in names."""
    contract = contract_of(SCHEMA)
    controls = controls_of(DRAFT, contract, {})
    assert controls is not None
    fields = posted(controls) | {name.replace("_", "/"): text for name, text in changes.items()}
    edited = edited_answer(DRAFT, contract, fields_of(fields))
    assert contract.validator is not None
    broken = contract.validator.problems(edited.output)
    found = [("".join(f"/{step}" for step in path), words) for path, words in broken]
    return edited.output, [*edited.problems] or edited.located(found)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({"at_level": "5"}, {"level": 5}, id="a number"),
        pytest.param({"at_team": '"billing"'}, {"team": "billing"}, id="a choice"),
        pytest.param({"at_urgent": "false"}, {"urgent": False}, id="yes or no"),
        pytest.param({"at_name": ""}, {"name": None}, id="nothing, where that is allowed"),
        pytest.param({"at_name": "a\r\nb"}, {"name": "a\nb"}, id="a text of two lines"),
        pytest.param({"out_tags_0": "yes"}, {"tags": ["b"]}, id="an item left out"),
        pytest.param({"at_tags_1": ""}, {"tags": ["a"]}, id="an item emptied"),
        pytest.param({"at_tags_2": "c"}, {"tags": ["a", "b", "c"]}, id="an item added"),
        pytest.param(
            {"at_address_city": "Porto"}, {"address": {"city": "Porto"}}, id="an object begun"
        ),
        pytest.param(
            {"at_lines_0_sku": "x", "at_lines_0_n": "2"},
            {"lines": [{"sku": "x", "n": 2}]},
            id="an object in a list",
        ),
    ],
)
def test_what_is_changed_in_the_form_is_changed_in_the_answer(
    changes: dict[str, str], expected: dict[str, Any]
) -> None:
    assert edited_with(**changes) == ({**DRAFT, **expected}, [])


@pytest.mark.parametrize(
    ("changes", "where", "words"),
    [
        pytest.param({"at_level": "9"}, "/level", "a whole number from 1 to 5", id="out of bounds"),
        pytest.param({"at_level": "many"}, "/level", "a whole number from 1 to 5", id="no number"),
        pytest.param({"at_level": ""}, "/level", "a whole number from 1 to 5", id="nothing"),
        pytest.param({"at_team": ""}, "/team", "one of billing, sales", id="no choice"),
        pytest.param(
            {"out_tags_0": "yes", "at_tags_1": "long"}, "/tags/1", "a text of at most 3 characters",
            id="an item by its place in the form",
        ),
        pytest.param({"at_tags_0": "", "at_tags_1": ""}, "/tags", "a list of at least 1 item",
            id="an empty list",
        ),
        pytest.param({"at_address_code": "x"}, "/address/code", "a text that fits ^[0-9]+$",
            id="by a reference",
        ),
        pytest.param({"at_level": "1" * 30}, "/level", "", id="more digits than are kept"),
    ],
)  # fmt: skip
def test_what_breaks_the_format_is_said_beside_its_control(
    changes: dict[str, str], where: str, words: str
) -> None:
    [problem] = edited_with(**changes)[1]
    assert problem[0] == where
    assert words in problem[1]


def test_the_confidence_is_a_person_s_and_not_in_the_form() -> None:
    schema = an_object(answer={"type": "string"}, confidence={"type": "number", "maximum": 1})
    contract = contract_of(schema, has_confidence=True)
    draft = draft_of({"answer": "x", "confidence": 0.3}, contract)

    controls = controls_of(draft, contract, {})
    assert controls is not None
    assert [control.label for control in controls] == ["answer"]
    edited = edited_answer(draft, contract, {"at/answer": "y"})
    assert edited.output == {"answer": "y", "confidence": 1}


def test_more_rows_keep_what_was_typed() -> None:
    typed = {"rows/tags": "3", "at/tags/2": "c", "out/tags/0": "yes", "more": "/tags"}
    controls = controls_of(DRAFT, contract_of(SCHEMA), typed)
    assert controls is not None
    tags = next(control for control in controls if control.label == "tags")
    assert [item.shown for item in tags.parts] == ["a", "b", "c", "", "", ""]
    assert tags.parts[0].is_left_out


@pytest.mark.parametrize(
    ("draft", "schema"),
    [
        pytest.param({"tool_calls": []}, SCHEMA, id="calls of tools"),
        pytest.param({}, {"type": "object"}, id="a format that names no fields"),
        pytest.param({"tags": ["x"] * 300}, SCHEMA, id="very many fields"),
        pytest.param({}, an_object(**{key: {"$ref": "#"} for key in "abcd"}), id="itself"),
    ],
)
def test_what_no_form_fits_is_edited_as_json(draft: dict[str, Any], schema: Any) -> None:
    assert controls_of(draft, contract_of(schema), {}) is None
