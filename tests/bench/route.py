"""The route stage against a bare transactional copy loop on the same broker, run by run in turn."""

import asyncio
import time

from aiokafka import TopicPartition
from aiokafka.structs import OffsetAndMetadata

from consumers.parties import stages_of
from consumers.rules import load_rules
from consumers.runtime.clients import Clients
from consumers.settings import Settings
from consumers.wiring import running_stages
from tests.bench.harness import (
    PARTITIONS,
    Measured,
    committed,
    create_topic,
    fill,
    settings_for,
    sized,
    until,
)

COUNT = sized(80_000, 1_600)
RUNS = sized(3, 1)


async def measure_route(bootstrap: str) -> list[Measured]:
    """Records per second, and their ratio."""
    copied, routed = [], []
    for number in range(RUNS):
        settings = await settings_for(bootstrap, f"route{number}.")
        await create_topic(settings, f"route{number}.copy")
        await fill(settings, settings.kafka.topics.intake, COUNT)
        copied.append(await _copy(settings, f"route{number}.copy"))
        routed.append(await route_once(settings))
    ratios = [ours / bare for ours, bare in zip(routed, copied, strict=True)]
    return [
        Measured("route stage, transactions on, 1 kB, 8 partitions", routed, "records/s", "-"),
        Measured("bare transactional copy loop", copied, "records/s", "-"),
        Measured("route stage / bare copy loop", ratios, "", ">= 0.35"),
    ]


async def route_once(settings: Settings) -> float:
    """Records per second of the route stage over a filled intake topic."""
    rules = load_rules(settings)
    began = time.perf_counter()
    async with running_stages(settings, rules, {}, kinds=stages_of("route")) as (stage,):
        intake = settings.kafka.topics.intake
        began, already = time.perf_counter(), committed(stage, intake)
        await until(lambda: committed(stage, intake) >= COUNT)
        return (COUNT - already) / (time.perf_counter() - began)


async def _copy(settings: Settings, target: str) -> float:
    """Read, pack, write, commit: what any read-process-write must do, and nothing else."""
    clients, source = Clients(settings.kafka), settings.kafka.topics.intake
    consumer = clients.reader()
    await consumer.start()
    partitions = [TopicPartition(source, number) for number in range(PARTITIONS)]
    consumer.assign(partitions)
    await consumer.seek_to_beginning(*partitions)
    producers = {tp: clients.transactional(f"copy.{target}.{tp.partition}") for tp in partitions}
    for producer in producers.values():
        await producer.start()
    began, done = time.perf_counter(), 0
    waiting: dict[TopicPartition, asyncio.Task[None]] = {}

    async def write(tp: TopicPartition, records: list) -> None:  # type: ignore[type-arg]
        producer = producers[tp]
        await producer.begin_transaction()
        futures, batch = [], producer.create_batch()
        for record in records:
            fields = {"timestamp": None, "key": record.key, "value": record.value, "headers": []}
            if batch.append(**fields) is None:
                futures.append(await producer.send_batch(batch, target, partition=tp.partition))
                batch = producer.create_batch()
                batch.append(**fields)
        futures.append(await producer.send_batch(batch, target, partition=tp.partition))
        for future in futures:
            await future
        offset = OffsetAndMetadata(records[-1].offset + 1, "")
        await producer.send_offsets_to_transaction({tp: offset}, "copy")
        await producer.commit_transaction()

    try:
        async with asyncio.TaskGroup() as tasks:
            while done < COUNT:
                free = [tp for tp in partitions if tp not in waiting or waiting[tp].done()]
                if not free:
                    await asyncio.wait(waiting.values(), return_when=asyncio.FIRST_COMPLETED)
                    continue
                for tp in free:
                    fetched = await consumer.getmany(tp, timeout_ms=0, max_records=1000)
                    for records in fetched.values():
                        done += len(records)
                        waiting[tp] = tasks.create_task(write(tp, records))
                await asyncio.sleep(0.001)
        return COUNT / (time.perf_counter() - began)
    finally:
        for producer in producers.values():
            await producer.stop()
        await consumer.stop()
