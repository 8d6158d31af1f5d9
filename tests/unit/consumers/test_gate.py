"""The gate in front of every call: who is let through, who waits, and who is left alone."""

from collections.abc import Mapping
from typing import Any

import pytest

from consumers.providers.gate import Admission, Gate
from consumers.providers.settings import ModelLimits, ProviderSettingsError
from router.limits.shares import Account, account_of, shares
from router.policy.table import Model
from router.reply.reply import CallFailure, Reply
from schemas.base import Tier
from schemas.reasons import Reason
from schemas.status import TaskBreaker
from schemas.usage import Usage
from tests.builders import the_policy, with_task

A, B = (the_policy().models[name] for name in ("sim-small", "sim-small-b"))
HERE = (Tier.LOW, 0)


class Clock:
    """A clock that stands still until it is moved."""

    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def a_gate(clock: Clock, partitions: int = 1, **limits: Any) -> Gate:
    gate = Gate(lambda _: ModelLimits(**limits), lambda: partitions, clock)
    gate.serve([the_policy()])
    return gate


def a_reply(tokens: int = 10) -> Reply:
    return Reply("hi", "stop", Usage(input_tokens=tokens), {})


def throttled(seconds: float | None = None) -> CallFailure:
    return CallFailure(Reason.THROTTLED, "slow down", http_status=429, retry_after=seconds)


def failed(
    reason: Reason = Reason.PROVIDER_ERROR, status: int | None = 500, **fields: Any
) -> CallFailure:
    return CallFailure(reason, "no", http_status=status, **fields)


NO_CREDIT = failed(Reason.PROVIDER_REJECTED, 429, refuses="provider")


def call(gate: Gate, outcome: Reply | CallFailure, model: Model = A) -> None:
    admission = gate.admit(model, HERE, 0)
    assert isinstance(admission, Admission)
    gate.settle(admission, outcome)


def calls_in(gate: Gate, clock: Clock, seconds: float, outcome: Reply | CallFailure) -> int:
    """How many calls somebody makes who tries every tenth of a second."""
    count = 0
    for _ in range(int(seconds * 10)):
        admission = gate.admit(A, HERE, 100)
        if isinstance(admission, Admission):
            gate.settle(admission, outcome)
            count += 1
        clock.now += 0.1
    return count


def test_nobody_calls_before_the_time_that_the_provider_has_given() -> None:
    """Whichever slot of the process was told; then one goes first, and the others wait for it."""
    clock = Clock()
    gate = a_gate(clock)
    under_way = [gate.admit(A, HERE, 0) for _ in range(3)]
    call(gate, throttled(5.0))
    for one in under_way:
        assert isinstance(one, Admission)
        gate.settle(one, a_reply())  # asked before it, and no reason to call earlier

    assert calls_in(gate, clock, 4.9, a_reply()) == 0
    clock.now += 0.2
    probe = gate.admit(A, HERE, 0)
    assert isinstance(probe, Admission)
    assert all(not isinstance(gate.admit(A, HERE, 0), Admission) for _ in range(5))
    gate.settle(probe, a_reply())
    assert isinstance(gate.admit(A, HERE, 0), Admission)


@pytest.mark.parametrize(
    "outcome",
    [
        pytest.param(NO_CREDIT, id="the provider"),
        pytest.param(failed(Reason.PROVIDER_REJECTED, 403, refuses="model"), id="the model"),
    ],
)
def test_a_provider_that_lets_us_call_no_more_is_asked_once_a_minute(outcome: CallFailure) -> None:
    clock = Clock()

    assert calls_in(a_gate(clock), clock, 300, outcome) <= 5


def test_a_provider_without_credit_is_asked_for_none_of_its_models() -> None:
    clock = Clock()
    gate = a_gate(clock)
    models = [model for model in the_policy().models.values() if model.provider == "simulated"]
    call(gate, NO_CREDIT, models[0])
    assert len(models) > 1
    assert all(gate.is_out(model) for model in models)

    clock.now += 61
    call(gate, failed(Reason.PROVIDER_REJECTED, 403, refuses="model"), models[0])
    assert [model for model in models if gate.is_out(model)] == models[:1]


