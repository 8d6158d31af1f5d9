"""Plots: what they draw of figures over time, and which calls are behind each number."""

from datetime import timedelta

import pytest

from router.reports.measures import bucket_of
from router.reports.plots import Period, Plot, plots_of, step_of
from tests.builders import NOON

HOUR = timedelta(hours=1)


def a_period(no: int, **spent: int) -> Period:
    """A period in which each task spent so much at the low tier."""
    at = NOON + no * HOUR
    period = Period(at, at, at + HOUR)
    for task, micros in spent.items():
        row = period.row(task, "low")
        row.cost_micros += micros
        period.total.cost_micros += micros
    return period


def plots(*periods: Period) -> dict[str, Plot]:
    return {plot.name: plot for plot in plots_of(periods)}


def test_spend_is_stacked_by_tier_and_by_task_and_adds_up() -> None:
    many = {f"task-{no}": 100 * no for no in range(1, 9)}
    drawn = plots(a_period(0, **many), a_period(1, extraction=50))
    [low] = drawn["spend-by-tier"].series
    assert (low.name, low.values, low.group) == ("low", [3600, 50], {"tier": "low"})
    by_task = drawn["spend-by-task"].series
    assert [series.name for series in by_task[:2]] == ["task-8", "task-7"]
    assert (by_task[-1].name, by_task[-1].outcome) == ("4 other tasks", None)
    assert [sum(values) for values in zip(*(one.values for one in by_task), strict=True)] == [
        3600,
        50,
    ]


def test_a_cost_is_beside_that_of_the_strongest_and_gaps_stay_gaps() -> None:
    busy, idle = a_period(0, extraction=300), a_period(1)
    busy.total.unaided, busy.total.reviewed, busy.total.strongest_micros = 2, 1, 900
    routed, strongest = plots(busy, idle)["cost-per-completed"].series
    assert (routed.values, strongest.values) == ([100, None], [300, None])


def test_waiting_for_people_is_a_plot_of_its_own() -> None:
    period = a_period(0)
    period.total.take_latency(bucket_of(2_000), 1, 2_000)
    period.total.take_latency(bucket_of(9_000_000), 1, 9_000_000, reviewed=1)
    drawn = plots(period)
    answered, waited = (drawn[name].series for name in ("time-to-answer", "time-with-people"))
    assert [(one.name, one.outcome, one.values) for one in answered] == [
        ("p50", "unaided", [2]),
        ("p95", "unaided", [2]),
    ]
    assert [(one.name, one.outcome, one.values) for one in waited] == [
        ("p50", "reviewed", [9_000]),
        ("p95", "reviewed", [9_000]),
    ]


@pytest.mark.parametrize(
    ("hours", "minutes"), [(1, 5), (12, 15), (24, 60), (168, 360), (720, 1440), (8784, 10_080)]
)
def test_a_range_has_at_most_about_a_hundred_periods(hours: int, minutes: int) -> None:
    step = step_of(hours * HOUR)
    assert step == timedelta(minutes=minutes)
    assert hours * HOUR / step <= 100
