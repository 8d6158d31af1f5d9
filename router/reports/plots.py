"""Plots: figures over time as series of numbers, with the calls behind each number."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from router.reports.measures import MEASURES, By, Row, Unit
from schemas.base import Tier

__all__ = ["Period", "Plot", "Series", "plots_of", "step_of"]

#: Up to this length of a range, a period has this length.
_STEPS = (
    (timedelta(hours=3), timedelta(minutes=5)),
    (timedelta(hours=12), timedelta(minutes=15)),
    (timedelta(days=2), timedelta(hours=1)),
    (timedelta(days=8), timedelta(hours=6)),
    (timedelta(days=92), timedelta(days=1)),
)
_LONGEST_STEP = timedelta(days=7)
#: Tasks with a series of their own.
_MOST_TASKS = 5
_MEASURES = {measure.name: measure for measure in MEASURES}


@dataclass(slots=True)
class Period:
    """The figures of a short span of time."""

    #: Where it begins on the axis.
    at: datetime
    #: What is counted of it: the first and the last period of a range may be cut.
    since: datetime
    until: datetime
    total: Row = field(default_factory=lambda: Row(("total",)))
    by_task_and_tier: dict[tuple[str, str], Row] = field(default_factory=dict)

    def row(self, task: str, tier: str) -> Row:
        """The figures of a task at a tier."""
        return self.by_task_and_tier.setdefault((task, tier), Row((task, tier)))

    def spend(self, task: str | None = None, tier: str | None = None) -> int:
        """What was spent on a task or at a tier, in micro-dollars."""
        return sum(
            row.cost_micros
            for name, row in self.by_task_and_tier.items()
            if task in (None, name[0]) and tier in (None, name[1])
        )


class Series(NamedTuple):
    """A number for each period."""

    name: str
    #: The name of its colour: of a tier, an outcome, or neither.
    tone: str
    values: Sequence[float | None]
    #: What became of the calls behind it, and their group; no outcome where no search names them.
    outcome: str | None
    group: Mapping[By, str]


class Plot(NamedTuple):
    """Series of one unit over the same periods."""

    #: In paths.
    name: str
    title: str
    unit: Unit
    series: Sequence[Series]
    #: True where the series add up to a whole.
    is_stacked: bool = False

    @property
    def has_values(self) -> bool:
        """False where there is nothing to draw."""
        return any(value is not None for series in self.series for value in series.values)


def step_of(length: timedelta) -> timedelta:
    """The length of the periods of a range: there are at most about a hundred."""
    return next((step for most, step in _STEPS if length <= most), _LONGEST_STEP)


def plots_of(periods: Sequence[Period]) -> list[Plot]:
    """The plots of a range: spend, cost, times and rates."""

    def series(
        name: str, tone: str, outcome: str | None, value: Callable[[Period], float | None]
    ) -> Series:
        return Series(name, tone, [value(period) for period in periods], outcome, {})

    def measured(measure: str, tone: str, name: str | None = None) -> Series:
        asked = _MEASURES[measure]
        return series(
            name or measure, tone, asked.outcome, lambda period: asked.value(period.total)
        )

    costs = [
        measured("per completed", "routed", "as routed"),
        series("all on the strongest", "premium", "called", _strongest),
    ]
    cost = "Cost per completed action, beside the same calls on the strongest model"
    times = [measured("p50", "half"), measured("p95", "most")]
    waits = [measured("person p50", "half", "p50"), measured("person p95", "most", "p95")]
    rates = [measured(name, name) for name in ("escalated", "corrected", "refused")]
    return [
        Plot("spend-by-tier", "Spend by tier", "micros", _by_tier(periods), is_stacked=True),
        Plot("spend-by-task", "Spend by task", "micros", _by_task(periods), is_stacked=True),
        Plot("cost-per-completed", cost, "micros", costs),
        Plot("time-to-answer", "Time to an answer that no person decided on", "ms", times),
        Plot("time-with-people", "Time to an answer that waited for a person", "ms", waits),
        Plot("rates", "Share of answers escalated, corrected and refused", "share", rates),
    ]


def _strongest(period: Period) -> float | None:
    completed = period.total.completed
    return period.total.strongest_micros / completed if completed else None


def _by_tier(periods: Sequence[Period]) -> list[Series]:
    return [
        Series(tier, tier, [period.spend(tier=tier) for period in periods], "ended", {"tier": tier})
        for tier in Tier
        if any(period.spend(tier=tier) for period in periods)
    ]


def _by_task(periods: Sequence[Period]) -> list[Series]:
    """The dearest tasks, and all others together."""
    spent: dict[str, int] = {}
    for period in periods:
        for (task, _), row in period.by_task_and_tier.items():
            spent[task] = spent.get(task, 0) + row.cost_micros
    dearest = sorted((task for task in spent if spent[task]), key=lambda task: -spent[task])

    def spends(*tasks: str) -> list[int]:
        return [sum(period.spend(task=task) for task in tasks) for period in periods]

    series = [
        Series(task, f"task-{no}", spends(task), "ended", {"task": task})
        for no, task in enumerate(dearest[:_MOST_TASKS], 1)
    ]
    if others := dearest[_MOST_TASKS:]:
        series.append(Series(f"{len(others)} other tasks", "others", spends(*others), None, {}))
    return series
