"""An hour's backlog: it stays in Kafka, and the memory of the process that works it off is flat."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from consumers.runtime.clients import Clients
from consumers.runtime.topic_reader import topic_reader
from consumers.settings import Settings
from schemas.attempt import announces
from tests.bench.harness import Measured, fill, settings_for, sized
from tests.bench.work import simulator_process

__all__ = ["measure_backlog"]

#: What 40 requests a second leave in an hour.
COUNT = sized(144_000, 800)
_EARLY, _LATE = sized(2_000, 100), sized(12_000, 400)


async def measure_backlog(bootstrap: str) -> list[Measured]:
    """Mebibytes resident soon after the start and much later, all stages in one process."""
    settings = await settings_for(bootstrap, "backlog.")
    await fill(settings, settings.kafka.topics.intake, COUNT, task="extraction")
    async with (
        simulator_process() as base_url,
        topic_reader(Clients(settings.kafka), [settings.kafka.topics.attempts]) as ledger,
        _all_stages(settings, base_url) as pid,
    ):
        sizes, called = {}, 0
        async for record in ledger.follow(300):
            if announces(record.value):
                continue
            called += 1
            if called in (_EARLY, _LATE):
                sizes[called] = await _resident(pid)
            if called == _LATE:
                break
    early, late = sizes[_EARLY], sizes[_LATE]
    return [
        Measured(f"memory after {_EARLY} calls of a backlog of {COUNT}", [early], "MiB", "-"),
        Measured(f"memory after {_LATE} calls / after {_EARLY}", [late / early], "", "<= 1.1"),
    ]


@contextlib.asynccontextmanager
async def _all_stages(settings: Settings, base_url: str) -> AsyncIterator[int]:
    process = await asyncio.create_subprocess_exec(
        *(str(Path(sys.executable).with_name("tierline")), "up", "--no-console"),
        stdout=asyncio.subprocess.DEVNULL,
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(Path.home()),
            "TIERLINE_KAFKA__BOOTSTRAP": settings.kafka.bootstrap or "",
            "TIERLINE_KAFKA__PREFIX": settings.kafka.prefix,
            "TIERLINE_PROVIDERS__SIMULATED__BASE_URL": base_url,
            "TIERLINE_PROVIDERS__SIMULATED__ALLOW_PRIVATE": "true",
        },
    )
    try:
        yield process.pid
    finally:
        process.kill()
        await process.wait()


async def _resident(pid: int) -> float:
    shown = await asyncio.create_subprocess_exec(
        *("ps", "-o", "rss=", "-p", str(pid)), stdout=asyncio.subprocess.PIPE
    )
    said, _ = await shown.communicate()
    return int(said) / 1024
