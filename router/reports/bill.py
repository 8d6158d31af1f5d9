"""Why the bill changed: the difference between two spans of time in steps that add up."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

__all__ = ["Line", "Spent", "Step", "steps_between"]


class Line(NamedTuple):
    """One call of the ledger, as far as the bill goes."""

    #: One text for each request, whoever its tenant is.
    request_id: str
    #: Task, tier and model: within one of them calls can be compared.
    kind: tuple[str, str, str]
    tokens: int
    cost_micros: int


class Step(NamedTuple):
    """One cause, and by how many micro-dollars it moved the bill."""

    name: str
    micros: int
    words: str


@dataclass(slots=True)
class _Sum:
    """Calls, tokens and cost of one kind."""

    calls: int = 0
    tokens: int = 0
    cost: int = 0

    def add(self, other: "_Sum") -> None:
        """Take other calls in."""
        self.calls += other.calls
        self.tokens += other.tokens
        self.cost += other.cost


@dataclass(slots=True)
class Spent:
    """What was spent in a span of time, by kind of call."""

    requests: int = 0
    kinds: defaultdict[tuple[str, str, str], _Sum] = field(
        default_factory=lambda: defaultdict(_Sum)
    )

    @classmethod
    def of(cls, lines: Iterable[Line]) -> "Spent":
        """The sums of these calls."""
        spent, requests = cls(), set[str]()
        for line in lines:
            requests.add(line.request_id)
            spent.kinds[line.kind].add(_Sum(1, line.tokens, line.cost_micros))
        spent.requests = len(requests)
        return spent

    def add(self, other: "Spent") -> None:
        """Take the calls of other requests in."""
        self.requests += other.requests
        for kind, one in other.kinds.items():
            self.kinds[kind].add(one)

    @property
    def calls(self) -> int:
        """All calls."""
        return sum(one.calls for one in self.kinds.values())

    @property
    def cost_micros(self) -> int:
        """What they cost, in micro-dollars."""
        return sum(one.cost for one in self.kinds.values())


_WORDS = {
    "traffic": "more or fewer requests",
    "retries": "calls for each request: retries, backups, readers, escalations",
    "mix": "other tasks, tiers or models",
    "length": "tokens for each call",
    "price": "price of a token, which falls with cache hits and rises with the share of output",
}


def steps_between(before: Spent, after: Spent) -> list[Step]:
    """What moved the bill from `before` to `after`, one cause at a time in a fixed order.

    Each step changes one factor of requests x calls per request x mix x tokens per call x price per
    token and leaves those behind it as they were, so the steps add up to the difference. A kind of
    call that is new has no former length and price: all of it is mix.
    """
    spent, calls = before.cost_micros, before.calls
    if not calls:
        bills = [0.0, *[float(after.cost_micros)] * len(_WORDS)]
    else:
        mixed = lengthened = 0.0
        for kind, one in after.kinds.items():
            old = before.kinds.get(kind, one)
            mixed += one.calls * old.cost / old.calls
            lengthened += one.tokens * old.cost / old.tokens if old.tokens else one.cost
        bills = [
            float(spent),
            spent * after.requests / before.requests,
            spent * after.calls / calls,
            mixed,
            lengthened,
            float(after.cost_micros),
        ]
    whole = [round(bill) for bill in bills]
    return [
        Step(name, behind - ahead, words)
        for (name, words), ahead, behind in zip(_WORDS.items(), whole, whole[1:], strict=False)
    ]
