"""More than one call for one answer: votes, second opinions, readers, refusals and backups."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from router.attempt.next_step import (
    Answer,
    CallModel,
    Escalate,
    NextStep,
    Refuse,
    Wait,
    next_step,
    spent,
)
from router.policy.table import Policy
from router.route.routing import GiveUp
from schemas.attempt import Attempt
from schemas.base import Tier
from schemas.reasons import Reason
from schemas.verdict import Verdict
from tests.builders import NOON, a_route, an_assignment, an_attempt, the_policy, with_task

TASK = "support_answer"
VOTE = {"samples": 3, "of": "same", "share": 0.66, "fields": ["label"]}
SECOND = {"samples": 2, "of": "others", "share": 1.0, "fields": ["label"]}
READER = {"tier": Tier.LOW, "accept": 0.7}


def answered(label: str, model: str = "sim-medium", **fields: Any) -> Attempt:
    verdict = Verdict(outcome="accepted", checks=[], output={"label": label, "confidence": 0.9})
    plain: dict[str, Any] = {"outcome": "accepted", "reason": None, "verdict": verdict}
    return an_attempt(model=model, **{**plain, **fields})


def calls(amount: int, call_id: str = "call_1", model: str = "sim-medium") -> Attempt:
    function = {"name": "refund", "arguments": f'{{"amount": {amount}}}'}
    output = {"tool_calls": [{"id": call_id, "type": "function", "function": function}]}
    return answered("", model, verdict=Verdict(outcome="accepted", checks=[], output=output))


def read(outcome: str, reason: Reason | None = None, model: str = "sim-small") -> Attempt:
    return an_attempt(Tier.LOW, step="verify", model=model, outcome=outcome, reason=reason)


def failed(reason: Reason, model: str = "sim-medium", **fields: Any) -> Attempt:
    return an_attempt(model=model, outcome="failed", reason=reason, **fields)


def step_after(attempts: Sequence[Attempt], **fields: Any) -> NextStep:
    return next_step(an_assignment(), attempts, with_task(**fields), NOON)


@pytest.mark.parametrize(
    ("attempts", "expected"),
    [
        pytest.param(
            [answered("bug")], CallModel("sim-medium"), id="a vote asks the same model again"
        ),
        pytest.param(
            [answered("bug"), answered("Bug. ")],
            Answer(),
            id="two of three agree: the third is not paid",
        ),
        pytest.param(
            [answered("bug"), answered("sales")],
            CallModel("sim-medium"),
            id="one each: the third decides",
        ),
        pytest.param(
            [answered("bug"), answered("sales"), answered("bug")], Answer(), id="the third agrees"
        ),
        pytest.param(
            [answered("bug"), answered("sales"), answered("sales")],
            Escalate(Reason.MODELS_DISAGREE, "1 of 3 answers say the same"),
            id="the first is outvoted, and nobody publishes it",
        ),
        pytest.param(
            [answered("bug"), an_attempt(reason=Reason.SCHEMA_FAILED), an_attempt()],
            Escalate(Reason.MODELS_DISAGREE, "1 of 3 answers say the same"),
            id="an answer that fails its checks agrees with nobody",
        ),
        pytest.param(
            [answered("bug"), failed(Reason.NOT_SENT)],
            CallModel("sim-medium", timedelta(seconds=0.5)),
            id="a vote that never left is sent once more",
        ),
    ],
)
def test_a_vote(attempts: Sequence[Attempt], expected: NextStep) -> None:
    assert step_after(attempts, agreement=VOTE) == expected


@pytest.mark.parametrize(
    ("attempts", "expected"),
    [
        pytest.param([answered("bug")], CallModel("sim-medium-b"), id="another model is asked"),
        pytest.param([answered("bug"), answered("bug", "sim-medium-b")], Answer(), id="both agree"),
        pytest.param(
            [answered("bug"), answered("sales", "sim-medium-b")],
            Escalate(Reason.MODELS_DISAGREE, "1 of 2 answers say the same"),
            id="they do not",
        ),
        pytest.param(
            [calls(5), calls(5, "call_2", "sim-medium-b")], Answer(), id="both call the same"
        ),
        pytest.param(
            [calls(5), calls(5000, "call_1", "sim-medium-b")],
            Escalate(Reason.MODELS_DISAGREE, "1 of 2 answers say the same"),
            id="they call with other arguments",
        ),
        pytest.param(
            [an_attempt(detail="unsure")],
            Escalate(Reason.LOW_CONFIDENCE, "unsure"),
            id="a first answer that fails is nothing to compare with",
        ),
    ],
)
def test_a_second_opinion(attempts: Sequence[Attempt], expected: NextStep) -> None:
    assert step_after(attempts, agreement=SECOND) == expected


@pytest.mark.parametrize(
    ("attempts", "expected"),
    [
        pytest.param(
            [answered("bug")], CallModel("sim-small", step="verify"), id="an answer is read first"
        ),
        pytest.param(
            [answered("bug"), read("accepted")], Answer(), id="found right, it is published"
        ),
        pytest.param(
            [answered("bug"), read("rejected", Reason.VERIFIER_REJECTED)],
            Escalate(Reason.VERIFIER_REJECTED, ""),
            id="found wrong, it climbs",
        ),
        pytest.param(
            [answered("bug"), read("rejected", Reason.SCHEMA_FAILED)],
            CallModel("sim-small-b", step="verify"),
            id="a verdict nobody can read is none",
        ),
        pytest.param(
            [
                answered("bug"),
                read("rejected", Reason.SCHEMA_FAILED),
                read("rejected", Reason.REFUSED, "sim-small-b"),
            ],
            Escalate(Reason.VERIFIER_REJECTED, "no model was left to verify it"),
            id="without a usable verdict nothing is published",
        ),
        pytest.param(
            [answered("bug"), read("failed", Reason.PROVIDER_REJECTED)],
            CallModel("sim-small-b", step="verify"),
            id="a reader that fails has a backup",
        ),
    ],
)
def test_a_reader(attempts: Sequence[Attempt], expected: NextStep) -> None:
    assert step_after(attempts, verify=READER) == expected


def test_nobody_reads_its_own_answer() -> None:
    reader = {"tier": Tier.BALANCED, "accept": 0.7}
    assert step_after([answered("bug")], verify=reader) == CallModel("sim-medium-b", step="verify")


def test_readings_and_votes_use_up_the_requests_allowance() -> None:
    policy = with_task(agreement=SECOND, verify=READER)
    step = next_step(an_assignment(attempts_left=1), [answered("bug")], policy, NOON)

    assert isinstance(step, GiveUp)
    assert step.reason is Reason.ATTEMPTS_EXHAUSTED


def test_a_reading_says_whether_a_person_still_has_to_approve() -> None:
    step = step_after([answered("bug"), read("accepted")], verify=READER, approval="person")

    assert isinstance(step, GiveUp)
    assert step.reason is Reason.APPROVAL_REQUIRED


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("next_tier", Escalate(Reason.REFUSED, "it begins like one")),
        ("deliver", Refuse("it begins like one")),
        ("review", GiveUp(Reason.REFUSED, "it begins like one")),
    ],
)
def test_the_task_says_what_a_refusal_is(rule: str, expected: NextStep) -> None:
    refused = an_attempt(reason=Reason.REFUSED, detail="it begins like one")

    assert step_after([refused], on_refusal=rule) == expected


def test_another_providers_model_stands_in_first() -> None:
    policy = the_policy().model_dump()
    policy["tiers"][Tier.BALANCED]["models"] = ["sim-medium", "sim-medium-b", "elsewhere"]
    policy["models"]["elsewhere"] = policy["models"]["sim-medium"] | {"provider": "another"}
    del policy["tasks"][TASK]["backup"]
    attempts = [failed(Reason.PROVIDER_ERROR, attempt_no=no) for no in (1, 2)]

    step = next_step(an_assignment(), attempts, Policy.model_validate(policy), NOON)

    assert step == CallModel("elsewhere")


def test_what_is_too_long_is_only_given_to_a_model_that_reads_more() -> None:
    step = step_after([failed(Reason.CONTEXT_OVERFLOW)])

    assert step == Escalate(Reason.CONTEXT_OVERFLOW, "")  # its backup reads no more than it does


@pytest.mark.parametrize("able", [["sim-medium-b"], []])
def test_a_model_that_cannot_take_the_request_is_not_asked(able: Sequence[str]) -> None:
    step = next_step(
        an_assignment(routes=[a_route()]),
        [],
        the_policy(),
        NOON,
        lacks={name: "tools" for name in the_policy().models if name not in able},
    )

    expected = Escalate(Reason.NO_MODEL_TAKES_IT, "sim-medium does not take tools")
    assert step == (CallModel("sim-medium-b") if able else expected)


A, B = "sim-medium", "sim-medium-b"


@pytest.mark.parametrize(
    ("attempts", "out", "expected"),
    [
        pytest.param([], {A}, CallModel(B), id="a model that is out is passed over"),
        pytest.param([], {A, B}, Wait(), id="all are out: the request waits, and nothing is used"),
        pytest.param([failed(Reason.THROTTLED)], {A}, CallModel(B), id="throttled: the backup"),
        pytest.param(
            [failed(Reason.THROTTLED), failed(Reason.THROTTLED, B)],
            {A, B},
            Wait(),
            id="all throttle: the last one is asked once more when it may be",
        ),
        pytest.param(
            [failed(Reason.THROTTLED), failed(Reason.THROTTLED, B)],
            {A},
            CallModel(B, timedelta(seconds=2.1)),
            id="it may be asked again",
        ),
        pytest.param(
            [failed(Reason.THROTTLED, B), failed(Reason.PROVIDER_REJECTED)],
            {A, B},
            Wait(),
            id="one refuses the call, the other only wants it later",
        ),
        pytest.param(
            [failed(Reason.PROVIDER_REJECTED, B), failed(Reason.PROVIDER_REJECTED)],
            {A, B},
            GiveUp(Reason.PROVIDER_UNAVAILABLE, "sim-medium: "),
            id="no waiting mends a refusal",
        ),
    ],
)
def test_models_that_are_out_use_up_no_attempt(
    attempts: Sequence[Attempt], out: set[str], expected: NextStep
) -> None:
    step = next_step(
        an_assignment(), attempts, with_task(on_outage="stay"), NOON, is_out=out.__contains__
    )

    assert step == expected


def test_a_task_may_climb_instead_of_waiting() -> None:
    policy = with_task(on_outage="next_tier")
    step = next_step(an_assignment(), [], policy, NOON, is_out=lambda _: True)

    assert step == Escalate(Reason.PROVIDER_UNAVAILABLE, "every model of balanced is out")


def turned_away(models: Sequence[str], seconds: float = 0.0) -> list[Attempt]:
    """Calls of these models, one after the other, each of which was turned away at once."""
    return [
        failed(
            Reason.THROTTLED,
            model,
            attempt_no=no,
            started_at=NOON + timedelta(seconds=no * seconds),
            duration_ms=0.0,
        )
        for no, model in enumerate(models, start=1)
    ]


def test_who_is_told_to_come_again_later_has_not_failed() -> None:
    """Being put off uses up neither the request's attempts nor the failures its task allows."""
    put_off = turned_away([A, *[B] * 8])

    step = next_step(
        an_assignment(attempts_left=1), put_off, with_task(on_outage="stay"), NOON, retry_after=7
    )

    assert step == CallModel(A, timedelta(seconds=2))  # its pause is over first
    assert spent([*put_off, failed(Reason.NOT_SENT)]) == 1


