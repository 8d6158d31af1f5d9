"""What follows an attempt, and where an escalated request goes."""

from collections.abc import Sequence
from datetime import timedelta
from itertools import cycle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.attempt.escalation import climb
from router.attempt.next_step import Answer, CallModel, Escalate, next_step, spent
from router.policy.table import Policy
from router.route.routing import GiveUp, Route, route, route_fields
from schemas.attempt import Attempt
from schemas.base import Tier
from schemas.escalation import Classification, RouteTaken
from schemas.reasons import Reason
from tests.builders import (
    NOON,
    a_request,
    a_route,
    an_assignment,
    an_attempt,
    an_escalation,
    the_policy,
)


def failed(reason: Reason, *, model: str = "sim-medium", no: int = 1) -> Attempt:
    return an_attempt(outcome="failed", reason=reason, model=model, attempt_no=no)


LATE = NOON + timedelta(hours=1)


@pytest.mark.parametrize(
    ("attempts", "expected"),
    [
        pytest.param([], CallModel("sim-medium"), id="the tier's first model is called first"),
        pytest.param(
            [an_attempt(outcome="accepted", reason=None)], Answer(), id="an accepted reply is it"
        ),
        pytest.param(
            [an_attempt(reason=Reason.REFUSED, detail="it refused")],
            Escalate(Reason.REFUSED, "it refused"),
            id="a judged reply that fails climbs and asks no other model of the tier",
        ),
        pytest.param(
            [failed(Reason.NOT_SENT)],
            CallModel("sim-medium", timedelta(seconds=0.5)),
            id="a call that never left is repeated once",
        ),
        pytest.param(
            [failed(Reason.NOT_SENT), failed(Reason.NOT_SENT, no=2)],
            CallModel("sim-medium-b"),
            id="then the tier's backup is called",
        ),
        pytest.param(
            [failed(Reason.PROVIDER_REJECTED)],
            CallModel("sim-medium-b"),
            id="a model that cannot do the call is not asked again",
        ),
        pytest.param(
            [
                failed(Reason.PROVIDER_REJECTED),
                failed(Reason.PROVIDER_REJECTED, model="sim-medium-b"),
            ],
            GiveUp(Reason.PROVIDER_UNAVAILABLE, "sim-medium-b: "),
            id="an outage of the tier stays in the tier: no dearer model is bought for it",
        ),
        pytest.param(
            [
                failed(Reason.CONTEXT_OVERFLOW),
                failed(Reason.CONTEXT_OVERFLOW, model="sim-medium-b"),
            ],
            Escalate(Reason.CONTEXT_OVERFLOW, ""),
            id="a request too long for the tier climbs",
        ),
    ],
)
def test_next_step(attempts: Sequence[Attempt], expected: object) -> None:
    assert next_step(an_assignment(), attempts, the_policy(), NOON) == expected


def test_a_passed_deadline_beats_a_repetition() -> None:
    step = next_step(an_assignment(), [failed(Reason.NOT_SENT)], the_policy(), LATE)

    assert isinstance(step, GiveUp)
    assert step.reason is Reason.DEADLINE_PASSED


def test_the_allowance_of_the_message_beats_everything_but_an_answer() -> None:
    assignment = an_assignment(attempts_left=1)
    step = next_step(assignment, [failed(Reason.NOT_SENT)], the_policy(), NOON)

    assert isinstance(step, GiveUp)
    assert step.reason is Reason.ATTEMPTS_EXHAUSTED


def test_a_wait_that_the_provider_asks_for_is_kept() -> None:
    step = next_step(an_assignment(), [failed(Reason.THROTTLED)], the_policy(), NOON, retry_after=7)

    assert step == CallModel("sim-medium", timedelta(seconds=7))


def test_a_wait_too_long_to_sit_out_is_the_backups_turn() -> None:
    step = next_step(
        an_assignment(), [failed(Reason.THROTTLED)], the_policy(), NOON, retry_after=600
    )

    assert step == CallModel("sim-medium-b")


