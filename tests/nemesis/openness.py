"""Watches for transactions that stay open: readers of committed records stall behind them."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from consumers.runtime.clients import Clients
from consumers.settings import Settings

__all__ = ["Openness"]

_EVERY_SECONDS = 0.25
#: Longer than any commit of ours on a busy machine, shorter than a call may take.
_MOST_SECONDS = 4.0


@dataclass(slots=True)
class Openness:
    """How long each partition of the results has stood still for readers while records came."""

    settings: Settings
    #: False while a fault may keep a transaction open: its owner's successor ends it.
    is_calm: Callable[[], bool]
    problems: list[str] = field(default_factory=list)
    #: Since when, and at which offset.
    _stands: dict[TopicPartition, tuple[int, float]] = field(default_factory=dict)

    async def watch(self) -> None:
        """Look until cancelled. A broker that does not answer starts the count anew."""
        kafka = self.settings.kafka
        partitions = [TopicPartition(kafka.topics.results, n) for n in range(kafka.partitions)]
        clients = Clients(kafka)
        while True:
            visible, written = clients.reader(), clients.reader(committed=False)
            try:
                await visible.start()
                await written.start()
                while True:
                    async with asyncio.timeout(2):
                        stable = await visible.end_offsets(partitions)
                        ends = await written.end_offsets(partitions)
                    self._look(stable, ends)
                    await asyncio.sleep(_EVERY_SECONDS)
            except (KafkaError, TimeoutError, OSError):
                self._stands.clear()
                await asyncio.sleep(_EVERY_SECONDS)
            finally:
                await visible.stop()
                await written.stop()

    def _look(self, stable: dict[TopicPartition, int], ends: dict[TopicPartition, int]) -> None:
        now = time.monotonic()
        for tp, offset in stable.items():
            since = self._stands.get(tp)
            if not self.is_calm() or offset >= ends[tp] or since is None or since[0] != offset:
                self._stands[tp] = (offset, now)
            elif now - since[1] > _MOST_SECONDS:
                seconds = now - since[1]
                self.problems.append(f"open transaction: {tp.topic}-{tp.partition} {seconds:.1f} s")
                self._stands[tp] = (offset, now)
