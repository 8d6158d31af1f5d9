"""Measures: the figures of a group of calls, how they are shown, and which are alarming."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import timedelta
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

from router.attempt.pricing import cost_micros
from schemas.base import Tier
from schemas.usage import Usage

if TYPE_CHECKING:  # it loads every check
    from router.policy.table import Policy, Price

__all__ = [
    "FIGURES",
    "MEASURES",
    "OUTCOME_COUNTS",
    "PAID",
    "QUALITY_GROUPS",
    "Alarm",
    "By",
    "Fixed",
    "Measure",
    "Row",
    "Unit",
    "alarms",
    "bucket_of",
    "cost_at",
    "cost_on",
    "dearest_first",
    "format_figure",
    "format_value",
    "names_of",
    "on_strongest",
    "percentile",
    "regrouped",
    "values_of",
]

#: The groups that latencies are kept for.
QualityBy = Literal["task", "tier", "model", "prompt", "reason", "policy"]
#: What figures are grouped by. Ids of users are unique within a tenant; days are those of UTC.
By = Literal[QualityBy, "plan", "tenant", "workflow", "release", "provider", "user", "day"]
QUALITY_GROUPS: Sequence[QualityBy] = get_args(QualityBy)
#: Who fixed an answer.
Fixed = Literal["check", "model", "person"]
Unit = Literal["count", "share", "micros", "ms"]

#: From here on a time is shown in hours and minutes: a person has answered.
_LONG_MS = 60_000
#: Fewer answers are too few to judge by.
_ENOUGH = 20
#: Shares from which on a rule is probably wrong: of answers escalated, or fixed by a person.
_MOST_ESCALATED, _MOST_BY_PERSON = 0.4, 0.2


#: The distance of neighbouring buckets of latencies.
_BASE = math.log(1.005)


def bucket_of(latency_us: int) -> int:
    """The bucket that a latency is counted in: its values lie within 0.5 % of each other."""
    return int(math.log(max(latency_us, 1)) / _BASE)


@dataclass(slots=True)
class Row:
    """The figures of one group."""

    name: tuple[str, ...]
    calls: int = 0
    #: Judged answers, which could be right or wrong.
    answers: int = 0
    #: Corrected answers, by what corrected them first.
    by_check: int = 0
    by_model: int = 0
    by_person: int = 0
    escalated: int = 0
    schema_failures: int = 0
    refusals: int = 0
    #: Answers that nobody downstream had a use for any more.
    abandoned: int = 0
    #: Actions that were completed without a person's decision, and with one.
    unaided: int = 0
    reviewed: int = 0
    #: Requests that ended here; of those, with several calls for an answer at one tier, and at
    #: several tiers. A dead letter is an end too, and so is the last call of what is not finished.
    requests: int = 0
    retried: int = 0
    fell_back: int = 0
    #: Requests whose first call for an answer is in the group.
    begun: int = 0
    #: How often a person dealt with an answer: for how many seconds, and how often nobody knows.
    handled: int = 0
    handled_seconds: int = 0
    unmeasured: int = 0
    #: What the group's own calls cost, wherever their requests ended.
    own_micros: int = 0
    input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    #: Output, reasoning included.
    output_tokens: int = 0
    #: Calls of requests that ended here, whatever group they belong to, their cost and tokens.
    paid: int = 0
    cost_micros: int = 0
    paid_input_tokens: int = 0
    paid_cache_read_tokens: int = 0
    paid_cache_write_tokens: int = 0
    paid_output_tokens: int = 0
    #: Only of a total: what its calls would have cost on the strongest tier's first model.
    strongest_micros: int = 0
    #: Of answers that nobody decided on, by bucket: how many, and the sum in microseconds.
    latencies: dict[int, tuple[int, int]] = field(default_factory=dict)
    #: The same of answers that waited for a person's decision.
    waits: dict[int, tuple[int, int]] = field(default_factory=dict)

    @property
    def completed(self) -> int:
        """Requests that ended here with an answer."""
        return self.unaided + self.reviewed

    @property
    def cost_per_completed(self) -> float | None:
        """Micro-dollars per completed action, every call of its request included."""
        return self.cost_micros / self.completed if self.completed else None

    @property
    def tokens(self) -> int:
        """Every token of every kind."""
        return (
            self.input_tokens
            + self.cache_read_tokens
            + self.cache_write_tokens
            + self.output_tokens
        )

    @property
    def paid_input(self) -> int:
        """Input tokens of all kinds of the requests that ended here."""
        return self.paid_input_tokens + self.paid_cache_read_tokens + self.paid_cache_write_tokens

    def take(self, figures: Iterable[int]) -> None:
        """Add figures, in the order of `FIGURES`."""
        for name, figure in zip(FIGURES, figures, strict=True):
            setattr(self, name, getattr(self, name) + figure)

    def take_latency(self, bucket: int, count: int, sum_us: int, *, reviewed: int = 0) -> None:
        """Add latencies of a bucket: with `reviewed`, of answers that waited for a person."""
        latencies = self.waits if reviewed else self.latencies
        before = latencies.get(bucket, (0, 0))
        latencies[bucket] = before[0] + count, before[1] + sum_us

    def add(self, other: "Row") -> None:
        """Add another group's figures."""
        self.take(getattr(other, name) for name in FIGURES)
        for reviewed, latencies in enumerate((other.latencies, other.waits)):
            for bucket, (count, sum_us) in latencies.items():
                self.take_latency(bucket, count, sum_us, reviewed=reviewed)


