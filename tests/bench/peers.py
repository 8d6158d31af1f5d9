"""Peers run in environments of their own under `build/peers`, so that none of theirs is ours."""

import asyncio
import json
from pathlib import Path

from consumers.rules import load_rules
from consumers.settings import Settings
from tests.bench.harness import Measured, create_topic, fill, settings_for, sized
from tests.bench.route import COUNT, route_once
from tests.bench.work import route_all, run_worker, simulator_process
from tests.environments import environment

__all__ = ["measure_litellm", "measure_quix"]

RUNS = sized(3, 1)
_WIDTH = 1_200
_ENVIRONMENTS = Path("build/peers")
_LITELLM_CALLS = sized(3_000, 50)
_LITELLM_IN_FLIGHT = sized(200, 10)
_LOCKS = Path(__file__).resolve().parent


async def measure_quix(bootstrap: str) -> list[Measured]:
    """The route stage against Quix Streams running our own decision, run by run in turn."""
    python = await asyncio.to_thread(_peer, "quix")
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


async def measure_litellm(bootstrap: str) -> list[Measured]:
    """A worker with all of its own work, Kafka's included, against LiteLLM's Router alone."""
    python = await asyncio.to_thread(_peer, "litellm")
    theirs, ours = [], []
    async with simulator_process() as base_url:
        for number in range(RUNS):
            settings = await settings_for(bootstrap, f"litellm{number}.", width=_WIDTH)
            rules = load_rules(settings)
            await route_all(settings, rules)
            theirs.append(await _litellm(python, base_url))
            ours.append((await run_worker(settings, rules, base_url))[2])
    ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
    return [
        Measured("LiteLLM Router, calls per second of CPU", theirs, "calls/s", "-"),
        Measured("worker on Kafka, adapter and checks, the same", ours, "calls/s", "-"),
        Measured("worker / LiteLLM Router", ratios, "", ">= 4"),
    ]


async def _litellm(python: Path, base_url: str) -> float:
    process = await asyncio.create_subprocess_exec(
        *(str(python), "tests/bench/peer_litellm.py", base_url),
        *(str(_LITELLM_CALLS), str(_LITELLM_IN_FLIGHT)),
        stdout=asyncio.subprocess.PIPE,
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(Path.home()),
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        },
    )
    said, _ = await process.communicate()
    told = json.loads(said.decode().splitlines()[-1])
    return float(told["calls"]) / float(told["cpu_s"])


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


def _peer(name: str) -> Path:
    """The interpreter of a peer's environment."""
    return environment(_ENVIRONMENTS / name, _LOCKS / f"{name}.lock")
