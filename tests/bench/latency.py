"""From the broker's append on intake to the start of the provider call, at half load."""

import asyncio
import statistics
import time

from consumers.providers import ProviderSettings
from consumers.runtime.clients import Clients
from consumers.runtime.reading import publisher, topic_reader
from consumers.simulator import SimulatorSettings, simulator
from consumers.wiring import load_rules, running_stages
from schemas.attempt import LedgerEntry
from schemas.codec import read_model
from tests.bench.harness import Measured, a_request, settings_for

RATE = 100
SECONDS = 10
RUNS = 3


async def measure_latency(bootstrap: str) -> list[Measured]:
    """p50 and p95 over a steady stream of first attempts."""
    halves, tails = [], []
    for number in range(RUNS):
        waits = await _run(bootstrap, f"latency{number}.")
        cuts = statistics.quantiles(waits, n=20)
        halves.append(statistics.median(waits))
        tails.append(cuts[18])
    return [
        Measured(f"append to call start, {RATE} requests/s, p50", halves, "ms", "<= 25"),
        Measured(f"append to call start, {RATE} requests/s, p95", tails, "ms", "<= 75"),
    ]


async def _run(bootstrap: str, prefix: str) -> list[float]:
    settings = await settings_for(bootstrap, prefix)
    rules, topics = load_rules(settings), settings.kafka.topics
    clients = Clients(settings.kafka)
    async with simulator(SimulatorSettings()) as provider:
        providers = {"simulated": ProviderSettings(base_url=provider.base_url, allow_private=True)}
        async with (
            running_stages(settings, rules, providers),
            publisher(clients) as intake,
            topic_reader(clients, [topics.attempts], at_end=True) as ledger,
        ):
            appended: dict[str, asyncio.Future[object]] = {}
            began = time.perf_counter()
            for number in range(RATE * SECONDS):
                request_id = f"r{number}"
                value = a_request(request_id, task="extraction")
                appended[request_id] = await intake.publish(
                    topics.intake, value, key=request_id.encode()
                )
                ahead = began + (number + 1) / RATE - time.perf_counter()
                if ahead > 0:
                    await asyncio.sleep(ahead)
            waits: dict[str, float] = {}
            async for record in ledger.follow(30):
                entry = read_model(LedgerEntry, record.value)
                if entry.attempt.attempt_no == 1:
                    stamp = await appended[entry.request_id]
                    started = entry.attempt.started_at.timestamp() * 1000
                    waits[entry.request_id] = started - stamp.timestamp  # type: ignore[attr-defined]
                if len(waits) == len(appended):
                    break
    # The first second holds the group's and the connections' beginnings.
    return [wait for request_id, wait in waits.items() if int(request_id[1:]) >= RATE]
