"""A worker at a thousand calls in flight, against a bare loop on the same HTTP client."""

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import orjson
from httpx_aiohttp import AiohttpTransport

from consumers.parties import stages_of
from consumers.providers.settings import ProviderSettings
from consumers.rules import load_rules
from consumers.runtime.clients import Clients
from consumers.runtime.topic_reader import topic_reader
from consumers.settings import Settings
from consumers.wiring import running_stages
from router.releases.bundle import Bundle
from schemas.attempt import announces
from schemas.base import Tier
from tests.bench.harness import (
    Measured,
    committed,
    fill,
    settings_for,
    settled,
    sized,
    until,
)

COUNT = sized(16_000, 400)
IN_FLIGHT = sized(1_000, 50)
RUNS = sized(3, 1)
#: The simulated small model answers after about 60 ms; this makes 200 of it.
LATENCY_SCALE = 200 / 60
_TASK = "extraction"


async def measure_work(bootstrap: str) -> list[Measured]:
    """Calls per second, calls in flight, memory."""
    bare, ours, flight = [], [], []
    async with simulator_process() as base_url:
        for number in range(RUNS):
            settings = await settings_for(bootstrap, f"work{number}.", width=IN_FLIGHT + 200)
            rules = load_rules(settings)
            await route_all(settings, rules)
            bodies = [_body(one) for one in range(2_000)]
            bare.append(await _bare_loop(base_url, bodies))
            rate, most, _ = await run_worker(settings, rules, base_url)
            ours.append(rate)
            flight.append(most)
        settings = await settings_for(bootstrap, "alone.", width=IN_FLIGHT + 200)
        await route_all(settings, load_rules(settings))
        memory = [await _alone(settings, base_url)]
    ratios = [one / other for one, other in zip(ours, bare, strict=True)]
    return [
        Measured("worker, provider latency 200 ms", ours, "calls/s", "-"),
        Measured("bare loop, same client, same latency", bare, "calls/s", "-"),
        Measured("worker / bare loop", ratios, "", ">= 0.8"),
        Measured("calls in flight, most seen", flight, "calls", ">= 1000"),
        Measured("memory of a worker process at as many calls in flight", memory, "MiB", "< 200"),
    ]


async def route_all(settings: Settings, rules: Bundle) -> None:
    """Fill the low tier's topic with as many assignments as a run takes."""
    await fill(settings, settings.kafka.topics.intake, COUNT, task=_TASK)
    async with running_stages(settings, rules, {}, kinds=stages_of("route")) as (stage,):
        await until(lambda: committed(stage, settings.kafka.topics.intake) >= COUNT)


async def run_worker(
    settings: Settings, rules: Bundle, base_url: str
) -> tuple[float, float, float]:
    """Calls per second, the most calls seen in flight, and calls per second of CPU."""
    topic = settings.kafka.topics.tier(Tier.LOW)
    providers = {"simulated": ProviderSettings(base_url=base_url, allow_private=True)}
    most = 0
    async with running_stages(settings, rules, providers, kinds=stages_of("work", [Tier.LOW])) as (
        stage,
    ):
        began, already, cpu = time.perf_counter(), settled(stage, topic), time.process_time()

        def is_done() -> bool:
            nonlocal most
            most = max(most, stage.running)
            return settled(stage, topic) >= COUNT * 0.95

        await until(is_done)
        # The last records run out of company; the rate is that of the full pool.
        calls = settled(stage, topic) - already
        rate, used = calls / (time.perf_counter() - began), time.process_time() - cpu
    return rate, most, calls / used


async def _bare_loop(base_url: str, bodies: list[bytes]) -> float:
    left = iter(range(COUNT // 2))
    headers = {"content-type": "application/json", "authorization": "Bearer none"}
    transport = AiohttpTransport(
        limits=httpx.Limits(max_connections=2_000, max_keepalive_connections=2_000)
    )
    async with httpx.AsyncClient(transport=transport, timeout=30, headers=headers) as client:

        async def caller() -> None:
            for number in left:
                body = bodies[number % len(bodies)]
                reply = await client.post(f"{base_url}/chat/completions", content=body)
                orjson.loads(reply.content)

        began = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(IN_FLIGHT):
                tasks.create_task(caller())
        return (COUNT // 2) / (time.perf_counter() - began)


def _body(number: int) -> bytes:
    text = f"Order AB-{number} for Jane Doe arrived on 2026-03-01 in Leeds. " * 12
    messages = [{"role": "system", "content": "Extract. " * 60}, {"role": "user", "content": text}]
    return orjson.dumps({"model": "sim-small", "messages": messages, "max_tokens": 1024})


@contextlib.asynccontextmanager
async def simulator_process() -> AsyncIterator[str]:
    """The simulated provider in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("tierline")),
        "simulate",
        "--port",
        "0",
        "--latency-scale",
        str(LATENCY_SCALE),
        stdout=asyncio.subprocess.PIPE,
        env={"PATH": "/usr/bin:/bin", "PYTHONUNBUFFERED": "1", "HOME": str(Path.home())},
    )
    if process.stdout is None:
        raise RuntimeError
    line = (await process.stdout.readline()).decode()
    try:
        yield next(_urls(line))
    finally:
        process.terminate()
        await process.wait()


def _urls(line: str) -> Iterator[str]:
    return (word.rstrip(";") for word in line.split() if word.startswith("http"))


async def _alone(settings: Settings, base_url: str) -> float:
    """Mebibytes resident in a worker process of its own that has gone over a full topic."""
    kafka = settings.kafka
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("tierline")),
        *("up", "--only", "work", "--tier", "low"),
        stdout=asyncio.subprocess.DEVNULL,
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(Path.home()),
            "TIERLINE_KAFKA__BOOTSTRAP": kafka.bootstrap or "",
            "TIERLINE_KAFKA__PREFIX": kafka.prefix,
            "TIERLINE_WORKER__WIDTH": str(settings.worker.width),
            "TIERLINE_PROVIDERS__SIMULATED__BASE_URL": base_url,
            "TIERLINE_PROVIDERS__SIMULATED__ALLOW_PRIVATE": "true",
        },
    )
    try:
        async with topic_reader(Clients(kafka), [kafka.topics.attempts]) as ledger:
            left = COUNT
            async for record in ledger.follow(60):
                left -= not announces(record.value)
                if left == 0:
                    break
        shown = await asyncio.create_subprocess_exec(
            *("ps", "-o", "rss=", "-p", str(process.pid)), stdout=asyncio.subprocess.PIPE
        )
        said, _ = await shown.communicate()
        return int(said) / 1024
    finally:
        process.terminate()
        await process.wait()
