"""Measures: the figures of a group of answers, how people read them, and which are alarming."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal, NamedTuple, get_args

__all__ = [
    "MEASURES",
    "Alarm",
    "By",
    "Fixed",
    "Ids",
    "Measure",
    "Row",
    "alarms",
    "format_value",
    "names_of",
    "percentile",
    "values_of",
]

By = Literal["task", "tier", "model", "prompt", "reason"]
#: Who fixed an answer.
Fixed = Literal["check", "model", "person"]

#: From here on milliseconds are no longer read as such: a person has answered.
_LONG_MS = 60_000
#: Fewer answers say nothing.
_ENOUGH = 20
#: From here on a rule is probably wrong: so many leave their tier, or are fixed by a person.
_MOST_ESCALATED, _MOST_BY_PERSON = 0.4, 0.2


class Ids:
    """How many, and the ids of the requests behind that; without the ids once they are let go."""

    __slots__ = ("_count", "kept")

    def __init__(self, kept: Iterable[str] = ()) -> None:
        #: None once they are let go.
        self.kept: list[str] | None = list(kept)
        self._count = len(self.kept)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[str]:
        return iter(self.kept or ())

    def append(self, id_: str) -> None:
        """One more."""
        self._count += 1
        if self.kept is not None:
            self.kept.append(id_)

    def extend(self, other: "Ids") -> None:
        """Take others in; their ids too, where both have them."""
        self._count += len(other)
        if self.kept is not None and other.kept is not None:
            self.kept.extend(other.kept)
        else:
            self.kept = None

    def forget(self) -> None:
        """Let the ids go, and keep their number."""
        self.kept = None


#: The fields of a row that count requests.
_COUNTS = (
    "calls",
    "answers",
    "escalated",
    "schema_failures",
    "refusals",
    "abandoned",
    "completed",
    "paid",
)


@dataclass(slots=True)
class Row:
    """The figures of one group. Every count holds the ids of the requests behind it."""

    name: tuple[str, ...]
    calls: Ids = field(default_factory=Ids)
    #: Judged answers: what could be right or wrong.
    answers: Ids = field(default_factory=Ids)
    corrected: dict[Fixed, Ids] = field(
        default_factory=lambda: {who: Ids() for who in get_args(Fixed)}
    )
    escalated: Ids = field(default_factory=Ids)
    schema_failures: Ids = field(default_factory=Ids)
    refusals: Ids = field(default_factory=Ids)
    #: Answers that somebody downstream had no more use for.
    abandoned: Ids = field(default_factory=Ids)
    completed: Ids = field(default_factory=Ids)
    #: Requests that ended here, one for each of their calls, whatever group that belongs to.
    paid: Ids = field(default_factory=Ids)
    #: What these calls cost together.
    cost_micros: int = 0
    #: What the group's own calls cost, wherever their requests ended.
    own_micros: int = 0
    #: What the same calls would have cost on the strongest tier's first model.
    strongest_micros: int = 0
    #: How many took how long, to three digits: so many requests as there are need no more room.
    latencies_ms: Counter[float] = field(default_factory=Counter)

    @property
    def corrections(self) -> Ids:
        """Every correction, whoever made it."""
        found = Ids()
        for ids in self.corrected.values():
            found.extend(ids)
        return found

    @property
    def correction_rate(self) -> float | None:
        """Corrected answers of all answers; None where there is none."""
        return len(self.corrections) / len(self.answers) if self.answers else None

    @property
    def cost_per_completed(self) -> float | None:
        """Micro-dollars per completed action, every call of its request included."""
        return self.cost_micros / len(self.completed) if self.completed else None

    def spend(self, request: str, micros: int) -> None:
        """Take in what a call of a request cost that ended here."""
        self.paid.append(request)
        self.cost_micros += micros

    def add(self, other: "Row") -> None:
        """Take another group's figures in."""
        for name in _COUNTS:
            getattr(self, name).extend(getattr(other, name))
        for who, ids in other.corrected.items():
            self.corrected[who].extend(ids)
        self.cost_micros += other.cost_micros
        self.own_micros += other.own_micros
        self.strongest_micros += other.strongest_micros
        self.latencies_ms.update(other.latencies_ms)

    def took(self, milliseconds: float) -> None:
        """Take in how long a request took."""
        self.latencies_ms[float(f"{milliseconds:.3g}")] += 1

    def forget_ids(self) -> "Row":
        """The row with its figures alone."""
        for name in _COUNTS:
            getattr(self, name).forget()
        for ids in self.corrected.values():
            ids.forget()
        return self


