"""The processes of the trace check: a provider that refuses and hesitates, and our stages."""

import asyncio
import contextlib
import json
import os
import sys
import urllib.request
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

__all__ = ["is_calling", "refusing_provider", "stage"]

_LIMIT_SECONDS = 60.0
#: With this seed and share the first call of "escalated" is refused, and no later one.
_SEED, _FAULT = "14", "http_403=0.5"
#: What the tiers say. Low takes long enough for a kill, and then cannot defend its answer.
_SAID = (
    {"tier": "low", "output": '{"label": "billing", "confidence": 0.2}', "latency_ms": 8_000},
    {"tier": "balanced", "output": '{"label": "bug", "confidence": 0.95}', "latency_ms": 200},
)


@contextlib.asynccontextmanager
async def refusing_provider(folder: Path, bill: Path) -> AsyncIterator[str]:
    """The simulated provider as a process of its own, which writes a bill; its address."""
    recorded = folder / "said.jsonl"
    rows = (
        {**said, "request_id": "escalated", "tokens_in": 120, "tokens_out": 9} for said in _SAID
    )
    await asyncio.to_thread(recorded.write_text, "\n".join(json.dumps(row) for row in rows))
    words = ("--recorded", str(recorded), "--bill", str(bill), "--seed", _SEED, "--fault", _FAULT)
    async with _ours("simulate", "--port", "0", *words) as (_, line):
        yield next(word for word in line.split() if word.startswith("http")).rstrip(";")


@contextlib.asynccontextmanager
async def stage(
    role: str, health_port: int | None = None, provider: str | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A stage as a process of its own, from when it has its partitions until it has drained."""
    given = {
        "TIERLINE_KAFKA__PARTITIONS": "1",
        "TIERLINE_KAFKA__SESSION_TIMEOUT": "PT6S",
        "TIERLINE_KAFKA__HEARTBEAT_INTERVAL": "PT1S",
    }
    if provider is not None:
        given["TIERLINE_PROVIDERS__SIMULATED__BASE_URL"] = provider
        given["TIERLINE_PROVIDERS__SIMULATED__ALLOW_PRIVATE"] = "true"
    asked = () if health_port is None else ("--health-port", str(health_port))
    async with _ours("up", "--only", role, *asked, given=given) as (process, _):
        yield process


@contextlib.asynccontextmanager
async def _ours(
    *words: str, given: Mapping[str, str] | None = None
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """A process of ours, from when it says how to end it; with that line."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "consumers.cli.main", *words),
        env={**os.environ, "PYTHONUNBUFFERED": "1", **(given or {})},
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(_LIMIT_SECONDS):
            while b"Ctrl-C" not in (line := await process.stdout.readline()):
                assert line, f"{' '.join(words)} ended before it was ready"
        yield process, line.decode()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.communicate()


def is_calling(health_port: int) -> bool:
    """True when the worker that answers there has a request of tier low in hand."""
    with urllib.request.urlopen(f"http://127.0.0.1:{health_port}/status", timeout=5) as answer:
        partitions = json.loads(answer.read())["partitions"]
    return any(one["stage"] == "work.low" and one["in_flight"] for one in partitions)
