"""Spend: what completed actions cost, with the time of people, and what other tiers would cost."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from router.policy.table import Policy, Price
from router.reports.measures import MEASURES, By, Measure, Row, Unit, cost_on, format_figure
from schemas.base import Tier

__all__ = ["Cell", "People", "Section", "measured", "price_of", "ratio", "spend_measures"]

Cell = str | float | None
_BY_NAME = {measure.name: measure for measure in MEASURES}


class Section(NamedTuple):
    """A table with its columns, each a unit where it has numbers."""

    name: str
    title: str
    columns: Mapping[str, Unit | None]
    rows: Sequence[Sequence[Cell]]
    note: str = ""

    @property
    def values(self) -> list[dict[str, Cell]]:
        """The rows for programs: micro-dollars, shares and counts."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]

    @property
    def texts(self) -> list[dict[str, str]]:
        """The rows as people read them."""

        def text(unit: Unit | None, cell: Any) -> str:
            return format_figure(unit, cell) if unit else str(cell)

        columns = self.columns.items()
        return [{name: text(unit, row[name]) for name, unit in columns} for row in self.values]


class People(NamedTuple):
    """What the time of people costs who decide on answers, or mend them."""

    #: Micro-dollars of an answer that they dealt with, where minutes have no price.
    per_answer: int
    #: Micro-dollars of a minute.
    per_minute: int | None = None
    #: Of an answer that took a person a time that nobody measured.
    minutes: float = 5.0

    def cost(self, row: Row) -> int:
        """What people's time for these answers cost, in micro-dollars."""
        if self.per_minute is None:
            return row.handled * self.per_answer
        return round((row.handled_seconds / 60 + row.unmeasured * self.minutes) * self.per_minute)

    def per_completed(self, row: Row) -> float | None:
        """Micro-dollars of a completed action, calls and people together."""
        return ratio(row.cost_micros + self.cost(row), row.completed)


def price_of(policy: Policy, tier: Tier, task: str | None = None) -> Price:
    """The price of the model that a tier asks first."""
    return policy.models[policy.models_of(tier, task)[0]].price


def spend_measures(policy: Policy, people: People) -> Sequence[Measure]:
    """The columns of spend. Those that the dashboard has too are the same."""
    tiers = list(policy.tiers)

    def all_at(tier: Tier) -> Measure:
        price = price_of(policy, tier)
        return Measure(f"all {tier}", lambda row: cost_on(row, price), "micros", "ended")

    return (
        Measure("requests", lambda row: row.requests, "count", "ended"),
        _BY_NAME["calls"],
        Measure("calls paid", lambda row: row.paid, "count", "ended"),
        *(_BY_NAME[name] for name in ("spend", "own calls", "completed", "per completed")),
        Measure("retried", lambda row: ratio(row.retried, row.requests), "share", "ended"),
        Measure("fell back", lambda row: ratio(row.fell_back, row.requests), "share", "ended"),
        _BY_NAME["by person"],
        Measure("people", people.cost, "micros", "reviewed"),
        Measure("with people", people.per_completed, "micros", "completed"),
        *map(all_at, (tiers[0], tiers[-1])),
    )


def measured(
    name: str,
    title: str,
    rows: Sequence[Row],
    groups: Sequence[By | str],
    measures: Sequence[Measure],
    note: str = "",
) -> Section:
    """A table of rows by these groups."""
    columns = {**dict.fromkeys(groups), **{measure.name: measure.unit for measure in measures}}
    cells = [(*row.name, *(measure.value(row) for measure in measures)) for row in rows]
    return Section(name, title, columns, cells, note)


def ratio(over: float, under: float) -> float | None:
    """A ratio; None of nothing."""
    return over / under if under else None
