"""Quality figures: what counts as corrected, and sums that are sums in whatever order."""

import tracemalloc
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.readmodel.queries import failures, figures_by, figures_over_time
from router.attempt.answering import composed_result
from router.reports.measures import (
    MEASURES,
    By,
    Row,
    alarms,
    bucket_of,
    format_figure,
    format_value,
    percentile,
)
from router.reports.samples import Draw, week_of
from schemas.attempt import Attempt, LedgerEntry
from schemas.base import Tier
from schemas.codec import dump, read_model
from schemas.feedback import Feedback
from schemas.reasons import Reason
from schemas.result import Result
from schemas.tenancy import RequestKey
from schemas.verdict import Change
from tests.builders import NOON, a_request, a_route, an_assignment, an_attempt, the_policy
from tests.tables import behind, rows_of, tables

HOUR = timedelta(hours=1)


def a_line(
    no: int = 1, tier: Tier = Tier.LOW, request_id: str = "req-1", **fields: Any
) -> LedgerEntry:
    good = {"outcome": "accepted", "reason": None}
    attempt = an_attempt(
        tier,
        attempt_id=f"{request_id}.1.{no}",
        attempt_no=no,
        **{"cost_micros": 10 * no, **good, **fields},
    )
    return LedgerEntry(
        request_id=request_id,
        generation=1,
        task="support_answer",
        tenant="default",
        attempt=attempt,
    )


def a_result(attempt_id: str, request_id: str = "req-1", **router: Any) -> Result:
    assignment = an_assignment(id=request_id, routes=[a_route()])
    fields = composed_result(
        assignment, a_request(), [an_attempt()], "answer", "x", {"answer": "x"}, now=NOON + HOUR
    )
    fields["response"]["request_id"] = attempt_id
    fields["router"] |= router
    return read_model(Result, dump(fields))


def said(kind: str, request_id: str = "req-1", **words: Any) -> Feedback:
    return Feedback.model_validate({"request_id": request_id, "kind": kind, "at": NOON, **words})


REJECTED: dict[str, Any] = {"outcome": "rejected", "reason": Reason.SCHEMA_FAILED}
CHANGED: dict[str, Any] = {"changes": [Change(field="answer", before="a", after="b")]}


def rows_by(events: Sequence[Any], by: Sequence[By] = ("tier",)) -> dict[str, Row]:
    with tables(events) as found:
        return {row.name[0]: row for row in rows_of(found, by)[0]}


@pytest.mark.parametrize(
    ("events", "corrected"),
    [
        pytest.param([a_line()], {}, id="an answer that nobody minded"),
        pytest.param([a_line(**REJECTED)], {"check": 1}, id="turned down by a check"),
        pytest.param(
            [a_line(), a_line(2, Tier.BALANCED, **CHANGED)],
            {"model": 1},
            id="a later model changes it",
        ),
        pytest.param([a_line(), a_line(2, Tier.BALANCED)], {}, id="a later model says the same"),
        pytest.param([a_line(), said("edited")], {"person": 1}, id="edited by a person"),
        pytest.param([a_line(), said("complaint")], {"person": 1}, id="complained about"),
        pytest.param([a_line(), said("accepted")], {}, id="accepted by a person"),
        pytest.param([a_line(), said("abandoned")], {}, id="left alone by a person"),
        pytest.param(
            [a_line(), said("edited"), said("complaint")],
            {"person": 1},
            id="once, however often said",
        ),
        pytest.param(
            [a_line(**REJECTED), a_line(2, Tier.BALANCED), said("edited")],
            {"check": 1},
            id="the person minded the later answer",
        ),
        pytest.param([a_line(outcome="failed", reason=Reason.NOT_SENT)], {}, id="no answer at all"),
    ],
)
def test_what_counts_as_corrected(events: Sequence[Any], corrected: dict[str, int]) -> None:
    row = rows_by(events)["low"]

    fixed = {"check": row.by_check, "model": row.by_model, "person": row.by_person}
    assert {who: count for who, count in fixed.items() if count} == corrected


