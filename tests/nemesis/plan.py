"""What goes wrong in a run, and when: drawn from one number, the same every time. Pure."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from consumers.failpoints import FAILPOINTS

__all__ = ["KINDS", "Fault", "plan"]

#: How often each kind is drawn, and how long it lasts at least and at most, in seconds.
KINDS = {
    "kill work": (5, 0.5, 3.0),
    "kill route": (2, 0.5, 3.0),
    "end work": (3, 0.5, 3.0),
    "end route": (1, 0.5, 2.0),
    "one more work": (2, 3.0, 6.0),
    "freeze work": (2, 8.0, 10.0),
    "freeze route": (1, 8.0, 10.0),
    "kill counting": (1, 0.5, 3.0),
    "freeze counting": (1, 8.0, 10.0),
    "one more counting": (1, 3.0, 6.0),
    "overtake work": (1, 14.0, 17.0),
    "die at point": (6, 2.0, 5.0),
    "restart broker": (1, 1.0, 4.0),
    "kill broker": (2, 1.0, 12.0),
    "freeze broker": (1, 2.0, 12.0),
    "cut network": (2, 0.5, 8.0),
    "hold network": (2, 0.5, 10.0),
    "hold answers": (2, 0.5, 10.0),
    "slow network": (1, 3.0, 6.0),
    "refuse results": (1, 1.0, 4.0),
    "end work without Kafka": (1, 28.0, 34.0),
}
#: Seconds at the beginning and at the end without a fault.
_CALM = 3.0, 8.0
_GAP = 1.5, 4.0


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong."""

    kind: str
    #: Seconds after the run's beginning.
    at: float
    seconds: float
    #: The failpoint and how often it is passed before it kills, for `die at point`.
    point: str = ""

    def __str__(self) -> str:
        return f"{self.at:6.1f} s  {self.kind} {self.point} ({self.seconds:.1f} s)"


def plan(
    seed: int,
    length: float,
    kinds: Sequence[str] = tuple(KINDS),
    points: Sequence[str] = FAILPOINTS,
) -> tuple[Fault, ...]:
    """The faults of a run of `length` seconds, in order; one at a time."""
    if not kinds:
        return ()
    rolled = random.Random(seed)
    faults: list[Fault] = []
    at = _CALM[0]
    left = rolled.sample(points, len(points))
    while True:
        [kind] = rolled.choices(kinds, [KINDS[name][0] for name in kinds])
        seconds = rolled.uniform(*KINDS[kind][1:])
        if at + seconds > length - _CALM[1]:
            return tuple(faults)
        point = ""
        if kind == "die at point":
            left.insert(0, left.pop())
            point = f"{left[0]}:{rolled.randint(1, 12)}"
        faults.append(Fault(kind, round(at, 1), round(seconds, 1), point))
        at += seconds + rolled.uniform(*_GAP)
