"""The cost of a value under a schema: of its validation, and of its errors in words."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from schemas.json_numbers import Digits

__all__ = ["BUDGET", "BYTES", "REPEATED_BYTES", "Costs"]

#: Units that one validation may cost; a unit is at most a tenth of a microsecond, as measured.
BUDGET = 120_000
#: Bytes of a string that cost as much as one more value.
BYTES = 32
#: The library makes all errors at once, each with a copy of the value that it is about: three units
#: for each copied value, and for the error itself as much as for 20 values.
_COPY, _ERROR = 3, 20
#: Bytes of the schema repeated in an error that cost as much as one more error.
REPEATED_BYTES = _ERROR * BYTES


@dataclass(frozen=True, slots=True)
class Costs:
    """The costs of validations under one schema."""

    #: The most units that one value costs, by its level; the last is for all deeper levels.
    weights: tuple[int, ...]
    #: The most errors that one value may have, in the same way.
    errors: tuple[int, ...]
    #: False where the weights may grow further with each level.
    is_live: bool
    has_unique: bool = False
    #: Each name in an object may have an error, with a copy of the object.
    has_names: bool = False
    #: The largest share of any limit on schemas that it uses, 0 to 1.
    part: float = 0.0

    def of(self, value: Any) -> tuple[int, bool]:
        """Units of a validation, and whether the budget also covers naming the rules it breaks.

        Stops at more than the budget, so that this takes no longer than what it guards.
        """
        work, depth, odd = 0, 0, 0
        level: list[Any] = [value]
        heaviest = max(self.weights)
        #: By level: how many values there are, and their size.
        levels: list[tuple[int, int]] = []
        while level:
            if depth < len(self.weights):
                weight = self.weights[depth]
            elif self.is_live:
                weight = self.weights[-1]
            else:
                return BUDGET + 1, False
            below: list[Any] = []
            size = len(level)
            for item in level:
                kind = type(item)
                if kind is str:
                    size += len(item) // (BYTES // 4 if not item.isascii() else BYTES)
                elif kind is dict:
                    below.extend(item.values())
                    below.extend(item)  # names are tested too
                elif kind is list:
                    below.extend(item)
                elif self.has_unique and (
                    kind in (float, Digits) or (kind is int and not -(1 << 53) < item < 1 << 53)
                ):
                    odd += 1
            # Each value is also visited once, here and by the library.
            work += size * weight + size
            if work > BUDGET:
                return work, False
            levels.append((len(level), size))
            level, depth = below, depth + 1
        # Numbers beyond 53 bits collide where the library looks for equal items.
        work += odd * odd * heaviest // 2
        return work, work <= BUDGET and self._errors(levels) <= BUDGET

    def _errors(self, levels: Sequence[tuple[int, int]]) -> int:
        """Units of all errors that are possible: at each value, with copies of what is in it."""
        units = below = 0
        for depth in reversed(range(len(levels))):
            count, size = levels[depth]
            below += size
            errors = self.errors[min(depth, len(self.errors) - 1)]
            units += errors * (count * _ERROR + below) * _COPY
        return units + (below * below * _COPY if self.has_names else 0)
