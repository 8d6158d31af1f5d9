"""Every digit of a model's answer, wherever the answer goes."""

import pickle
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.amounts import in_words
from consumers.cli.terminal import print_json
from router.attempt.answering import result_of
from router.json_schemas.validator import compile_schema
from router.reply.normalise import normalise_json
from router.reply.reply import Reply
from router.review.decisions import hash_of_answers
from schemas.codec import (
    dead_letter_headers,
    dump,
    dump_envelope,
    read_dead_letter,
    read_envelope,
    read_model,
)
from schemas.dead_letter import DeadLetter, Pointer
from schemas.escalation import Escalation
from schemas.json_numbers import Digits, as_json, exact_json, read_ours
from schemas.json_text import read_json
from schemas.reasons import Reason
from schemas.result import Result
from schemas.usage import Usage
from schemas.verdict import Verdict
from tests.builders import NOON, a_request, an_assignment, an_attempt, an_escalation

SAID = (
    '{"id":184467440737095516170001,"share":0.12345678901234567891,"list":[1234567890123456.78,-0],'
    '"at":"2026-03-01T12:00:00Z, no 1234567890123456789012","plain":0.1}'
)


def answered(**fields: Any) -> Any:
    verdict = Verdict(outcome="accepted", checks=[], output=normalise_json(SAID))
    return an_attempt(outcome="accepted", reason=None, verdict=verdict, reply=SAID, **fields)


def dumped(output: Any) -> str:
    return as_json(output).decode()


def test_an_answer_keeps_its_digits_on_its_way_up() -> None:
    sent = an_escalation(attempts=[answered()])
    read, _ = read_envelope(Escalation, dump_envelope(sent, b'{"input":"x"}'))

    assert read.attempts == sent.attempts
    assert dumped(read.attempts[0].verdict.output) == SAID  # type: ignore[union-attr]


def test_an_answer_keeps_its_digits_in_a_dead_letter_and_for_its_reviewer() -> None:
    letter = DeadLetter(
        request_id="req-1",
        tenant="default",
        reason=Reason.APPROVAL_REQUIRED,
        detail="",
        stage="work.low",
        source=Pointer(topic="llm.intake", partition=1, offset=7, timestamp_ms=1),
        failed_at=NOON,
        attempts=[answered()],
    )
    read = read_dead_letter(dead_letter_headers(letter, ()))

    assert dumped(read.attempts[0].verdict.output) == SAID  # type: ignore[union-attr]
    assert hash_of_answers(read) == hash_of_answers(letter)


def test_an_answer_keeps_its_digits_in_its_result(capsys: pytest.CaptureFixture[str]) -> None:
    reply = Reply(SAID, "stop", Usage(), {"choices": []}, http_status=200)
    fields = result_of(an_assignment(), a_request(), [answered()], reply, now=NOON, own_ms=0)
    written = dump(fields)
    output = read_model(Result, written).router.output

    assert SAID.encode() in written
    assert dumped(output) == dumped(read_ours(written)["router"]["output"]) == SAID
    assert "share: 0.12345678901234567891; list: [1234567890123456.78, -0]" in in_words(output)
    print_json(output)
    assert '"share": 0.12345678901234567891' in capsys.readouterr().out


@pytest.mark.parametrize(
    ("rule", "number", "is_valid"),
    [
        ({"type": "integer"}, "184467440737095516170001", True),
        ({"type": "integer"}, "1234567890123456.78", False),
        ({"type": "string"}, "184467440737095516170001", False),
        ({"maximum": 0.5}, "0.50000000000000000001", False),
        ({"const": 9007199254740993}, "9007199254740993.0000000001", False),
        ({"minimum": 0}, "-0", True),
    ],
)
def test_a_schema_reads_every_digit(rule: Any, number: str, is_valid: bool) -> None:
    schema = compile_schema(orjson.dumps({"properties": {"a": rule}}))

    assert schema.is_valid(read_json(f'{{"a":{number}}}'.encode())) is is_valid


def test_numbers_are_equal_when_they_say_the_same() -> None:
    same, other = Digits("0.50000000000000000000"), Digits("0.50000000000000000001")

    assert same == 0.5
    assert same == Digits("0.5")
    assert other != 0.5
    assert other != same
    assert pickle.loads(pickle.dumps(other)) == other


_NUMBERS = st.from_regex(
    r"-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,2})?", fullmatch=True
)
_VALUES = st.recursive(
    _NUMBERS.map(Digits) | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
)


@given(_VALUES)
def test_what_is_written_is_read_again_as_it_was(value: Any) -> None:
    written = exact_json({"a": value})
    read = read_json(written.encode())

    verdict = {"outcome": "accepted", "checks": [], "output": read}
    again = read_model(Verdict, dump(verdict)).output
    assert again == read == {"a": value}
