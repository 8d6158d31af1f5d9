"""From the broker's append on intake to the start of the provider call, at half load."""

import asyncio
import contextlib
import statistics
import time
from collections.abc import AsyncIterator, Mapping
from typing import NamedTuple

from consumers import clock
from consumers.providers.settings import ProviderSettings
from consumers.rules import load_rules
from consumers.runtime.clients import Clients
from consumers.runtime.publisher import publisher
from consumers.runtime.topic_reader import TopicReader, topic_reader
from consumers.telemetry.setup import open_telemetry
from consumers.wiring import running_stages
from schemas.attempt import LedgerEntry, announces
from schemas.codec import read_model
from tests.bench.harness import Measured, a_request, settings_for, sized
from tests.bench.work import simulator_process

BURST = sized(4_000, 200)
#: A rate at which two cores have time left.
CALM_RATE = 100.0
SECONDS, WARM_UP_SECONDS = sized(10, 1), sized(2, 1)
RUNS = sized(3, 1)


async def measure_latency(bootstrap: str) -> list[Measured]:
    """p50 and p95 over steady streams of first attempts: a calm one, and half the rate of a burst.

    A burst commits in large groups, a steady stream in small ones, which cost more each: half of a
    burst's rate is more than half of what a machine can do.
    """
    rates: list[float] = []
    streams: dict[str, list[list[Seen]]] = {"at 100 req/s": [], "at half load": []}
    async with simulator_process() as base_url:
        for number in range(RUNS):
            rates.append(await _full_rate(bootstrap, f"full{number}.", base_url) / 2)
            for (name, runs), rate in zip(streams.items(), (CALM_RATE, rates[-1]), strict=True):
                prefix = f"{name.replace(' ', '-').replace('/', '-')}-{number}."
                runs.append(await run_stream(bootstrap, prefix, base_url, rate=rate))
    measured = [
        Measured("half load: requests/s through all stages in one process", rates, "req/s", "-")
    ]
    for name, runs in streams.items():
        halves = [statistics.median(one.wait for one in seen) for seen in runs]
        tails = [statistics.quantiles((one.wait for one in seen), n=20)[18] for seen in runs]
        durable = [statistics.median(one.durable for one in seen) for seen in runs]
        measured += [
            Measured(f"append to call start {name}, p50", halves, "ms", "<= 25"),
            Measured(f"append to call start {name}, p95", tails, "ms", "<= 75"),
            Measured(f"reply read to outcome read back {name}, p50", durable, "ms", "<= 25"),
        ]
    return measured


class Seen(NamedTuple):
    """Milliseconds of one request's first attempt."""

    #: From the append on intake to the start of the call.
    wait: float
    #: From the end of the call to a reader of committed records having its ledger line.
    durable: float


async def run_stream(bootstrap: str, prefix: str, base_url: str, *, rate: float) -> list[Seen]:
    """A steady stream through all stages, once they are warm."""
    async with _running(bootstrap, prefix, base_url) as (clients, ledger):
        await _stream(clients, ledger, "w", int(rate * WARM_UP_SECONDS), rate=rate)
        seen = await _stream(clients, ledger, "r", int(rate * SECONDS), rate=rate)
    return list(seen.values())


async def _full_rate(bootstrap: str, prefix: str, base_url: str) -> float:
    """Requests per second of a burst, from the first publish to the last first attempt."""
    async with _running(bootstrap, prefix, base_url) as (clients, ledger):
        began = time.perf_counter()
        await _stream(clients, ledger, "b", BURST, rate=None)
        return BURST / (time.perf_counter() - began)


@contextlib.asynccontextmanager
async def _running(
    bootstrap: str, prefix: str, base_url: str
) -> AsyncIterator[tuple[Clients, TopicReader]]:
    """All stages in this process, and a reader of their ledger."""
    settings = await settings_for(bootstrap, prefix, width=1_000)
    rules, clients = load_rules(settings), Clients(settings.kafka)
    providers = {"simulated": ProviderSettings(base_url=base_url, allow_private=True)}
    async with contextlib.AsyncExitStack() as stack:
        opened = open_telemetry(settings.telemetry, settings.kafka.topics)
        seen_by = stack.enter_context(opened)
        enter = stack.enter_async_context
        await enter(running_stages(settings, rules, providers, telemetry=seen_by))
        topics = [settings.kafka.topics.attempts]
        yield clients, await enter(topic_reader(clients, topics, at_end=True))


async def _stream(
    clients: Clients, ledger: TopicReader, kind: str, count: int, *, rate: float | None
) -> Mapping[str, Seen]:
    """Publish at a rate, or all at once, and wait for every request's first attempt."""
    intake = clients.settings.topics.intake
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
            if announces(record.value):
                continue
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
