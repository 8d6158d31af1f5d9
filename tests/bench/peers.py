"""Peers run in environments of their own under `build/peers`, so that none of theirs is ours."""

import asyncio
import subprocess
import sys
from pathlib import Path

from consumers.settings import Settings
from tests.bench.harness import Measured, create_topic, fill, settings_for
from tests.bench.route import COUNT, route_once

__all__ = ["measure_quix"]

RUNS = 3
_ENVIRONMENTS = Path("build/peers")
_QUIX = ("quixstreams==3.28.1", "pydantic", "orjson", "jsonschema-rs", "pyyaml", "structlog")


async def measure_quix(bootstrap: str) -> list[Measured]:
    """The route stage against Quix Streams running our own decision, run by run in turn."""
    python = await asyncio.to_thread(_environment, "quix", _QUIX)
    theirs, ours = [], []
    for number in range(RUNS):
        settings = await settings_for(bootstrap, f"quix{number}.")
        await create_topic(settings, f"quix{number}.target")
        await fill(settings, settings.kafka.topics.intake, COUNT)
        theirs.append(await _quix(python, settings, f"quix{number}.target"))
        ours.append(await route_once(settings))
    ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
    return [
        Measured("Quix Streams, exactly once, our decision", theirs, "records/s", "-"),
        Measured("route stage / Quix Streams", ratios, "", ">= 1"),
    ]


async def _quix(python: Path, settings: Settings, target: str) -> float:
    process = await asyncio.create_subprocess_exec(
        str(python),
        "tests/bench/peer_quix.py",
        str(settings.kafka.bootstrap),
        settings.kafka.topics.intake,
        target,
        str(COUNT),
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await process.communicate()
    return float(said.split()[-1])


def _environment(name: str, packages: tuple[str, ...]) -> Path:
    """A virtual environment with these packages, made once."""
    home = _ENVIRONMENTS / name
    python = home / "bin" / "python"
    if not (home / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        subprocess.run([str(python), "-m", "pip", "-q", "install", *packages], check=True)
        (home / "ready").touch()
    return python.absolute()
