"""`tierline explain`: what people did with a request, and whose words were published."""

from datetime import timedelta
from typing import Any

import orjson
import pytest

from consumers.journeys.facts import journey_facts
from consumers.journeys.journey import Journey
from router.attempt.answering import composed_result
from router.request.signals import signal_words
from schemas.attempt import LedgerEntry
from schemas.base import Tier
from schemas.codec import dead_letter_headers, dump, dump_envelope
from schemas.dead_letter import DeadLetter, Pointer
from schemas.feedback import Feedback
from schemas.reasons import Reason
from schemas.review import AuditLine, Decision
from schemas.topics import Topics
from tests.builders import (
    NOON,
    a_record,
    a_request,
    a_route,
    an_assignment,
    an_attempt,
    an_escalation,
)

TOPICS = Topics()
LETTER = Pointer(topic="llm.dead-letters", partition=0, offset=4)
ANSWER = {"answer": "We refund order 991 today.", "confidence": 0.9}


def a_decision(action: Any, **fields: Any) -> Any:
    decision = Decision(
        decision_id=fields.pop("decision_id", "d-1"),
        request_id="req-1",
        generation=1,
        letter=LETTER,
        action=action,
        **{"output": ANSWER if action == "edit" else None, **fields},
    )
    return a_line("decide", decision=decision)


def a_line(what: Any, who: str = "ann", **fields: Any) -> Any:
    line = AuditLine(
        writer="c1", no=1, at=NOON, who=who, what=what, request_id="req-1", letter=LETTER, **fields
    )
    return a_record(dump(line.model_dump(mode="json", exclude_none=True)), topic=TOPICS.review)


def a_result(review: str | None = None, **fields: Any) -> Any:
    made = composed_result(
        an_assignment(), a_request(), [an_attempt()], "answer", "x", ANSWER, now=NOON
    )
    told = {"resolves": str(LETTER), "review": review} if review else {}
    made["router"] |= {**told, **fields}
    return a_record(dump(made), topic=TOPICS.results)


def told(*records: Any) -> list[str]:
    journey = Journey("req-1")
    for record in records:
        journey.read(record, TOPICS)
    return [f"{moment.what}: {moment.words}" for moment in journey.moments()]


@pytest.mark.parametrize(
    ("action", "words"),
    [
        ("approve", "was published, approved by ann: We refund order 991 today."),
        ("edit", "result: an answer edited by ann was published: We refund order 991 today."),
        ("reject", "the safe default was published, the answers rejected by ann: We refund"),
    ],
)
def test_a_reviewed_result_says_who_decided_and_what_was_published(action: str, words: str) -> None:
    assert any(words in line for line in told(a_decision(action), a_result(action)))


def test_who_took_a_decision_back_did_not_decide() -> None:
    undone = a_decision("edit", decision_id="d-0"), a_line("undo", undoes="d-0")
    later = a_line("decide", who="bob", decision=Decision(
        decision_id="d-1", request_id="req-1", generation=1, letter=LETTER, action="edit",
        output=ANSWER,
    ))  # fmt: skip
    assert any("edited by bob" in line for line in told(*undone, later, a_result("edit")))
    assert any("edited by a reviewer" in line for line in told(a_result("edit")))


def test_what_a_model_answered_is_told() -> None:
    [line] = told(a_result())
    assert "answered for $" in line
    assert line.endswith(": We refund order 991 today.")
    [line] = told(a_result(kind="safe_default"))
    assert "the safe default was published" in line
    [line] = told(a_result(kind="in_review", final=False))
    assert line.startswith("notice: a notice was published that a person has the request")


def test_a_decision_says_how_long_it_took_and_what_it_asks_for() -> None:
    [line] = told(a_decision("retry", tier=Tier.PREMIUM, seconds_spent=41.7, reason="unclear"))
    assert line == "review: retry by ann to premium after 42 s: unclear"
    [line] = told(a_decision("edit", is_example=True))
    assert line == "review: edit by ann, kept as an example"


