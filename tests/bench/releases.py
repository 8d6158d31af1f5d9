"""From an act about a release to the last of four processes that applies it."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator

from consumers.rules import load_rules
from consumers.settings import Settings
from router.releases.bundle import Bundle
from schemas.policy_log import Act
from tests.bench.harness import Measured, settings_for, sized
from tests.releases import acted, all_apply, edited, statuses

__all__ = ["measure_releases"]

_PROCESSES = 4
_CHANGES = sized(10, 1)


async def measure_releases(bootstrap: str) -> list[Measured]:
    """Seconds from Kafka's time of the act to each process's time of applying it."""
    settings = await settings_for(bootstrap, "releases.")
    files = load_rules(settings)
    first = edited(files, "t0")
    took: dict[Act, list[float]] = {"publish": [], "rollback": []}
    await acted(settings, "publish", first)
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(_PROCESSES):
            await stack.enter_async_context(_router(settings))
        for number in range(_CHANGES):
            new = edited(files, f"t{number + 1}")
            changes: list[tuple[Act, Bundle]] = [("publish", new), ("rollback", first)]
            for what, bundle in changes:
                written = await acted(settings, what, bundle)
                heard = await statuses(settings, all_apply(bundle, written, _PROCESSES))
                since = [each.policy_since or each.at for each in heard.values()]
                took[what].append((max(since) - written.at).total_seconds())
    return [
        Measured(f"{what} to the last of {_PROCESSES} processes", values, "s", "<= 5")
        for what, values in took.items()
    ]


@contextlib.asynccontextmanager
async def _router(settings: Settings) -> AsyncIterator[None]:
    """A route stage in a process of its own, from when it is ready."""
    kafka = {
        "TIERLINE_KAFKA__BOOTSTRAP": str(settings.kafka.bootstrap),
        "TIERLINE_KAFKA__PREFIX": settings.kafka.prefix,
        "TIERLINE_KAFKA__PARTITIONS": str(settings.kafka.partitions),
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "consumers.cli.main", "up", "--only", "route"),
        env={**os.environ, "PYTHONUNBUFFERED": "1", **kafka},
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(60):
            while b"Ctrl-C" not in (line := await process.stdout.readline()):
                assert line, "a process has ended before it was ready"
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.communicate()
