"""The report: the audit set, the worksheet, scenarios and growth, as tables of plain values."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from router.policy.table import Policy, Price
from router.reports.bill import movers_between, steps_between
from router.reports.calibration import wilson_upper
from router.reports.measures import By, Measure, Row, Unit, cost_at, cost_on, regrouped
from router.reports.plots import Period, Plot, Series
from router.reports.spend import (
    Cell,
    People,
    Section,
    measured,
    price_of,
    ratio,
    spend_measures,
)
from schemas.base import Tier

__all__ = ["DAILY", "ROUTES", "Facts", "premium_plot", "sections_of"]

#: What the rows of a report are grouped by.
ROUTES: Sequence[By] = ("workflow", "task", "tier", "model")
DAILY: Sequence[By] = ("workflow", "tier", "day")
_BILL: Sequence[By] = ("task", "tier", "model")
_MONTH_DAYS = 30
_MOST_MOVERS = 10
#: Fewer requests in half of the time are too few to see growth in.
_ENOUGH = 20


class Facts(NamedTuple):
    """What the ledger says of a span of time."""

    #: By `ROUTES`, and by `DAILY`.
    rows: Sequence[Row]
    daily: Sequence[Row]
    #: By task, tier and model: of the span of the same length before it.
    before: Sequence[Row]
    days: float

    def by(self, *groups: By) -> list[Row]:
        """The rows by some of their groups."""
        return regrouped(self.rows, ROUTES, groups)


def sections_of(
    facts: Facts,
    policy: Policy,
    people: People,
    requests: int | None = None,
    candidate: Policy | None = None,
) -> list[Section]:
    """All tables. A month has as many requests as the span had in 30 days, or as many as given."""
    [total] = facts.by() or [Row(())]
    a_month = _MONTH_DAYS / facts.days
    if requests is not None:
        a_month = requests / (total.requests or 1)
    measures = spend_measures(policy, people)
    return [
        measured("total", "All requests", [total], (), measures),
        measured("models", "Requests by model", facts.by("model"), ("model",), measures),
        measured("tiers", "Cost by tier", facts.by("tier"), ("tier",), measures),
        _worksheet(facts, policy, measures, a_month),
        _scenarios(facts, policy, total, a_month, candidate),
        _growth(facts.daily, list(policy.tiers)[-1]),
        *_bill(facts),
    ]


def premium_plot(periods: Sequence[Period]) -> Plot:
    """The share of requests that ended at the strongest tier, over time."""
    shares = [
        ratio(
            sum(row.requests for name, row in period.by_task_and_tier.items() if name[1] == top),
            period.total.requests,
        )
        for top in [list(Tier)[-1]]
        for period in periods
    ]
    title = "Share of requests that ended at the strongest tier"
    return Plot("premium-use", title, "share", [Series("premium", "premium", shares, None, {})])


def _worksheet(
    facts: Facts, policy: Policy, measures: Sequence[Measure], a_month: float
) -> Section:
    """A row for each route: what a month of it costs, and from what."""
    groups = ("workflow", "task", "first tier", "fallback model")
    named = {measure.name: measure for measure in measures}
    starts: dict[tuple[str, ...], dict[Tier, int]] = {}
    for row in facts.by("workflow", "task", "tier"):
        starts.setdefault(row.name[:2], {})[Tier(row.name[2])] = row.begun
    rows = facts.by("workflow", "task")
    for row in rows:
        row.name = (*row.name, *_first_tier(policy, row.name[1], starts[row.name]))

    columns = (
        Measure("requests a month", lambda row: row.requests * a_month, "count", "ended"),
        Measure("input tokens", lambda row: ratio(row.paid_input, row.paid), "count", "ended"),
        Measure(
            "output tokens", lambda row: ratio(row.paid_output_tokens, row.paid), "count", "ended"
        ),
        *(named[name] for name in ("fell back", "retried", "by person")),
        *(named[name] for name in ("per completed", "with people")),
        Measure("a month", lambda row: row.cost_micros * a_month, "micros", "ended"),
    )
    note = "Tokens are those of an average call. A month has 30 days."
    return measured("worksheet", "Budget worksheet by route", rows, groups, columns, note)


def _first_tier(policy: Policy, task: str, begun: Mapping[Tier, int]) -> tuple[str, str]:
    """Where most requests of a route began, and the model that a fallback from there asks."""
    first = max(begun, key=lambda tier: begun[tier])
    if not begun[first]:
        return "-", "-"
    share = begun[first] / sum(begun.values())
    row = policy.tasks.get(task)
    above = [tier for tier in (row.escalation if row else ()) if tier.rank > first.rank]
    fallback = policy.models_of(above[0], task)[0] if above else "none"
    return f"{first}" if share == 1 else f"{first} ({share:.0%})", fallback


def _scenarios(
    facts: Facts, policy: Policy, total: Row, a_month: float, candidate: Policy | None
) -> Section:
    """What the calls of a month would cost otherwise: at one tier, on one model, by a policy."""
    amounts = ("input price", "output price", "a month", "per completed")
    rows: list[Sequence[Cell]] = []

    def add(name: str, micros: int, price: Price | None = None) -> None:
        each = (price.input, price.output) if price else ()
        prices: list[Cell] = [float(dollars * 10**6) for dollars in each] or [None, None]
        per_completed, share = ratio(micros, total.completed), ratio(micros, total.cost_micros)
        rows.append((name, *prices, micros * a_month, per_completed, share))

    add("as routed", total.cost_micros)
    for tier in policy.tiers:
        each_task = [(row, price_of(policy, tier, row.name[0])) for row in facts.by("task")]
        micros = sum(cost_on(row, price) for row, price in each_task)
        add(f"every call at {tier}", micros, price_of(policy, tier))
    if candidate is not None:
        by_tier = [(row, row.name[0], Tier(row.name[1])) for row in facts.by("task", "tier")]
        micros = sum(cost_at(row, candidate, tier, task) for row, task, tier in by_tier)
        add(f"as routed, by {candidate.name} {candidate.version}", micros)
    for name, model in policy.models.items():
        add(f"every call on {name}", cost_on(total, model.price), model.price)
    columns: dict[str, Unit | None] = {"scenario": None, **dict.fromkeys(amounts, "micros")}
    note = (
        "The same calls with the same tokens at other prices, which are for a million tokens. "
        "Whether the answers would be as good, no price says; `tierline policy replay` estimates."
    )
    title = "What a month would cost otherwise"
    return Section("scenarios", title, {**columns, "of now": "share"}, rows, note)


def _growth(daily: Sequence[Row], strongest: Tier) -> Section:
    """Which workflows reach the strongest tier more often in the later half of the days."""
    days = sorted({row.name[2] for row in daily})
    middle = days[len(days) // 2] if days else ""
    rows: list[Sequence[Cell]] = []
    for workflow in sorted({row.name[0] for row in daily}):
        counts = [0, 0, 0, 0]
        for row in daily:
            if row.name[0] == workflow:
                half = 2 * (row.name[2] >= middle)
                counts[half] += row.requests if row.name[1] == strongest else 0
                counts[half + 1] += row.requests
        before, all_before, now, all_now = counts
        least = 1 - wilson_upper(all_now - now, all_now)
        grows = "yes" if least > wilson_upper(before, all_before) else "no"
        if min(all_before, all_now) < _ENOUGH:
            grows = "too few requests to say"
        shares = ratio(before, all_before), ratio(now, all_now)
        rows.append((workflow, all_before + all_now, *shares, grows))
    columns: Mapping[str, Unit | None] = {
        "workflow": None,
        "requests": "count",
        "share before": "share",
        "share now": "share",
        "grows": None,
    }
    note = f"Before and since {middle}. It grows where chance hardly explains it (95 % each way)."
    return Section("premium", f"Use of the {strongest} tier by workflow", columns, rows, note)


def _bill(facts: Facts) -> list[Section]:
    """Why the bill changed from the span before, and where most."""
    before, after = facts.before, facts.by(*_BILL)
    steps: list[Sequence[Cell]] = [
        ("before", sum(row.own_micros for row in before), ""),
        *((step.name, step.micros, step.words) for step in steps_between(before, after)),
        ("now", sum(row.own_micros for row in after), ""),
    ]
    causes: Mapping[str, Unit | None] = {"cause": None, "change": "micros", "meaning": None}
    movers: list[Sequence[Cell]] = [
        (*mover.name, mover.before, mover.now, mover.micros)
        for mover in movers_between(before, after, _MOST_MOVERS)
    ]
    columns: dict[str, Unit | None] = {**dict.fromkeys(_BILL)}
    columns |= dict.fromkeys(("before", "now", "change"), "micros")
    return [
        Section("bill", "Why the bill changed", causes, steps),
        Section("movers", "Where the bill changed most", columns, movers),
    ]