def test_pauses_grow_while_a_model_turns_calls_away() -> None:
    policy, attempts, now = with_task(on_outage="stay"), list[Attempt](), NOON
    assignment = an_assignment(attempts_left=1, deadline=NOON + timedelta(hours=24))
    while isinstance(step := next_step(assignment, attempts, policy, now), CallModel):
        now += step.wait
        attempts.append(
            failed(
                Reason.THROTTLED,
                step.model,
                attempt_no=len(attempts) + 1,
                started_at=now,
                duration_ms=0.0,
            )
        )
    assert isinstance(step, GiveUp)
    assert step.reason is Reason.PROVIDER_UNAVAILABLE

    calls = [
        (attempt.started_at - NOON).total_seconds() for attempt in attempts if attempt.model == A
    ]
    # Once soon, while there is a backup; then less and less often.
    assert calls[:6] == [0.0, 0.5, 4.5, 12.5, 28.5, 58.5]
    assert calls[-20] - calls[-21] > 60
    assert now > assignment.deadline - timedelta(seconds=5)  # it is tried up to the end
    assert len(attempts) < 150  # and a day of trouble still fits into a record


def test_a_task_that_may_climb_waits_for_no_model() -> None:
    step = step_after(turned_away([A, A, B, B]), on_outage="next_tier")

    assert step == Escalate(Reason.THROTTLED, "")


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        pytest.param(45, CallModel(A, timedelta(seconds=45)), id="longer than a backup is kept"),
        pytest.param(
            3600, GiveUp(Reason.PROVIDER_UNAVAILABLE, "sim-medium: "), id="beyond the deadline"
        ),
    ],
)
def test_a_wait_is_sat_out_where_nobody_else_is_left(seconds: int, expected: NextStep) -> None:
    assignment = an_assignment(deadline=NOON + timedelta(minutes=2))
    attempts = [failed(Reason.PROVIDER_REJECTED, B), *turned_away([A])]
    policy = with_task(on_outage="stay")

    assert next_step(assignment, attempts, policy, NOON, retry_after=seconds) == expected


def test_a_short_wait_that_is_asked_for_again_and_again_grows() -> None:
    attempts = [failed(Reason.PROVIDER_REJECTED, B), *turned_away([A] * 4)]
    now = attempts[-1].started_at
    step = next_step(an_assignment(), attempts, with_task(on_outage="stay"), now, retry_after=0)

    assert step == CallModel(A, timedelta(seconds=16))