#: The counts of a row, which are sums over its calls.
FIGURES = tuple(
    column.name
    for column in fields(Row)
    if column.type is int and column.name != "strongest_micros"
)
_TOKENS = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens")
#: The counts that a call adds to where its request ended, and those of the call that they are.
PAID = {"paid": "calls", "cost_micros": "own_micros", **{f"paid_{name}": name for name in _TOKENS}}


def on_strongest(row: Row, policy: "Policy") -> int:
    """What these calls would have cost on the strongest tier's first model, in micro-dollars."""
    return cost_on(row, policy.models[policy.models_of(list(policy.tiers)[-1])[0]].price)


def cost_at(row: Row, policy: "Policy", tier: Tier, task: str | None = None) -> int:
    """What a group's own calls would have cost on the first model of a tier, in micro-dollars."""
    price = policy.models[policy.models_of(tier, task)[0]].price
    return cost_on(row, price, of_ended=False)


def cost_on(row: Row, price: "Price", *, of_ended: bool = True) -> int:
    """What a group's own calls, or all calls of the requests that ended in it, cost at a price."""
    before = "paid_" if of_ended else ""
    usage = Usage.model_construct(**{name: getattr(row, f"{before}{name}") for name in _TOKENS})
    return cost_micros(usage, price)


def dearest_first(rows: Iterable[Row]) -> list[Row]:
    """Rows in the order of a table: the most expensive first."""
    return sorted(rows, key=lambda row: (-row.cost_micros, row.name))


def regrouped(rows: Iterable[Row], groups: Sequence[By], by: Sequence[By]) -> list[Row]:
    """Rows by `groups`, summed to rows by some of those groups, `by`."""
    by_name: dict[tuple[str, ...], Row] = {}
    for row in rows:
        name = tuple(row.name[groups.index(group)] for group in by)
        by_name.setdefault(name, Row(name)).add(row)
    return dearest_first(by_name.values())


#: What can become of a call, with the counts that say so. Costs count where a request `ended`.
OUTCOME_COUNTS: Mapping[str, Sequence[str]] = {
    "called": ("calls",),
    "ended": ("paid",),
    "completed": ("unaided", "reviewed"),
    "unaided": ("unaided",),
    "reviewed": ("reviewed",),
    "corrected": ("by_check", "by_model", "by_person"),
    "by check": ("by_check",),
    "by model": ("by_model",),
    "by person": ("by_person",),
    "escalated": ("escalated",),
    "refused": ("refusals",),
    "abandoned": ("abandoned",),
    "schema": ("schema_failures",),
}


