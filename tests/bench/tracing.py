"""What traces cost: the route stage without them, at one per cent, and whole."""

import asyncio
import contextlib
import os
import statistics
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator

from consumers.parties import stages_of
from consumers.rules import load_rules
from consumers.runtime.clients import Clients
from consumers.runtime.publisher import publisher
from consumers.settings import Settings
from consumers.telemetry.setup import open_telemetry
from consumers.wiring import running_stages
from tests.bench.harness import (
    Measured,
    a_request,
    committed,
    fill,
    settings_for,
    settled,
    sized,
    until,
)
from tests.bench.latency import run_stream
from tests.bench.route import COUNT
from tests.bench.work import simulator_process

__all__ = ["measure_tracing"]

RUNS = sized(3, 1)
#: Spans of one request in the route stage: processed, routed, sent.
_SPANS = 3
_RATE, _SECONDS = sized(1_000, 100), sized(10, 1)
_CALM_RATE = 100.0
_NOBODY = "http://127.0.0.1:9"

_ROUTE = stages_of("route")


async def measure_tracing(bootstrap: str) -> list[Measured]:
    """Records per second at three shares, run by run in turn, and the spans that arrive."""
    rates: dict[str, list[float]] = {"off": [], "0.01": [], "1.0": []}
    cpu: dict[str, list[float]] = {"off": [], "0.01": [], "1.0": []}
    async with _backend() as url:
        for number in range(RUNS):
            for share, found in rates.items():
                settings = await settings_for(bootstrap, f"tracing{share}-{number}.")
                await fill(settings, settings.kafka.topics.intake, COUNT)
                rate, seconds = await _route(settings, url, share)
                found.append(rate)
                cpu[share].append(seconds)
        lost = [float(await _paced(bootstrap, url))]
    slower = await _with_trouble(bootstrap)
    off = rates["off"]
    spans = [
        (full - none) / (COUNT * _SPANS) * 1e6
        for full, none in zip(cpu["1.0"], cpu["off"], strict=True)
    ]
    few = [one / other for one, other in zip(rates["0.01"], off, strict=True)]
    spent = [one / other for one, other in zip(cpu["off"], cpu["0.01"], strict=True)]
    every = [one / other for one, other in zip(rates["1.0"], off, strict=True)]
    return [
        Measured("route stage without traces and metrics", off, "records/s", "-"),
        Measured("route stage, 1 % of traces kept / none", few, "", ">= 0.95"),
        Measured("route stage's CPU, none / 1 % of traces kept", spent, "", ">= 0.95"),
        Measured("route stage, every trace kept / none", every, "", "-"),
        Measured("CPU of a span, encoded and sent", spans, "us", "-"),
        Measured(f"spans lost at {_RATE} requests/s, every trace kept", lost, "spans", "0"),
        *(
            Measured(f"p95 of append to call, backend {trouble} / alive", ratios, "", "<= 1.05")
            for trouble, ratios in slower.items()
        ),
    ]


async def _with_trouble(bootstrap: str) -> dict[str, list[float]]:
    """How much slower requests are while the backend is away or hangs, at a modest rate."""
    found: dict[str, list[float]] = {"away": [], "hanging": []}
    async with simulator_process() as base_url, _backend() as url, _backend("hang") as hanging:
        for number in range(RUNS):
            p95 = {}
            for trouble, where in (("alive", url), ("away", _NOBODY), ("hanging", hanging)):
                with _exporting(where, "1.0"):
                    prefix = f"trouble-{trouble}{number}."
                    seen = await run_stream(bootstrap, prefix, base_url, rate=_CALM_RATE)
                p95[trouble] = statistics.quantiles([one.wait for one in seen], n=20)[18]
            for trouble, ratios in found.items():
                ratios.append(p95[trouble] / p95["alive"])
    return found


async def _route(settings: Settings, url: str, share: str) -> tuple[float, float]:
    """Records per second and the process's CPU seconds, those of the exporter included."""
    rules, intake = load_rules(settings), settings.kafka.topics.intake
    with _exporting(url, share), open_telemetry(settings.telemetry, settings.kafka.topics) as seen:
        async with running_stages(settings, rules, {}, kinds=_ROUTE, telemetry=seen) as (stage,):
            began, cpu, already = time.perf_counter(), time.process_time(), committed(stage, intake)
            await until(lambda: committed(stage, intake) >= COUNT)
            took = time.perf_counter() - began
    return (COUNT - already) / took, time.process_time() - cpu


async def _paced(bootstrap: str, url: str) -> int:
    """Spans that a steady stream made and the backend did not get."""
    settings = await settings_for(bootstrap, "tracing-paced.")
    rules, intake = load_rules(settings), settings.kafka.topics.intake
    count = _RATE * _SECONDS
    before = await _received(url)
    with _exporting(url, "1.0"), open_telemetry(settings.telemetry, settings.kafka.topics) as seen:
        async with (
            running_stages(settings, rules, {}, kinds=_ROUTE, telemetry=seen) as (stage,),
            publisher(Clients(settings.kafka)) as topic,
        ):
            began = time.perf_counter()
            for number in range(count):
                value = a_request(f"r{number}")
                _ = await topic.publish(intake, value, key=b"k%d" % number)
                ahead = began + (number + 1) / _RATE - time.perf_counter()
                await asyncio.sleep(max(ahead, 0))
            await until(lambda: settled(stage, intake) >= count)
    return count * _SPANS - (await _received(url) - before)


@contextlib.contextmanager
def _exporting(url: str, share: str) -> Iterator[None]:
    if share == "off":
        yield
        return
    chosen = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": url,
        "OTEL_TRACES_SAMPLER": "traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": share,
    }
    os.environ.update(chosen)
    try:
        yield
    finally:
        for name in chosen:
            del os.environ[name]


@contextlib.asynccontextmanager
async def _backend(*manner: str) -> AsyncIterator[str]:
    """A backend in a process of its own, which counts spans, or hangs."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.telemetry.sink", *manner), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        yield (await process.stdout.readline()).decode().strip()
    finally:
        process.terminate()
        await process.wait()


async def _received(url: str) -> int:
    def ask() -> int:
        with urllib.request.urlopen(f"{url}/count", timeout=60) as answer:
            return int(answer.read())

    return await asyncio.to_thread(ask)
