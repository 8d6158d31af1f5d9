"""Calls become attempts, attempts a result and ledger lines; each reads back as its contract."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import reduce
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.attempt.answering import attempt_of, ledger_lines, result_of
from router.attempt.lost import attempt_lost, repeated_id
from router.attempt.pricing import cost_micros
from router.reply.reply import CallFailure, Reply
from schemas.admission import Reservation
from schemas.attempt import Attempt, LedgerEntry, counted_one
from schemas.base import Tier
from schemas.codec import dump, read_model
from schemas.escalation import Assignment
from schemas.reasons import Reason
from schemas.request import Request
from schemas.result import Result
from schemas.usage import Usage
from schemas.verdict import CheckResult, Verdict
from tests.builders import NOON, a_request, a_route, an_assignment, an_attempt, the_policy

USAGE = Usage(input_tokens=1000, output_tokens=400, reasoning_tokens=100)
#: USAGE at sim-medium's 0.50 and 2.00 dollars per million tokens.
COST = 1500
A_SECOND_LATER = NOON + timedelta(seconds=1)
BODY = {"choices": [{"message": {"role": "assistant", "content": "Under billing."}}], "odd": [1.5]}
ACCEPTED = Verdict(
    outcome="accepted",
    checks=[CheckResult(check="empty", passed=True), CheckResult(check="schema", passed=True)],
    confidence=0.875,
    output={"answer": "Under billing."},
)
REJECTED = Verdict(
    outcome="rejected",
    checks=[
        CheckResult(check="empty", passed=True),
        CheckResult(check="schema", passed=False, reason=Reason.SCHEMA_FAILED, detail="no answer"),
        CheckResult(
            check="confidence", passed=False, reason=Reason.LOW_CONFIDENCE, detail="0.2 < 0.7"
        ),
    ],
    confidence=0.2,
)


def a_reply(text: str = "Under billing.") -> Reply:
    return Reply(text, "stop", USAGE, BODY, served_model="sim-medium-2026", http_status=200)


def after(milliseconds: float) -> datetime:
    return NOON + timedelta(milliseconds=milliseconds)


def called(
    outcome: Reply | CallFailure | Usage, verdict: Verdict | None = None, **fields: Any
) -> Attempt:
    return attempt_of(
        an_assignment(generation=2, **fields),
        outcome,
        verdict,
        attempt_id="req-1.2.3",
        attempt_no=3,
        model_name="sim-medium",
        policy=the_policy(),
        release="0123456789ab",
        prompt_version="support_answer@1+default_balanced@1",
        started_at=NOON,
        duration_ms=123.45678,
    )


def test_another_model_is_flagged_and_costs_its_own_price():
    plain = called(a_reply())
    other = called(replace(a_reply(), served_model="sim-large"))

    assert (plain.oddities, other.oddities) == (None, ["other_model"])
    assert other.cost_micros == cost_micros(USAGE, the_policy().models["sim-large"].price)
    assert other.cost_micros > plain.cost_micros


@pytest.mark.parametrize(
    ("stated", "cost", "odd"),
    [
        (None, COST, None),
        (COST - 1, COST, None),
        (COST, COST, None),
        (COST + 1, COST + 1, ["cost_higher"]),
        (5_000_000, 5_000_000, ["cost_higher"]),
        (10**12, 10_000_000, ["cost_higher"]),
    ],
)
def test_a_call_is_never_booked_at_less_than_its_provider_says_it_charges(
    stated: int | None, cost: int, odd: list[str] | None
) -> None:
    attempt = called(replace(a_reply(), stated_micros=stated))

    assert (attempt.cost_micros, attempt.oddities) == (cost, odd)


def answered(
    assignment: Assignment | None = None,
    attempts: Sequence[Attempt] = (),
    request: Request | None = None,
    *,
    now: datetime = A_SECOND_LATER,
    own_ms: float = 0,
) -> Result:
    fields = result_of(
        assignment or an_assignment(),
        request or a_request(),
        attempts or [called(a_reply(), ACCEPTED)],
        a_reply(),
        now=now,
        own_ms=own_ms,
    )
    return read_model(Result, dump(fields))


# Attempts


def test_an_attempt_says_who_was_asked_what_by_which_policy() -> None:
    attempt = called(a_reply(), ACCEPTED)

    assert (attempt.attempt_id, attempt.attempt_no, attempt.generation) == ("req-1.2.3", 3, 2)
    assert (attempt.tier, attempt.step) == (Tier.BALANCED, "answer")
    assert (attempt.model, attempt.provider) == ("sim-medium", "simulated")
    assert attempt.prompt_version == "support_answer@1+default_balanced@1"
    assert attempt.policy_version == the_policy().version
    assert (attempt.started_at, attempt.duration_ms) == (NOON, 123.457)


def test_an_accepted_reply_is_written_down() -> None:
    attempt = called(a_reply(), ACCEPTED)

    assert (attempt.outcome, attempt.reason, attempt.detail) == ("accepted", None, "")
    assert (attempt.usage, attempt.cost_micros) == (USAGE, COST)
    assert (attempt.served_model, attempt.http_status) == ("sim-medium-2026", 200)
    assert (attempt.finish_reason, attempt.reply) == ("stop", "Under billing.")
    assert attempt.verdict == ACCEPTED


def test_a_rejected_reply_has_the_reason_of_the_first_failed_check() -> None:
    attempt = called(a_reply("…"), REJECTED)

    assert attempt.outcome == "rejected"
    assert (attempt.reason, attempt.detail) == (Reason.SCHEMA_FAILED, "no answer")
    assert (attempt.cost_micros, attempt.verdict, attempt.reply) == (COST, REJECTED, "…")


@pytest.mark.parametrize(
    "failure",
    [
        CallFailure(Reason.NOT_SENT, "connection refused"),
        CallFailure(Reason.THROTTLED, "429", http_status=429, retry_after=2.0),
        CallFailure(Reason.PROVIDER_ERROR, "500", http_status=500),
        CallFailure(Reason.OUTCOME_UNKNOWN, "the line was cut"),
    ],
)
def test_a_failed_call_has_its_reason_and_no_verdict(failure: CallFailure) -> None:
    attempt = called(failure)

    assert attempt.outcome == "failed"
    assert (attempt.reason, attempt.detail) == (failure.reason, failure.detail)
    assert attempt.http_status == failure.http_status
    assert (attempt.cost_micros, attempt.usage) == (0, Usage())
    assert (attempt.verdict, attempt.reply, attempt.was_judged) == (None, None, False)


def test_a_failed_call_costs_what_the_provider_may_have_billed() -> None:
    attempt = called(CallFailure(Reason.UNREADABLE_REPLY, "no choices", 200, usage=USAGE))

    assert (attempt.usage, attempt.cost_micros) == (USAGE, COST)


def test_a_call_that_is_about_to_start_has_cost_nothing_yet() -> None:
    attempt = called(USAGE)

    assert (attempt.outcome, attempt.reason, attempt.was_judged) == ("started", None, False)
    assert (attempt.cost_micros, attempt.usage) == (0, USAGE)
    assert (attempt.reserve_micros or 0) >= COST


def test_a_call_whose_process_is_gone_counts_at_the_most_that_it_can_have_cost() -> None:
    started = called(USAGE)
    lost = attempt_lost(started)

    assert (lost.outcome, lost.reason) == ("failed", Reason.OUTCOME_UNKNOWN)
    assert (lost.cost_micros, lost.usage) == (started.reserve_micros, USAGE)
    assert (lost.call_id, lost.price_version) == (started.call_id, started.price_version)
    assert (lost.is_estimated, lost.reserve_micros) == (True, None)


def test_an_attempt_names_the_price_that_it_was_costed_with_and_whether_it_was_measured() -> None:
    models = the_policy().models
    estimated = replace(a_reply(), usage=USAGE.model_copy(update={"estimated": True}))

    assert called(a_reply()).price_version == models["sim-medium"].price.version
    other = called(replace(a_reply(), served_model="sim-large"))
    assert other.price_version == models["sim-large"].price.version
    assert [called(reply).is_estimated for reply in (a_reply(), estimated)] == [False, True]


def test_of_the_lines_of_one_call_a_measured_one_counts() -> None:
    started, measured = called(USAGE), called(a_reply(), ACCEPTED)
    lost, without = attempt_lost(started), measured.model_copy(update={"reply": None})

    for order in permutations((started, lost, without, measured)):
        assert reduce(counted_one, order, None) is measured
    assert counted_one(without, measured.model_copy(update={"reply": None})) is without


UNKNOWN = {"outcome": "failed", "reason": Reason.OUTCOME_UNKNOWN}


@pytest.mark.parametrize(
    ("former", "first"),
    [
        pytest.param([], None, id="nothing was called before"),
        pytest.param([UNKNOWN], 0, id="nobody knows whether it ran"),
        pytest.param([UNKNOWN, UNKNOWN], 0, id="nor of the call that repeated it"),
        pytest.param([{"reason": Reason.PROVIDER_ERROR}, UNKNOWN], 1, id="only since then"),
        pytest.param([UNKNOWN, {"reason": Reason.THROTTLED}], None, id="it was turned away since"),
        pytest.param([{**UNKNOWN, "model": "sim-large"}], None, id="another model's"),
        pytest.param([{**UNKNOWN, "step": "verify"}], None, id="another question's"),
    ],
)
def test_a_repeated_call_has_the_id_of_the_first(
    former: list[dict[str, Any]], first: int | None
) -> None:
    attempts = [an_attempt(attempt_id=f"r.1.{no}", **fields) for no, fields in enumerate(former)]

    expected = None if first is None else f"r.1.{first}"
    assert repeated_id(attempts, an_attempt().model, "answer") == expected


def test_of_a_long_reply_the_beginning_is_kept() -> None:
    assert called(a_reply("ü" * 70_000), ACCEPTED).reply == "ü" * 65_536


# Results


def test_a_result_is_a_line_of_batch_output() -> None:
    result = answered()

    assert (result.id, result.custom_id, result.error) == ("req-1", "req-1", None)
    assert result.response is not None
    assert (result.response.status_code, result.response.request_id) == (200, "req-1.2.3")
    assert result.response.body == BODY


def test_the_producers_own_id_comes_back() -> None:
    assert answered(request=a_request(custom_id="row 1 (ü)")).custom_id == "row 1 (ü)"


def test_a_result_says_how_it_came_about() -> None:
    info = answered().router

    assert (info.task, info.tier, info.model) == ("support_answer", "balanced", "sim-medium")
    assert (info.rule, info.reason) == ("task support_answer", "customers read it as it is")
    assert (info.usage, info.cost_micros, info.attempts) == (USAGE, COST, 1)
    assert (info.confidence, info.output) == (0.875, {"answer": "Under billing."})
    assert info.checks == ACCEPTED.checks
    assert info.final


def test_without_a_confidence_the_result_leaves_it_out() -> None:
    bare = ACCEPTED.model_copy(update={"confidence": None, "output": None})
    fields = result_of(
        an_assignment(), a_request(), [called(a_reply(), bare)], a_reply(), now=NOON, own_ms=0
    )

    assert "confidence" not in fields["router"]
    assert fields["router"]["output"] == {}


def climbed() -> Result:
    """Low was unsure, balanced's first model failed, its second answered."""
    low = an_attempt(
        Tier.LOW, started_at=after(20), usage=USAGE, cost_micros=7, detail="0.2", duration_ms=100
    )
    failed = an_attempt(
        started_at=after(140), outcome="failed", reason=Reason.THROTTLED, attempt_no=2
    )
    accepted = called(a_reply(), ACCEPTED).model_copy(update={"started_at": after(300)})
    routes = [
        a_route(Tier.LOW, routed_at=after(10), rule="task triage", reason="first"),
        a_route(routed_at=after(130), rule="escalation", code=Reason.LOW_CONFIDENCE),
    ]
    assignment = an_assignment(routes=routes, attempts=[low], task="triage")
    return answered(assignment, [failed, accepted])


