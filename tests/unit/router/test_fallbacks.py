"""Another model in place of one that fails: where that may be, and the tier that takes overflow."""

from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Any

import pytest

from router.attempt.escalation import climb
from router.attempt.model_quirks import too_narrow
from router.attempt.next_step import (
    Answer,
    CallModel,
    Escalate,
    NextStep,
    Wait,
    crowded,
    next_step,
)
from router.limits.shares import account_of, shares
from router.policy.apart import Apart
from router.policy.table import Policy
from router.route.explain import explained
from router.route.overflow import overflowed
from router.route.routing import GiveUp, Route, route
from schemas.attempt import Attempt
from schemas.base import Tier
from schemas.escalation import SignalsTaken
from schemas.reasons import Reason
from schemas.verdict import Verdict
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
A, B = "sim-medium", "sim-medium-b"
TASK = "support_answer"
RISKY = {"risk": "risky"}
BOTH = (A, B)


def failed(reason: Reason, model: str = A, **fields: Any) -> Attempt:
    return an_attempt(model=model, outcome="failed", reason=reason, **fields)


def a_size(tokens: int) -> SignalsTaken:
    return SignalsTaken(ambiguity=0.1, blast_radius="low", complexity=1, total_tokens=tokens)


LOST = [failed(Reason.PROVIDER_ERROR), failed(Reason.PROVIDER_ERROR, attempt_no=2)]


def step_of(
    attempts: Sequence[Attempt], row: dict[str, Any], out: Collection[str] = (), **fields: Any
) -> NextStep:
    policy = with_task(**row)
    return next_step(an_assignment(**fields), attempts, policy, NOON, is_out=out.__contains__)


@pytest.mark.parametrize(
    ("row", "falls_back"),
    [
        pytest.param({}, True, id="routine work may have other words"),
        pytest.param(RISKY, False, id="what could do harm may not"),
        pytest.param({**RISKY, "fallback": "allowed"}, True, id="unless its row says so"),
        pytest.param({**RISKY, "approval": "person"}, True, id="or a person sees them"),
        pytest.param({"fallback": "forbidden"}, False, id="any row may forbid it"),
        pytest.param(
            {"fallback": "forbidden", "approval": "person"}, True, id="unseen, that is, as if risky"
        ),
        pytest.param({"risk": "unclear"}, True, id="unclear is not risky"),
    ],
)
def test_a_backup_stands_in_only_where_it_may(row: dict[str, Any], falls_back: bool) -> None:
    step = step_of(LOST, row)

    if falls_back:
        assert step == CallModel(B)
    else:
        assert isinstance(step, GiveUp)
        assert step.reason is Reason.PROVIDER_UNAVAILABLE
        assert "no other model may stand in unseen" in step.detail


def test_a_route_that_a_person_approves_may_fall_back() -> None:
    step = step_of(LOST, RISKY, routes=[a_route(needs_person=True)])

    assert step == CallModel(B)


@pytest.mark.parametrize(
    ("attempts", "row", "out", "expected"),
    [
        pytest.param([], RISKY, (A,), Wait(), id="who may not fall back waits for its model"),
        pytest.param([], {}, (A,), CallModel(B), id="others do not"),
        pytest.param(
            LOST[:1], RISKY, (), CallModel(A, timedelta(seconds=0.5)), id="it is asked once more"
        ),
        pytest.param(
            [failed(Reason.THROTTLED, duration_ms=0.0)],
            RISKY,
            (),
            CallModel(A, timedelta(seconds=2)),
            id="a model that throttles is asked later, and no other",
        ),
        pytest.param(
            [failed(Reason.CONTEXT_OVERFLOW)],
            RISKY,
            (),
            Escalate(Reason.CONTEXT_OVERFLOW, ""),
            id="what is too long climbs: the row names that tier",
        ),
        pytest.param(
            [an_attempt(detail="unsure")],
            RISKY,
            (),
            Escalate(Reason.LOW_CONFIDENCE, "unsure"),
            id="a judged answer climbs as the row says",
        ),
        pytest.param(
            [an_attempt(outcome="accepted", reason=None)],
            {**RISKY, "verify": {"tier": LOW}},
            ("sim-small",),
            CallModel("sim-small-b", step="verify"),
            id="a reader writes nothing, so any may stand in",
        ),
        pytest.param([], {**RISKY, "on_outage": "next_tier"}, BOTH, Wait(), id="no dearer model"),
        pytest.param(
            [],
            {**RISKY, "on_outage": "next_tier", "fallback": "allowed"},
            BOTH,
            Escalate(Reason.PROVIDER_UNAVAILABLE, "every model of balanced is out"),
            id="unless it may",
        ),
    ],
)
def test_what_follows_a_failure(
    attempts: list[Attempt], row: dict[str, Any], out: Collection[str], expected: NextStep
) -> None:
    assert step_of(attempts, row, out) == expected