@pytest.mark.parametrize(
    "outcome",
    [
        pytest.param(failed(), id="a server error"),
        pytest.param(failed(Reason.OUTCOME_UNKNOWN, None), id="no answer"),
        pytest.param(failed(Reason.NOT_SENT, None), id="no connection"),
        pytest.param(failed(Reason.UNREADABLE_REPLY, 200), id="nonsense"),
        pytest.param(failed(Reason.PROVIDER_REJECTED, 404), id="no such model"),
    ],
)
def test_a_model_that_fails_five_times_in_a_row_is_left_alone(outcome: CallFailure) -> None:
    clock = Clock()
    gate = a_gate(clock)

    assert calls_in(gate, clock, 29, outcome) == 5
    assert gate.is_out(A)
    assert not gate.is_out(B)
    assert gate.most_calls(Tier.LOW) > 0
    for _ in range(5):
        call(gate, outcome, B)
    assert gate.most_calls(Tier.LOW) == 0


def test_calls_that_are_their_own_fault_say_nothing_against_the_model() -> None:
    clock = Clock()
    gate = a_gate(clock)
    for outcome in (failed(Reason.PROVIDER_REJECTED, 400), failed(Reason.CONTEXT_OVERFLOW, 400)):
        for _ in range(20):
            call(gate, outcome)

    assert not gate.is_out(A)


def test_a_configured_number_of_calls_runs_at_once() -> None:
    clock = Clock()
    gate = a_gate(clock, concurrency=3)
    running = [gate.admit(A, HERE, 0) for _ in range(5)]

    assert [isinstance(one, Admission) for one in running] == [True] * 3 + [False] * 2
    first = running[0]
    assert isinstance(first, Admission)
    gate.settle(first, a_reply())
    assert isinstance(gate.admit(A, HERE, 0), Admission)


def test_a_call_that_was_given_up_gives_its_place_back() -> None:
    clock = Clock()
    gate = a_gate(clock, concurrency=1)
    for _ in range(3):
        admission = gate.admit(A, HERE, 0)
        assert isinstance(admission, Admission)
        gate.settle(admission, None)


@pytest.mark.parametrize("partitions", [1, 4])
def test_all_partitions_together_stay_under_the_limit_per_minute(partitions: int) -> None:
    """Each process has the buckets of its partitions; together they are one provider's limit."""
    clock = Clock()
    gates = [a_gate(clock, partitions, requests_per_minute=120) for _ in range(partitions)]
    count = 0
    for _ in range(600):
        for partition, gate in enumerate(gates):
            admission = gate.admit(A, (Tier.LOW, partition), 0)
            if isinstance(admission, Admission):
                gate.settle(admission, a_reply())
                count += 1
        clock.now += 0.1

    assert 100 <= count <= 120


def test_tokens_are_reserved_before_and_settled_after() -> None:
    clock = Clock()
    gate = a_gate(clock, tokens_per_minute=60_000)
    clock.now += 60
    gate.is_out(A)

    used = calls_in(gate, clock, 60, a_reply(tokens=2_000)) * 2_000
    assert 50_000 <= used <= 62_000


def test_a_new_owner_of_a_partition_begins_with_an_empty_bucket() -> None:
    clock = Clock()
    gate = a_gate(clock, requests_per_minute=600)
    calls_in(gate, clock, 10, a_reply())
    clock.now += 10
    assert isinstance(gate.admit(A, HERE, 0), Admission)
    gate.forget(HERE)

    assert not isinstance(gate.admit(A, HERE, 0), Admission)


