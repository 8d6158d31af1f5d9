"""What `submit --wait` takes: CPU for each request, memory and time."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import orjson

from consumers.runtime.clients import Clients
from consumers.runtime.publisher import publisher
from consumers.runtime.topic_reader import topic_reader
from consumers.settings import Settings
from tests.bench.commands import COUNT, LARGE, Took, compared, run_command
from tests.bench.harness import Measured, a_request, settings_for

__all__ = ["measure_submit"]

_WAITING = ("--wait", "--timeout", "3000")


async def measure_submit(bootstrap: str) -> list[Measured]:
    """A file of few requests, of more, and an OpenAI Batch file of a million."""
    took = [await _submit(bootstrap, count) for count in (1, COUNT, 4 * COUNT)]
    rows = compared("submit --wait", took, (COUNT, 4 * COUNT))
    return [*rows, *await _submit_large(bootstrap)]


async def _submit(bootstrap: str, count: int) -> Took:
    """`submit --wait` of a file; every request has its answer at once."""
    settings = await settings_for(bootstrap, f"submit{count}.")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "requests.jsonl"
        file.write_bytes(b"\n".join(a_request(f"s{no}") for no in range(count)))
        async with _answering(settings):
            return await run_command(settings, ("submit", str(file), *_WAITING))


async def _submit_large(bootstrap: str) -> list[Measured]:
    """A Batch file of a million lines, and the same file again: each had its answer before."""
    settings = await settings_for(bootstrap, "commands-large.")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "batch.jsonl"
        chat = {"messages": [{"role": "user", "content": "How do I add a seat? " * 8}]}
        with file.open("wb") as out:
            for no in range(LARGE):
                out.write(orjson.dumps({"custom_id": f"row-{no}", "body": chat}) + b"\n")
        async with _answering(settings):
            first = await run_command(settings, ("submit", str(file), *_WAITING))
        again = await run_command(settings, ("submit", str(file), *_WAITING))
    names = (f"submit --wait of {LARGE} lines", "the same file again")
    return [
        row
        for name, took in zip(names, (first, again), strict=True)
        for row in (
            Measured(f"{name}: CPU for each", [took.cpu_seconds / LARGE * 1e6], "us", "-"),
            Measured(f"{name}: memory at most", [took.megabytes], "MB", "150"),
        )
    ]


@contextlib.asynccontextmanager
async def _answering(settings: Settings) -> AsyncIterator[None]:
    """Answers every request on intake from now on."""
    topics, clients = settings.kafka.topics, Clients(settings.kafka)
    async with (
        topic_reader(clients, [topics.intake], at_end=True) as reader,
        publisher(clients) as out,
    ):

        async def answer() -> None:
            async for record in reader.follow():
                id_ = orjson.loads(record.value or b"")["id"]
                info = {"tenant": "default", "cost_micros": 1, "output": {"answer": "x"}}
                value = orjson.dumps({"id": id_, "router": info})
                _ = await out.publish(topics.results, value, partition=record.partition)

        async with asyncio.TaskGroup() as group:
            task = group.create_task(answer())
            yield
            _ = task.cancel()
