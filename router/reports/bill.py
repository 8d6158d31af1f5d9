"""Why the bill changed: the difference between two spans of time as steps that add up to it."""

from collections.abc import Sequence
from typing import NamedTuple

from router.reports.measures import Row

__all__ = ["Step", "steps_between"]


class Step(NamedTuple):
    """One cause, and by how many micro-dollars it moved the bill."""

    name: str
    micros: int
    words: str


_WORDS = {
    "traffic": "more or fewer requests",
    "retries": "calls for each request: retries, backups, readers, escalations",
    "mix": "other tasks, tiers or models",
    "length": "tokens for each call",
    "price": "price of a token, which falls with cache hits and rises with the share of output",
}


def steps_between(before: Sequence[Row], after: Sequence[Row]) -> list[Step]:
    """What moved the bill from `before` to `after`, one cause at a time in a fixed order.

    Both have a row for each task, tier and model, so that like calls are compared. The bill is
    requests x calls per request x mix x tokens per call x price per token. Each step changes one
    factor and leaves the later ones as they were, so the steps add up to the difference. A new kind
    of call has no former length and price: all of it counts as mix.
    """
    old, new = _sum(before), _sum(after)
    if not old.calls:
        bills = [0.0, *[float(new.own_micros)] * len(_WORDS)]
    else:
        earlier = {row.name: row for row in before}
        mixed = lengthened = 0.0
        for row in after:
            former = earlier.get(row.name, row)
            mixed += row.calls * former.own_micros / former.calls
            lengthened += (
                row.tokens * former.own_micros / former.tokens if former.tokens else row.own_micros
            )
        # A request whose first call was before both spans counts in neither.
        requests = new.requests / old.requests if old.requests else 1.0
        bills = [
            float(old.own_micros),
            old.own_micros * requests,
            old.own_micros * new.calls / old.calls,
            mixed,
            lengthened,
            float(new.own_micros),
        ]
    whole = [round(bill) for bill in bills]
    return [
        Step(name, behind - ahead, words)
        for (name, words), ahead, behind in zip(_WORDS.items(), whole, whole[1:], strict=False)
    ]


def _sum(rows: Sequence[Row]) -> Row:
    total = Row(("total",))
    for row in rows:
        total.add(row)
    return total
