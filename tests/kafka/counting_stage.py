"""A stage that counts the records of each key, as a process of its own, with bugs to be planted.

`python -m tests.kafka.counting_stage BOOTSTRAP PREFIX [TOPIC]` counts intake, and writes to the
topic, or to that of results. It says on its output what it does, and waits on its input where the
test wants to do something first.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from consumers.records import Record, Source
from consumers.runtime import assigned_partitions
from consumers.runtime.clients import Clients
from consumers.runtime.executor import SyncExecutor
from consumers.runtime.keyed_state import KeyedState, StatePart
from consumers.runtime.poison import Guard
from consumers.runtime.shell import Shell
from consumers.runtime.spec import StageSpec
from consumers.runtime.stage import Stage
from consumers.runtime.writer import PartitionWriter
from consumers.telemetry.setup import Telemetry
from schemas.codec import Outgoing
from tests.builders import Pointers
from tests.kafka.conftest import settings_for

SPEC = StageSpec("counting", reads=("llm.intake",), writes=("llm.results", "llm.state.counting"))
#: `outside`: what is remembered is written apart from the outputs. `early`: it is read before the
#: former owner is fenced.
BUG = os.environ.get("COUNTING_BUG", "")
#: The commit in which the process freezes, once it has sent all but the end.
FREEZES_AT = int(os.environ.get("COUNTING_FREEZES_AT", "0"))
WAITS = bool(os.environ.get("COUNTING_WAITS"))


@dataclass(frozen=True)
class Counting:
    """Tells of each record how many of its key came up to it."""

    counts: str
    #: Say where a record lies, instead of what it says.
    names_offsets: bool = False

    def decide(self, record: Record, state: StatePart) -> Sequence[Outgoing]:
        key = record.key or b""
        number = int(state.get(key) or 0) + 1
        state.put(key, str(number).encode())
        said = record.value or b""
        if self.names_offsets:
            said = b"%d" % record.offset
        return [Outgoing(self.counts, key, b"%d %s" % (number, said))]


async def main(bootstrap: str, prefix: str, topic: str = "") -> None:
    """Count until SIGTERM."""
    settings = settings_for(bootstrap, prefix)
    loop, stop, one_reader = asyncio.get_running_loop(), asyncio.Event(), asyncio.Lock()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    clients = Clients(settings.kafka)
    state, shell, guard = KeyedState(clients, SPEC.name), Shell(Pointers()), Guard(SPEC.name)

    async def prepare(source: Source, position: int) -> None:
        await state.prepare(source, position)
        say(f"read {source.partition}")
        if WAITS:
            async with one_reader:
                await loop.run_in_executor(None, sys.stdin.readline)

    counting = Counting(topic or settings.kafka.topics.results, names_offsets=bool(topic))
    decide = state.remembering(counting.decide)
    if BUG == "outside":
        decide = await _writing_apart(clients, decide)
    if BUG == "early":
        _read_before_the_fence(prepare)
    if FREEZES_AT:
        _freeze_in_a_commit()
    executor = SyncExecutor(decide, shell, guard, Telemetry().tracing)
    behind_fence = None if BUG == "early" else prepare
    stage = Stage(SPEC, clients, executor, shell, guard, prepare=behind_fence)
    stage.on_commit(lambda commit: say(f"committed {commit.records}"))
    await stage.run(stop)


def say(words: str) -> None:
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


async def _writing_apart(clients: Clients, decide: Any) -> Any:
    producer, topic = clients.producer(), clients.settings.topics.name("llm.state.counting")
    await producer.start()
    commit, changes = PartitionWriter.commit, asyncio.Queue[tuple[int, Outgoing]]()

    def decided(record: Record) -> Sequence[Outgoing]:
        made = decide(record)
        for outgoing in made:
            if outgoing.topic == topic:
                changes.put_nowait((record.partition, outgoing))
        return [outgoing for outgoing in made if outgoing.topic != topic]

    async def written_first(self: Any, outgoing: Any, completion: Any) -> None:
        while not changes.empty():
            partition, change = changes.get_nowait()
            await producer.send_and_wait(topic, change.value, key=change.key, partition=partition)
        await commit(self, outgoing, completion)

    PartitionWriter.commit = written_first  # type: ignore[method-assign]
    return decided


def _read_before_the_fence(prepare: Any) -> None:
    take = assigned_partitions.AssignedPartitions._prepared

    async def early(self: Any, partition: Any) -> int:
        await prepare(partition.source, 0)
        return await take(self, partition)

    assigned_partitions.AssignedPartitions._prepared = early  # type: ignore[method-assign]


def _freeze_in_a_commit() -> None:
    commit, left = PartitionWriter.commit, [FREEZES_AT]

    async def freezing(self: Any, outgoing: Any, completion: Any) -> None:
        left[0] -= 1
        if left[0] == 0:
            end = self._producer.commit_transaction

            async def stopped() -> None:
                say("freezes")
                os.kill(os.getpid(), signal.SIGSTOP)
                await end()

            self._producer.commit_transaction = stopped
        await commit(self, outgoing, completion)

    PartitionWriter.commit = freezing  # type: ignore[method-assign]


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