def test_a_gate_says_how_every_model_is() -> None:
    clock = Clock()
    gate = a_gate(clock)
    call(gate, throttled(5.0))
    states = {state.model: state for state in gate.states()}

    a, b = states["sim-small"], states["sim-small-b"]
    assert (a.breaker, a.wait_seconds, a.throttled) == ("open", 5.0, 1)
    assert (b.breaker, b.calls, b.most_running) == ("closed", 0, 4)


@pytest.mark.parametrize(
    ("row", "given", "expected"),
    [
        pytest.param({}, {}, {Tier.LOW: 1.0}, id="a tier has its own models to itself"),
        pytest.param(
            {"verify": {"tier": Tier.LOW}},
            {},
            {Tier.LOW: 1 / 3, Tier.BALANCED: 1 / 3, Tier.PREMIUM: 1 / 3},
            id="tiers whose answers a model reads share it",
        ),
        pytest.param(
            {"verify": {"tier": Tier.LOW}},
            {account_of(A): {Tier.LOW: 0.8, Tier.BALANCED: 0.1, Tier.PREMIUM: 0.1}},
            {Tier.LOW: 0.8, Tier.BALANCED: 0.1, Tier.PREMIUM: 0.1},
            id="as somebody has set it",
        ),
    ],
)
def test_a_models_limit_is_shared_by_the_tiers_that_call_it(
    row: Mapping[str, Any],
    given: Mapping[Account, Mapping[Tier, float]],
    expected: Mapping[Tier, float],
) -> None:
    found = shares([with_task("support_answer", **row)], given)

    own = {tier: part for (account, tier), part in found.items() if account == account_of(A)}
    assert own == expected


def test_a_further_release_changes_shares_and_nothing_that_is_known() -> None:
    """What a provider has told us is so under every release."""
    clock, more = Clock(), with_task("support_answer", verify={"tier": Tier.LOW})
    gate = a_gate(clock, requests_per_minute=600)
    assert calls_in(gate, clock, 60, a_reply()) > 500
    gate.serve([the_policy(), more])
    assert calls_in(gate, clock, 60, a_reply()) <= 200, "a third is its share from now on"

    clock.now += 1
    call(gate, throttled(50.0))
    gate.serve([more])
    assert gate.is_out(A)


def test_what_is_left_of_a_release_that_is_over_may_call_a_little() -> None:
    clock = Clock()
    gate = a_gate(clock, requests_per_minute=600)
    gate.serve([])

    assert 30 <= calls_in(gate, clock, 60, a_reply()) <= 60, "a tenth"
    assert gate.most_calls(Tier.LOW) > 0, "and is fetched where no release has its tier any more"


def test_what_a_provider_has_asked_for_is_not_forgotten_with_its_release() -> None:
    gate = a_gate(Clock())
    call(gate, throttled(50.0))
    gate.serve([])

    assert gate.is_out(A)


def test_a_release_may_give_a_name_to_another_model() -> None:
    """Both may be called, each by the requests of its release."""
    clock, next_ = Clock(), A.model_copy(update={"id": "sim-next"})
    policy = the_policy()
    other = policy.model_copy(update={"models": {**policy.models, "sim-small": next_}})
    gate = a_gate(clock)
    call(gate, throttled(50.0))
    gate.serve([policy, other])

    assert gate.is_out(A)
    assert isinstance(gate.admit(next_, HERE, 0), Admission)


def test_a_release_that_calls_without_a_share_is_refused_and_changes_nothing() -> None:
    gate = Gate(lambda _: ModelLimits(share={Tier.LOW: 1.0}), lambda: 1, Clock())
    with pytest.raises(ProviderSettingsError, match="share leaves"):
        gate.check(the_policy())

    assert gate.states() == []


def test_who_throttles_the_only_call_without_a_time_is_asked_ever_more_rarely() -> None:
    """After 0.5, 1, 2, 4, 8 and 16 s; five such refusals are no reason to leave it for longer."""
    clock = Clock()
    gate = a_gate(clock)

    assert calls_in(gate, clock, 31, throttled()) == 6
    assert gate.states()[0].limited_by == "throttled"


