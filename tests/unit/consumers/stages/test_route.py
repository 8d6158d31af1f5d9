"""The route stage's decision for one record, without Kafka: it is a function."""

import hashlib

import orjson
import pytest

from consumers.stages.route import Router
from schemas.codec import Outgoing, dump_envelope, read_dead_letter, read_envelope
from schemas.escalation import Assignment
from schemas.reasons import Reason
from schemas.tenancy import RequestKey
from schemas.topics import Topics
from tests.builders import NOON, a_record, an_escalation, decided, the_policy

ROUTER = Router(the_policy(), Topics(), lambda: NOON)
RAW = (
    '{ "id":"req-1", "task" : "support_answer","input":"Wie geht das? \\u00fc 12 ü", "x":1.50}'
).encode()


def decide(value: bytes | None, **fields: object) -> Outgoing:
    (out,) = decided(ROUTER, a_record(value, **fields))
    return out


def test_an_assignment_reads_back_with_the_request_untouched() -> None:
    """The route stage writes its JSON by hand, for speed; this is what keeps it honest."""
    out = decide(RAW)
    assignment, raw = read_envelope(Assignment, out.value)

    assert out.topic == "llm.tier.balanced"
    assert raw == RAW
    assert (assignment.id, assignment.task) == ("req-1", "support_answer")
    assert assignment.route.rule == "task support_answer"
    assert assignment.attempts_left == the_policy().limits.attempts
    assert orjson.loads(out.value or b"")["request"]["x"] == 1.5


def test_the_producers_key_and_headers_go_along() -> None:
    """All but ours, and but the trace context, which the runtime sets anew."""
    headers = [
        ("traceparent", b"00-1-1-01"),
        ("traceparent", b"00-2-2-01"),
        ("x-team", b"a"),
        ("tierline-generation", b"9"),
    ]
    out = decide(RAW, headers=headers)

    assert out.key == b"key-1"
    assert out.headers == [("x-team", b"a")]


def test_a_record_without_key_gets_the_conversation_or_the_request_id() -> None:
    spoken = b'{"id":"a1","conversation_id":"c9","task":"triage","input":"hello 12"}'

    assert decide(RAW, key=None).key == b"req-1"
    assert decide(spoken, key=None).key == b"c9"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        pytest.param(None, Reason.NULL_VALUE, id="a tombstone"),
        pytest.param(b"\xff\xfe", Reason.NOT_TEXT, id="bytes that are not text"),
        pytest.param(b"hello", Reason.NOT_JSON, id="text that is not JSON"),
        pytest.param(b'{"id":"a1","task":"triage"}', Reason.MISSING_FIELD, id="no input"),
    ],
)
def test_a_record_that_cannot_be_read_becomes_a_dead_letter(
    value: bytes | None, reason: Reason
) -> None:
    out = decide(value)
    letter = read_dead_letter(out.headers)

    assert out.topic == "llm.dead-letters"
    assert out.value == value
    assert letter.reason is reason
    assert str(letter.source) == "llm.intake-1-7"


def test_giving_up_on_an_escalation_keeps_bytes_and_attempts() -> None:
    value = dump_envelope(an_escalation(attempts_left=0), RAW)
    out = decide(value, topic="llm.escalations")
    letter = read_dead_letter(out.headers)

    assert hashlib.sha256(out.value or b"").digest() == hashlib.sha256(RAW).digest()
    assert letter.reason is Reason.ATTEMPTS_EXHAUSTED
    assert [attempt.model for attempt in letter.attempts] == ["sim-medium"]


def test_a_request_that_route_gives_up_on_keeps_what_is_known_of_it() -> None:
    fields = {"id": "r-1", "task": "triage", "tenant": "acme", "deadline": "2020-01-01T00:00:00Z"}
    value = orjson.dumps({**fields, "input": "hello there"})
    record = a_record(value, key=None)

    [letter] = decided(ROUTER, record)

    found = read_dead_letter(letter.headers)
    assert (found.request_id, found.tenant, found.task) == ("r-1", "acme", "triage")
    assert found.reason is Reason.DEADLINE_PASSED
    assert found.policy_version == the_policy().version
    assert letter.key == RequestKey("acme", "r-1").text.encode()
