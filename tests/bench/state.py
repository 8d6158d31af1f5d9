"""How long a partition waits for what its stage remembers, whatever has happened to it before."""

import time

from aiokafka.admin import NewTopic

from consumers.records import Source
from consumers.runtime.clients import Clients, administering
from consumers.runtime.keyed_state import KeyedState
from consumers.runtime.publisher import publisher
from schemas.topics import state_topic
from tests.bench.harness import Measured, repeat, settings_for, sized

__all__ = ["measure_state"]

RUNS = sized(3, 1)
KEYS = sized(100_000, 500)
#: How often each key was written before, at most: the rest waits for the broker's cleaner.
_OVERWRITTEN = 3
_VALUE = b"x" * 100
#: Records on their way at once.
_AT_ONCE = 2_000


async def measure_state(bootstrap: str) -> list[Measured]:
    """Seconds to read all keys of a partition, each written once, and each written three times."""
    settings = await settings_for(bootstrap, "state.")
    clients = Clients(settings.kafka)
    measured = []
    for name, times in (("fresh", 1), ("overwritten", _OVERWRITTEN)):
        topic = settings.kafka.prefix + state_topic(name).name
        async with administering(clients) as admin:
            await admin.create_topics([NewTopic(topic, 1, 1)])
        async with publisher(clients) as sending:
            for first in range(0, KEYS * times, _AT_ONCE):
                queued = [
                    await sending.publish(topic, _VALUE, key=b"%020d" % (number % KEYS))
                    for number in range(first, min(first + _AT_ONCE, KEYS * times))
                ]
                for one in queued:
                    await one
        state = KeyedState(clients, name)
        source = Source(settings.kafka.topics.intake, 0)

        async def once(_: int, state: KeyedState = state, source: Source = source) -> float:
            began = time.perf_counter()
            await state.prepare(source, 0)
            took = time.perf_counter() - began
            assert len(state.part(source).values) == KEYS
            return took

        label = f"taking a partition, {KEYS} live keys, each written {times} times"
        measured.append(Measured(label, await repeat(RUNS, once), "s", "<= 10"))
    return measured
