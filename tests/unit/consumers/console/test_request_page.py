"""The page of a request says what its records say, whoever wrote them, and hides what others do."""

import re
from datetime import timedelta
from typing import Any

import orjson
import pytest

from consumers.console.auth import Visitor
from consumers.console.pages import Pages
from consumers.console.request_page import RequestView, request_json, request_view
from consumers.console.tables import Session
from consumers.journeys.journey import Journey
from consumers.readmodel.requests import Written
from schemas.codec import dump
from schemas.dead_letter import Pointer
from schemas.topics import Topics
from tests.builders import NOON, a_record, an_attempt
from tests.unit.consumers.test_cli_explain import a_decision, a_result, assigned, call_line

TOPICS = Topics()
HIDDEN = ("4929 1836 5527 1904", "hidden.person@example.com")
HOSTILE = "<script>alert(1)</script>\"'>{{ 7 * 7 }}\u202e\x1b[2J"


def asked(words: str) -> Any:
    return a_record(dump({"id": "req-1", "input": words}), topic=TOPICS.intake)


def viewed(*records: Any, after: int = 60) -> RequestView:
    journey = Journey("req-1", "default")
    for record in records:
        journey.read(record, TOPICS)
    written = [Written(NOON, Pointer(topic=TOPICS.intake, partition=1, offset=7))]
    return request_view(journey, None, written, [], TOPICS, NOON + timedelta(seconds=after))


def page_of(view: RequestView, role: str = "reviewer", trace_url: str | None = None) -> str:
    visitor = Visitor(Session("x", "ann", role, None, NOON, NOON), "token")
    shown = Pages(lambda: NOON).page(
        "request.html",
        visitor,
        view=view,
        facts=view.facts,
        trace_url=trace_url,
        may_read=role != "viewer",
    )
    return bytes(shown.body).decode()


def test_it_shows_what_was_asked_tried_decided_and_published() -> None:
    rejected = call_line(
        3, attempt_id="req-1.1.1", verdict={"outcome": "rejected", "output": {"answer": "No."},
        "checks": [{"check": "length", "passed": False, "detail": "too short"}]},
    )  # fmt: skip
    call = an_attempt(attempt_id="req-1.1.2", attempt_no=2, started_at=NOON)
    accepted = call_line(
        4, attempt_id="call-1", attempt_no=2, outcome="accepted", reason=None,
        verdict={"outcome": "accepted", "checks": [{"check": "language", "passed": True}]},
    )  # fmt: skip
    published = a_result()
    published.value = published.value.replace(b'"request_id":"', b'"request_id":"call-1","_":"')
    view = viewed(
        asked("Where is 12?"), assigned(), rejected, accepted, published, a_decision("approve")
    )
    page = page_of(view)
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))
    for words in (
        "Where is 12?",
        f"{NOON:%Y-%m-%d %H:%M:%S} UTC",
        "length too short",
        "passed: language",
        "We refund order 991 today.",
        "approve by ann",
        "s waiting,",
        call.model,
        "tierline explain req-1",
        "support_answer",
    ):
        assert words in text
    _, answered = view.attempts
    assert "We refund order 991 today." in answered.answer.text
    assert text.index("Where is 12?") < text.index("We refund order 991 today.")
    assert 'http-equiv="refresh"' not in page
    assert "/records/llm.intake-1-7/raw?request_id=req-1&amp;tenant=default" in page


def test_while_it_is_open_it_follows_what_happens_and_says_so() -> None:
    page = page_of(viewed(asked("Where is 12?"), assigned()))
    assert '<meta http-equiv="refresh" content="3">' in page
    assert "It is still open: routed to low" in page
    assert "This page shows what becomes of it as it happens." in page


@pytest.mark.parametrize("role", ["viewer", "reviewer"])
def test_hostile_text_is_text_and_what_is_hidden_stays_so(role: str) -> None:
    said = " ".join((HOSTILE, *HIDDEN))
    output = {"answer": said, said: {"x": [said]}}
    verdict = {"outcome": "rejected", "output": output, "checks": []}
    view = viewed(
        asked(said),
        assigned(),
        call_line(3, verdict=verdict, reply=said, detail=said),
        a_result(output=output, rule=said),
        a_decision("edit", reason=said, output=output),
    )
    page, document = page_of(view, role), dump(request_json(view)).decode()
    for shown in (page, document):
        assert not [part for part in HIDDEN if part in shown]
    assert "<script>alert" not in page
    assert "\u202e" not in page
    assert "\x1b" not in page
    assert ("download" in page) == (role == "reviewer")
    assert orjson.loads(document)["records"][0]["offset"] == 7


def test_a_request_of_which_nothing_is_left_is_said_to_be_so() -> None:
    page = page_of(viewed(), trace_url="https://traces.example/{trace_id}")
    assert "No topic has it any more." in page
    assert "No model was called." in page