def test_a_result_counts_every_attempt_of_every_tier() -> None:
    info = climbed().router

    assert (info.attempts, info.cost_micros) == (3, COST + 7)
    assert info.usage == USAGE + USAGE
    assert info.path == [Tier.LOW, Tier.BALANCED]
    assert (info.tier, info.model) == (Tier.BALANCED, "sim-medium")
    assert (info.rule, info.reason) == ("task triage", "first"), "of the first route"


def test_hops_are_told_in_the_order_in_which_they_happened() -> None:
    hops = climbed().router.hops

    assert [(hop.kind, hop.tier, hop.what) for hop in hops] == [
        ("route", "low", "task triage"),
        ("attempt", "low", "rejected"),
        ("route", "balanced", "escalation"),
        ("attempt", "balanced", "failed"),
        ("attempt", "balanced", "accepted"),
    ]
    assert [hop.code for hop in hops] == [
        None,
        Reason.LOW_CONFIDENCE,
        Reason.LOW_CONFIDENCE,
        Reason.THROTTLED,
        None,
    ]
    assert hops[1].why == f"{Reason.LOW_CONFIDENCE.meaning}: 0.2"
    assert hops[3].why == Reason.THROTTLED.meaning
    assert hops[4].why == "passed every check"
    assert (hops[1].model, hops[1].cost_micros, hops[1].duration_ms) == ("sim-small", 7, 100)


