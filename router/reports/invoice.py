"""An invoice beside the ledger: which lines agree, differ, or are on one side alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import NamedTuple

__all__ = ["AMOUNTS", "Amounts", "Booked", "Compared", "Invoice", "LineKey", "compare"]

#: What a line may give an amount of: input and output are tokens, the cost is micro-dollars.
AMOUNTS = ("calls", "input", "output", "micros")
Amounts = dict[str, Decimal]
#: A call's id; or a day and a model, which is empty where an invoice gives days alone.
LineKey = tuple[str, ...]


@dataclass(slots=True)
class Booked:
    """What the lines of one side say of one thing."""

    amounts: Amounts = field(default_factory=dict)
    #: Where an invoice says so.
    places: list[str] = field(default_factory=list)
    #: True where the ledger has an estimate.
    is_estimated: bool = False

    def add(self, amounts: Mapping[str, Decimal | int]) -> None:
        """Add amounts to those that are there."""
        for name, amount in amounts.items():
            self.amounts[name] = self.amounts.get(name, Decimal(0)) + amount


class Invoice(NamedTuple):
    """What an export says."""

    lines: Mapping[LineKey, Booked]
    #: True where each line is a call.
    has_ids: bool
    #: Every day that it names, in order.
    days: Sequence[str]


class Compared(NamedTuple):
    """What both sides say; None where one says nothing."""

    key: LineKey
    invoice: Booked | None
    ledger: Booked | None
    #: By how much the ledger says more, where that is more than the rounding of its calls.
    differences: Amounts

    @property
    def status(self) -> str:
        """What is to be said of it."""
        if self.ledger is None or self.invoice is None:
            return "only the invoice" if self.ledger is None else "only the ledger"
        if not self.differences:
            return "agrees"
        return "was estimated" if self.ledger.is_estimated else "differs"


def compare(
    invoice: Mapping[LineKey, Booked], ledger: Mapping[LineKey, Booked], within: Decimal
) -> list[Compared]:
    """Both sides, line by line, in order; `within`: the micro-dollars by which a line may differ.

    Lines about no tokens and no money are left out: calls that failed cost nothing.
    """
    compared = []
    for key in sorted({*invoice, *ledger}):
        theirs, ours = invoice.get(key), ledger.get(key)
        if any(
            side and any(side.amounts.get(name) for name in AMOUNTS[1:]) for side in (theirs, ours)
        ):
            differences = _differences(theirs, ours, within) if theirs and ours else {}
            compared.append(Compared(key, theirs, ours, differences))
    return compared


def _differences(theirs: Booked, ours: Booked, within: Decimal) -> Amounts:
    differences = {}
    for name in theirs.amounts.keys() & ours.amounts.keys() - {"calls"}:
        more = ours.amounts[name] - theirs.amounts[name]
        # We round the cost of each call up.
        rounding = max(ours.amounts.get("calls", Decimal(0)), Decimal(1))
        is_cost = name == "micros"
        if more and not (is_cost and -within <= more < rounding + within):
            differences[name] = more
    return differences
