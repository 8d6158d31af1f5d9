"""How many decisions a second a book makes that has many live keys, in one process."""

import time
from collections.abc import Iterator
from datetime import timedelta

from consumers import clock
from consumers.runtime.keyed_state import StatePart
from router.money.book import Book, Reserved, Wanted
from router.policy.caps import Cap, Facts, NamedCap
from schemas.base import Tier
from tests.bench.harness import Measured, sized

__all__ = ["measure_book"]

RUNS = sized(5, 1)
KEYS = sized(100_000, 500)
DECISIONS = sized(20_000, 100)
_EACH = {"per": "day", "zone": "Europe/Berlin", "dollars": 100, "because": "bench"}
_CAPS = (
    NamedCap("user", Cap.model_validate({**_EACH, "scope": ["user"], "at_cap": "refuse"})),
    NamedCap("tenant", Cap.model_validate({**_EACH, "scope": ["tenant"], "at_cap": "hold"})),
)


def measure_book() -> Iterator[str]:
    """Reservations, each with its settlement, in two caps of a policy with 100,000 live users."""
    state, now = StatePart({}), clock.now()
    deadline = now + timedelta(minutes=15)
    for number in range(KEYS):
        _reserve(state, number, _CAPS[:1], deadline)
        Book(state).settle(f"r{number}", 1, 1, now)
    state.keep()
    rates, sweeps = [], []
    for _ in range(RUNS):
        began = time.perf_counter()
        for number in range(DECISIONS):
            _reserve(state, number * 7 % KEYS, _CAPS, deadline)
            state.keep()
            Book(state).settle(f"r{number * 7 % KEYS}", 1, 1, now)
            state.keep()
        rates.append(DECISIONS / (time.perf_counter() - began))
        _reserve(state, 0, _CAPS, now)
        began = time.perf_counter()
        Book(state).expire(deadline)
        sweeps.append((time.perf_counter() - began) * 1e3)
    name = f"reservations and settlements, {KEYS} live keys, two caps"
    yield Measured(name, rates, "/s", ">= 5000 for admit").row()
    yield Measured(f"ending what is over among {KEYS} live keys", sweeps, "ms", "-").row()


def _reserve(state: StatePart, number: int, caps: tuple[NamedCap, ...], deadline) -> None:
    facts = Facts(f"t{number % 50}", "standard", Tier.LOW, f"q{number}", f"u{number}")
    wanted = Wanted(100, 600, 1_000, 6_000)
    outcome = Book(state).reserve(caps, facts, wanted, f"r{number}", deadline, clock.now())
    assert isinstance(outcome, Reserved)
