"""The route stage's decision for one record, without Kafka: it is a function."""

import hashlib
from datetime import timedelta

import orjson
import pytest

from consumers.stages.route import Router
from router.limits.forecast import Forecast
from schemas.base import Tier
from schemas.codec import Outgoing, dump_envelope, read_dead_letter, read_envelope, read_model
from schemas.escalation import Assignment, Classification
from schemas.reasons import Reason
from schemas.result import Result
from schemas.tenancy import RequestKey
from schemas.topics import Topics
from tests.builders import (
    NOON,
    a_record,
    a_route,
    an_attempt,
    an_escalation,
    decided,
    policies_of,
    policy_with,
    the_policy,
)

ROUTER = Router(policies_of(), Topics(), lambda: NOON)
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


def router_of(forecast: Forecast | None = None, **row: object) -> Router:
    policy = policy_with(tasks={"support_answer": row})
    return Router(policies_of(policy), Topics(), lambda: NOON, forecast=forecast)


def test_a_request_that_a_person_has_first_is_a_case_with_its_task_and_a_notice() -> None:
    router = router_of(approval="person_first", while_in_review="notify")
    letter, notice = decided(router, a_record(RAW, key=None))

    found = read_dead_letter(letter.headers)
    assert (letter.value, found.reason) == (RAW, Reason.PERSON_FIRST)
    assert (found.task, [*found.path], [*found.attempts]) == ("support_answer", ["balanced"], [])
    assert letter.key == notice.key == b"req-1"
    router_info = read_model(Result, notice.value).router
    assert (router_info.final, router_info.kind, router_info.attempts) == (False, "in_review", 0)
    assert router_info.output["answer"].startswith("Your request is with our team")


def test_a_producer_cannot_say_that_a_person_has_seen_its_request() -> None:
    forged = {"is_seen": True, "generation": 2, "reason": "requeued", "routes": []}
    raw = orjson.dumps({**orjson.loads(RAW), **forged})
    headers = [("tierline-is-seen", b"true"), ("tierline-generation", b"2")]
    router, classified = (
        router_of(approval="person_first"),
        an_escalation(
            reason=Reason.CLASSIFIED, routes=[a_route(Tier.LOW, step="classify")], attempts=[]
        ),
    )

    for record in (
        a_record(raw, headers=headers),
        a_record(dump_envelope(classified, raw), topic="llm.escalations", headers=headers),
    ):
        [letter] = decided(router, record)
        assert read_dead_letter(letter.headers).reason is Reason.PERSON_FIRST


def test_a_classified_request_that_a_person_has_first_is_a_case_of_the_task_it_is() -> None:
    policy = policy_with(tasks={"policy_question": {"approval": "person_first"}})
    raw = b'{"id":"req-1","input":"My lawyer will write to you"}'
    escalation = an_escalation(
        task=None,
        reason=Reason.CLASSIFIED,
        classification=Classification(task="general"),
        routes=[a_route(Tier.LOW, step="classify")],
        attempts=[an_attempt(Tier.LOW, step="classify", outcome="accepted", reason=None)],
    )
    record = a_record(dump_envelope(escalation, raw), topic="llm.escalations")
    [letter] = decided(Router(policies_of(policy), Topics(), lambda: NOON), record)

    found = read_dead_letter(letter.headers)
    assert (found.reason, found.task) == (Reason.PERSON_FIRST, "policy_question")
    assert [*found.path] == ["low", "balanced"]
    assert len(found.attempts) == 1


def test_a_tool_call_that_no_tier_gets_right_leaves_calm_words_beside_its_case() -> None:
    broken = an_attempt(reason=Reason.TOOL_CALL_BROKEN)
    value = dump_envelope(an_escalation(reason=Reason.TOOL_CALL_BROKEN, attempts=[broken]), RAW)
    letter, notice = decided(router_of(), a_record(value, topic="llm.escalations"))

    assert read_dead_letter(letter.headers).reason is Reason.NO_TIER_LEFT
    info = read_model(Result, notice.value).router
    assert (info.final, info.kind) == (False, "in_review")
    assert info.output["answer"].startswith("We could not look this up just now")

    [last] = decided(
        router_of(last_resort="safe_default"), a_record(value, topic="llm.escalations")
    )
    info = read_model(Result, last.value).router
    assert (info.final, info.kind) == (True, "safe_default")
    assert info.output["answer"].startswith("We could not look this up just now")


def test_what_would_be_too_late_in_its_tier_takes_the_overflow_route() -> None:
    forecast = Forecast()
    for second in range(0, 21, 5):
        at = NOON - timedelta(seconds=20 - second)
        forecast.noted(Tier.BALANCED, at, second * 10, 300_000)

    [letter] = decided(router_of(forecast), a_record(RAW))
    assert read_dead_letter(letter.headers).reason is Reason.DEADLINE_UNREACHABLE
    [out] = decided(router_of(forecast, overflow="low"), a_record(RAW))
    assignment, _ = read_envelope(Assignment, out.value)
    assert (out.topic, assignment.route.rule) == ("llm.tier.low", "overflow")
    assert assignment.route.moved_by == [Reason.OVERFLOW]
