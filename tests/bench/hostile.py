"""One of twenty producers is hostile: how late the event loop is, and how late everybody else."""

import asyncio
import itertools
import multiprocessing
import random
import time
from collections.abc import Iterator
from typing import Any

import orjson

from consumers.providers.settings import ProviderSettings
from consumers.rules import load_rules
from consumers.runtime.clients import Clients
from consumers.runtime.publisher import publisher
from consumers.runtime.topic_reader import topic_reader
from consumers.settings import Settings
from consumers.wiring import running_stages
from tests.bench.harness import Measured, a_request, settings_for, sized
from tests.bench.work import simulator_process
from tests.probes.chat import hostile_chats
from tests.probes.schemas import hostile_bodies
from tests.probes.text import LENGTH, READERS, texts_for

__all__ = ["measure_hostile"]

COUNT = sized(2_000, 60)
#: Requests a second of nineteen producers together; the twentieth adds a twentieth.
RATE = 38.0
_HOSTILE_EVERY = 19
_EVERY = 0.005
_LATE_MS = 2_000.0


async def measure_hostile(bootstrap: str) -> list[Measured]:
    """Milliseconds that the loop of all stages is late, and innocent requests that are."""
    settings = await settings_for(bootstrap, "hostile.", width=256)
    providers = {}
    lags: list[float] = []
    async with simulator_process() as base_url:
        providers["simulated"] = ProviderSettings(base_url=base_url, allow_private=True)
        async with running_stages(settings, load_rules(settings), providers):
            watching = asyncio.ensure_future(_watch(lags))
            # Who publishes has a loop of its own: ours is the one that is measured.
            other = multiprocessing.get_context("spawn").Process(target=_publish, args=(settings,))
            other.start()
            took = await _answered(settings)
            await asyncio.to_thread(other.join)
            watching.cancel()
    lags.sort()
    late = sum(1 for one in took if one > _LATE_MS)
    took.sort()
    return [
        Measured("loop's lag, p99, one producer in 20 hostile", [_at(lags, 0.99)], "ms", "<= 50"),
        Measured("loop's lag, worst", [lags[-1]], "ms", "<= 250"),
        Measured(f"innocent requests of {COUNT} later than 2 s", [late], "requests", "0"),
        Measured("innocent requests, intake to result, p99", [_at(took, 0.99)], "ms", "-"),
    ]


def hostile_records() -> Iterator[bytes]:
    """What the hostile producer sends, of all kinds in turn, again and again."""
    kinds = [
        [orjson.dumps(body) for body in hostile_bodies()],
        [orjson.dumps({"task": "triage", "input": body}) for body in hostile_chats()],
        [
            orjson.dumps({"task": "extraction", "input": text})
            for reader in READERS[::4]
            for text in itertools.islice(texts_for(reader, LENGTH, 8), 8)
        ],
        [
            b"[" * 50_000 + b"]" * 50_000,
            b'{"input": "' + b"x" * 900_000 + b'"}',
            b'{"input": "a", "a": ' + b"9" * 200_000 + b"}",
            b"\xff\xfe" * 1_000,
            b'{"id": "brief.1", "tenant": "_unknown", "input": "a"}',
        ],
    ]
    dice = random.Random(1)
    for kind in kinds:
        dice.shuffle(kind)
    turns = (itertools.cycle(kind) for kind in kinds)
    return itertools.chain.from_iterable(zip(*turns, strict=True))


def _publish(settings: Settings) -> None:
    asyncio.run(_send(settings))


async def _send(settings: Settings) -> None:
    intake, hostile = settings.kafka.topics.intake, hostile_records()
    async with publisher(Clients(settings.kafka)) as topic:
        began, sent = time.perf_counter(), []
        for number in range(COUNT):
            value = a_request(f"good-{number}", task="extraction")
            sent.append(await topic.publish(intake, value, key=b"producer-%d" % (number % 19)))
            if number % _HOSTILE_EVERY == 0:
                sent.append(await topic.publish(intake, next(hostile), key=b"hostile"))
            ahead = began + (number + 1) / RATE - time.perf_counter()
            if ahead > 0:
                await asyncio.sleep(ahead)
        await asyncio.gather(*sent)


async def _watch(lags: list[float]) -> None:
    while True:
        due = time.perf_counter() + _EVERY
        await asyncio.sleep(_EVERY)
        lags.append(max(time.perf_counter() - due, 0.0) * 1000)


async def _answered(settings: Settings) -> list[float]:
    """Milliseconds from intake to the end of every innocent request."""
    topics = settings.kafka.topics
    began: dict[str, float] = {}
    ended: dict[str, float] = {}
    names = [topics.intake, topics.results, topics.dead_letters]
    async with topic_reader(Clients(settings.kafka), names) as reader:
        async for record in reader.follow(COUNT / RATE + 120):
            if record.topic == topics.intake:
                if (record.key or b"").startswith(b"producer-"):
                    began[orjson.loads(record.value or b"")["id"]] = record.timestamp
            elif name := _id_of(record):
                ended.setdefault(name, record.timestamp)
            if len(ended) == COUNT == len(began):
                break
    return [ended.get(name, float("inf")) - at for name, at in began.items()]


def _id_of(record: Any) -> str | None:
    headers = dict(record.headers)
    name = (headers.get("tierline-request-id") or b"").decode()
    if not name and record.value:
        name = str(orjson.loads(record.value).get("id"))
    return name if name.startswith("good-") else None


def _at(ordered: list[float], share: float) -> float:
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]