def test_the_time_is_divided_among_those_who_took_it() -> None:
    assignment = an_assignment(routes=[a_route(routed_at=after(50))])
    attempt = called(a_reply(), ACCEPTED).model_copy(update={"duration_ms": 600.0})
    latency = answered(assignment, [attempt], now=after(1000), own_ms=30).router.latency

    assert (latency.intake_ms, latency.model_ms, latency.own_ms) == (50, 600, 30)
    assert (latency.queue_ms, latency.total_ms) == (320, 1000)


def test_waiting_for_a_person_is_no_intake() -> None:
    assignment = an_assignment(routes=[a_route(routed_at=after(900))], generation=2)
    attempt = called(a_reply(), ACCEPTED).model_copy(update={"duration_ms": 60.0})
    latency = answered(assignment, [attempt], now=after(1000), own_ms=30).router.latency

    assert (latency.intake_ms, latency.queue_ms, latency.total_ms) == (0, 910, 1000)


MILLISECONDS = st.floats(-5_000, 100_000)


@given(MILLISECONDS, MILLISECONDS, st.lists(st.floats(0, 60_000), min_size=1), st.floats(0, 9_000))
def test_the_parts_of_the_time_add_up_whatever_the_clocks_say(
    routed: float, ended: float, calls: list[float], own: float
) -> None:
    attempts = [an_attempt(duration_ms=duration, attempt_no=1) for duration in calls]
    assignment = an_assignment(routes=[a_route(routed_at=after(routed))])
    latency = answered(assignment, attempts, now=after(ended), own_ms=own).router.latency

    parts = (latency.intake_ms, latency.queue_ms, latency.model_ms, latency.own_ms)
    assert min(parts) >= 0
    assert sum(parts) == pytest.approx(latency.total_ms, abs=0.003)
    assert latency.total_ms == pytest.approx(max(ended, 0), abs=0.002)


