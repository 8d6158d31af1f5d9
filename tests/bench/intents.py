"""What it costs that every call is announced in the ledger before it leaves, in one run."""

import asyncio
import random
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from consumers import clock
from consumers.rules import load_rules
from consumers.runtime.clients import Clients
from consumers.runtime.ledger import Ledger
from consumers.stages.attempts import AttemptRunner
from router.attempt.answering import ledger_lines
from schemas.codec import Outgoing, dump
from schemas.usage import Usage
from tests.bench.harness import Measured, settings_for, sized
from tests.bench.work import IN_FLIGHT, RUNS, route_all, run_worker, simulator_process
from tests.builders import a_request, an_assignment, an_attempt

__all__ = ["measure_intents"]

#: A quiet load: so many calls, and so many a second.
_CALLS, _RATE = sized(1_000, 30), 100


async def measure_intents(bootstrap: str) -> list[Measured]:
    """Milliseconds until an announcement is acknowledged, and what is left of a worker's rate."""
    rates: dict[bool, list[float]] = {True: [], False: []}
    loaded: list[float] = []
    async with simulator_process() as base_url:
        for number in range(RUNS):
            for announces in (True, False) if number % 2 else (False, True):
                prefix = f"intents{number}{announces}.".lower()
                settings = await settings_for(bootstrap, prefix, width=IN_FLIGHT + 200)
                rules, waits = load_rules(settings), list[float]()
                await route_all(settings, rules)
                with _timed(waits) if announces else _unannounced():
                    rate, _, _ = await run_worker(settings, rules, base_url)
                rates[announces].append(rate)
                if announces:
                    loaded.append(statistics.median(waits))
    quiet = await _quiet(bootstrap)
    kept = [one / other for one, other in zip(rates[True], rates[False], strict=True)]
    return [
        Measured("announced calls, worker at full load", rates[True], "calls/s", "-"),
        Measured("the same without announcements", rates[False], "calls/s", "-"),
        Measured("announced / not announced", kept, "", ">= 0.9"),
        Measured("an announcement at full load, p50", loaded, "ms", "-"),
        Measured(f"an announcement at {_RATE} calls/s, p50", quiet, "ms", "<= 3"),
    ]


async def _quiet(bootstrap: str) -> list[float]:
    settings = await settings_for(bootstrap, "quiet.")
    waits = list[float]()
    async with Ledger(Clients(settings.kafka)).open() as ledger, asyncio.TaskGroup() as tasks:
        with _timed(waits):
            for number in range(_CALLS):
                tasks.create_task(ledger.note(number % settings.kafka.partitions, _line(number)))
                await asyncio.sleep(random.expovariate(_RATE))
            await asyncio.sleep(1)
    return [statistics.median(waits)]


def _line(number: int) -> Outgoing:
    attempt = an_attempt(
        attempt_id=f"call-{number}.1.1",
        outcome="started",
        reason=None,
        started_at=clock.now(),
        usage=Usage(input_tokens=100, output_tokens=1_000, estimated=True),
        reserve_micros=500,
        is_estimated=True,
    )
    [line] = ledger_lines(an_assignment(id=f"call-{number}"), a_request(), [attempt])
    return Outgoing("quiet.llm.attempts", f"call-{number}".encode(), dump(line))


@contextmanager
def _timed(waits: list[float]) -> Iterator[None]:
    """Note how many milliseconds each announcement takes."""
    note = Ledger.note

    async def timed(ledger: Ledger, partition: int, line: Outgoing) -> bool:
        began = time.perf_counter()
        is_noted = await note(ledger, partition, line)
        waits.append((time.perf_counter() - began) * 1000)
        return is_noted

    with _replaced(Ledger, "note", timed):
        yield


@contextmanager
def _unannounced() -> Iterator[None]:
    """Let calls leave as they did before they were announced."""

    async def may_start(*_: object) -> bool:
        return True

    with _replaced(AttemptRunner, "_may_start", may_start):
        yield


@contextmanager
def _replaced(owner: type[Any], name: str, method: Any) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, method)
    try:
        yield
    finally:
        setattr(owner, name, before)