def test_a_failure_has_the_words_of_who_minded_it() -> None:
    mended = said("edited", comment="too long", correction={"answer": "Yes."})
    with tables([a_line(), mended, said("edited"), said("accepted", comment="fine")]) as found:
        [[failure], count] = failures(found, Tier.LOW, NOON, 10)
    expected = ("person", 'edited: too long; instead: {"answer":"Yes."}', 1)
    assert (failure.fixed, failure.then, count) == expected


def test_a_completed_action_costs_all_that_was_tried() -> None:
    events = [a_line(**REJECTED), a_line(2, Tier.BALANCED), a_result("req-1.1.2")]
    rows = rows_by(events, by=("task",))

    assert rows["support_answer"].cost_per_completed == 30
    assert percentile(rows["support_answer"].latencies, 50) == HOUR.total_seconds() * 1000
    by_tier = rows_by(events)
    assert (by_tier["low"].completed, by_tier["balanced"].completed) == (0, 1)
    with tables(events) as found:
        assert behind(found, "escalated", tier="low") == ["req-1"]


def test_time_to_an_answer_is_told_apart_from_waiting_for_a_person() -> None:
    latency = {**a_result("x").router.latency.model_dump(), "total_ms": 7_200_000}
    decided = a_result("req-2.1.1", "req-2", review="approve", latency=latency)
    events = [a_line(), a_result("req-1.1.1"), a_line(request_id="req-2"), decided]
    row = rows_by(events)["low"]

    assert (row.completed, row.unaided, row.reviewed) == (2, 1, 1)
    assert percentile(row.latencies, 95) == pytest.approx(3_600_000)
    assert percentile(row.waits, 95) == pytest.approx(7_200_000)
    with tables(events) as found:
        assert behind(found, "p95") == ["req-1"]
        assert behind(found, "person p95") == ["req-2"]


@given(st.data())
def test_spend_is_what_the_receipts_say_and_adds_up_to_the_ledger(data: st.DataObject) -> None:
    events: list[Any] = []
    receipts: dict[tuple[str, str], int] = defaultdict(int)
    for request_id in ("r-1", "r-2", "r-3"):
        lines = [
            _line_of(request_id, no, *steps)
            for no, steps in enumerate(data.draw(_JOURNEYS, label=request_id), 1)
        ]
        events += lines
        answers = [line for line in lines if line.attempt.step == "answer"]
        paid = sum(line.attempt.cost_micros for line in lines)
        if answers and data.draw(_IS_ANSWERED, label="answered"):
            result = _receipt(request_id, [line.attempt for line in lines], answers[-1])
            events.append(result)
            paid = result.router.cost_micros
        if lines:  # where nothing was tried yet, the last call counts
            end = (answers or lines)[-1]
            receipts[str(end.task), end.attempt.tier] += paid
    with tables(events) as found:
        rows, total = rows_of(found, ("task", "tier"))

    assert {row.name: row.cost_micros for row in rows if row.cost_micros} == receipts
    ledger = sum(one.attempt.cost_micros for one in events if isinstance(one, LedgerEntry))
    assert total.cost_micros == sum(receipts.values()) == ledger
    assert sum(row.own_micros for row in rows) == ledger


_IS_ANSWERED: st.SearchStrategy[Any] = st.booleans()
#: Generation, step, tier and cost of each call; the generations follow each other.
_JOURNEYS: st.SearchStrategy[Any] = st.lists(
    st.tuples(
        st.integers(1, 2),
        st.sampled_from(["classify", "answer", "verify"]),
        st.sampled_from(list(Tier)),
        st.integers(1, 999),
    ),
    max_size=5,
).map(lambda calls: sorted(calls, key=lambda call: call[0]))


def _line_of(
    request_id: str, no: int, generation: int, step: str, tier: Tier, cost: int
) -> LedgerEntry:
    line = a_line(no, tier, request_id, step=step, cost_micros=cost, generation=generation)
    task = "unknown" if step == "classify" else "classification"
    return line.model_copy(update={"generation": generation, "task": task})


