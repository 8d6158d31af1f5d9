"""A person as a route: before any model, or before an answer is published; and doubt."""

from datetime import timedelta
from typing import Any

import pytest

from router.attempt.escalation import climb
from router.attempt.next_step import next_step
from router.policy.table import Policy
from router.review.cases import risk_of
from router.route.explain import explained
from router.route.requeue import requeued
from router.route.routing import GiveUp, Route, route, route_fields
from schemas.base import Tier
from schemas.dead_letter import DeadLetter, Pointer
from schemas.escalation import Classification, RouteTaken
from schemas.reasons import Reason
from schemas.verdict import CheckResult, Verdict
from tests.builders import (
    NOON,
    a_request,
    a_route,
    an_assignment,
    an_attempt,
    an_escalation,
    policy_with,
    the_policy,
    with_task,
)

LOW, BALANCED, PREMIUM = Tier


def rule(name: str, approval: str | None, **fields: Any) -> dict[str, Any]:
    return {"name": name, "when": {}, "approval": approval, "reason": f"{name} says so", **fields}


FIRST, APPROVES = rule("first", "person_first"), rule("approves", "person")
RAISES = rule("raises", None, tier=PREMIUM)
INTERNAL = {"plan": "internal", "justification": "a test"}


@pytest.mark.parametrize(
    ("rules", "tier", "needs_person"),
    [
        pytest.param([APPROVES], BALANCED, True, id="a rule may ask for a person alone"),
        pytest.param([APPROVES, RAISES], PREMIUM, True, id="and leaves the tier to others"),
        pytest.param([RAISES, APPROVES], PREMIUM, True, id="below the rule that sets the tier too"),
        pytest.param([RAISES], PREMIUM, False, id="else nobody approves"),
        pytest.param(
            [{**APPROVES, "when": {"tasks": ["triage"]}}], BALANCED, False, id="it has to match"
        ),
    ],
)
def test_a_rule_may_want_answers_approved(
    rules: list[dict[str, Any]], tier: str, needs_person: bool
) -> None:
    decided = route(a_request(**INTERNAL), policy_with(rules=rules), NOON)

    assert isinstance(decided, Route)
    assert (decided.tier, decided.needs_person) == (tier, needs_person)
    assert ("approves: approves says so" in decided.reason) is needs_person
    assignment = an_assignment(routes=[taken(decided)])
    step = next_step(
        assignment, [an_attempt(decided.tier, outcome="accepted", reason=None)], the_policy(), NOON
    )
    assert isinstance(step, GiveUp) is needs_person


def taken(decided: Route) -> RouteTaken:
    return RouteTaken.model_validate(route_fields(decided, the_policy().digest, NOON))


@pytest.mark.parametrize(
    ("policy", "by"),
    [
        pytest.param(policy_with(rules=[FIRST]), "first: first says so", id="a rule"),
        pytest.param(policy_with(rules=[APPROVES, FIRST]), "first: ", id="the strictest rule"),
        pytest.param(policy_with(rules=[FIRST, APPROVES]), "first: ", id="in any order"),
        pytest.param(with_task(approval="person_first"), "task support_answer: ", id="a row"),
    ],
)
def test_a_person_may_have_a_request_before_any_model(policy: Policy, by: str) -> None:
    decided = route(a_request(), policy, NOON)

    assert isinstance(decided, GiveUp)
    assert decided.reason is Reason.PERSON_FIRST
    assert decided.detail.startswith(by)
    assert decided.route is not None
    assert (decided.route.tier, decided.route.task) == (BALANCED, "support_answer")
    words = explained(a_request(), policy, NOON)["words"]
    assert words.startswith("A person has it before any model, by ")
    assert "Sent through: support_answer goes to balanced" in words


@pytest.mark.parametrize(
    ("when", "is_first"),
    [
        pytest.param({"text": ["angry"]}, True, id="a rule about any task"),
        pytest.param({"text": ["urgent"]}, False, id="that holds"),
        pytest.param(
            {"text": ["angry"], "tasks": ["triage"]}, False, id="of a task: not known yet"
        ),
    ],
)
def test_no_model_classifies_what_a_person_has_first(when: dict[str, Any], is_first: bool) -> None:
    policy, request = (
        policy_with(rules=[{**FIRST, "when": when}]),
        a_request(task=None, input="Unacceptable!!"),
    )
    decided = route(request, policy, NOON)

    assert isinstance(decided, GiveUp) is is_first
    sent = decided.route if isinstance(decided, GiveUp) else decided
    assert sent is not None
    assert (sent.step, sent.tier) == ("classify", LOW)
    assert route(request, policy, NOON, is_seen=True) == sent


