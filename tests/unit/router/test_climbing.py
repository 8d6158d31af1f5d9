"""A dearer model is asked only where that is the way with the least expected cost."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.attempt.climbing import AskBack, Climbs, Way, best, weighed
from router.attempt.escalation import climb
from router.attempt.next_step import Answer, Escalate, NextStep
from router.policy.table import Policy, Right
from router.request.signals import measure, signal_facts
from router.route.routing import GiveUp, Route
from schemas.attempt import Attempt
from schemas.escalation import SignalsTaken
from schemas.reasons import Reason
from schemas.usage import Usage
from schemas.verdict import CheckResult, Verdict
from tests.builders import (
    NOON,
    a_request,
    a_route,
    an_assignment,
    an_attempt,
    an_escalation,
    the_policy,
)

RIGHT = Right(low=0.8, balanced=0.8, premium=0.97, source="a test of ours")
UNSURE = Escalate(Reason.LOW_CONFIDENCE, "confidence 0.6; at least 0.7 was expected")


def with_task(**fields: Any) -> Policy:
    policy = the_policy()
    row = policy.tasks["support_answer"].model_copy(update={"right": RIGHT, **fields})
    return policy.model_copy(update={"tasks": {**policy.tasks, "support_answer": row}})


def unsure(confidence: float = 0.6, **fields: Any) -> Attempt:
    """An answer of which only the confidence is too low."""
    failed = CheckResult(check="confidence", passed=False, reason=Reason.LOW_CONFIDENCE)
    verdict = Verdict(
        outcome="rejected", checks=[failed], confidence=confidence, output={"answer": "Yes."}
    )
    usage = Usage(input_tokens=1_000, output_tokens=200)
    return an_attempt(**{"verdict": verdict, "usage": usage, "cost_micros": 900, **fields})


def decided(
    policy: Policy,
    step: NextStep = UNSURE,
    attempt: Attempt | None = None,
    climbs: Climbs | None = None,
    **request: Any,
) -> NextStep | AskBack:
    asked = a_request(**request)
    signals = SignalsTaken.model_validate(signal_facts(measure(asked)))
    assignment = an_assignment(routes=[a_route(signals=signals)])
    return weighed(step, assignment, asked, [attempt or unsure()], policy, climbs or Climbs())


def test_without_a_worth_an_answer_in_doubt_climbs_as_it_did() -> None:
    assert decided(the_policy()) == UNSURE


@pytest.mark.parametrize(
    ("worth", "expected"),
    [
        # A call at premium costs $0.009: 1,000 tokens at $5 and 200 at $20 per million.
        pytest.param("0.01", Answer, id="it is hardly worth a call: out with a caveat"),
        pytest.param("1", Escalate, id="it is worth a call: up"),
        pytest.param("500", GiveUp, id="it is worth a person's time: to a person"),
    ],
)
def test_the_way_with_the_least_expected_cost(worth: str, expected: type[NextStep]) -> None:
    step = decided(with_task(worth=Decimal(worth)))

    assert isinstance(step, expected)
    words = {Answer: "doubt", Escalate: "weighed", GiveUp: "detail"}[expected]
    assert f"where a wrong answer costs ${worth}" in getattr(step, words)


def test_the_figures_are_in_the_words_and_in_the_reason_of_the_climb() -> None:
    step = decided(with_task(worth=Decimal(1)))

    assert isinstance(step, Escalate)
    assert step.weighed == (
        "a dearer model costs least where a wrong answer costs $1: a person $3.0000 (wrong 0.0%), "
        "a dearer model $0.0390 (wrong 3.0%), an answer with a caveat $0.4000 (wrong 40.0%)"
    )
    taken = climb(an_escalation(weighed=step.weighed), a_request(), the_policy(), NOON)
    assert isinstance(taken, Route)
    assert taken.reason.endswith(step.weighed)


def test_an_ambiguous_request_is_asked_back_where_the_answer_lacks_the_question() -> None:
    """The next tier cannot know either what the user means."""
    right = Right(balanced=0.95, premium=0.5, source="a test of ours")
    step = decided(with_task(worth=Decimal(2), right=right), ambiguity=0.9)

    assert isinstance(step, AskBack)
    assert isinstance(decided(with_task(worth=Decimal(2), right=right, clarify=False)), Answer)


@pytest.mark.parametrize(
    "policy",
    [
        pytest.param(with_task(worth=Decimal("0.01"), risk="risky"), id="a risky task"),
        pytest.param(with_task(worth=Decimal("0.01"), approval="person"), id="an approved one"),
    ],
)
def test_nothing_delicate_goes_out_in_doubt(policy: Policy) -> None:
    assert isinstance(decided(policy), Escalate)


def test_only_an_answer_that_is_just_unsure_may_go_out() -> None:
    cheap, verdict = with_task(worth=Decimal("0.01")), unsure().verdict
    assert verdict is not None
    schema = CheckResult(check="schema", passed=False, reason=Reason.SCHEMA_FAILED)
    broken = unsure(verdict=verdict.model_copy(update={"checks": [*verdict.checks, schema]}))

    assert isinstance(decided(cheap, attempt=broken), Escalate)
    assert isinstance(decided(cheap, attempt=unsure(verdict=None)), Escalate)


def test_a_vote_that_failed_does_not_go_out_with_a_caveat() -> None:
    disagreed = Escalate(Reason.MODELS_DISAGREE, "1 of 2 answers say the same")

    assert isinstance(decided(with_task(worth=Decimal("0.01")), disagreed), Escalate)


def test_a_climb_that_route_would_refuse_is_not_weighed() -> None:
    """One failure is the row's limit: the caveat is cheaper than the person who would come next."""
    policy = with_task(worth=Decimal("0.05"), failure_limit=1)

    assert isinstance(decided(with_task(worth=Decimal("0.05"))), Escalate)
    assert isinstance(decided(policy), Answer)