def _receipt(request_id: str, attempts: Sequence[Attempt], answer: LedgerEntry) -> Result:
    assignment = an_assignment(
        id=request_id, routes=[a_route(answer.attempt.tier)], generation=answer.generation
    )
    fields = composed_result(
        assignment, a_request(), attempts, "answer", "x", {"answer": "x"}, now=NOON + HOUR
    )
    fields["response"]["request_id"] = answer.attempt.attempt_id
    return read_model(Result, dump(fields))


_EVENTS = st.lists(
    st.one_of(
        st.builds(
            a_line,
            st.integers(1, 4),
            st.sampled_from(list(Tier)),
            st.sampled_from(["r-1", "r-2", "r-3"]),
            started_at=st.integers(0, 48).map(lambda hour: NOON + hour * HOUR),
        ),
        st.builds(
            lambda id_, no: a_result(f"{id_}.1.{no}", id_),
            st.sampled_from(["r-1", "r-2", "r-3"]),
            st.integers(1, 4),
        ),
        st.builds(said, st.sampled_from(["edited", "accepted"]), st.sampled_from(["r-1", "r-2"])),
    ),
    max_size=12,
    unique_by=lambda event: (
        event.attempt.attempt_id
        if isinstance(event, LedgerEntry)
        else (type(event), event.model_dump_json())
    ),
)


@settings(max_examples=25)
@given(_EVENTS, st.randoms())
def test_the_total_is_the_sum_of_any_grouping_whatever_came_first(
    events: list[Any], dice: Any
) -> None:
    shuffled = [*events, *events[:3]]
    dice.shuffle(shuffled)
    totals = []
    results = [event for event in events if isinstance(event, Result)]
    if len({result.id for result in results}) < len(results):
        return  # a request has one final result
    for order in (events, shuffled):
        for by in (("task",), ("tier",), ("task", "tier", "model", "prompt")):
            with tables(order) as found:
                rows, total = rows_of(found, by)
                assert sum(row.cost_micros for row in rows) == total.cost_micros
                totals.append(
                    [(one.name, one.value(total), behind(found, one.name)) for one in MEASURES]
                )
    assert all(one == totals[0] for one in totals)


def test_a_range_ends_where_the_next_begins_in_whatever_zone() -> None:
    """Also on the day that summer time ends, when an hour comes twice."""
    begin = datetime(2026, 10, 25, 0, tzinfo=UTC)
    lines = [
        a_line(1, request_id=f"r-{hour}", started_at=begin + hour * HOUR) for hour in range(25)
    ]
    berlin_before, berlin_after = timezone(timedelta(hours=2)), timezone(timedelta(hours=1))
    first = (
        datetime(2026, 10, 25, 0, tzinfo=berlin_before),
        datetime(2026, 10, 26, 0, tzinfo=berlin_after),
    )
    with tables(lines) as found:
        _, day = figures_by(found, ("task",), the_policy(), *first)
        _, next_day = figures_by(found, ("task",), the_policy(), first[1])
        span = begin, begin + 25 * HOUR
        periods = figures_over_time(found, the_policy(), *span, timedelta(hours=1))
    assert (day.calls, next_day.calls) == (23, 2)
    assert [period.total.calls for period in periods] == [1] * 25


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ([], 50, None),
        ([7], 50, 7),
        ([1, 2, 3, 4], 50, 2),
        (list(range(1, 101)), 95, 95),
        ([1, 2], 95, 2),
        ([0, 1e11], 50, 0),
    ],
)
def test_percentiles_are_values_that_were_seen_or_near_to_them(
    values: list[float], share: float, expected: float | None
) -> None:
    row = Row(("x",))
    for value in values:
        row.take_latency(bucket_of(int(value * 1000)), 1, int(value * 1000))
    assert percentile(row.latencies, share) == expected


