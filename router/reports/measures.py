"""Measures: the figures of a group of calls, how they are shown, and which are alarming."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import timedelta
from typing import Literal, NamedTuple

__all__ = [
    "FIGURES",
    "MEASURES",
    "Alarm",
    "By",
    "Fixed",
    "Measure",
    "Row",
    "alarms",
    "bucket_of",
    "dearest_first",
    "format_value",
    "names_of",
    "percentile",
    "regrouped",
    "values_of",
]

By = Literal["task", "tier", "model", "prompt", "reason", "policy"]
#: Who fixed an answer.
Fixed = Literal["check", "model", "person"]

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
    completed: int = 0
    #: Requests whose first call is in the group.
    requests: int = 0
    #: What the group's own calls cost, wherever their requests ended.
    own_micros: int = 0
    input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    #: Output, reasoning included.
    output_tokens: int = 0
    #: Calls of requests that ended here, whatever group they belong to, and their cost.
    paid: int = 0
    cost_micros: int = 0
    #: Only of a total: what its calls would have cost on the strongest tier's first model.
    strongest_micros: int = 0
    #: By bucket: how many, and the sum in microseconds.
    latencies: dict[int, tuple[int, int]] = field(default_factory=dict)

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

    def take(self, figures: Iterable[int]) -> None:
        """Add figures, in the order of `FIGURES`."""
        for name, figure in zip(FIGURES, figures, strict=True):
            setattr(self, name, getattr(self, name) + figure)

    def take_latency(self, bucket: int, count: int, sum_us: int) -> None:
        """Add latencies of a bucket."""
        before = self.latencies.get(bucket, (0, 0))
        self.latencies[bucket] = before[0] + count, before[1] + sum_us

    def add(self, other: "Row") -> None:
        """Add another group's figures."""
        self.take(getattr(other, name) for name in FIGURES)
        for bucket, (count, sum_us) in other.latencies.items():
            self.take_latency(bucket, count, sum_us)


#: The counts of a row, which are sums over its calls.
FIGURES = tuple(
    column.name
    for column in fields(Row)
    if column.type is int and column.name != "strongest_micros"
)


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


class Measure(NamedTuple):
    """One column of the table: what it says, and which calls stand behind it."""

    name: str
    value: Callable[[Row], float | None]
    unit: Literal["count", "share", "micros", "ms"]
    #: The counts of the calls behind it.
    of: Sequence[str]

    def count(self, row: Row) -> int:
        """How many calls stand behind the figure of a row."""
        return sum(getattr(row, name) for name in self.of)


def _share(name: str, *of: str) -> Measure:
    def value(row: Row) -> float | None:
        return sum(getattr(row, count) for count in of) / row.answers if row.answers else None

    return Measure(name, value, "share", of)


def _latency(name: str, share: float) -> Measure:
    return Measure(name, lambda row: percentile(row.latencies, share), "ms", ("completed",))


#: The columns, for the command line and the page alike.
MEASURES: Sequence[Measure] = (
    Measure("calls", lambda row: row.calls, "count", ("calls",)),
    Measure("spend", lambda row: row.cost_micros, "micros", ("paid",)),
    Measure("own calls", lambda row: row.own_micros, "micros", ("calls",)),
    Measure("completed", lambda row: row.completed, "count", ("completed",)),
    Measure("per completed", lambda row: row.cost_per_completed, "micros", ("completed",)),
    _latency("p50", 50),
    _latency("p95", 95),
    _share("corrected", "by_check", "by_model", "by_person"),
    _share("by check", "by_check"),
    _share("by model", "by_model"),
    _share("by person", "by_person"),
    _share("escalated", "escalated"),
    _share("refused", "refusals"),
    _share("abandoned", "abandoned"),
    _share("schema", "schema_failures"),
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
                f"{escalated:.0%} of the answers of {name} were paid for and not used: fix the "
                f"prompt, or start a tier higher"
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
    value = measure.value(row)
    if value is None:
        return "-"
    if measure.unit == "share":
        return f"{value:.1%}"
    if measure.unit == "micros":
        return f"${value / 1e6:.6f}"
    if measure.unit == "ms" and value >= _LONG_MS:
        return str(timedelta(seconds=round(value / 1000)))
    return f"{value:,.0f} ms" if measure.unit == "ms" else f"{value:,.0f}"


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