def later(record: Any, seconds: int) -> Any:
    record.timestamp += seconds * 1000
    return record


def on_intake() -> Any:
    return a_record(b'{"id": "req-1", "input": "x"}', topic=TOPICS.intake)


def assigned(seconds: int = 1, tier: Tier = Tier.LOW, **fields: Any) -> Any:
    envelope = an_assignment(routes=[a_route(tier)], **fields)
    record = a_record(dump_envelope(envelope, b'{"input": "x"}'), topic=TOPICS.tier(tier))
    return later(record, seconds)


def handed_back(seconds: int = 2, **fields: Any) -> Any:
    envelope = an_escalation(**fields)
    record = a_record(dump_envelope(envelope, b'{"input": "x"}'), topic=TOPICS.escalations)
    return later(record, seconds)


def dead(seconds: int) -> Any:
    letter = DeadLetter(
        request_id="req-1", task="triage", reason=Reason.NO_TIER_LEFT, detail="", stage="route",
        source=Pointer(topic=TOPICS.intake, partition=1, offset=7), failed_at=NOON,
    )  # fmt: skip
    headers = dead_letter_headers(letter, ())
    return later(a_record(b"{}", topic=TOPICS.dead_letters, headers=headers), seconds)


def call_line(seconds: int, **fields: Any) -> Any:
    attempt = an_attempt(started_at=NOON + timedelta(seconds=seconds), **fields)
    entry = LedgerEntry(
        request_id="req-1", generation=1, task="triage", tenant="default", attempt=attempt
    )
    value = dump(entry.model_dump(mode="json", exclude_none=True))
    return later(a_record(value, topic=TOPICS.attempts), seconds)


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1), (2, 0, 1)])
def test_what_a_call_cost_replaces_its_estimate_and_both_its_lines_are_one_call(
    order: tuple[int, ...],
) -> None:
    lost: dict[str, Any] = {"outcome": "failed", "reason": Reason.OUTCOME_UNKNOWN}
    records = [
        call_line(5, outcome="started", reason=None, is_estimated=True),
        call_line(5, **lost, cost_micros=900, is_estimated=True),
        call_line(5, cost_micros=70),
    ]
    journey = Journey("req-1")
    for no in order:
        journey.read(records[no], TOPICS)

    assert [attempt.cost_micros for attempt in journey.in_order] == [70]


def state(*records: Any, after: int = 60) -> str | None:
    journey = Journey("req-1")
    for record in records:
        journey.read(record, TOPICS)
    return journey.open_state(NOON + timedelta(seconds=after))


WAITS = (
    " It waits for a model or a worker, or a call is running; the topics do not say which, but "
    "`tierline top` shows which models and tiers are behind."
)
UNTIL = "The deadline is 2026-03-01 12:15:00 UTC, in 14m; until then"


@pytest.mark.parametrize(
    ("records", "words"),
    [
        pytest.param(
            [on_intake()],
            "accepted at 2026-03-01 12:00:00 UTC, and not routed yet.",
            id="accepted",
        ),
        pytest.param(
            [on_intake(), assigned()],
            "routed to low at 2026-03-01 12:00:01 UTC, with no attempt noted yet."
            f"{WAITS} {UNTIL} 6 more attempts at most.",
            id="routed",
        ),
        pytest.param(
            [assigned(), call_line(5, outcome="started", reason=None)],
            "routed to low at 2026-03-01 12:00:01 UTC, and a call to sim-medium began at "
            f"2026-03-01 12:00:05 UTC.{WAITS} {UNTIL} 6 more attempts at most.",
            id="begun",
        ),
        pytest.param(
            [handed_back(), assigned()],
            "handed back to route at 2026-03-01 12:00:02 UTC, and not routed again yet."
            f" So far: 1 attempt, $0.000000. {UNTIL} 5 more attempts at most.",
            id="handed back",
        ),
        pytest.param(
            [dead(3), assigned(4, Tier.PREMIUM, generation=2, attempts_left=1)],
            f"routed to premium at 2026-03-01 12:00:04 UTC, with no attempt noted yet.{WAITS} "
            f"{UNTIL} 1 more attempt at most.",
            id="sent through again",
        ),
    ],
)
def test_a_request_that_is_still_open_says_what_the_topics_know(records: Any, words: str) -> None:
    assert state(*records) == f"It is still open: {words}"


