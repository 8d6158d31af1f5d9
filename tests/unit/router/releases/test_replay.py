"""Past requests decided again: alike under the same policy, and priced by what was recorded."""

from datetime import timedelta

import pytest

from router.policy.load import load_policy
from router.policy.table import Policy
from router.releases.replay import UNKNOWN, Course, Place, Redecided, courses
from router.reports.measures import Row
from schemas.base import Tier
from schemas.escalation import Classification
from schemas.reasons import Reason
from tests.builders import NOON, POLICY_FILE, a_request, the_policy

LOW, BALANCED, PREMIUM = Tier
TEXT = POLICY_FILE.read_text(encoding="utf-8")


def the_same() -> Policy:
    """The shipped policy, read once more."""
    return load_policy(TEXT, "again")


def with_extraction_at_balanced() -> Policy:
    changes = {
        "    tier: low\n    escalation: [balanced, premium]": (
            "    tier: balanced\n    escalation: [premium]"
        ),
        "tasks: [classification, extraction, triage,": "tasks: [classification, triage,",
    }
    text = TEXT
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    return load_policy(text, "candidate")


def a_row(task: str, tier: Tier, answers: int, accepted: int) -> Row:
    """Answers with a hundred tokens of input each."""
    rejected, tokens = answers - accepted, 100 * answers
    return Row((task, tier), answers=answers, by_check=rejected, input_tokens=tokens)


REQUESTS = [
    a_request(id="plain"),
    a_request(id="fields", task="extraction", plan="standard"),
    a_request(id="untagged", task=None, input="Where is my order 17?"),
    a_request(id="unknown", task="no_such_task", plan="free"),
    a_request(id="money", task="billing_dispute"),
    a_request(id="late", deadline=(NOON - timedelta(hours=1)).isoformat()),
    a_request(id="justified", task="complex_analysis", plan="internal", justification="audit"),
]


@pytest.mark.parametrize("policy", [the_policy(), the_same()], ids=["itself", "read again"])
def test_the_same_policy_decides_everything_alike(policy: Policy) -> None:
    redecided = Redecided((the_policy(), policy))
    for request in REQUESTS:
        redecided.take(request, NOON)

    assert redecided.requests == len(REQUESTS)
    assert not redecided.moved
    assert redecided.places[0] == redecided.places[1]


def test_what_goes_elsewhere_is_counted_with_a_few_examples() -> None:
    redecided = Redecided((the_policy(), with_extraction_at_balanced()))
    for request in REQUESTS:
        redecided.take(request, NOON)
    for no in range(10):
        redecided.take(a_request(id=f"f-{no}", task="extraction"), NOON)

    assert sum(redecided.moved.values()) == 11
    (was, now), _ = redecided.moved.most_common(1)[0]
    assert was.words == "extraction at low, then balanced, then premium"
    assert now.words == "extraction at balanced, then premium"
    assert all(len(ids) <= 3 for ids in redecided.examples.values())


@pytest.mark.parametrize(
    ("request_id", "words"),
    [
        ("late", "a person, for deadline_passed"),
        ("untagged", "a request to be classified at low"),
        ("money", "billing_dispute at balanced, then premium, approved by a person"),
    ],
)
def test_a_place_is_said_in_words(request_id: str, words: str) -> None:
    [request] = [request for request in REQUESTS if request.id == request_id]
    redecided = Redecided((the_policy(), the_policy()))
    redecided.take(request, NOON)
    assert [place.words for place in redecided.places[0]] == [words]


def test_a_recorded_classification_counts() -> None:
    redecided = Redecided((the_policy(), the_policy()))
    said = Classification(task="triage")
    redecided.take(REQUESTS[2], NOON, said)
    assert [place.task for place in redecided.places[1]] == ["triage"]


def _courses(policy: Policy, known: list[Row]) -> dict[str, Course]:
    redecided = Redecided((the_policy(), policy))
    for no in range(100):
        redecided.take(a_request(id=f"f-{no}", task="extraction"), NOON)
    found = courses(redecided, known)
    names = ("active", "candidate", "low", "premium", "lot")
    return dict(zip(names, found, strict=True))


KNOWN = [
    a_row("extraction", LOW, 1_000, 600),
    a_row("extraction", BALANCED, 1_000, 900),
    a_row("extraction", PREMIUM, 1_000, 950),
]


def test_a_way_costs_every_answer_that_its_requests_need() -> None:
    """A hundred tokens of input: 10 micro-dollars at low, 50 at balanced, 500 at premium."""
    ways = _courses(with_extraction_at_balanced(), KNOWN)

    low, balanced, premium = (accepted / 1_002 for accepted in (601, 901, 951))
    missed = (1 - low) * (1 - balanced)
    assert ways["active"].micros == pytest.approx(100 * (10 + (1 - low) * 50 + missed * 500))
    assert ways["active"].accepted == pytest.approx(1 - missed * (1 - premium))
    assert ways["candidate"].micros == pytest.approx(100 * (50 + (1 - balanced) * 500))
    assert ways["low"].micros == pytest.approx(1_000)
    assert ways["low"].accepted == pytest.approx(low)
    assert ways["premium"].micros == pytest.approx(50_000)
    assert ways["lot"].micros == pytest.approx(ways["candidate"].micros)
    assert low < ways["lot"].accepted < ways["candidate"].accepted
    assert all(way.micros_within >= 0 < way.accepted_within for way in ways.values())
    assert all(way.unpriced == 0 for way in ways.values())


def test_fewer_answers_say_less() -> None:
    few = [a_row("extraction", tier, 30, 20) for tier in Tier]
    many = [a_row("extraction", tier, 30_000, 20_000) for tier in Tier]
    wide, narrow = (_courses(the_policy(), known)["active"] for known in (few, many))
    assert wide.accepted_within > 10 * narrow.accepted_within
    assert wide.micros_within > 10 * narrow.micros_within


def test_a_price_of_the_candidate_counts() -> None:
    text = TEXT.replace("price: {input: 0.10,", "price: {input: 0.90,")
    ways = _courses(load_policy(text, "dearer"), KNOWN)
    assert ways["low"].micros == pytest.approx(9_000)
    assert ways["candidate"].micros - ways["active"].micros == pytest.approx(8_000)


def test_where_a_task_was_hardly_tried_the_tier_counts_and_without_that_nothing() -> None:
    known = [a_row("extraction", LOW, 5, 0), a_row("triage", LOW, 1_000, 900)]
    ways = _courses(the_policy(), known)
    assert ways["low"].accepted == pytest.approx(901 / 1_007, abs=0.001)
    assert ways["premium"].unpriced == 1
    assert ways["premium"].micros == 0
    assert (ways["lot"].accepted, ways["lot"].unpriced) == (0, 1)
    assert _courses(the_policy(), [])["active"].unpriced == 1


def test_without_requests_nothing_is_estimated() -> None:
    empty = courses(Redecided((the_policy(), the_policy())), KNOWN)
    assert {(way.micros, way.accepted, way.unpriced) for way in empty} == {(0, 0, 0)}


def test_a_place_that_refuses_has_no_path() -> None:
    assert Place(None, (), refused=Reason.TOO_LARGE).words == "a person, for too_large"
    assert UNKNOWN