@given(st.lists(st.integers(100, 10**12), min_size=1, max_size=50), st.integers(1, 100))
def test_a_rows_percentile_is_a_latency_within_half_a_percent(
    latencies: list[int], share: int
) -> None:
    row, parts = Row(("x",)), [Row(("x",)), Row(("x",))]
    for no, latency_us in enumerate(latencies):
        parts[no % 2].take_latency(bucket_of(latency_us), 1, latency_us)
    for part in parts:
        row.add(part)

    exact = sorted(latencies)[-(-len(latencies) * share // 100) - 1] / 1000
    assert percentile(row.latencies, share) == pytest.approx(exact, rel=0.0051)


def test_many_latencies_take_no_more_room_than_there_are_different_ones() -> None:
    row = Row(("x",))
    for no in range(100_000):
        latency_us = 1_000_000 + no * 10
        row.take_latency(bucket_of(latency_us), 1, latency_us)

    assert len(row.latencies) < 1000


def test_no_figure_is_written_in_powers_of_ten() -> None:
    row = Row(("x",), cost_micros=1, calls=1)

    assert all("e" not in format_value(measure, row) for measure in MEASURES)
    assert [format_figure("micros", micros) for micros in (0, 1)] == ["$0", "$0.000001"]


def drawn(week: str, requests: list[tuple[RequestKey, str]], count: int) -> list[RequestKey]:
    draw = Draw(week, count)
    for key, task in requests:
        draw.offer(key, task, None)
    return [key for key, _ in draw.drawn()]


def test_a_draw_keeps_what_may_be_drawn_and_no_more() -> None:
    tracemalloc.start()
    try:
        draw = Draw("2026-W48", 12)
        for no in range(20_000):
            draw.offer(RequestKey("default", f"r-{no}"), "triage", bytes(1000))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    # Twelve texts and what counts them; all of them would be twenty megabytes.
    assert peak < 500_000


@given(
    st.lists(
        st.tuples(
            st.builds(RequestKey, st.sampled_from(("default", "acme")), st.integers().map(str)),
            st.sampled_from("abc"),
        ),
        max_size=60,
    ),
    st.integers(1, 15),
    st.randoms(),
)
def test_everybody_draws_the_same_sample_with_every_task_in_it(
    requests: list[tuple[RequestKey, str]], count: int, dice: Any
) -> None:
    known = list(dict(requests).items())
    again = list(known)
    dice.shuffle(again)
    found = drawn("2026-W48", known, count)

    assert found == drawn("2026-W48", [*again, *again[:5]], count)
    assert len(found) == len(set(found)) == min(count, len(known))
    tasks = {dict(known)[id_] for id_ in found}
    assert len(tasks) == min(count, len({task for _, task in known}))


def test_a_week_has_its_iso_name() -> None:
    assert week_of(datetime(2027, 1, 1, tzinfo=UTC)) == "2026-W53"


@pytest.mark.parametrize(
    ("events", "words"),
    [
        pytest.param([a_line(request_id=f"r{no}") for no in range(20)], [], id="all good"),
        pytest.param(
            [
                line
                for no in range(20)
                for line in (
                    a_line(request_id=f"r{no}", **(REJECTED if no < 8 else {})),
                    *([a_line(2, Tier.PREMIUM, f"r{no}")] if no < 8 else []),
                )
            ],
            ["40% of the answers of support_answer at low were paid for and not used"],
            id="too many climb",
        ),
        pytest.param(
            [a_line(request_id=f"r{no}") for no in range(20)]
            + [said("edited", f"r{no}") for no in range(4)],
            ["people fixed 20% of the answers of support_answer at low"],
            id="people fix too many",
        ),
        pytest.param(
            [a_line(request_id=f"r{no}") for no in range(19)]
            + [said("edited", f"r{no}") for no in range(19)],
            [],
            id="too few to say",
        ),
    ],
)
def test_an_alarm_says_what_is_wrong_and_what_to_do(
    events: Sequence[Any], words: list[str]
) -> None:
    found = alarms(rows_of_groups(events))

    assert [one.words.partition(":")[0] for one in found] == words
    assert all(": " in one.words for one in found)


def rows_of_groups(events: Sequence[Any]) -> list[Row]:
    with tables(events) as found:
        return rows_of(found, ("task", "tier"))[0]


def test_reasons_are_groups_like_any_other() -> None:
    lines = [
        a_line(request_id="r1", **REJECTED),
        a_line(2, Tier.PREMIUM, "r1"),
        a_line(request_id="r2"),
    ]

    rows = rows_by(lines, by=("reason",))

    assert {name: row.escalated for name, row in rows.items()} == {
        "schema_validation_failure": 1,
        "accepted": 0,
    }
