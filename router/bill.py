"""Why the bill changed: the difference between two spans of time in steps that add up."""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Line", "Step", "steps_between"]


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


class _Sum:
    """Calls, tokens and cost of one kind."""

    __slots__ = ("calls", "cost", "tokens")

    def __init__(self) -> None:
        self.calls = self.tokens = self.cost = 0


_WORDS = {
    "traffic": "more or fewer requests",
    "retries": "calls for each request: retries, backups, readers, escalations",
    "mix": "other tasks, tiers or models",
    "length": "tokens for each call",
    "price": "price of a token, which falls with cache hits and rises with the share of output",
}


def steps_between(before: Sequence[Line], after: Sequence[Line]) -> list[Step]:
    """What moved the bill from `before` to `after`, one cause at a time in a fixed order.

    Each step changes one factor of requests x calls per request x mix x tokens per call x price per
    token and leaves those behind it as they were, so the steps add up to the difference. A kind of
    call that is new has no former length and price: all of it is mix.
    """
    then, now = _sums(before), _sums(after)
    spent, calls = (sum(getattr(one, name) for one in then.values()) for name in ("cost", "calls"))
    requests = [len({line.request_id for line in lines}) for lines in (before, after)]
    if not calls:
        bills = [0.0, *[float(sum(line.cost_micros for line in after))] * len(_WORDS)]
    else:
        mixed = lengthened = 0.0
        for kind, one in now.items():
            old = then.get(kind, one)
            mixed += one.calls * old.cost / old.calls
            lengthened += one.tokens * old.cost / old.tokens if old.tokens else one.cost
        bills = [
            float(spent),
            spent * requests[1] / requests[0],
            spent * len(after) / calls,
            mixed,
            lengthened,
            float(sum(one.cost for one in now.values())),
        ]
    whole = [round(bill) for bill in bills]
    return [
        Step(name, behind - ahead, words)
        for (name, words), ahead, behind in zip(_WORDS.items(), whole, whole[1:], strict=False)
    ]


def _sums(lines: Sequence[Line]) -> dict[tuple[str, str, str], _Sum]:
    sums: defaultdict[tuple[str, str, str], _Sum] = defaultdict(_Sum)
    for line in lines:
        one = sums[line.kind]
        one.calls += 1
        one.tokens += line.tokens
        one.cost += line.cost_micros
    return dict(sums)