def test_a_throttle_beside_calls_that_run_stops_no_other_call() -> None:
    clock = Clock()
    gate = a_gate(clock)
    taken = [gate.admit(A, HERE, 0) for _ in range(4)]
    clock.now += 0.1
    for one in taken[2:]:
        assert isinstance(one, Admission)
        gate.settle(one, throttled())
    for one in taken[:2]:
        assert isinstance(one, Admission)
        gate.settle(one, a_reply())

    assert isinstance(gate.admit(A, HERE, 0), Admission)


def test_a_task_with_a_breaker_of_its_own_puts_no_model_out_for_others() -> None:
    gate, own = a_gate(Clock()), with_task("triage", breaker="own").apart("triage")
    for _ in range(5):
        admission = gate.admit(A, HERE, 0, own, own.whose("sim-small"))
        assert isinstance(admission, Admission)
        gate.settle(admission, failed())

    assert gate.is_out(A, "triage")
    assert not gate.is_out(A)
    assert gate.most_calls(Tier.LOW) > 0
    for model in (A, B):
        for _ in range(5):
            call(gate, failed(), model)
    assert gate.is_out(A)
    assert gate.most_calls(Tier.LOW) == 0


def test_others_failures_put_no_model_out_for_a_task_with_its_own_breaker() -> None:
    gate = a_gate(Clock())
    assert not gate.is_out(A, "triage")
    for _ in range(5):
        call(gate, failed())

    assert gate.is_out(A)
    assert not gate.is_out(A, "triage")
    assert gate.most_calls(Tier.LOW) > 0  # it is still fetched for
    call(gate, NO_CREDIT, B)
    assert gate.is_out(A, "triage")  # one account


def test_a_task_with_its_own_breaker_is_fetched_for_before_its_first_call() -> None:
    gate, policy = a_gate(Clock()), with_task("triage", breaker="own")
    gate.serve([policy])
    for model in policy.models.values():
        for _ in range(5):
            call(gate, failed(), model)
    assert gate.most_calls(Tier.LOW) > 0
    assert gate.most_calls(Tier.PREMIUM) == 0, "its row does not name that tier"

    own = policy.apart("triage")
    for name in ("sim-small", "sim-small-b"):
        for _ in range(5):
            admission = gate.admit(policy.models[name], HERE, 0, own, own.whose(name))
            assert isinstance(admission, Admission)
            gate.settle(admission, failed())
    assert gate.most_calls(Tier.LOW) == 0
    gate.serve([the_policy()])
    assert gate.states()[0].apart == []


def test_a_gate_says_how_every_model_is_for_tasks_with_their_own_breaker() -> None:
    gate, policy = a_gate(Clock()), with_task("triage", breaker="own")
    gate.serve([policy])
    own = policy.apart("triage")
    for _ in range(5):
        admission = gate.admit(A, HERE, 0, own, own.whose("sim-small"))
        assert isinstance(admission, Admission)
        gate.settle(admission, failed())
    states = {state.model: state for state in gate.states()}

    a, b = states["sim-small"], states["sim-small-b"]
    assert (a.breaker, a.apart) == (
        "closed",
        [TaskBreaker(task="triage", breaker="open", wait_seconds=30.0)],
    )
    assert b.apart == [TaskBreaker(task="triage", breaker="closed")]


def test_a_tasks_slots_are_all_it_takes_and_are_given_back() -> None:
    gate, own = a_gate(Clock()), with_task("triage", slots=2).apart("triage")
    running = [gate.admit(A, HERE, 0, own) for _ in range(3)]

    assert [isinstance(one, Admission) for one in running] == [True, True, False]
    assert gate.is_full(own)
    assert isinstance(gate.admit(A, HERE, 0), Admission)
    assert isinstance(running[0], Admission)
    gate.settle(running[0], None)
    assert not gate.is_full(own)
