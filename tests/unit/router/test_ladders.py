"""The ladder of every task under every plan: what is promised is reached, and nothing above it."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.attempt.escalation import climb
from router.policy.table import Policy
from router.route.ladders import ladder_notes, ladders
from router.route.lint import lint
from router.route.routing import Route, route, route_fields
from schemas.base import Tier
from schemas.escalation import RouteTaken
from schemas.reasons import Reason
from schemas.request import Request
from tests.builders import (
    NOON,
    a_request,
    an_attempt,
    an_escalation,
    policy_with,
    the_policy,
)

LOW, BALANCED, PREMIUM = Tier


def climbed(request: Request, policy: Policy) -> list[Tier]:
    """The tiers of a request of which each answer is rejected, until nobody takes it."""
    decided = route(request, policy, NOON)
    routes, attempts = list[RouteTaken](), list[Any]()
    while isinstance(decided, Route):
        routes.append(RouteTaken.model_validate(route_fields(decided, policy.digest, NOON)))
        attempts.append(
            an_attempt(
                decided.tier,
                attempt_no=len(attempts) + 1,
                model=policy.models_of(decided.tier, decided.task)[0],
            )
        )
        escalation = an_escalation(
            task=decided.task,
            routes=routes,
            attempts=attempts,
            attempts_left=policy.limits.attempts - len(attempts),
        )
        decided = climb(escalation, request, policy, NOON)
    assert decided.reason in (Reason.NO_TIER_LEFT, Reason.ATTEMPTS_EXHAUSTED)
    return [taken.tier for taken in routes]


def plain(task: str, plan: str, **fields: Any) -> Request:
    """A request that no rule moves, with a reason for premium."""
    quiet = {"ambiguity": 0.5, "blast_radius": "low", "complexity": 2, "justification": "a test"}
    return a_request(task=task, plan=plan, **{**quiet, **fields})


@pytest.mark.parametrize(
    ("task", "plan", "tiers"),
    [
        pytest.param("complex_analysis", "enterprise", [BALANCED, PREMIUM], id="its own tier"),
        pytest.param("critique", "enterprise", [BALANCED, PREMIUM], id="also without a ladder"),
        pytest.param("complex_analysis", "standard", [BALANCED], id="never above the ceiling"),
        pytest.param("complex_analysis", "free", [LOW], id="nor with a plan of one tier"),
        pytest.param("complex_analysis", "internal", [PREMIUM], id="it starts there"),
        pytest.param("support_answer", "enterprise", [BALANCED, PREMIUM], id="the row's ladder"),
        pytest.param("triage", "enterprise", [LOW, BALANCED], id="no further than its row says"),
        pytest.param("extraction", "internal", [LOW, BALANCED, PREMIUM], id="all three"),
    ],
)
def test_a_request_climbs_as_far_as_its_task_and_plan_say(
    task: str, plan: str, tiers: list[Tier]
) -> None:
    assert climbed(plain(task, plan), the_policy()) == tiers


def test_a_tier_that_the_plan_lowered_a_request_from_stays_in_reach() -> None:
    """A rule wants premium for a task whose row ends at balanced."""
    asked = {"complexity": 5}
    decided = route(plain("triage", "enterprise", **asked), the_policy(), NOON)

    assert isinstance(decided, Route)
    assert (decided.tier, decided.wanted) == (BALANCED, PREMIUM)
    assert decided.moved_by == (Reason.COMPLEXITY, Reason.PLAN)
    assert climbed(plain("triage", "enterprise", **asked), the_policy()) == [BALANCED, PREMIUM]
    assert climbed(plain("triage", "standard", **asked), the_policy()) == [BALANCED]


def test_a_task_that_a_rule_lowered_climbs_back_to_its_own_tier() -> None:
    rule = {"name": "cheap", "when": {}, "tier": LOW, "sets": "at_most", "reason": "a trial"}
    policy = policy_with(rules=[rule])

    assert climbed(plain("critique", "internal"), policy) == [LOW, PREMIUM]


def test_every_task_and_plan_reaches_what_is_promised() -> None:
    for row in ladders(the_policy()):
        tiers = climbed(plain(row.task, row.plan), the_policy())
        assert tiers == [row.start, *row.climbs], (row.task, row.plan)


TIERS = st.sampled_from(list(Tier))


@st.composite
def policies(draw: st.DrawFn, /, **sections: Any) -> Policy:
    """The shipped policy with any row, plan and limits."""
    tier, start = draw(TIERS), draw(st.none() | TIERS)
    above = [other for other in Tier if other.rank > tier.rank]
    task = {
        "tier": tier,
        "escalation": [other for other in above if draw(st.booleans())],
        "failure_limit": draw(st.integers(1, 4)),
        "backup": None,
    }
    most = draw(st.sampled_from([other for other in Tier if not start or other.rank >= start.rank]))
    plan: dict[str, Any] = {
        "says": "a plan of the test",
        "start": start,
        "start_at_most": most,
        "ceiling": draw(st.sampled_from([other for other in Tier if other.rank >= most.rank])),
        "justify_above": draw(st.none() | TIERS),
        "context": {},
    }
    limits = {"attempts": draw(st.integers(1, 8)), "escalations": draw(st.integers(0, 3))}
    rows = {"tasks": {"support_answer": task}, "plans": {"drawn": plan}, "limits": limits}
    return policy_with(**rows, **sections)


@settings(max_examples=150, deadline=None)
@given(
    policy=policies(),
    justification=st.none() | st.just("a test"),
    complexity=st.integers(1, 5),
    blast_radius=st.sampled_from(["low", "medium", "high"]),
    ambiguity=st.floats(0, 1),
)
def test_no_request_ever_goes_above_its_plans_ceiling(policy: Policy, **fields: Any) -> None:
    row = policy.plans["drawn"]
    highest = row.ceiling.rank
    if row.justify_above is not None and not fields["justification"]:
        highest = min(highest, row.justify_above.rank)
    request = a_request(task="support_answer", plan="drawn", **fields)

    assert all(tier.rank <= highest for tier in climbed(request, policy))


@settings(max_examples=150, deadline=None)
@given(policy=policies(rules=[]))
def test_what_a_check_of_the_policy_promises_is_reached(policy: Policy) -> None:
    [row] = [row for row in ladders(policy) if (row.task, row.plan) == ("support_answer", "drawn")]

    assert climbed(plain("support_answer", "drawn"), policy) == [row.start, *row.climbs]


def test_the_notes_say_who_never_climbs_and_who_has_a_person_next() -> None:
    notes = list(ladder_notes(the_policy()))

    assert any("plan free" in note and "when low fails for every task" in note for note in notes)
    [never] = [note for note in notes if note.startswith("plan enterprise") and "never" in note]
    assert "triage" in never
    assert "complex_analysis" not in never
    policy = policy_with(tasks={"triage": {"approval": "person_first"}})
    assert "plan free (low tier only, shorter context): a person has triage before any model" in (
        ladder_notes(policy)
    )


@pytest.mark.parametrize(
    "sections",
    [
        {"tasks": {"support_answer": {"failure_limit": 1}}},
        {"limits": {"escalations": 0}},
        {"limits": {"attempts": 2}, "tasks": {"support_answer": {"verify": {"tier": LOW}}}},
    ],
)
def test_a_tier_that_limits_keep_out_of_reach_is_warned_of(sections: dict[str, Any]) -> None:
    warnings = list(lint(policy_with(**sections), NOON.date()))

    expected = "task support_answer never reaches premium under the plan enterprise"
    assert any(warning.startswith(expected) for warning in warnings)


def test_a_request_that_nobody_took_in_a_tier_keeps_its_ladder() -> None:
    first = route(plain("critique", "enterprise"), the_policy(), NOON)
    assert isinstance(first, Route)
    assert first.wanted is PREMIUM
    read = RouteTaken.model_validate_json(
        RouteTaken.model_validate(route_fields(first, the_policy().digest, NOON)).model_dump_json()
    )
    decided = climb(
        an_escalation(task="critique", routes=[read]),
        plain("critique", "enterprise"),
        the_policy(),
        NOON,
    )
    assert isinstance(decided, Route)
    assert (decided.tier, decided.moved_by) == (PREMIUM, [Reason.LOW_CONFIDENCE])
