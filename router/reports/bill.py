"""Why the bill changed: the difference between two spans of time as steps that add up to it."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from router.reports.measures import Row

__all__ = ["Mover", "Step", "movers_between", "steps_between"]


class Step(NamedTuple):
    """One cause, and by how many micro-dollars it moved the bill."""

    name: str
    micros: int
    words: str
    #: The factor before and now, as people read it.
    factor: tuple[str, str]


class Mover(NamedTuple):
    """A task at a tier with a model, and what its calls cost before and now, in micro-dollars."""

    name: tuple[str, ...]
    before: int
    now: int

    @property
    def micros(self) -> int:
        """By how much it moved the bill."""
        return self.now - self.before


_WORDS = {
    "traffic": "more or fewer requests",
    "retries": "calls for each request: retries, backups, readers, escalations",
    "mix": "other tasks, tiers or models",
    "length": "tokens for each call",
    "price": "price of a million tokens: less with cache hits, more with the share of output",
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
    factors = zip(_factors(old).values(), _factors(new).values(), strict=True)
    return [
        Step(name, behind - ahead, words, factor)
        for (name, words), ahead, behind, factor in zip(
            _WORDS.items(), whole, whole[1:], factors, strict=False
        )
    ]


def movers_between(before: Sequence[Row], after: Sequence[Row], most: int) -> list[Mover]:
    """The kinds of calls that moved the bill most; the one that moved it most is the first."""
    former, latter = ({row.name: row.own_micros for row in rows} for rows in (before, after))
    movers = [Mover(name, former.get(name, 0), latter.get(name, 0)) for name in former | latter]
    moved = [mover for mover in movers if mover.micros]
    return sorted(moved, key=lambda mover: (-abs(mover.micros), mover.name))[:most]


def _factors(row: Row) -> Mapping[str, str]:
    """What the bill is a product of; the mix has no number."""

    def ratio(over: int, under: int, digits: int) -> str:
        return f"{over / under:,.{digits}f}" if under else "-"

    return {
        "traffic": f"{row.requests:,}",
        "retries": ratio(row.calls, row.requests, 2),
        "mix": "",
        "length": ratio(row.tokens, row.calls, 0),
        # Micro-dollars a token are dollars a million tokens.
        "price": f"${ratio(row.own_micros, row.tokens, 2)}" if row.tokens else "-",
    }


def _sum(rows: Sequence[Row]) -> Row:
    total = Row(("total",))
    for row in rows:
        total.add(row)
    return total