def test_an_unknown_outcome_is_parked_where_the_task_says_so() -> None:
    """The policy of billing disputes pays no call twice."""
    assignment = an_assignment(task="billing_dispute")
    step = next_step(assignment, [failed(Reason.OUTCOME_UNKNOWN)], the_policy(), NOON)

    assert isinstance(step, GiveUp)
    assert step.reason is Reason.OUTCOME_UNKNOWN


def test_an_answer_that_a_person_must_approve_is_not_published() -> None:
    assignment = an_assignment(task="billing_dispute")
    accepted = an_attempt(outcome="accepted", reason=None)
    step = next_step(assignment, [accepted], the_policy(), NOON)

    assert isinstance(step, GiveUp)
    assert step.reason is Reason.APPROVAL_REQUIRED


def test_a_classification_goes_back_to_route() -> None:
    assignment = an_assignment(task=None, routes=[a_route(Tier.LOW, step="classify")])
    accepted = an_attempt(Tier.LOW, step="classify", outcome="accepted", reason=None)

    assert next_step(assignment, [accepted], the_policy(), NOON) == Escalate(Reason.CLASSIFIED, "")


def test_a_rejected_answer_climbs_one_tier() -> None:
    decided = climb(an_escalation(), a_request(), the_policy(), NOON)

    assert isinstance(decided, Route)
    assert (decided.tier, decided.rule, decided.code) == (
        Tier.PREMIUM,
        "escalation",
        Reason.LOW_CONFIDENCE,
    )


@pytest.mark.parametrize(
    ("change", "plan", "reason"),
    [
        pytest.param({}, "standard", Reason.NO_TIER_LEFT, id="the plan's ceiling holds"),
        pytest.param(
            {"routes": [a_route(Tier.PREMIUM)]},
            "enterprise",
            Reason.NO_TIER_LEFT,
            id="above premium there is only a person",
        ),
        pytest.param(
            {"attempts_left": 0}, "enterprise", Reason.ATTEMPTS_EXHAUSTED, id="nothing is left"
        ),
        pytest.param({"deadline": NOON}, "enterprise", Reason.DEADLINE_PASSED, id="it is too late"),
        pytest.param(
            {"attempts": [an_attempt(attempt_no=no) for no in (1, 2, 3)]},
            "enterprise",
            Reason.NO_TIER_LEFT,
            id="the task's failure limit is reached",
        ),
    ],
)
def test_climbing_ends(change: dict[str, object], plan: str, reason: Reason) -> None:
    decided = climb(an_escalation(**change), a_request(plan=plan), the_policy(), NOON)

    assert isinstance(decided, GiveUp)
    assert decided.reason is reason


def test_a_classified_request_is_routed_by_its_task() -> None:
    escalation = an_escalation(
        task=None,
        reason=Reason.CLASSIFIED,
        routes=[a_route(Tier.LOW, step="classify")],
        classification=Classification(task="summarization", ambiguity=0.1),
        attempts=[an_attempt(Tier.LOW, step="classify", outcome="accepted", reason=None)],
    )
    decided = climb(escalation, a_request(task=None), the_policy(), NOON)

    assert isinstance(decided, Route)
    assert (decided.task, decided.tier, decided.step) == ("summarization", Tier.BALANCED, "answer")


def _scoring() -> Policy:
    """The policy, which asks the classify step how complex support questions are."""
    policy = the_policy()
    assert policy.classify is not None
    step = policy.classify.model_copy(update={"complexity_counts_for": ["support_answer"]})
    return policy.model_copy(update={"classify": step})


@pytest.mark.parametrize(
    ("fields", "step"),
    [
        ({}, "classify"),
        ({"complexity": 2}, "answer"),
        ({"task": "rewrite"}, "answer"),
    ],
)
def test_a_task_that_the_policy_names_is_scored_before_it_is_answered(
    fields: dict[str, Any], step: str
) -> None:
    decided = route(a_request(**fields), _scoring(), NOON)

    assert isinstance(decided, Route)
    assert decided.step == step


