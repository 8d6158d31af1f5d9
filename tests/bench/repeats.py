"""How long a partition waits for its remembered request ids when another process takes it."""

import time

from aiokafka import TopicPartition

from consumers.policies import Policies
from consumers.rules import load_rules
from consumers.runtime.clients import Clients
from consumers.settings import RepeatSettings
from consumers.stages.repeats import Repeats
from tests.bench.harness import PARTITIONS, Measured, fill, repeat, settings_for, sized

__all__ = ["measure_repeats"]

RUNS = sized(3, 1)
COUNT = sized(100_000, 500)


async def measure_repeats(bootstrap: str) -> list[Measured]:
    """Seconds to read as many ids as are remembered at most."""
    settings = await settings_for(bootstrap, "repeats.")
    intake = settings.kafka.topics.intake
    await fill(settings, intake, COUNT * PARTITIONS)

    async def once(number: int) -> float:
        policies = Policies(load_rules(settings))
        repeats = Repeats(Clients(settings.kafka), RepeatSettings(most=COUNT), policies)
        began = time.perf_counter()
        await repeats.prepare(TopicPartition(intake, number), COUNT)
        return time.perf_counter() - began

    return [
        Measured(f"taking a partition, {COUNT} ids remembered", await repeat(RUNS, once), "s", "-")
    ]
