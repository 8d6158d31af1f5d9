"""From a broker that is back after a kill to the first new result."""

import asyncio
import contextlib
import os
import signal
import tempfile
import time
from pathlib import Path

from consumers.lab.broker import LocalBroker, local_broker
from consumers.lab.broker.local import free_ports
from consumers.providers.settings import ProviderSettings
from consumers.rules import load_rules
from consumers.runtime.clients import Clients
from consumers.runtime.publisher import publisher
from consumers.runtime.topic_reader import topic_reader
from consumers.settings import Settings
from consumers.wiring import running_stages
from tests.bench.harness import Measured, a_request, settings_for, sized
from tests.bench.work import simulator_process

__all__ = ["measure_recovery"]

RUNS = sized(3, 1)
_LOAD = sized(2_000, 100)
_AWAY_SECONDS = 3.0


async def measure_recovery(_: str) -> list[Measured]:
    """Seconds, with calls in flight when the broker is killed; a broker of its own."""
    took = []
    async with simulator_process() as base_url, contextlib.AsyncExitStack() as brokers:
        with tempfile.TemporaryDirectory(prefix="tierline-recovery-") as folder:
            port = free_ports()[0]

            async def start() -> LocalBroker:
                return await brokers.enter_async_context(
                    local_broker(data_dir=Path(folder), port=port)
                )

            broker = await start()
            settings = await settings_for(broker.bootstrap, "recovery.")
            providers = {"simulated": ProviderSettings(base_url=base_url, allow_private=True)}
            async with running_stages(settings, load_rules(settings), providers):
                for number in range(RUNS):
                    await _publish(settings, f"load{number}-", _LOAD)
                    os.kill(broker.pid, signal.SIGKILL)
                    await brokers.aclose()
                    await asyncio.sleep(_AWAY_SECONDS)
                    broker = await start()
                    took.append(await _first_result(settings, f"new{number}-"))
    return [Measured("broker back after a kill to the first new result", took, "s", "<= 30")]


async def _publish(settings: Settings, name: str, count: int) -> None:
    async with publisher(Clients(settings.kafka)) as topic:
        for number in range(count):
            value = a_request(f"{name}{number}", task="extraction")
            _ = await topic.publish(settings.kafka.topics.intake, value, key=b"k%d" % number)


async def _first_result(settings: Settings, name: str) -> float:
    began = time.perf_counter()
    topics = settings.kafka.topics
    async with topic_reader(Clients(settings.kafka), [topics.results], at_end=True) as results:
        await _publish(settings, name, 8)
        async for record in results.follow(120):
            if f'"id":"{name}'.encode() in (record.value or b""):
                break
    return time.perf_counter() - began