@pytest.mark.parametrize(
    ("reason", "found", "rule"),
    [
        (Reason.CLASSIFIED, Classification(task="rewrite", complexity=5), "very_complex"),
        (Reason.CLASSIFIED, Classification(task="rewrite", complexity=1), "task support_answer"),
        (Reason.SCHEMA_FAILED, None, "task support_answer"),
    ],
)
def test_a_score_counts_in_the_rules_and_its_failure_stops_nothing(
    reason: Reason, found: Classification | None, rule: str
) -> None:
    escalation = an_escalation(
        task=None,
        reason=reason,
        routes=[a_route(Tier.LOW, step="classify")],
        classification=found,
        attempts=[an_attempt(Tier.LOW, step="classify")],
    )
    decided = climb(escalation, a_request(), _scoring(), NOON)

    assert isinstance(decided, Route)
    assert (decided.task, decided.step, decided.rule) == ("support_answer", "answer", rule)


@pytest.mark.parametrize("classification", [None, Classification(task="no_such_task")])
def test_a_failed_classification_takes_the_policys_guess(
    classification: Classification | None,
) -> None:
    """And never classifies again: that would go round in circles."""
    escalation = an_escalation(
        task=None,
        reason=Reason.CLASSIFIED if classification else Reason.SCHEMA_FAILED,
        routes=[a_route(Tier.LOW, step="classify")],
        classification=classification,
        attempts=[an_attempt(Tier.LOW, step="classify")],
    )
    decided = climb(escalation, a_request(task=None), the_policy(), NOON)

    assert isinstance(decided, Route)
    assert (decided.task, decided.step) == ("general", "answer")


@settings(max_examples=300, deadline=None)
@given(
    outcomes=st.lists(
        st.sampled_from(
            [
                Reason.LOW_CONFIDENCE,
                Reason.NOT_SENT,
                Reason.PROVIDER_ERROR,
                Reason.OUTCOME_UNKNOWN,
                Reason.CONTEXT_OVERFLOW,
                Reason.THROTTLED,
                None,
            ]
        ),
        min_size=20,
        max_size=20,
    ),
    task=st.sampled_from(sorted(the_policy().tasks)),
    plan=st.sampled_from(["free", "standard", "enterprise", "internal"]),
)
def test_whatever_models_do_a_request_ends(
    outcomes: list[Reason | None], task: str, plan: str
) -> None:
    """Within its allowance, never down the ladder, and no judged model is asked twice."""
    policy, request = the_policy(), a_request(task=task, plan=plan, justification="a test")
    start = policy.tasks[task].tier
    assignment = an_assignment(task=task, routes=[a_route(start)])
    every: list[Attempt] = []
    tiers, fate, now = [start], cycle(outcomes), NOON
    while True:
        here: list[Attempt] = []
        while isinstance(step := next_step(assignment, here, policy, now), CallModel):
            reason, now = next(fate), now + step.wait
            judged = reason in (None, Reason.LOW_CONFIDENCE)
            outcome = "failed" if not judged else "rejected" if reason else "accepted"
            here.append(
                an_attempt(
                    assignment.route.tier,
                    model=step.model,
                    outcome=outcome,
                    reason=reason,
                    attempt_no=len(every) + len(here) + 1,
                    started_at=now,
                )
            )
        every += here
        if not isinstance(step, Escalate):
            break
        left = assignment.attempts_left - spent(here)
        escalation = an_escalation(
            task=task,
            routes=assignment.routes,
            attempts=every,
            attempts_left=left,
            reason=step.reason,
        )
        decided = climb(escalation, request, policy, NOON)
        if isinstance(decided, GiveUp):
            break
        tiers.append(decided.tier)
        routes = [*assignment.routes, a_route(decided.tier, code=decided.code)]
        assignment = an_assignment(task=task, routes=routes, attempts=every, attempts_left=left)

    assert spent(every) <= policy.limits.attempts
    assert len(every) <= 100  # whatever is turned away
    assert [tier.rank for tier in tiers] == sorted({tier.rank for tier in tiers})
    judged_models = [attempt.model for attempt in every if attempt.was_judged]
    assert len(judged_models) == len(set(judged_models))