def test_of_a_hundred_the_whole_share_climbs() -> None:
    climbs = Climbs()
    assert sum(climbs.admit("a task", 0.29, wants=True) for _ in range(100)) == 29


def test_an_outage_is_no_matter_of_price() -> None:
    out = Escalate(Reason.PROVIDER_UNAVAILABLE, "every model is out")
    failed = unsure(outcome="failed", reason=Reason.NOT_SENT, verdict=None)

    assert decided(with_task(worth=Decimal("0.01")), out, failed) == out


def test_where_no_tier_is_left_route_gives_up_in_its_own_words() -> None:
    step = decided(with_task(worth=Decimal(500)), plan="standard")

    assert isinstance(step, Escalate)
    assert step.reason is Reason.LOW_CONFIDENCE


_SHARES = st.decimals(0, 1, places=3)
_WAYS = st.lists(
    st.builds(
        Way, st.sampled_from(["climb", "caveat", "ask_back"]), st.decimals(0, 5, places=4), _SHARES
    ),
    max_size=4,
).map(lambda ways: [Way("person", Decimal(3), Decimal(0)), *ways])


@settings(deadline=None)
@given(_WAYS, st.decimals(0, 1_000, places=2), st.decimals(0, 1_000, places=2))
def test_the_dearer_a_wrong_answer_the_surer_the_way(
    ways: list[Way], worth: Decimal, more: Decimal
) -> None:
    cheap, dear = best(ways, worth), best(ways, worth + more)

    assert dear.wrong <= cheap.wrong
    assert all(cheap.expected(worth) <= way.expected(worth) for way in ways)


@settings(deadline=None)
@given(st.decimals("0.0001", 2, places=4), st.decimals(0, 2, places=4), st.floats(0, 0.69))
def test_what_pays_a_climb_pays_it_for_any_dearer_mistake_until_a_person_is_cheaper(
    worth: Decimal, more: Decimal, confidence: float
) -> None:
    order = [Answer, Escalate, GiveUp]
    steps = [
        decided(with_task(worth=value), attempt=unsure(confidence))
        for value in (worth, worth + more)
    ]

    ranks = [order.index(type(step)) for step in steps]
    assert ranks == sorted(ranks)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.booleans(), min_size=120, max_size=300),
    st.sampled_from([0.05, 0.2, 0.5]),
    st.data(),
)
def test_of_any_hundred_in_a_row_no_larger_share_climbs(
    wants: list[bool], share: float, data: st.DataObject
) -> None:
    climbs, policy = Climbs(), with_task(climb_at_most=share, over_share="caveat")
    assignment, request = an_assignment(), a_request()
    doubtful, good = [unsure()], [an_attempt(outcome="accepted", reason=None)]
    # A burst somewhere, as after a change of model.
    burst = data.draw(st.integers(0, len(wants)))
    climbed = []
    for no, wants_to in enumerate(wants):
        step, attempts = (UNSURE, doubtful) if wants_to or no > burst else (Answer(), good)
        end = weighed(step, assignment, request, attempts, policy, climbs)
        climbed.append(isinstance(end, Escalate))
        assert step is UNSURE or end == step

    assert all(sum(climbed[no : no + 100]) <= share * 100 for no in range(len(climbed)))


@pytest.mark.parametrize(
    ("over_share", "attempt", "expected"),
    [
        pytest.param("person", unsure(), GiveUp, id="to a person"),
        pytest.param("caveat", unsure(), Answer, id="out with a caveat"),
        pytest.param(
            "caveat",
            unsure(reason=Reason.SCHEMA_FAILED, verdict=None),
            GiveUp,
            id="to a person, for what is no answer",
        ),
    ],
)
def test_over_the_share_the_row_decides(
    over_share: str, attempt: Attempt, expected: type[NextStep]
) -> None:
    policy = with_task(climb_at_most=0.0, over_share=over_share)
    step = decided(policy, Escalate(attempt.reason or Reason.EMPTY, ""), attempt)

    assert isinstance(step, expected)
    if isinstance(step, GiveUp):
        assert step.reason is Reason.NOT_WORTH_CLIMBING
        assert "no more than 0% of its requests climb" in step.detail


def test_a_task_is_not_cut_for_requests_that_cannot_climb() -> None:
    climbs, policy = Climbs(), with_task(climb_at_most=0.01)
    for _ in range(5):
        assert decided(policy, climbs=climbs, plan="standard") == UNSURE

    assert decided(policy, climbs=climbs) == UNSURE
    assert isinstance(decided(policy, climbs=climbs), GiveUp)
