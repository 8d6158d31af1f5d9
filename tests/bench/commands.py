"""What commands take that read whole topics: CPU for each request, memory and time.

A command that grows with the square takes longer for a request where there are more of them; one
that keeps everything takes more memory.
"""

import asyncio
import os
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

from consumers import clock
from consumers.settings import Settings
from router.reports.samples import week_of
from tests.bench.harness import Measured, settings_for, sized
from tests.bench.history import FIRST_ID, write_history

__all__ = ["COUNT", "LARGE", "Took", "compared", "measure_commands", "run_command"]

#: Requests of the smaller run and of the larger one.
COUNT, LARGE = sized(20_000, 50), sized(1_000_000, 200)
#: A program of its own, which tells at its end what it took.
_PROGRAM = """
import resource, sys
from pathlib import Path
from consumers.cli.main import main
try:
    main()
finally:
    used = resource.getrusage(resource.RUSAGE_SELF)
    told = Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]
    print("BENCH", used.ru_utime + used.ru_stime, told, file=sys.stderr)
"""
_TIERLINE = (sys.executable, "-c", _PROGRAM)
_READING: Sequence[Sequence[str]] = (
    ("quality",),
    ("quality", "--failures"),
    ("spend",),
    ("report",),
    ("results",),
    ("results", "--last", "20"),
    ("dead-letters", "list"),
    ("dead-letters", "show", FIRST_ID),
    ("dead-letters", "requeue", "--reason", "no_tier_left"),
    ("explain", FIRST_ID),
    ("trace", FIRST_ID),
    ("sample", "--week", week_of(clock.now())),
    ("evals", "export"),
)


class Took(NamedTuple):
    """What a command took."""

    cpu_seconds: float
    megabytes: float
    seconds: float


async def measure_commands(bootstrap: str) -> list[Measured]:
    """Every command that reads topics, with few requests in them and with many."""
    told = []
    for count in (1, COUNT, LARGE):
        told.append(await settings_for(bootstrap, f"commands{count}."))
        await write_history(told[-1], count)
    rows = []
    for words in _READING:
        took = [await run_command(settings, words) for settings in told]
        rows += compared(" ".join(words), took, (COUNT, LARGE))
    return rows


def compared(name: str, took: Sequence[Took], sizes: tuple[int, int]) -> list[Measured]:
    """A command with one request, which is what starting takes, with few and with many."""
    few, many = sizes
    each = [
        (one.cpu_seconds - took[0].cpu_seconds) / count * 1e6
        for one, count in zip(took[1:], sizes, strict=True)
    ]
    return [
        Measured(f"{name}: CPU for each of {few}", each[:1], "us", "-"),
        Measured(f"{name}: the same for each of {many}", each[1:], "us", "no more"),
        Measured(f"{name}: time for {many}", [took[-1].seconds], "s", "-"),
        Measured(f"{name}: memory at most", [max(one.megabytes for one in took)], "MB", "150"),
    ]


async def run_command(settings: Settings, words: Sequence[str]) -> Took:
    """Run a command in a process of its own."""
    began = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        *(*_TIERLINE, *words),
        env={**os.environ, **_env(settings)},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await process.communicate()
    text = errors.decode()
    if "BENCH" not in text or process.returncode:
        msg = f"{' '.join(words)} has failed: {text[-500:]}"
        raise RuntimeError(msg)
    cpu, memory = text.rsplit("BENCH", 1)[1].split()
    took = Took(float(cpu), float(memory) / 1024, time.monotonic() - began)
    print(f"{' '.join(words)}: {took}", file=sys.stderr, flush=True)  # all of them take long
    return took


def _env(settings: Settings) -> dict[str, str]:
    return {
        "TIERLINE_KAFKA__BOOTSTRAP": str(settings.kafka.bootstrap),
        "TIERLINE_KAFKA__PREFIX": settings.kafka.prefix,
    }
