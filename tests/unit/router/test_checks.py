"""Each check on its own: what passes, what fails, and that the words never repeat the reply."""

import time
from typing import Any

import orjson
import pytest

from router.checks import CHECKS, Asked, Judged, named
from router.checks.refusals import _HELPLESS, _UNDONE
from router.json_schemas.validator import compile_schema
from router.reply.reply import Reply
from schemas.usage import Usage
from tests.builders import a_request

SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["answer", "confidence"],
    "properties": {"answer": {"type": "string"}, "confidence": {"type": "number", "maximum": 1}},
}
VALIDATOR = compile_schema(orjson.dumps(SCHEMA))
#: Checks that test nothing without being told what.
NEEDED: dict[str, Any] = {
    "length": {"most_words": 100},
    "required": {"phrases": ["yes"]},
    "forbidden": {"phrases": ["I guarantee"]},
}
GOOD = {"answer": "yes", "confidence": 0.9}


def a_reply(text="yes", finish="stop", refusal=None) -> Reply:
    return Reply(text, finish, Usage(), {}, refusal)


def judged(reply=None, **fields) -> Judged:
    known = {
        "asked": Asked(a_request()),
        "output": GOOD,
        "validator": VALIDATOR,
        "confidence": 0.9,
        "accept": 0.7,
    }
    return Judged(reply or a_reply(), **{**known, **fields})


def run(name, case, **parameters) -> str | None:
    """What a check says, with the parameters a policy gives it."""
    [check] = named({name: parameters or NEEDED.get(name, {})})
    return check.check.run(case, check.parameters)


def test_every_check_explains_itself():
    for name, check in CHECKS.items():
        assert check.name == name
        assert check.meaning
        assert check.example


def test_no_two_checks_give_the_same_reason():
    assert len({check.reason for check in CHECKS.values()}) == len(CHECKS)


@pytest.mark.parametrize("name", CHECKS)
def test_a_good_reply_passes(name):
    assert run(name, judged()) is None


@pytest.mark.parametrize(
    ("name", "case"),
    [
        pytest.param("cut_off", judged(a_reply(finish="length")), id="stopped at the output limit"),
        pytest.param("empty", judged(a_reply("")), id="no text"),
        pytest.param("empty", judged(a_reply(" \n\t")), id="blank text"),
        pytest.param("empty", judged(output={"answer": " "}), id="a blank answer in an object"),
        pytest.param(
            "empty", judged(a_reply("", "tool_calls")), id="tool calls that nobody offered"
        ),
        pytest.param("refusal", judged(a_reply(refusal="No.")), id="the refusal field"),
        pytest.param("refusal", judged(a_reply(finish="content_filter")), id="a content filter"),
        pytest.param("schema", judged(output=None), id="no object"),
        pytest.param("schema", judged(output={"answer": "yes"}), id="a missing field"),
        pytest.param("schema", judged(output={**GOOD, "more": 1}), id="a field too many"),
        pytest.param("schema", judged(output={**GOOD, "answer": 1}), id="a field of another type"),
        pytest.param("confidence", judged(confidence=0.69), id="less sure than needed"),
        pytest.param("confidence", judged(confidence=None), id="no usable confidence"),
        pytest.param("confidence", judged(confidence=float("nan")), id="compares with nothing"),
    ],
)
def test_a_bad_reply_fails(name, case):
    assert run(name, case)


@pytest.mark.parametrize(
    ("name", "case"),
    [
        pytest.param(
            "empty", judged(a_reply(""), calls_tools=True), id="a tool call says something"
        ),
        pytest.param("empty", judged(a_reply("", refusal="No.")), id="a refusal is not empty"),
        pytest.param("empty", judged(a_reply("", "content_filter")), id="nor is a filtered reply"),
        pytest.param("empty", judged(output={"label": None}), id="nothing found is an answer"),
        pytest.param(
            "schema", judged(output=None, calls_tools=True), id="a tool call has no format"
        ),
        pytest.param("schema", judged(validator=None, output={"answer": "x"}), id="text has none"),
        pytest.param("confidence", judged(confidence=0.7), id="exactly as sure as needed"),
        pytest.param("confidence", judged(accept=None, confidence=None), id="a format without it"),
    ],
)
def test_what_a_check_leaves_alone(name, case):
    assert run(name, case) is None


@pytest.mark.parametrize(
    "text",
    [
        *_HELPLESS,
        *_UNDONE,
        "I'm sorry, but I can't help with that.",
        "I\u2019m sorry, but I can\u2019t help with that.",
        "Sorry -- I cannot assist with this request.",
        "Unfortunately, I am unable to provide medical advice.",
        "As an AI language model, I cannot provide legal advice.",
        "I apologize, but as an AI, I'm not able to discuss this.",
        "**I must decline.**",
    ],
)
def test_refusals_are_known_by_their_opening(text):
    assert run("refusal", judged(a_reply(text), output=None))
    assert run("refusal", judged(output={"answer": text}))


@pytest.mark.parametrize(
    "text",
    [
        "I can help with that.",
        "Sorry for the trouble! Open Settings and choose Billing.",
        "We cannot refund after 30 days, but here is what you can do.",
        "Tell the customer: I'm sorry, but I can't help with that.",
        "I cannotate the list as you asked.",
        "But for the last step, all is done.",
        "",
    ],
)
def test_answers_that_only_sound_like_refusals_pass(text):
    assert run("refusal", judged(output={"answer": text})) is None


@pytest.mark.parametrize("sign", ["-", "*", " ", "sorry ", "but ", "i'm sorry, "])
def test_no_text_keeps_the_refusal_check_busy(sign):
    """A line of dashes once took half a minute."""
    began = time.perf_counter()

    run("refusal", judged(a_reply(sign * 20_000), output=None))

    assert time.perf_counter() - began < 0.1


def test_the_words_of_a_schema_failure_are_the_schemas_own():
    open_ended = compile_schema(b'{"additionalProperties": {"type": "string"}}')
    secret = {"my-secret-key": 42}

    detail = run("schema", judged(output=secret, validator=open_ended))

    assert detail is not None
    assert "secret" not in detail
    assert "42" not in detail


def test_a_missing_field_is_named():
    detail = run("schema", judged(output={"answer": "yes"}))

    assert detail is not None
    assert "confidence" in detail