def test_after_its_deadline_a_request_says_what_will_become_of_it() -> None:
    words = state(assigned(), after=1000) or ""
    assert words.endswith(
        " The deadline was 2026-03-01 12:15:00 UTC: "
        "the stage that takes it next hands it to a person."
    )


def test_what_has_ended_is_not_open() -> None:
    assert state(on_intake(), assigned(), dead(1)) is None
    assert state(on_intake(), assigned(), later(a_result(), 1)) is None
    assert state(on_intake(), assigned(), later(a_result(final=False), 1)) is not None
    assert state(dead(0)) is None
    # By another broker's clock.
    assert state(later(on_intake(), 2), assigned(3), dead(1)) is None


def feedback(**fields: Any) -> Any:
    said = Feedback.model_validate(
        {"request_id": "req-1", "kind": "edited", "at": NOON + timedelta(days=1), **fields}
    )
    value = dump(said.model_dump(mode="json", exclude_none=True))
    return a_record(value, topic=TOPICS.feedback)


def test_feedback_is_told_with_its_words() -> None:
    said = feedback(comment="too long", correction={"answer": "Yes."})
    words = "feedback: edited, says downstream: too long; what was used instead: Yes."
    assert words in told(a_result(), said)


def test_feedback_on_another_tenants_request_names_no_tenant() -> None:
    journey = Journey("req-1")
    for record in (a_result(tenant="acme"), feedback(tenant="default")):
        journey.read(record, TOPICS)
    assert journey.tenants == {"acme"}
    assert len(journey.moments()) == 1


def test_what_a_reviewer_thought_is_told_once() -> None:
    said = feedback(source="reviewer", comment="because")
    assert len(told(a_decision("edit"), said)) == 1
    assert told(said) == ["feedback: edited, says a reviewer: because"]


def test_what_a_request_brings_beside_its_input_is_told() -> None:
    fields = {"id": "req-1", "input": "x", "lane": "bulk", "user": "u-1", "metadata": {"n": 0.10}}
    record = a_record(orjson.dumps(fields), topic=TOPICS.intake)
    assert told(record) == [
        'accepted: at llm.intake-1-7, with lane bulk, user u-1, metadata {"n": 0.1}'
    ]
    plain = a_record(b'{"id": "req-1", "input": "x"}', topic=TOPICS.intake)
    assert told(plain) == ["accepted: at llm.intake-1-7"]


def test_the_signals_are_those_that_were_recorded_with_the_route() -> None:
    """Not those that today's words would find; a route of earlier software has none of its own."""
    recorded = {"ambiguity": 0.5, "blast_radius": "high", "complexity": 4, "total_tokens": 9}
    route = a_route(signals=recorded | {"text": ["law"], "estimated": ["complexity"]})
    for routes, shown in (([route], ["law"]), ([a_route()], ["angry"])):
        raw = dump({"id": "req-1", "input": "This is unacceptable, invoice 7 is late"})
        value = dump_envelope(an_assignment(routes=routes), raw)
        journey = Journey("req-1")
        journey.read(a_record(value, topic=TOPICS.tier(Tier.BALANCED)), TOPICS)
        facts = journey_facts(journey, TOPICS, NOON)

        assert facts["signals"]["text"] == shown
        assert "the text shows " + shown[0] in signal_words(facts["signals"])
