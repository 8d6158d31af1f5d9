"""What commands take that read whole topics or files: CPU for each record at n and 4n, and memory.

A command that grows with the square takes four times as long for a record at 4n; one that keeps
everything takes more memory.
"""

import asyncio
import contextlib
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import orjson

from consumers import clock
from consumers.runtime.clients import Clients
from consumers.runtime.publisher import publisher
from consumers.runtime.topic_reader import topic_reader
from consumers.settings import Settings
from router.attempt.answering import spoken_result
from schemas.attempt import LedgerEntry
from schemas.base import Tier
from schemas.codec import dead_letter_headers, dump
from schemas.dead_letter import DeadLetter, Pointer
from schemas.reasons import Reason
from tests.bench.harness import Measured, a_request, settings_for, sized
from tests.builders import a_request as request_of
from tests.builders import an_assignment, an_attempt

__all__ = ["measure_commands"]

#: Requests of the smaller run; the larger one has four times as many.
COUNT = sized(20_000, 50)
#: Lines of a file that is sent as a whole.
LARGE = sized(1_000_000, 200)
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
    ("quality", "--bill"),
    ("results",),
    ("dead-letters", "list"),
    ("dead-letters", "requeue", "--reason", "no_tier_left"),
    ("explain", "r0"),
    ("trace", "r0"),
    ("sample",),
    ("evals", "export"),
)
_SUBMIT: Sequence[str] = ("submit", "--wait")
_WAITING = ("--wait", "--timeout", "3000")


async def measure_commands(bootstrap: str) -> list[Measured]:
    """Microseconds of CPU for each request, at n and 4n, and megabytes at most."""
    runs = dict[tuple[Sequence[str], int], tuple[float, float]]()
    sizes = (1, COUNT, 4 * COUNT)
    for count in sizes:
        settings = await settings_for(bootstrap, f"commands{count}.")
        await _write_history(settings, count)
        for words in _READING:
            runs[words, count] = await _run(settings, words)
        runs[_SUBMIT, count] = await _submit(settings, count)
    rows = []
    for words in (*_READING, _SUBMIT):
        (idle, _), few, many = (runs[words, count] for count in sizes)
        each = [(few[0] - idle) / COUNT * 1e6, (many[0] - idle) / (4 * COUNT) * 1e6]
        name = " ".join(words)
        rows += [
            Measured(f"{name}: CPU for each of {COUNT} requests", each[:1], "us", "-"),
            Measured(f"{name}: the same for each of {4 * COUNT}", each[1:], "us", "no more"),
            Measured(f"{name}: memory at most", [max(few[1], many[1])], "MB", "150"),
        ]
    return [*rows, *await _submit_large(bootstrap)]


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
            first = await _run(settings, ("submit", str(file), *_WAITING))
        again = await _run(settings, ("submit", str(file), *_WAITING))
    names = (f"submit --wait of {LARGE} lines", "the same file again")
    return [
        row
        for name, (cpu, memory) in zip(names, (first, again), strict=True)
        for row in (
            Measured(f"{name}: CPU for each", [cpu / LARGE * 1e6], "us", "-"),
            Measured(f"{name}: memory at most", [memory], "MB", "150"),
        )
    ]


async def _write_history(settings: Settings, count: int) -> None:
    """Requests as they came in, their calls, and their results; each tenth is a dead letter."""
    topics = settings.kafka.topics
    good: dict[str, Any] = {"outcome": "accepted", "reason": None}
    async with publisher(Clients(settings.kafka)) as out:
        for no in range(count):
            id_, partition = f"r{no}", no % settings.kafka.partitions
            bad = {"outcome": "rejected", "reason": Reason.LOW_CONFIDENCE} if no % 10 == 0 else good
            attempt = an_attempt(
                Tier.LOW, **{**bad, "attempt_id": f"{id_}.1.1", "started_at": clock.now()}
            )
            entry = LedgerEntry(
                request_id=id_, generation=1, task="triage", tenant="default", attempt=attempt
            )
            records: list[tuple[str, bytes, Any]] = [
                (topics.intake, a_request(id_), ()),
                (topics.attempts, dump(entry.model_dump(mode="json", exclude_none=True)), ()),
            ]
            if no % 10:
                info = spoken_result(
                    an_assignment(id=id_),
                    request_of(id=id_),
                    [attempt],
                    "answer",
                    "x",
                    {"answer": "x" * 200},
                    now=attempt.started_at,
                )
                records.append((topics.results, dump(info), ()))
            else:
                letter = DeadLetter(
                    request_id=id_,
                    task="triage",
                    reason=Reason.NO_TIER_LEFT,
                    detail="",
                    stage="route",
                    source=Pointer(topic=topics.intake, partition=partition, offset=no),
                    failed_at=attempt.started_at,
                    attempts=[attempt],
                )
                records.append(
                    (topics.dead_letters, a_request(id_), dead_letter_headers(letter, ()))
                )
            for topic, value, headers in records:
                sent = await out.publish(topic, value, headers=headers, partition=partition)
                if no % 1000 == 0:
                    _ = await sent


async def _run(settings: Settings, words: Sequence[str]) -> tuple[float, float]:
    """Seconds of CPU and megabytes at most of a command."""
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
    return float(cpu), float(memory) / 1024


def _env(settings: Settings) -> dict[str, str]:
    return {
        "TIERLINE_KAFKA__BOOTSTRAP": str(settings.kafka.bootstrap),
        "TIERLINE_KAFKA__PREFIX": settings.kafka.prefix,
    }


async def _submit(settings: Settings, count: int) -> tuple[float, float]:
    """`submit --wait` of a file; every request has its answer at once."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "requests.jsonl"
        file.write_bytes(b"\n".join(a_request(f"s{no}") for no in range(count)))
        async with _answering(settings):
            return await _run(settings, ("submit", str(file), *_WAITING))


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
