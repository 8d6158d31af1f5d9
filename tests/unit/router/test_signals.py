"""Signals: what the producer says wins, the rest is read off the text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.request.signals import TEXT_SIGNALS, measure
from schemas.intake import read_request_object


def signals(text="How do I export invoice 4411 from the portal, as we did in May?", **fields):
    return measure(read_request_object({"task": "general", "input": text, **fields}, {}))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Please send invoice 12 to our new address", set()),
        ("This is UNACCEPTABLE, and you know it", {"angry", "vague"}),
        ("answer me!!", {"angry"}),
        ("We need it right now, production is down", {"urgent"}),
        ("right after lunch, now and then", set()),
        ("I want my money back.", {"risky"}),
        ("**Refund** please", {"risky"}),
        ("refund/chargeback", {"risky"}),
        ("“Refund” 'lawyer'", {"risky"}),
        ("My money is at the back office", set()),
        ("Contractors illegally parked", set()),
        ("I like it, but they are late", set()),
        ("I paid 20, but the invoice says 30", {"conflicting"}),
        ("The total doesn\u2019t match", {"conflicting"}),
        ("It doesn\u2019t work", {"vague"}),
        ("What are the trade-offs here", {"open_ended"}),
        ("please delete\nmy account", {"risky"}),
        ("Ich möchte eine Rechnung für März", set()),
        ("\ud800 refund", {"risky"}),
    ],
)
def test_words_give_signals_away(text, expected):
    assert signals(text).text == expected


@pytest.mark.parametrize(
    ("text", "blast_radius"),
    [
        ("Please send invoice 12", "low"),
        ("This is ridiculous", "medium"),
        ("urgent: printer 7", "medium"),
        ("I will sue you", "high"),
        ("what dosage is safe", "high"),
        ("my account was hacked", "high"),
        ("delete my account", "high"),
        ("furious, I want a refund", "high"),
    ],
)
def test_the_blast_radius_is_high_for_money_law_health_and_security(text, blast_radius):
    assert signals(text).blast_radius == blast_radius


def test_vague_text_is_more_ambiguous_than_text_with_facts():
    clear = signals("How do I change the billing address on invoice 2291 in the portal, please?")
    short = signals("help please")
    vague = signals("it somehow does not work, whatever, not sure what it is, please have a look")

    assert clear.ambiguity < 0.2 < short.ambiguity < vague.ambiguity


def test_what_the_producer_sends_wins():
    measured = signals("urgent refund!!", ambiguity=0.0, blast_radius="low", complexity=5)

    assert (measured.ambiguity, measured.blast_radius, measured.complexity) == (0.0, "low", 5)
    assert measured.estimated == frozenset()


@pytest.mark.parametrize(
    ("given_fields", "estimated"),
    [
        ({}, {"ambiguity", "blast_radius", "complexity"}),
        ({"ambiguity": 0.3}, {"blast_radius", "complexity"}),
        ({"complexity": 1, "blast_radius": "low"}, {"ambiguity"}),
    ],
)
def test_what_is_estimated_is_said(given_fields, estimated):
    assert signals(**given_fields).estimated == estimated


def test_several_sources_are_two_of_documents_history_and_tools():
    assert "several_sources" not in signals(context={"retrieved": "a"}).text
    assert "several_sources" not in signals(context={"retrieved": "a", "system": "b"}).text
    assert "several_sources" in signals(context={"retrieved": "a", "history": "b"}).text


def test_tokens_are_counted_by_component():
    messages = [
        {"role": "system", "content": "s" * 40},
        {"role": "user", "content": "u" * 80},
        {"role": "assistant", "content": "a" * 120},
    ]
    measured = signals(messages, context={"user": "x" * 400, "retrieved": "r" * 4000})

    assert measured.context_tokens == {"system": 10, "user": 120, "history": 30, "retrieved": 1000}
    assert measured.total_tokens == 1160


WORDS = "word " * 2_000


@pytest.mark.parametrize(
    ("message", "body", "component"),
    [
        (
            {"tool_calls": [{"id": "c", "function": {"name": "f", "arguments": WORDS}}]},
            {},
            "history",
        ),
        ({"refusal": WORDS}, {}, "history"),
        ({}, {"tools": [{"function": {"name": "f", "description": WORDS}}]}, "tools"),
        ({}, {"functions": [{"name": "f", "description": WORDS}]}, "tools"),
        ({}, {"response_format": {"json_schema": {"description": WORDS}}}, "system"),
    ],
)
def test_what_is_sent_beside_texts_is_counted(message, body, component):
    """A plan's limit on input holds for all that a provider is sent."""
    answer = {"role": "assistant", "content": "Yes?", **message}
    asked = {"messages": [{"role": "user", "content": "Go on"}, answer], **body}

    assert signals(asked).context_tokens[component] > 2_000


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("word " * 100, 100, 150),
        ("請問我的訂單在哪裡" * 10, 60, 120),
        ("Привет, как дела? " * 10, 60, 120),
    ],
)
def test_tokens_are_estimated_for_every_script(text, least, most):
    assert least <= signals(text).total_tokens <= most


@given(st.text().map("about {}".format))
def test_any_text_has_signals_within_their_bounds(text):
    measured = signals(text)

    assert 0 <= measured.ambiguity <= 1
    assert 1 <= measured.complexity <= 5
    assert measured.blast_radius in {"low", "medium", "high"}
    assert measured.text <= set(TEXT_SIGNALS)
    assert measured == signals(text)
