"""From what a model wrote to the object it meant, or to nothing, never to a guess."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.normalise import in_order, normalise_json, normalise_text

GOOD = '{"answer": "yes", "confidence": 0.9}'
MEANT = {"answer": "yes", "confidence": 0.9}


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(GOOD, id="plain"),
        pytest.param(f"\n\t {GOOD}  \r\n", id="blank space around it"),
        pytest.param("\ufeff" + GOOD, id="a byte order mark"),
        pytest.param(f"```json\n{GOOD}\n```", id="a json fence"),
        pytest.param(f"```\n{GOOD}\n```", id="a fence without a language"),
        pytest.param(f"```json {GOOD}```", id="a fence on one line"),
        pytest.param(
            f"Sure! Here it is:\n```json\n{GOOD}\n```\nAnything else?", id="a polite fence"
        ),
        pytest.param(f"The answer is {GOOD}. Hope it helps!", id="prose around it"),
        pytest.param(f"In {{braces}} style: {GOOD}", id="braces in the prose before"),
        pytest.param(f"{GOOD}\n\nNote: {{this}} is final.", id="braces in the prose after"),
        pytest.param(f"```json\n{GOOD}", id="a fence that never closes"),
    ],
)
def test_good_json_is_found(text):
    assert normalise_json(text) == MEANT


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("   ", id="blank"),
        pytest.param("I think so.", id="prose alone"),
        pytest.param('["yes"]', id="a list"),
        pytest.param('"yes"', id="a string"),
        pytest.param('{"a": NaN}', id="NaN"),
        pytest.param('{"a": Infinity}', id="infinity"),
        pytest.param('{"a": 1e999}', id="a number beyond 64 bits"),
        pytest.param('{"a": ' + "9" * 5000 + "}", id="an endless number"),
        pytest.param('So: {"a": ' + "9" * 5000 + "}", id="an endless number in prose"),
        pytest.param('{"a": 1, "a": 2}', id="a key twice"),
        pytest.param('So: {"a": 1, "a": 2} and {"b": 1}', id="a key twice, and a second guess"),
        pytest.param('{"a": {"b": 1}, "c', id="cut off after an inner object"),
        pytest.param('{"a": {"b": 1},', id="cut off after a comma"),
        pytest.param('{"a": "\\ud800"}', id="half a character"),
        pytest.param("{" * 5000, id="braces without end"),
        pytest.param('{"a":' * 5000 + "1" + "}" * 5000, id="nested without end"),
        pytest.param('So: {"a":' * 5000 + "1" + "}" * 5000, id="nested without end in prose"),
    ],
)
def test_what_is_no_answer_stays_none(text):
    assert normalise_json(text) is None


def test_a_fence_inside_the_answer_stays_there():
    written = {"answer": "```python\nd = {}\n```", "confidence": 1}

    assert normalise_json(json.dumps(written)) == written
    assert normalise_json(f"Here: {json.dumps(written)} Done.") == written


def test_emoji_in_two_escapes_are_one_character():
    assert normalise_json('{"a": "\\ud83d\\ude00"}') == {"a": "😀"}


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc"), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text("abcdef", min_size=1), JSON))
def test_every_object_survives_a_fence_and_prose(value):
    text = json.dumps(value)

    assert normalise_json(text) == value
    assert normalise_json(f"Certainly.\n```json\n{text}\n```") == value
    assert normalise_json(f"Certainly: {text}") == value


@given(st.text())
def test_no_text_is_too_strange(text):
    normalise_json(text)
    normalise_json("{" + text)


def test_fields_come_in_the_order_of_the_format():
    schema: dict[str, Any] = {"properties": {"answer": {}, "confidence": {}, "next_action": {}}}

    ordered = in_order({"confidence": 1, "more": 2, "answer": "a"}, schema)

    assert list(ordered) == ["answer", "confidence", "more"]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("  hello \n", id="trimmed"),
        pytest.param("```\nhello\n```", id="out of a fence that holds all of it"),
    ],
)
def test_plain_text(text):
    assert normalise_text(text) == {"answer": "hello"}
