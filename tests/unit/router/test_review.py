"""Which decision stands, and what cannot be carried out."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.prompts.rendering import Prompts
from router.review.decisions import (
    most_price_at,
    outcome_of,
    price_at,
    problems_of,
    refusal_of,
    wants_approval,
)
from router.review.standing import Decisions
from schemas.base import Tier
from schemas.dead_letter import DeadLetter, Pointer
from schemas.reasons import Reason
from schemas.review import AuditLine, Decision
from schemas.verdict import Verdict
from tests.builders import NOON, a_request, an_attempt, the_policy

LETTER = Pointer(topic="llm.dead-letters", partition=0, offset=7)
ANSWER = {"answer": "We refund it.", "confidence": 0.9, "next_action": "none"}


def a_decision(name: str = "d-1", **fields: Any) -> Decision:
    given = {"request_id": "req-1", "generation": 1, "letter": LETTER, "action": "reject"}
    return Decision.model_validate({"decision_id": name, **given, **fields})


def a_line(
    decision: Decision | None = None, undoes: str | None = None, what: str = "decide"
) -> Any:
    return AuditLine.model_validate(
        {
            "writer": "c",
            "no": 1,
            "at": NOON,
            "who": "ann",
            "what": what,
            "decision": decision,
            "undoes": undoes,
        }
    )


def a_letter(**fields: Any) -> DeadLetter:
    verdict = Verdict(outcome="accepted", checks=[], output=ANSWER)
    attempt = an_attempt(outcome="accepted", reason=None, verdict=verdict, reply="We refund it.")
    given = {
        "request_id": "req-1",
        "task": "billing_dispute",
        "reason": Reason.APPROVAL_REQUIRED,
        "detail": "",
        "stage": "work.balanced",
        "source": Pointer(topic="llm.intake", partition=0, offset=3, timestamp_ms=1),
        "failed_at": NOON,
        "path": ("balanced",),
        "attempts": (attempt,),
    }
    return DeadLetter.model_validate({**given, **fields})


def decisions_of(events: Sequence[tuple[float, Any]]) -> Decisions:
    decisions = Decisions()
    for offset, (at, line) in enumerate(events):
        decisions.note(offset, at, line)
    return decisions


def carried_out(decisions: Decisions, events: Sequence[tuple[float, Any]]) -> list[Decision]:
    """What the records lead to, once each has been read."""
    lines = ((offset, line) for offset, (_, line) in enumerate(events) if line is not None)
    return [
        line.decision
        for offset, line in lines
        if line.decision is not None and decisions.stands(line.decision, offset)
    ]


FIRST, SECOND = a_decision("first"), a_decision("second", action="requeue")


@pytest.mark.parametrize(
    ("events", "stands"),
    [
        pytest.param([(0, a_line(FIRST))], FIRST, id="one alone"),
        pytest.param([(0, a_line(FIRST)), (1, a_line(SECOND))], FIRST, id="the first of two"),
        pytest.param(
            [(0, a_line(FIRST)), (5, a_line(undoes="first", what="undo")), (6, a_line(SECOND))],
            SECOND,
            id="the second, once the first is undone",
        ),
        pytest.param(
            [(0, a_line(FIRST)), (11, a_line(undoes="first", what="undo")), (12, a_line(SECOND))],
            FIRST,
            id="an undo that comes too late",
        ),
        pytest.param(
            [
                (0, a_line(FIRST)),
                (99, a_line(undoes="first", what="refused")),
                (100, a_line(SECOND)),
            ],
            SECOND,
            id="the second, once the first was refused",
        ),
        pytest.param(
            [(0, a_line(undoes="first", what="undo")), (1, a_line(FIRST))],
            FIRST,
            id="an undo before its decision",
        ),
        pytest.param([(0, None), (1, a_line(FIRST))], FIRST, id="what is no line"),
        pytest.param(
            [(0, a_line(SECOND)), (1, a_line(SECOND)), (2, a_line(FIRST)), (3, a_line(SECOND))],
            SECOND,
            id="one that was sent again and again",
        ),
        pytest.param(
            [(0, a_line(FIRST)), (1, a_line(undoes="first", what="undo")), (2, a_line(FIRST))],
            None,
            id="none that was undone and sent again",
        ),
    ],
)
def test_which_decision_stands(
    events: Sequence[tuple[float, Any]], stands: Decision | None
) -> None:
    assert carried_out(decisions_of(events), events) == ([stands] if stands else [])


_EVENTS = st.lists(
    st.tuples(
        st.floats(0, 3),
        st.sampled_from(
            [a_line(a_decision(name)) for name in "abc"]
            + [a_line(undoes=name, what=what) for name in "abc" for what in ("undo", "refused")]
            + [None]
        ),
    ),
    max_size=12,
)


@given(_EVENTS, st.integers(0, 12))
def test_whoever_reads_the_partition_again_finds_the_same_and_at_most_one(
    steps: Sequence[tuple[float, Any]], again_from: int
) -> None:
    at, events = 0.0, []
    for wait, line in steps:
        events.append((at := at + wait, line))
    decisions = decisions_of(events)
    for offset, (when, line) in list(enumerate(events))[again_from:]:
        decisions.note(offset, when, line)  # fetched a second time

    standing = carried_out(decisions, events)
    assert standing == carried_out(decisions_of(events), events)
    assert len(standing) <= 1


@pytest.mark.parametrize(
    ("decision", "letter", "words"),
    [
        pytest.param(a_decision(), a_letter(), None, id="reject"),
        pytest.param(
            a_decision(action="approve", attempt_id="req-1.1.1"), a_letter(), None, id="approve"
        ),
        pytest.param(
            a_decision(action="approve", attempt_id="req-1.1.9"),
            a_letter(),
            "an attempt of this request",
            id="approve what is not there",
        ),
        pytest.param(a_decision(action="edit"), a_letter(), "an answer", id="edit to nothing"),
        pytest.param(
            a_decision(action="retry", tier=Tier.PREMIUM), a_letter(), None, id="retry at a tier"
        ),
        pytest.param(a_decision(action="retry"), a_letter(), "a tier", id="retry nowhere"),
        pytest.param(
            a_decision(generation=2), a_letter(), "another request", id="a generation off"
        ),
        pytest.param(
            a_decision(action="requeue", generation=3),
            a_letter(generation=3),
            None,
            id="the third requeue",
        ),
        pytest.param(
            a_decision(action="requeue", generation=4),
            a_letter(generation=4),
            "3 requeues are allowed",
            id="the fourth requeue",
        ),
        pytest.param(
            a_decision(action="discard"),
            a_letter(reason=Reason.NOT_JSON, request_id=None),
            None,
            id="discard what nobody can read",
        ),
        pytest.param(
            a_decision(action="requeue"),
            a_letter(reason=Reason.NOT_JSON, request_id=None),
            "never readable",
            id="requeue what nobody can read",
        ),
    ],
)
def test_what_cannot_be_carried_out(
    decision: Decision, letter: DeadLetter, words: str | None
) -> None:
    refusal = refusal_of(decision, letter, the_policy())

    assert (refusal is None) == (words is None)
    assert words is None or words in (refusal or "")


@pytest.mark.parametrize(
    ("output", "paths"),
    [
        pytest.param(ANSWER, [], id="as the task has it"),
        pytest.param({**ANSWER, "confidence": 2}, ["/confidence"], id="out of range"),
        pytest.param({"answer": "x"}, ["", ""], id="fields left out"),
        pytest.param({**ANSWER, "next_action": "x~/"}, ["/next_action"], id="no such choice"),
    ],
)
def test_an_edited_answer_is_held_to_the_tasks_format(
    output: dict[str, Any], paths: list[str]
) -> None:
    problems = problems_of(output, a_letter(), a_request(), the_policy())

    assert [path for path, _ in problems] == paths


def test_an_answer_under_review_keeps_its_history_and_its_cost() -> None:
    decision = a_decision(action="approve", attempt_id="req-1.1.1")
    outcome = outcome_of(
        decision,
        a_letter(),
        a_request(),
        the_policy(),
        Prompts({}, {}),
        decided_at=NOON,
        now=NOON,
    )

    assert outcome.result is not None
    router = outcome.result["router"]
    assert router["cost_micros"] == a_letter().cost_micros
    assert router["path"] == ["balanced"]
    assert (router["resolves"], router["review"]) == (str(LETTER), "approve")
    assert router["output"] == ANSWER


def test_a_dearer_tier_has_a_higher_price() -> None:
    prices = [price_at(a_letter(), tier, the_policy()) for tier in Tier]

    assert prices == sorted(prices)
    assert prices[0] > 0


@pytest.mark.parametrize(
    ("plan", "tier", "tiers"),
    [
        pytest.param("enterprise", None, ["balanced", "premium"], id="as far as the task climbs"),
        pytest.param("standard", None, ["balanced"], id="as far as the plan allows"),
        pytest.param(None, None, ["balanced"], id="by the default plan"),
        pytest.param("enterprise", Tier.PREMIUM, ["premium"], id="from the tier that was named"),
    ],
)
def test_the_most_that_a_request_costs_counts_its_escalations(
    plan: str | None, tier: Tier | None, tiers: list[str]
) -> None:
    letter, policy = a_letter(plan=plan), the_policy()
    expected = sum(price_at(letter, Tier(name), policy) for name in tiers)
    assert most_price_at(letter, tier, policy) == expected


def test_what_the_policy_wants_approved_is_known_before_it_is_sent_again() -> None:
    policy = the_policy()
    assert wants_approval(a_letter(reason=Reason.NO_TIER_LEFT), policy)
    assert wants_approval(a_letter(task="general"), policy)
    assert not wants_approval(a_letter(task="general", reason=Reason.NO_TIER_LEFT), policy)
