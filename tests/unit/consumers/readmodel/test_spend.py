"""Spend: an action's cost is in its row with every call on the way, whatever the rows are."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.readmodel.model import _forget
from consumers.readmodel.queries import (
    booked_by_call,
    booked_by_day,
    figures_by,
    figures_over_time,
)
from consumers.readmodel.tables import GROUPS
from router.reports.invoice import AMOUNTS
from router.reports.measures import FIGURES, By, Row
from router.reports.report import DAILY, ROUTES, Facts, premium_plot, sections_of
from router.reports.spend import People, spend_measures
from schemas.attempt import LedgerEntry
from schemas.base import EARLIEST, LATEST, Tier
from schemas.dead_letter import Pointer
from schemas.reasons import Reason
from schemas.review import AuditLine, Decision
from schemas.usage import Usage
from tests.builders import NOON, the_policy
from tests.tables import rows_of, tables
from tests.unit.consumers.readmodel.test_projection import a_line, a_result, said

DAY = timedelta(days=1)
MIDNIGHT = datetime(2026, 11, 21, tzinfo=UTC)
REJECTED: dict[str, Any] = {"outcome": "rejected", "reason": Reason.LOW_CONFIDENCE}
PEOPLE = People(3_000_000)


def of(line: LedgerEntry, **fields: Any) -> LedgerEntry:
    return line.model_copy(update=fields)


def by(told: Sequence[Any], *groups: By, since: datetime = EARLIEST) -> dict[tuple[str, ...], Row]:
    with tables(told) as connection:
        return {row.name: row for row in rows_of(connection, groups, since)[0]}


def decided(no: int, request_id: str = "r-1", seconds: float | None = None) -> AuditLine:
    decision = Decision(
        decision_id=f"d-{no}",
        request_id=request_id,
        tenant="default",
        generation=1,
        letter=Pointer(topic="llm.dead-letters", partition=1, offset=no),
        action="edit",
        seconds_spent=seconds,
    )
    return AuditLine(writer="w", no=no, at=NOON, who="ann", what="decide", decision=decision)


#: A request that is classified, rejected below, answered above and read by a verifier.
CLIMB = [
    of(a_line(1, step="classify"), task=None),
    a_line(2, **REJECTED),
    a_line(3, tier=Tier.PREMIUM, started_at=NOON + timedelta(minutes=1)),
    a_line(4, tier=Tier.BALANCED, step="verify", started_at=NOON + timedelta(minutes=2)),
    a_result(3),
]


@pytest.mark.parametrize(
    ("groups", "name"),
    [
        (("task",), ("support_answer",)),
        (("tier",), ("premium",)),
        (("model",), ("sim-large",)),
        (("task", "tier", "day"), ("support_answer", "premium", f"{NOON:%Y-%m-%d}")),
        (("tenant", "user", "tier"), ("default", "-", "premium")),
    ],
)
def test_every_call_is_in_the_row_of_the_action_that_it_served(
    groups: Sequence[By], name: tuple[str, ...]
) -> None:
    rows = by(CLIMB, *groups)

    assert {key: row.cost_micros for key, row in rows.items() if row.cost_micros} == {name: 70}
    row = rows[name]
    assert (row.paid, row.completed, row.requests, row.cost_per_completed) == (4, 1, 1, 70)
    assert (row.retried, row.fell_back) == (0, 1)
    assert sum(each.own_micros for each in rows.values()) == 70


def test_an_action_costs_on_the_day_on_which_it_ended() -> None:
    """Its calls are on the bill of the days on which they were made."""
    before = MIDNIGHT - timedelta(minutes=1)
    told = [a_line(1, started_at=before, **REJECTED), a_line(2, started_at=MIDNIGHT), a_result(2)]
    rows = by(told, "day")

    costs = {day: (row.own_micros, row.cost_micros) for (day,), row in rows.items()}
    assert costs == {"2026-11-20": (7, 0), "2026-11-21": (14, 21)}
    assert by(told, "task", since=MIDNIGHT)["support_answer",].cost_micros == 21


def test_groups_are_what_the_ledger_says_of_a_call() -> None:
    line = of(a_line(policy_digest="abc"), workflow="refunds", plan="free", user="u-1")
    groups: Sequence[By] = ("plan", "tenant", "user", "workflow", "release", "provider")
    [name] = by([line], *groups)

    assert name == ("free", "default", "u-1", "refunds", "abc", "simulated")


def test_users_of_two_tenants_and_masked_ones_are_told_apart() -> None:
    told = [
        of(a_line(request_id="r-1"), user="u-1"),
        of(a_line(request_id="r-2", tenant="acme"), user="u-1"),
        of(a_line(request_id="r-3"), user="ann@example.com"),
        of(a_line(request_id="r-4"), user="bob@example.com"),
    ]
    names = sorted(by(told, "tenant", "user"))

    assert names[0] == ("acme", "u-1")
    assert [bool(re.fullmatch(r"\[email\]-[0-9a-f]{8}", name[1])) for name in names[1:3]] == [
        True
    ] * 2
    assert len(names) == 4


_LINES = st.builds(
    lambda line, user, workflow: of(line, user=user, workflow=workflow),
    st.builds(
        a_line,
        no=st.integers(1, 3),
        request_id=st.sampled_from(["r-1", "r-2", "r-3"]),
        tier=st.sampled_from(list(Tier)),
        step=st.sampled_from(["classify", "answer", "verify"]),
        started_at=st.sampled_from(
            [NOON + hours * timedelta(hours=1) for hours in (0, 3, 30, 200)]
        ),
    ),
    user=st.sampled_from([None, "u-1", "u-2"]),
    workflow=st.sampled_from([None, "refunds"]),
)


@settings(max_examples=40)
@given(st.lists(_LINES, max_size=8), st.sampled_from([EARLIEST, NOON, NOON + DAY]))
def test_rows_add_up_to_the_same_total_by_whatever_they_are_grouped(
    told: list[LedgerEntry], since: datetime
) -> None:
    groupings: Sequence[Sequence[By]] = (
        ("task", "tier"),
        ("workflow", "day"),
        ("tenant", "user"),
        ("user", "day", "model"),
        ("release", "provider", "prompt"),
    )
    with tables(told) as connection:
        totals = [rows_of(connection, groups, since)[1] for groups in groupings]
    assert len({tuple(getattr(total, name) for name in FIGURES) for total in totals}) == 1


def test_what_is_kept_of_users_goes_with_their_requests() -> None:
    old, new = (
        of(a_line(), user="u-old"),
        of(a_line(2, "r-2", started_at=NOON + 9 * DAY), user="u-new"),
    )
    with tables([old, new]) as connection:
        _forget(connection, NOON + 5 * DAY)
        users = {row.user for row in connection.execute(GROUPS.select()) if row.user}
        assert users == {"u-new"}
        assert {row.name[1] for row in rows_of(connection, ("tenant", "user"))[0]} == {"u-new"}
        assert rows_of(connection, ("task",))[1].calls == 2


def test_a_measured_line_replaces_an_estimate_of_the_same_call_in_any_order() -> None:
    lost = a_line(is_estimated=True, cost_micros=900, outcome="failed", reason=Reason.NOT_SENT)
    measured = a_line(cost_micros=20)
    again = a_line(cost_micros=30, started_at=NOON + timedelta(minutes=1))
    for told in ([lost, measured, again], [measured, again, lost], [again, measured, lost]):
        with tables(told) as connection:
            total = rows_of(connection)[1]
            assert (total.calls, total.own_micros, total.cost_micros) == (2, 50, 50)
    with tables([measured]) as connection:
        assert rows_of(connection)[1].calls == 1
    assert by([a_line(outcome="started", reason=None)], "tier") == {}


def test_people_cost_what_they_were_measured_to_take() -> None:
    told = [a_line(), decided(1, seconds=90), decided(2), a_result(review="edit"), said("edited")]
    told += [a_line(1, "r-2"), a_result(1, "r-2"), said("complaint", "r-2"), a_line(1, "r-3")]
    row = by(told, "task")["support_answer",]

    assert (row.handled, row.handled_seconds, row.unmeasured) == (3, 90, 2)
    assert PEOPLE.cost(row) == 9_000_000
    priced = People(0, per_minute=1_000_000, minutes=4)
    assert priced.cost(row) == 9_500_000
    assert priced.per_completed(row) == (9_500_000 + row.cost_micros) / 2


def _months() -> list[Any]:
    """A workflow whose later requests reach the premium tier, and one that stays below."""
    told: list[Any] = []
    for no in range(120):
        at, usage = NOON + no * timedelta(hours=4), Usage(input_tokens=1_000, output_tokens=100)
        name, climbs = f"r-{no}", no % 2 == 0 and no > 60
        call: dict[str, Any] = {"started_at": at, "usage": usage, "cost_micros": 140}
        lines = [a_line(1, name, **call, **(REJECTED if climbs else {}))]
        if climbs:
            lines.append(a_line(2, name, **{**call, "cost_micros": 7_000}, tier=Tier.PREMIUM))
        workflow = "refunds" if no % 2 == 0 else "letters"
        told += [of(line, workflow=workflow) for line in lines]
        told.append(a_result(1 + climbs, name))
    return told


def test_the_report_has_the_audit_set_the_worksheet_and_growth() -> None:
    policy, begin, until = the_policy(), NOON, NOON + 20 * DAY
    with tables(_months()) as connection:
        rows, total = figures_by(connection, ROUTES, policy, begin)
        daily, _ = figures_by(connection, DAILY, policy, begin)
        periods = figures_over_time(connection, policy, begin, until, DAY)
    sections = {
        table.name: table for table in sections_of(Facts(rows, daily, [], 20.0), policy, PEOPLE)
    }
    audit = {row["tier"]: row for row in sections["tiers"].values}
    assert (audit["low"]["requests"], audit["premium"]["requests"]) == (91, 29)
    assert audit["premium"]["spend"] == 29 * 7_140
    assert audit["premium"]["fell back"] == 1
    [refunds, letters] = sections["worksheet"].values
    assert refunds["workflow"] == "refunds"
    assert refunds["first tier"] == "low"
    assert (refunds["requests a month"], refunds["input tokens"]) == (90, 1_000)
    assert refunds["per completed"] == (60 * 140 + 29 * 7_000) / 60
    assert letters["fell back"] == 0
    grows = {row["workflow"]: row["grows"] for row in sections["premium"].values}
    assert grows == {"letters": "no", "refunds": "yes"}
    scenarios = {row["scenario"]: row for row in sections["scenarios"].values}
    measures = {one.name: one.value(total) for one in spend_measures(policy, PEOPLE)}
    assert scenarios["as routed"]["a month"] == pytest.approx(total.cost_micros * 1.5)
    assert scenarios["every call on sim-large"]["a month"] == pytest.approx(
        total.strongest_micros * 1.5
    )
    assert measures["all premium"] == total.strongest_micros
    changes = [row["change"] for row in sections["bill"].values]
    assert sum(changes[1:-1]) == changes[-1] == total.own_micros  # type: ignore[arg-type]
    [series] = premium_plot(periods).series
    shares = [share for share in series.values if share is not None]
    assert shares[0] == 0
    assert max(shares) == pytest.approx(0.5, abs=0.2)
    assert all(set(row) == set(table.columns) for table in sections.values() for row in table.texts)


def test_a_month_may_be_given_its_requests_and_another_policy() -> None:
    policy = the_policy()
    models = {name: model.model_copy(deep=True) for name, model in policy.models.items()}
    for name, model in models.items():
        double = model.price.model_copy(
            update={"input": 2 * model.price.input, "output": 2 * model.price.output}
        )
        models[name] = model.model_copy(update={"price": double})
    dearer = policy.model_copy(update={"models": models, "version": "next"})
    usage = Usage(input_tokens=1_000, output_tokens=100)
    with tables([a_line(usage=usage, cost_micros=140), a_result()]) as connection:
        rows, _ = figures_by(connection, ROUTES, policy, EARLIEST)
    sections = sections_of(Facts(rows, [], [], 1.0), policy, PEOPLE, 1_000, dearer)
    [scenarios] = [table for table in sections if table.name == "scenarios"]
    by_name = {str(row["scenario"]): row for row in scenarios.values}
    assert by_name["as routed"]["a month"] == 140_000
    assert by_name[f"as routed, by {policy.name} next"]["of now"] == 2


def test_the_ledger_is_given_as_an_invoice_has_it() -> None:
    usage = Usage(input_tokens=10, cache_read_tokens=5, output_tokens=3, reasoning_tokens=4)
    told = [a_line(usage=usage), a_line(2, started_at=NOON + DAY), a_line(2, "r-2", usage=usage)]
    with tables(told) as connection:
        by_day = booked_by_day(connection, the_policy(), NOON - DAY, LATEST)
        by_call = booked_by_call(connection, {"r-1.1.2"}, NOON, NOON + timedelta(hours=1))
    day = f"{NOON:%Y-%m-%d}"
    assert by_day["simulated", day, "sim-small"].amounts == dict(
        zip(AMOUNTS, map(Decimal, (2, 30, 14, 21)), strict=True)
    )
    assert {key[1] for key in by_call} == {"r-1.1.1", "r-1.1.2", "r-2.1.2"}
