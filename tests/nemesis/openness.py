"""Watches for transactions that stay open: readers of committed records stall behind them."""

import asyncio
import time
from collections import defaultdict, deque
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
    """How long records of the results stay hidden from readers behind an open transaction."""

    settings: Settings
    #: False while a fault may keep a transaction open: its owner's successor ends it.
    is_calm: Callable[[], bool]
    problems: list[str] = field(default_factory=list)
    #: When each partition was seen to have grown to which end, oldest first.
    _grown: defaultdict[TopicPartition, deque[tuple[int, float]]] = field(
        default_factory=lambda: defaultdict(deque)
    )

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
                self._grown.clear()
                await asyncio.sleep(_EVERY_SECONDS)
            finally:
                await visible.stop()
                await written.stop()

    def _look(self, stable: dict[TopicPartition, int], ends: dict[TopicPartition, int]) -> None:
        if not self.is_calm():
            self._grown.clear()
            return
        now = time.monotonic()
        for tp, offset in stable.items():
            grown = self._grown[tp]
            grown.append((ends[tp], now))
            while grown and grown[0][0] <= offset:
                grown.popleft()
            if grown and now - grown[0][1] > _MOST_SECONDS:
                seconds = now - grown[0][1]
                self.problems.append(f"open transaction: {tp.topic}-{tp.partition} {seconds:.1f} s")
                grown.clear()