def test_after_a_failed_classification_a_request_still_climbs() -> None:
    """The task that the policy took instead travels in the envelope; classifying is no climb."""
    policy = the_policy()
    otherwise = policy.classify.otherwise if policy.classify else None
    assert otherwise is not None
    tier = policy.tasks[otherwise].tier
    escalation = an_escalation(
        task=otherwise,
        reason=Reason.REFUSED,
        routes=[
            a_route(Tier.LOW, step="classify"),
            a_route(tier, code=Reason.SCHEMA_FAILED),
        ],
        attempts=[
            an_attempt(Tier.LOW, step="classify", reason=Reason.SCHEMA_FAILED),
            an_attempt(tier, attempt_no=2, reason=Reason.REFUSED),
        ],
    )

    decided = climb(escalation, a_request(task=None, plan="enterprise"), policy, NOON)

    assert isinstance(decided, Route)
    assert decided.tier.rank > tier.rank
    assert decided.task == otherwise


@pytest.mark.parametrize(
    ("text", "needs_person"),
    [
        ("Where is my order 991?", False),
        ("\u042f \u0445\u043e\u0447\u0443 \u0443\u043c\u0435\u0440\u0435\u0442\u044c", True),
        ("\u8acb\u554f\u6211\u7684\u8a02\u55ae\u5728\u54ea\u88e1", True),
    ],
)
def test_a_text_that_neither_model_nor_words_can_read_waits_for_a_person(
    text: str, needs_person: bool
) -> None:
    failed = an_escalation(
        task=None, reason=Reason.LOW_CONFIDENCE, routes=[a_route(Tier.LOW, step="classify")]
    )
    decided = climb(failed, a_request(task=None, input=text), the_policy(), NOON)

    assert isinstance(decided, Route)
    assert decided.task == "general"
    assert decided.needs_person is needs_person
    assert ("in this script" in decided.reason) is needs_person


def test_a_tasks_failure_limit_holds_within_a_tier_too() -> None:
    """Two failed calls are enough for a task that says two, whatever models are left."""
    policy = the_policy()
    [task] = [name for name, row in policy.tasks.items() if row.failure_limit == 2][:1]
    tier = policy.tasks[task].tier
    first = policy.models_of(tier, task)[0]
    attempts = [
        an_attempt(tier, outcome="failed", reason=Reason.PROVIDER_ERROR, model=first, attempt_no=no)
        for no in (1, 2)
    ]

    step = next_step(an_assignment(task=task, routes=[a_route(tier)]), attempts, policy, NOON)

    assert isinstance(step, GiveUp)
    assert "2 attempts failed and 2 are the limit" in step.detail


def test_an_answer_that_a_person_approves_is_so_in_every_tier() -> None:
    """The text is delicate and its task a guess: what the next tier answers waits, too."""
    request = a_request(task=None, input="Which dosage is safe for my child, 7?")
    classified = an_escalation(
        task=None,
        classification=Classification(task="general"),
        reason=Reason.CLASSIFIED,
        routes=[a_route(Tier.LOW, step="classify")],
        attempts=[an_attempt(Tier.LOW, step="classify", outcome="accepted", reason=None)],
    )
    first = climb(classified, request, the_policy(), NOON)
    assert isinstance(first, Route)
    taken = RouteTaken.model_validate(route_fields(first, the_policy().digest, NOON))
    rejected = an_attempt(first.tier)
    climbed = climb(
        an_escalation(
            task=first.task,
            classification=classified.classification,
            routes=[*classified.routes, taken],
            attempts=[*classified.attempts, rejected],
        ),
        request,
        the_policy(),
        NOON,
    )
    assert isinstance(climbed, Route)

    for decided in (first, climbed):
        last = RouteTaken.model_validate(route_fields(decided, the_policy().digest, NOON))
        assignment = an_assignment(task=decided.task, routes=[last])
        accepted = an_attempt(decided.tier, outcome="accepted", reason=None)
        step = next_step(assignment, [accepted], the_policy(), NOON)
        assert isinstance(step, GiveUp)
        assert step.reason is Reason.APPROVAL_REQUIRED
