"""From the broker's append on intake to the start of the provider call, at half load."""

import asyncio
import contextlib
import statistics
import time
from collections.abc import Mapping
from typing import NamedTuple

from consumers import clock
from consumers.providers import ProviderSettings
from consumers.runtime.clients import Clients
from consumers.runtime.reading import TopicReader, publisher, topic_reader
from consumers.telemetry.setup import open_telemetry
from consumers.wiring import load_rules, running_stages
from schemas.attempt import LedgerEntry
from schemas.codec import read_model
from tests.bench.harness import Measured, a_request, settings_for
from tests.bench.work import simulator_process

BURST = 4_000
SECONDS = 10
RUNS = 3


async def measure_latency(bootstrap: str) -> list[Measured]:
    """p50 and p95 over a steady stream of first attempts, at half the rate of a burst."""
    rates, halves, tails, durable = [], [], [], []
    async with simulator_process() as base_url:
        for number in range(RUNS):
            rate, seen = await run_stream(bootstrap, f"latency{number}.", base_url)
            waits = [one.wait for one in seen]
            cuts = statistics.quantiles(waits, n=20)
            durable.append(statistics.median(one.durable for one in seen))
            rates.append(rate)
            halves.append(statistics.median(waits))
            tails.append(cuts[18])
    return [
        Measured("half load: requests/s through all stages in one process", rates, "req/s", "-"),
        Measured("append to call start at half load, p50", halves, "ms", "<= 25"),
        Measured("append to call start at half load, p95", tails, "ms", "<= 75"),
        Measured("reply read to outcome read back at half load, p50", durable, "ms", "<= 25"),
    ]


class Seen(NamedTuple):
    """Milliseconds of one request's first attempt."""

    #: From the append on intake to the start of the call.
    wait: float
    #: From the end of the call to a reader of committed records having its ledger line.
    durable: float


async def run_stream(
    bootstrap: str, prefix: str, base_url: str, *, rate: float | None = None
) -> tuple[float, list[Seen]]:
    """A steady stream through all stages, at a rate or at half of what they can do."""
    settings = await settings_for(bootstrap, prefix, width=1_000)
    rules, clients = load_rules(settings), Clients(settings.kafka)
    providers = {"simulated": ProviderSettings(base_url=base_url, allow_private=True)}
    async with contextlib.AsyncExitStack() as stack:
        opened = open_telemetry(settings.telemetry, settings.kafka.topics)
        seen_by = stack.enter_context(opened)
        enter = stack.enter_async_context
        await enter(running_stages(settings, rules, providers, telemetry=seen_by))
        topics = [settings.kafka.topics.attempts]
        ledger = await enter(topic_reader(clients, topics, at_end=True))
        burst = BURST if rate is None else BURST // 10
        began = time.perf_counter()
        await _stream(clients, settings.kafka.topics.intake, ledger, "b", burst, rate=None)
        rate = rate or burst / (time.perf_counter() - began) / 2
        count = int(rate * SECONDS)
        seen = await _stream(clients, settings.kafka.topics.intake, ledger, "r", count, rate=rate)
    return rate, list(seen.values())


async def _stream(
    clients: Clients, intake: str, ledger: TopicReader, kind: str, count: int, *, rate: float | None
) -> Mapping[str, Seen]:
    """Publish at a rate, or all at once, and wait for every request's first attempt."""
    seen: dict[str, Seen] = {}
    appended: dict[str, asyncio.Future[object]] = {}

    async def publish() -> None:
        async with publisher(clients) as topic:
            began = time.perf_counter()
            for number in range(count):
                request_id = f"{kind}{number}"
                value = a_request(request_id, task="extraction")
                appended[request_id] = await topic.publish(intake, value, key=request_id.encode())
                ahead = began + (number + 1) / rate - time.perf_counter() if rate else 0
                if ahead > 0:
                    await asyncio.sleep(ahead)
            await asyncio.gather(*appended.values())

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(publish())
        async for record in ledger.follow(60):
            entry = read_model(LedgerEntry, record.value)
            if entry.attempt.attempt_no == 1:
                stamp = await appended[entry.request_id]
                started = entry.attempt.started_at.timestamp() * 1000
                ended = started + entry.attempt.duration_ms
                seen[entry.request_id] = Seen(
                    started - stamp.timestamp,  # type: ignore[attr-defined]
                    clock.now().timestamp() * 1000 - ended,
                )
            if len(seen) == count:
                break
    return seen