SPILLS = {"overflow": "premium"}


@pytest.mark.parametrize(
    ("attempts", "row", "out", "expected"),
    [
        pytest.param([], SPILLS, (), CallModel(A), id="as long as its models take it"),
        pytest.param(
            [],
            SPILLS,
            BOTH,
            Escalate(Reason.OVERFLOW, "every model of balanced is out"),
            id="all are out",
        ),
        pytest.param(
            [*LOST, failed(Reason.OUTCOME_UNKNOWN, B, detail="no answer in 60 s", attempt_no=3)],
            SPILLS,
            (),
            Escalate(
                Reason.OVERFLOW, f"{B}: no answer in 60 s; 3 attempts failed and 3 are the limit"
            ),
            id="all time out",
        ),
        pytest.param([], {**SPILLS, **RISKY}, BOTH, Wait(), id="it is a fallback, too"),
        pytest.param(
            [an_attempt()], SPILLS, BOTH, Escalate(Reason.LOW_CONFIDENCE, ""), id="not for doubt"
        ),
    ],
)
def test_what_a_tier_cannot_take_goes_to_the_overflow_tier(
    attempts: list[Attempt], row: dict[str, Any], out: Collection[str], expected: NextStep
) -> None:
    assert step_of(attempts, row, out, plan="enterprise") == expected


@pytest.mark.parametrize(
    ("fields", "step"),
    [
        ({"plan": "enterprise"}, Escalate(Reason.OVERFLOW, f"all slots of {TASK} are taken")),
        ({"plan": "standard"}, Wait()),
        ({"plan": "enterprise", "routes": [a_route(moved_by=[Reason.OVERFLOW])]}, Wait()),
        ({"plan": "enterprise", "routes": [a_route(step="classify")]}, Wait()),
        ({"plan": "enterprise", "routes": [a_route(rule="review")]}, Wait()),
        ({"plan": "enterprise", "attempts": [an_attempt(LOW)]}, Wait()),
        ({"plan": "enterprise", "routes": [a_route(signals=a_size(250_000))]}, Wait()),
    ],
    ids=[
        "full slots overflow",
        "never above the plan",
        "only once",
        "not while it is classified",
        "not where a person chose the tier",
        "not after an answer was judged",
        "not into too small a window",
    ],
)
def test_who_finds_no_slot_overflows_or_waits(fields: dict[str, Any], step: NextStep) -> None:
    assert crowded(an_assignment(**fields), [], with_task(**SPILLS)) == step


def test_an_overflow_is_a_route_of_its_own_and_no_climb() -> None:
    policy = policy_with(tasks={TASK: {"overflow": "low"}}, limits={"escalations": 1})
    spilled = an_escalation(reason=Reason.OVERFLOW, detail="every model is out", attempts=[])
    decided = climb(spilled, a_request(), policy, NOON)

    assert isinstance(decided, Route)
    assert (decided.tier, decided.rule, decided.code) == (LOW, "overflow", Reason.OVERFLOW)
    assert decided.moved_by == [Reason.OVERFLOW]
    rejected = an_escalation(
        routes=[a_route(), a_route(LOW, code=Reason.OVERFLOW, moved_by=[Reason.OVERFLOW])],
        attempts=[an_attempt(LOW)],
    )
    back = climb(rejected, a_request(), policy, NOON)
    assert isinstance(back, Route)
    assert back.tier is BALANCED


def test_what_the_plan_keeps_from_the_overflow_tier_is_a_persons() -> None:
    spilled = an_escalation(reason=Reason.OVERFLOW, detail="all out")
    decided = climb(spilled, a_request(plan="standard"), with_task(**SPILLS), NOON)

    assert decided == GiveUp(Reason.PROVIDER_UNAVAILABLE, "all out")
    first = route(a_request(), with_task(**SPILLS), NOON)
    assert isinstance(first, Route)
    other = overflowed(first, a_request(), with_task(**SPILLS))
    assert other is not None
    assert (other.tier, other.rule) == (PREMIUM, "overflow")
    assert overflowed(other, a_request(), with_task(overflow="low")) is None


