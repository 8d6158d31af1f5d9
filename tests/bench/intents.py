"""What it costs that every call is announced in the ledger before it leaves, in one run."""

import asyncio
import random
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

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

#: So many calls, at so many a second.
_CALLS, _RATES = sized(2_000, 30), (100, 1_000)


async def measure_intents(bootstrap: str) -> list[Measured]:
    """Milliseconds until an announcement is acknowledged, and what is left of a worker's rate."""
    rates: dict[bool, list[float]] = {True: [], False: []}
    by_cpu: dict[bool, list[float]] = {True: [], False: []}
    async with simulator_process() as base_url:
        for number in range(RUNS):
            for announces in (True, False) if number % 2 else (False, True):
                prefix = f"intents{number}{announces}.".lower()
                settings = await settings_for(bootstrap, prefix, width=IN_FLIGHT + 200)
                rules = load_rules(settings)
                await route_all(settings, rules)
                with nullcontext() if announces else _unannounced():
                    rate, _, per_cpu = await run_worker(settings, rules, base_url)
                rates[announces].append(rate)
                by_cpu[announces].append(per_cpu)
    waits = {rate: await _paced(bootstrap, rate) for rate in _RATES}
    kept, kept_by_cpu = (
        [one / other for one, other in zip(measured[True], measured[False], strict=True)]
        for measured in (rates, by_cpu)
    )
    return [
        Measured("announced calls, worker at full load", rates[True], "calls/s", "-"),
        Measured("the same without announcements", rates[False], "calls/s", "-"),
        Measured("announced / not announced", kept, "", ">= 0.9"),
        Measured("the same by calls per second of CPU", kept_by_cpu, "", ">= 0.9"),
        *(
            Measured(f"an announcement at {rate} calls/s, p50", wait, "ms", "<= 3")
            for rate, wait in waits.items()
        ),
    ]


async def _paced(bootstrap: str, rate: float) -> list[float]:
    """Milliseconds of the median call, of calls that come by themselves."""
    settings, waits = await settings_for(bootstrap, f"paced{rate}."), list[float]()
    topic = settings.kafka.topics.attempts
    async with Ledger(Clients(settings.kafka)).open() as ledger, asyncio.TaskGroup() as tasks:

        async def call(number: int) -> None:
            began = time.perf_counter()
            await ledger.note(number % settings.kafka.partitions, _line(number, topic))
            waits.append((time.perf_counter() - began) * 1000)

        due = time.perf_counter()
        for number in range(_CALLS):
            due += random.expovariate(rate)
            await asyncio.sleep(max(due - time.perf_counter(), 0))
            tasks.create_task(call(number))
    return [statistics.median(waits)]


def _line(number: int, topic: str) -> Outgoing:
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
    return Outgoing(topic, f"call-{number}".encode(), dump(line))


@contextmanager
def _unannounced() -> Iterator[None]:
    """Let calls leave as they did before they were announced."""

    async def may_start(*_: object) -> bool:
        return True

    before = AttemptRunner._may_start  # a switch for this measurement alone
    AttemptRunner._may_start = may_start  # type: ignore[assignment]
    try:
        yield
    finally:
        AttemptRunner._may_start = before  # type: ignore[method-assign]