class Measure(NamedTuple):
    """One column of the table: what it says, and the requests behind it."""

    name: str
    value: Callable[[Row], float | None]
    unit: Literal["count", "share", "micros", "ms"]
    ids: Callable[[Row], Ids]


def _share(part: Callable[[Row], Ids]) -> Callable[[Row], float | None]:
    return lambda row: len(part(row)) / len(row.answers) if row.answers else None


#: The columns, for the command line and the page alike.
MEASURES: Sequence[Measure] = (
    Measure("calls", lambda row: len(row.calls), "count", lambda row: row.calls),
    Measure("spend", lambda row: row.cost_micros, "micros", lambda row: row.paid),
    Measure("own calls", lambda row: row.own_micros, "micros", lambda row: row.calls),
    Measure("completed", lambda row: len(row.completed), "count", lambda row: row.completed),
    Measure(
        "per completed", lambda row: row.cost_per_completed, "micros", lambda row: row.completed
    ),
    Measure("p50", lambda row: percentile(row.latencies_ms, 50), "ms", lambda row: row.completed),
    Measure("p95", lambda row: percentile(row.latencies_ms, 95), "ms", lambda row: row.completed),
    Measure("corrected", lambda row: row.correction_rate, "share", lambda row: row.corrections),
    Measure(
        "by check",
        _share(lambda row: row.corrected["check"]),
        "share",
        lambda row: row.corrected["check"],
    ),
    Measure(
        "by model",
        _share(lambda row: row.corrected["model"]),
        "share",
        lambda row: row.corrected["model"],
    ),
    Measure(
        "by person",
        _share(lambda row: row.corrected["person"]),
        "share",
        lambda row: row.corrected["person"],
    ),
    Measure("escalated", _share(lambda row: row.escalated), "share", lambda row: row.escalated),
    Measure("refused", _share(lambda row: row.refusals), "share", lambda row: row.refusals),
    Measure("abandoned", _share(lambda row: row.abandoned), "share", lambda row: row.abandoned),
    Measure(
        "schema", _share(lambda row: row.schema_failures), "share", lambda row: row.schema_failures
    ),
)


class Alarm(NamedTuple):
    """A figure that somebody should look into."""

    row: Row
    #: The name of the measure.
    measure: str
    words: str


def alarms(rows: Iterable[Row]) -> list[Alarm]:
    """What is wrong with these groups, and what to do about it."""
    found = []
    for row in rows:
        if len(row.answers) < _ENOUGH:
            continue
        name = " at ".join(row.name)
        escalated = len(row.escalated) / len(row.answers)
        by_person = len(row.corrected["person"]) / len(row.answers)
        if escalated >= _MOST_ESCALATED:
            words = (
                f"{escalated:.0%} of the answers of {name} were paid for and not used: mend the "
                f"prompt, or begin a tier higher"
            )
            found.append(Alarm(row, "escalated", words))
        if by_person >= _MOST_BY_PERSON:
            words = (
                f"people fixed {by_person:.0%} of the answers of {name}: tighten its checks or "
                f"raise its threshold"
            )
            found.append(Alarm(row, "by person", words))
    return found


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


def percentile(values: Counter[float], share: float) -> float | None:
    """The nearest-rank percentile of values that were seen so often; None of nothing."""
    rank = -(-values.total() * share // 100)
    for value in sorted(values):
        rank -= values[value]
        if rank <= 0:
            return value
    return None


def values_of(row: Row) -> Mapping[str, float | None]:
    """A group's figures by their names."""
    return {one.name: one.value(row) for one in MEASURES}


def names_of(row: Row, by: Sequence[By]) -> Mapping[str, str]:
    """A group's name as fields."""
    return dict(zip(by, row.name, strict=False))