# The ledger


def entries(attempts: Sequence[Attempt], **fields: Any) -> list[LedgerEntry]:
    lines = ledger_lines(an_assignment(generation=2), a_request(**fields), attempts)
    return [read_model(LedgerEntry, dump(line)) for line in lines]


@pytest.mark.parametrize(
    "attempt",
    [
        pytest.param(called(USAGE), id="about to start"),
        pytest.param(called(a_reply(), ACCEPTED), id="accepted"),
        pytest.param(called(a_reply(), REJECTED), id="rejected"),
        pytest.param(called(CallFailure(Reason.NOT_SENT, "refused")), id="failed"),
    ],
)
def test_a_ledger_line_is_the_attempt_without_what_was_said(attempt: Attempt) -> None:
    (entry,) = entries([attempt])

    said_nothing: dict[str, Any] = {"reply": None}
    if attempt.verdict is not None:
        said_nothing["verdict"] = attempt.verdict.model_copy(update={"output": None})
    assert entry.attempt == attempt.model_copy(update=said_nothing)


def test_what_was_said_is_not_in_the_ledger() -> None:
    attempts = [called(a_reply("canary-4711"), ACCEPTED), called(a_reply("canary-4711"), REJECTED)]
    spoken = ACCEPTED.model_copy(update={"output": {"answer": "canary-4711"}})
    attempts.append(called(a_reply("canary-4711"), spoken))

    lines = ledger_lines(an_assignment(), a_request(input="canary-4711"), attempts)
    assert b"canary-4711" not in b"".join(map(dump, lines))


def test_a_ledger_line_says_for_whom_it_was() -> None:
    whom = {"tenant": "acme", "plan": "free", "user": "u-1", "workflow": "nightly"}
    (entry,) = entries([called(USAGE)], **whom, conversation_id="c-1")
    assert (entry.conversation, entry.reservation, entry.reserved_at) == ("c-1", None, None)
    assert entry.model_dump(include=set(whom)) == whom
    assert (entry.request_id, entry.generation, entry.task) == ("req-1", 2, "support_answer")


def test_a_ledger_line_names_the_reservation_that_it_was_paid_from() -> None:
    reserved = Reservation(id="7-1", micros=5000, at=A_SECOND_LATER, partition=2)
    [line] = ledger_lines(an_assignment(reservation=reserved), a_request(), [called(USAGE)])
    entry = read_model(LedgerEntry, dump(line))

    assert (entry.reservation, entry.reserved_at) == ("7-1", A_SECOND_LATER)


def test_there_is_a_line_per_attempt_in_their_order() -> None:
    attempts = [an_attempt(attempt_no=number) for number in (1, 2, 3)]

    assert [entry.attempt.attempt_no for entry in entries(attempts)] == [1, 2, 3]
    assert entries([]) == []
