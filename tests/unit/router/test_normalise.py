"""From what a model wrote to the object it meant, or to nothing, never to a guess."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.reply.normalise import conformed, normalise_json, normalise_text
from schemas.json_numbers import as_json

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
        pytest.param(json.dumps(GOOD), id="written as JSON twice"),
        pytest.param(f"Not {{}}: {GOOD}", id="an empty one spoken of"),
        pytest.param(f"```json\n// as asked\n{GOOD}\n```", id="a comment before it in the fence"),
        pytest.param(f"```js\nf = () => {{}}\n```\nSo {GOOD}", id="code before it"),
        pytest.param(f"A ```fence``` in prose. {GOOD}", id="an inline fence before it"),
        pytest.param(f"{'{ x } ' * 300}{GOOD}", id="many other braces before it"),
        pytest.param(f"```json\n{GOOD}\n```\n```json\n{GOOD}\n```", id="the same one twice"),
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
        pytest.param('{"a": 1} or rather {"a": 2}', id="two that differ"),
        pytest.param('```\n{"a": 1}\n```\n```\n{"a": 2}\n```', id="two fences that differ"),
        pytest.param('Like {"a": 1}: {"a": 2}', id="an example before the answer"),
        pytest.param('{"a": {"b": 1}, "c', id="cut off after an inner object"),
        pytest.param('{"a": {"b": 1}, c: {"d": 1}}', id="broken around inner objects"),
        pytest.param('```json\n{"a": 1,}\n```\nwith {"b": 1}', id="broken in its fence"),
        pytest.param('{"a": 1e-400}', id="too small for a double"),
        pytest.param('{"a": 0.1, "a": 0.12345678901234567891}', id="a key twice, many digits"),
        pytest.param(
            '{"a": 0.12345678901234567891} or {"a": 0.12345678901234567892}',
            id="two that differ in the last digit",
        ),
        pytest.param('{"a": "x\ny", "b": 1, "b": 2}', id="line breaks, and a key twice"),
        pytest.param('{"a": {"b": 1},', id="cut off after a comma"),
        pytest.param('{"a": "\\ud800"}', id="half a character"),
        pytest.param("{" * 5000, id="braces without end"),
        pytest.param('{"a":' * 5000 + "1" + "}" * 5000, id="nested without end"),
        pytest.param('So: {"a":' * 5000 + "1" + "}" * 5000, id="nested without end in prose"),
    ],
)
def test_what_is_no_answer_stays_none(text):
    assert normalise_json(text) is None


@pytest.mark.parametrize("around", ["{}", "Sure: {}", "```json\n{}\n```"])
@pytest.mark.parametrize(
    "number",
    [
        pytest.param("184467440737095516170001", id="an integer beyond 64 bits"),
        pytest.param("1234567890123456.78", id="more digits than a double has"),
        pytest.param("9007199254740993.0", id="the next double says another number"),
        pytest.param("0.90000000000000002", id="a double that is written shorter"),
        pytest.param("-0", id="a sign that an integer cannot keep"),
        pytest.param("1.7976931348623157080e308", id="the largest"),
    ],
)
def test_a_number_keeps_every_digit(number, around):
    parsed = normalise_json(around.replace("{}", f'{{"a": [{number}], "b": "x\ny", "c": 0.5}}'))

    assert parsed is not None
    voice = conformed(parsed, {"properties": {"c": {}}})
    assert as_json(voice) == f'{{"c":0.5,"a":[{number}],"b":"x\\ny"}}'.encode()


def test_a_fence_inside_the_answer_stays_there():
    written = {"answer": "```python\nd = {}\n```", "confidence": 1}

    assert normalise_json(json.dumps(written)) == written
    assert normalise_json(f"Here: {json.dumps(written)} Done.") == written


@pytest.mark.parametrize("around", ["{}", "Sure: {}", "Sure:\n```json\n{}\n```\nGood luck!"])
@pytest.mark.parametrize(
    "text",
    [
        "no object is ```{}``` here",
        '```json\n{"a": 1}\n```',
        'say {"b": 2}',
        "a } and a {",
        'quoted \\" and "',
        "~~~ ``` `{`",
    ],
)
def test_fences_and_braces_in_a_text_are_text(around, text):
    written = {"code": text, "confidence": 0.9}

    assert normalise_json(around.replace("{}", json.dumps(written), 1)) == written


def test_line_breaks_in_a_text_are_forgiven():
    assert normalise_json('So: {"a": "one\ntwo\tthree", "b": 1}') == {
        "a": "one\ntwo\tthree",
        "b": 1,
    }


@pytest.mark.parametrize("number", ["0.1", "0.9000000000000002", "1E25", "-0.0", "5e-324", "1e300"])
def test_a_number_that_a_double_says_in_full_is_kept(number):
    assert normalise_json(f'{{"a": {number}}}') == {"a": float(number)}


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


FIELDS: dict[str, Any] = {
    "properties": {
        "answer": {"type": "string", "maxLength": 40},
        "team": {"enum": ["billing", "how_to", 3]},
        "due": {"type": ["string", "null"], "format": "date"},
        "at": {"type": "string", "format": "date-time"},
        "lines": {"type": "array", "items": {"properties": {"on": {"format": "date"}}}},
        "sign_off": {"const": "Your support team"},
        "next_action": {"enum": ["none", "ask_user"], "default": "none"},
    }
}
FILLED = {"sign_off": "Your support team", "next_action": "none"}


def test_fields_come_in_the_order_of_the_format():
    schema: dict[str, Any] = {"properties": {"answer": {}, "confidence": {}, "next_action": {}}}

    ordered = conformed({"confidence": 1, "more": 2, "answer": "a"}, schema)

    assert list(ordered) == ["answer", "confidence", "more"]


@pytest.mark.parametrize(
    ("output", "same"),
    [
        pytest.param({"answer": " a   b \n"}, {"answer": "a b"}, id="blanks"),
        pytest.param({"answer": "a\r\n  b  c"}, {"answer": "a\n  b  c"}, id="a layout is kept"),
        pytest.param({"more": "\n\n  a\n  b "}, {"more": "  a\n  b"}, id="an indent is kept"),
        pytest.param({"answer": 'x = "a  b"'}, {"answer": 'x = "a  b"'}, id="quotes are kept"),
        pytest.param({"answer": "don't   know"}, {"answer": "don't know"}, id="an apostrophe"),
        pytest.param({"team": "Billing."}, {"team": "billing"}, id="a choice's spelling"),
        pytest.param({"team": "bills"}, {"team": "bills"}, id="another word is no choice"),
        pytest.param({"team": 3}, {"team": 3}, id="a choice that is a number"),
        pytest.param({"due": "March 5, 2026"}, {"due": "2026-03-05"}, id="a date"),
        pytest.param({"due": "03/04/2026"}, {"due": "03/04/2026"}, id="a date that reads two ways"),
        pytest.param({"due": None}, {"due": None}, id="no date"),
        pytest.param({"at": "2026-03-05 14:30Z"}, {"at": "2026-03-05T14:30:00Z"}, id="a moment"),
        pytest.param(
            {"lines": [{"on": "5 May 2026"}, 1]}, {"lines": [{"on": "2026-05-05"}, 1]}, id="inside"
        ),
        pytest.param({"more": " x "}, {"more": "x"}, id="a field the format does not know"),
        pytest.param({"sign_off": "Yours"}, {"sign_off": "Yours"}, id="another sign-off is seen"),
    ],
)
def test_whatever_model_answers_sounds_alike(output, same):
    assert conformed(output, FIELDS) == {**FILLED, **same}


def test_a_producers_own_format_is_trimmed_and_nothing_else():
    output = {"more": "a  b", "due": " 5 May 2026 ", "team": "Billing"}

    assert conformed(output, FIELDS, ours=False, shorten=True) == {**output, "due": "5 May 2026"}


@pytest.mark.parametrize(
    ("text", "short"),
    [
        pytest.param("x" * 40, "x" * 40, id="it fits"),
        pytest.param(
            "It is in  the  menu. Then open the entry.", None, id="it fits without blanks"
        ),
        pytest.param(
            "It is in the menu, below. Then open the entry there.",
            "It is in the menu, below.",
            id="whole sentences",
        ),
        pytest.param(
            "No. It is somewhere in the menu of the settings",
            "No. It is somewhere in the menu of the\u2026",
            id="else whole words",
        ),
        pytest.param("x" * 50, "x" * 39 + "\u2026", id="else characters"),
    ],
)
def test_only_a_task_that_asks_for_it_has_its_texts_shortened(text, short):
    wanted = " ".join(text.split()) if short is None else short

    assert conformed({"answer": text}, FIELDS, shorten=True)["answer"] == wanted
    assert conformed({"answer": text}, FIELDS)["answer"] == " ".join(text.split())


TEXT = st.text(st.sampled_from("ab .!?\"'`\t\r\n 5May2026/\u3000\xa0\x1f\u2019{"), max_size=60)
OUTPUT = st.dictionaries(
    st.sampled_from([*FIELDS["properties"], "more"]), TEXT | JSON | st.lists(TEXT, max_size=2)
)


@given(OUTPUT, st.booleans(), st.booleans())
def test_what_is_normalised_stays_as_it_is(output, ours, shorten):
    once = conformed(output, FIELDS, ours=ours, shorten=shorten)

    assert conformed(once, FIELDS, ours=ours, shorten=shorten) == once
    assert (
        not shorten
        or not ours
        or len(str(once.get("answer", ""))) <= 40
        or not isinstance(once["answer"], str)
    )


@given(OUTPUT, st.dictionaries(st.sampled_from(["properties", "type"]), JSON))
def test_no_format_is_too_strange(output, schema):
    conformed(output, schema, shorten=True)
    conformed(output, {"properties": dict.fromkeys(output, schema)}, shorten=True)
    conformed(output, {"properties": {name: {"format": 1, "enum": schema} for name in output}})


@given(TEXT | st.text())
def test_a_plain_reply_normalised_twice_is_the_same(text):
    once = normalise_text(text)["answer"]

    assert normalise_text(once)["answer"] == once


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        pytest.param("  hello \n", "hello", id="trimmed"),
        pytest.param("```\nhello\n```", "hello", id="out of a fence that holds all of it"),
        pytest.param("```\na\n```\nor\n```\nb\n```", None, id="two blocks are no fence"),
    ],
)
def test_plain_text(text, answer):
    assert normalise_text(text) == {"answer": answer or text}