@pytest.mark.parametrize(
    ("row", "fields", "words"),
    [
        pytest.param({}, {}, "it goes to premium.", id="it overflows"),
        pytest.param({}, {"plan": "standard"}, "it waits: plan, window or", id="above the plan"),
        pytest.param(RISKY, {}, "`fallback` keep it from premium.", id="another model's words"),
        pytest.param({}, {"plan": "internal", "justification": "a test"}, None, id="there already"),
    ],
)
def test_it_is_explained_where_a_request_goes_that_its_tier_cannot_take(
    row: dict[str, Any], fields: dict[str, Any], words: str | None
) -> None:
    raises = {"name": "up", "when": {"plans": ["internal"]}, "tier": "premium", "reason": "a test"}
    policy = policy_with(tasks={TASK: {**SPILLS, **row}}, rules=[raises])
    explanation = explained(a_request(**fields), policy, NOON)["words"]

    assert ("cannot take it in time" in explanation) is (words is not None)
    assert (words or "") in explanation


TUNED = {
    "tuned": {**the_policy().models["sim-small"].model_dump(), "id": "ft:sim:support"},
}


def with_own(*models: str, **row: Any) -> Policy:
    return policy_with(models=TUNED, tasks={TASK: {"models": list(models), "backup": None, **row}})


def test_a_tasks_own_models_are_called_for_it_alone_and_in_its_tier() -> None:
    policy = with_own("tuned", A)

    assert policy.models_of(BALANCED, TASK) == ["tuned", A]
    assert policy.models_of(PREMIUM, TASK) == ["sim-large", "sim-large-b"]
    assert policy.models_of(BALANCED, "general") == [A, B]
    assert policy.models_by_tier[BALANCED] == [A, B, "tuned"]
    assert next_step(an_assignment(), [], policy, NOON) == CallModel("tuned")
    assert shares([policy], {})[account_of(policy.models["tuned"]), BALANCED] == 1.0


def test_a_request_that_its_own_models_cannot_hold_goes_where_it_fits() -> None:
    """The tuned model has a small window: in its own tier no other model answers this task."""
    policy, long = with_own("tuned"), a_request(input="Order 4711, line by line. " * 3_000)
    decided = route(long, policy, NOON)

    assert isinstance(decided, Route)
    assert decided.tier is PREMIUM
    assert decided.moved_by == (Reason.LONG_CONTEXT,)


@pytest.mark.parametrize(
    ("narrow", "lacks", "expected"),
    [
        pytest.param([], {}, "tuned", id="the first is called"),
        pytest.param(["tuned"], {}, A, id="a window that is too small is passed over"),
        pytest.param([], {"tuned": "tools"}, A, id="so is a model without tools"),
        pytest.param(["tuned", A], {}, "tuned", id="where none seems to fit, the first is tried"),
        pytest.param([A], {"tuned": "tools"}, A, id="and what it must be able to do counts first"),
    ],
)
def test_a_model_that_does_not_suit_the_request_is_passed_over(
    narrow: list[str], lacks: dict[str, str], expected: str
) -> None:
    policy = with_own("tuned", A)
    step = next_step(an_assignment(), [], policy, NOON, narrow=narrow, lacks=lacks)

    assert step == CallModel(expected)


def test_windows_are_compared_with_the_request() -> None:
    policy, long = with_own("tuned"), a_request(input="Order 4711, line by line. " * 3_000)

    assert set(too_narrow(policy.models, long)) == {"sim-small", "sim-small-b", "tuned"}
    assert too_narrow(policy.models, a_request()) == []


@pytest.mark.parametrize(
    ("policy", "slots", "models"),
    [
        pytest.param(the_policy(), None, set(), id="tasks share everything"),
        pytest.param(with_task(slots=20), 20, set(), id="slots of its own"),
        pytest.param(with_own("tuned"), None, set(), id="what nobody else calls is its own anyway"),
        pytest.param(with_own("tuned", A), None, {A}, id="what others call is apart"),
        pytest.param(with_task(breaker="own"), None, {*the_policy().models}, id="if it asks, all"),
    ],
)
def test_what_a_task_has_to_itself(policy: Policy, slots: int | None, models: set[str]) -> None:
    assert policy.apart(TASK) == Apart(TASK, slots, frozenset(models))
    assert not policy.apart("triage").models
    assert policy.apart(None) == Apart()


def test_an_answer_is_not_thrown_away_because_the_second_opinion_overflows() -> None:
    agreement = {"samples": 2, "of": "others", "share": 1.0, "fields": ["answer"]}
    verdict = Verdict(outcome="accepted", checks=[], output={"answer": "yes", "confidence": 0.9})
    accepted = [an_attempt(outcome="accepted", reason=None, verdict=verdict)]
    step = step_of(accepted, {**SPILLS, "agreement": agreement}, (B,), plan="enterprise")

    assert step == Wait()
    assert step_of(accepted, SPILLS, BOTH, plan="enterprise") == Answer()