LETTER = DeadLetter(
    request_id="req-1",
    task="support_answer",
    reason=Reason.PERSON_FIRST,
    detail="first: it says so",
    stage="route",
    source=Pointer(topic="llm.intake", partition=1, offset=7),
    failed_at=NOON,
)


@pytest.mark.parametrize(
    "policy", [policy_with(rules=[FIRST]), with_task(approval="person_first")], ids=["rule", "row"]
)
def test_what_a_person_sent_through_to_a_model_comes_back_for_approval(policy: Policy) -> None:
    sent = requeued(LETTER, policy, NOON + timedelta(minutes=15))
    decided = climb(sent, a_request(), policy, NOON)
    assert isinstance(decided, Route)
    unseen = climb(sent.model_copy(update={"is_seen": False}), a_request(), policy, NOON)
    assert isinstance(unseen, GiveUp), "what counts is the person, not the generation"

    step = next_step(
        an_assignment(routes=[taken(decided)]),
        [an_attempt(decided.tier, outcome="accepted", reason=None)],
        policy,
        NOON,
    )
    assert isinstance(step, GiveUp)
    assert step.reason is Reason.APPROVAL_REQUIRED


def test_a_request_that_a_person_has_first_is_an_urgent_case() -> None:
    assert risk_of(LETTER, the_policy()) == "high"


def test_an_untagged_request_may_be_a_persons_once_it_is_classified() -> None:
    policy = with_task("policy_question", approval="person_first")
    classified = an_escalation(
        task=None,
        classification=Classification(task="support_answer"),
        reason=Reason.CLASSIFIED,
        routes=[a_route(LOW, step="classify")],
        attempts=[an_attempt(LOW, step="classify", outcome="accepted", reason=None)],
    )
    request = a_request(task=None, input="My lawyer will write to you")
    decided = climb(classified, request, policy, NOON)

    assert isinstance(decided, GiveUp)
    assert decided.route is not None
    assert decided.route.task == "policy_question"


@pytest.mark.parametrize(
    ("named", "task"),
    [
        pytest.param("billing_dispute", "billing_dispute", id="a doubtful dispute is one"),
        pytest.param("rewrite", "general", id="a doubtful rewrite is anything"),
        pytest.param("no_such_task", "general", id="a task that nobody has"),
        pytest.param(["billing_dispute"], "general", id="no name at all"),
        pytest.param(None, "general", id="nothing"),
    ],
)
def test_doubt_about_what_a_request_is_raises_the_risk(named: Any, task: str) -> None:
    """The text's words show nothing; the low tier has a suspicion, and is not sure."""
    unsure = CheckResult(check="confidence", passed=False, reason=Reason.LOW_CONFIDENCE, detail="")
    verdict = Verdict(
        outcome="rejected",
        checks=[unsure],
        confidence=0.4,
        output={"task": named, "confidence": 0.4},
    )
    failed = an_escalation(
        task=None,
        reason=Reason.LOW_CONFIDENCE,
        routes=[a_route(LOW, step="classify")],
        attempts=[an_attempt(LOW, step="classify", verdict=verdict)],
    )
    request = a_request(task=None, input="Twenty went twice, back with it!")
    decided = climb(failed, request, the_policy(), NOON)

    assert isinstance(decided, Route)
    assert decided.task == task


@pytest.mark.parametrize("task", ["support_answer", "rag_answer", "general"])
@pytest.mark.parametrize("text", ["Where is my refund of order 991?", "Is this contract legal?"])
def test_an_answer_about_a_delicate_matter_is_approved_whoever_named_the_task(
    task: str, text: str
) -> None:
    decided = route(a_request(task=task, input=text), the_policy(), NOON)

    assert isinstance(decided, Route)
    assert decided.needs_person