class Measure(NamedTuple):
    """One column of the table: what it says, and which calls stand behind it."""

    name: str
    value: Callable[[Row], float | None]
    unit: Unit
    #: What became of the calls behind it.
    outcome: str

    def count(self, row: Row) -> int:
        """How many calls stand behind the figure of a row."""
        return sum(getattr(row, name) for name in OUTCOME_COUNTS[self.outcome])


def _share(outcome: str) -> Measure:
    def value(row: Row) -> float | None:
        of = OUTCOME_COUNTS[outcome]
        return sum(getattr(row, count) for count in of) / row.answers if row.answers else None

    return Measure(outcome, value, "share", outcome)


#: The columns, for the command line and the page alike.
MEASURES: Sequence[Measure] = (
    Measure("calls", lambda row: row.calls, "count", "called"),
    Measure("spend", lambda row: row.cost_micros, "micros", "ended"),
    Measure("own calls", lambda row: row.own_micros, "micros", "called"),
    Measure("completed", lambda row: row.completed, "count", "completed"),
    Measure("per completed", lambda row: row.cost_per_completed, "micros", "completed"),
    Measure("p50", lambda row: percentile(row.latencies, 50), "ms", "unaided"),
    Measure("p95", lambda row: percentile(row.latencies, 95), "ms", "unaided"),
    Measure("person p50", lambda row: percentile(row.waits, 50), "ms", "reviewed"),
    Measure("person p95", lambda row: percentile(row.waits, 95), "ms", "reviewed"),
    *map(_share, ("corrected", "by check", "by model", "by person")),
    *map(_share, ("escalated", "refused", "abandoned", "schema")),
)


class Alarm(NamedTuple):
    """A figure that needs somebody's attention."""

    row: Row
    #: The name of the measure.
    measure: str
    words: str


def alarms(rows: Iterable[Row]) -> list[Alarm]:
    """What is wrong with these groups, and what to do about it."""
    raised = []
    for row in rows:
        if row.answers < _ENOUGH:
            continue
        name = " at ".join(row.name)
        escalated = row.escalated / row.answers
        by_person = row.by_person / row.answers
        if escalated >= _MOST_ESCALATED:
            words = (
                f"{escalated:.0%} of the answers of {name} were paid for and not used: the fault "
                f"is in its prompt, in its sources, or in a task that is several in one; a dearer "
                f"tier would only hide it"
            )
            raised.append(Alarm(row, "escalated", words))
        if by_person >= _MOST_BY_PERSON:
            words = (
                f"people fixed {by_person:.0%} of the answers of {name}: tighten its checks or "
                f"raise its threshold"
            )
            raised.append(Alarm(row, "by person", words))
    return raised


def format_value(measure: Measure, row: Row) -> str:
    """A figure as people read it; a dash where there is none."""
    return format_figure(measure.unit, measure.value(row))


def format_figure(unit: Unit, value: float | None) -> str:
    """A number of this unit as people read it; a dash where there is none."""
    if value is None:
        return "-"
    if unit == "share":
        return f"{value:.1%}"
    if unit == "micros":
        return f"${value / 1e6:.6f}" if value else "$0"
    if unit == "ms" and value >= _LONG_MS:
        return str(timedelta(seconds=round(value / 1000)))
    return f"{value:,.0f} ms" if unit == "ms" else f"{value:,.0f}"


def percentile(latencies: Mapping[int, tuple[int, int]], share: float) -> float | None:
    """The nearest-rank percentile in milliseconds, as its bucket's mean; None without latencies."""
    rank = -(-sum(count for count, _ in latencies.values()) * share // 100)
    for _, (count, sum_us) in sorted(latencies.items()):
        rank -= count
        if rank <= 0:
            return sum_us / count / 1000
    return None


def values_of(row: Row) -> Mapping[str, float | None]:
    """A group's figures by their names."""
    return {measure.name: measure.value(row) for measure in MEASURES}


def names_of(row: Row, by: Sequence[By]) -> Mapping[str, str]:
    """A group's name as fields."""
    return dict(zip(by, row.name, strict=False))
