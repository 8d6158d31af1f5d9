"""The runtime alone: a stage whose calls are short sleeps, with nothing to decide and no HTTP.

What is left is reading, keeping many records in flight, and committing what they led to with the
state of completion, in transactions.
"""

import asyncio
import random
import time
from collections.abc import Sequence

from consumers.records import Record
from consumers.runtime.clients import Clients
from consumers.runtime.poison import Guard
from consumers.runtime.publisher import publisher
from consumers.runtime.shell import Shell
from consumers.runtime.spec import StageSpec
from consumers.runtime.stage import Stage
from consumers.runtime.task_pool import Slot, TaskPool
from consumers.runtime.topics import ensure_topics
from consumers.settings import KafkaSettings, Settings
from schemas.base import Tier
from schemas.codec import Outgoing
from tests.bench.harness import a_request, committed, sized
from tests.builders import Pointers

COUNT = sized(10_000, 400)
IN_FLIGHT = 100
LONGEST_MS = 5
_LIMIT = 120.0


async def one_partition(bootstrap: str, prefix: str) -> Settings:
    """Settings with topics of their own, of one partition each; the low tier's holds the work."""
    settings = Settings(kafka=KafkaSettings(bootstrap=bootstrap, prefix=prefix, partitions=1))
    if problems := await ensure_topics(Clients(settings.kafka)):
        raise RuntimeError(str(problems))
    await _fill(settings)
    return settings


async def _fill(settings: Settings) -> None:
    """Records of 1 kB whose key says how many milliseconds their call takes, the same each time."""
    draw = random.Random(2291)
    async with publisher(Clients(settings.kafka)) as topics:
        queued = [
            await topics.publish(
                settings.kafka.topics.tier(Tier.LOW),
                a_request(f"r{number}"),
                key=b"%d" % draw.randint(0, LONGEST_MS),
            )
            for number in range(COUNT)
        ]
        await asyncio.gather(*queued)


async def runtime_once(settings: Settings) -> float:
    """Seconds from having the partition to the commit that covers its last record."""
    source, target = settings.kafka.topics.tier(Tier.LOW), settings.kafka.topics.results

    async def handle(record: Record, _: Slot) -> Sequence[Outgoing]:
        await asyncio.sleep(int(record.key or b"0") / 1000)
        return [Outgoing(target, record.key, record.value)]

    shell, guard = Shell(Pointers()), Guard("bench")
    pool = TaskPool(handle, shell, guard, width=IN_FLIGHT, book=lambda *_: None, last_grace=0)
    stage = Stage(
        StageSpec("bench", ("llm.tier.low",), ()), Clients(settings.kafka), pool, shell, guard
    )
    is_done, stop = asyncio.Event(), asyncio.Event()

    def note_commit(*_: object) -> None:
        if committed(stage, source) >= COUNT:
            is_done.set()

    stage.on_commit(note_commit)
    async with asyncio.timeout(_LIMIT), pool.open(), asyncio.TaskGroup() as tasks:
        tasks.create_task(stage.run(stop))
        await stage.ready.wait()
        began = time.perf_counter()
        await is_done.wait()
        took = time.perf_counter() - began
        stop.set()
    return took
