"""The transactional producer of one input partition: outputs and offset commit as one.

The library's consumers send no group generation with transactional offsets, so the group cannot
fence a process that was asleep. The transactional id does: it belongs to the input partition, and
starting its producer fences the former owner and ends the transaction it had open.
"""

import asyncio
import time
from collections.abc import Sequence
from itertools import groupby

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.structs import OffsetAndMetadata

from consumers.failpoints import failpoint
from consumers.runtime.clients import TRANSACTION_LIMIT, Clients, ended
from consumers.runtime.limits import at_most
from consumers.runtime.offsets import Completion
from schemas.codec import Outgoing

__all__ = ["PartitionWriter"]

_START_LIMIT = 30.0
#: A commit answered later than this may have been sent twice, and the second copy could end the
#: next transaction half-way: the producer is rebuilt before it.
_SLOW_COMMIT = 8.0


class PartitionWriter:
    """Writes what the records of one input partition lead to."""

    def __init__(self, clients: Clients, source: TopicPartition, group: str) -> None:
        self._clients = clients
        self._source = source
        self._group = group
        is_admission = source.topic.endswith("llm.admission")
        self._kind = "work" if ".tier." in source.topic else "admit" if is_admission else "route"
        self._producer: AIOKafkaProducer | None = None
        #: Former producers that have yet to be stopped, and the tasks that stop others.
        self._former: list[AIOKafkaProducer] = []
        self._stops: set[asyncio.Task[None]] = set()
        #: True when a new producer has to be started before the next commit.
        self.needs_start = True

    @property
    def transactional_id(self) -> str:
        """Unique per group and input partition."""
        return f"tierline.{self._group}.{self._source.topic}.{self._source.partition}"

    async def start(self) -> None:
        """Fence the former owner. When this returns its transaction is committed or aborted.

        A former producer of our own is stopped after the fence, without waiting for it: that can
        take ten seconds, and what it still sends comes before the fence or is refused.
        """
        self._retire()
        producer = self._clients.transactional(self.transactional_id)
        try:
            await at_most(_START_LIMIT, producer.start())
        except BaseException:
            self._stop(producer)
            raise
        self._producer, self.needs_start = producer, False
        self._stop_former()

    async def commit(self, outgoing: Sequence[Outgoing], completion: Completion) -> None:
        """Commit records and the partition's completion state in one transaction.

        After an exception its outcome is unknown: start again and read what was committed.
        """
        producer = self._producer
        if producer is None or self.needs_start:
            msg = "the producer is not usable; start it first"
            raise RuntimeError(msg)

        self.needs_start = True
        began = time.monotonic()
        limit = TRANSACTION_LIMIT.total_seconds()
        await at_most(limit, self._transact(producer, outgoing, completion))
        self.needs_start = time.monotonic() - began > _SLOW_COMMIT

    async def _transact(
        self, producer: AIOKafkaProducer, outgoing: Sequence[Outgoing], completion: Completion
    ) -> None:
        await producer.begin_transaction()
        _heed_end(producer)
        # In this order: sends, their acknowledgements, offsets, commit. In parallel they collide
        # in the broker's own checks, and an acknowledgement that nobody awaits hides a lost
        # record behind a commit that succeeds.
        answers = await asyncio.gather(
            *await self._queue(producer, outgoing), return_exceptions=True
        )
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        failpoint(f"{self._kind}.sent")
        offset = OffsetAndMetadata(completion.watermark, completion.encode())
        await producer.send_offsets_to_transaction({self._source: offset}, self._group)
        await producer.commit_transaction()
        failpoint(f"{self._kind}.committed")

    async def close(self) -> None:
        """Stop the producer. The next owner's fence ends the transaction that it has open."""
        self._retire()
        self._stop_former()
        if self._stops:
            await asyncio.wait(self._stops)

    def _retire(self) -> None:
        producer, self._producer, self.needs_start = self._producer, None, True
        if producer is not None:
            self._former.append(producer)

    def _stop_former(self) -> None:
        while self._former:
            self._stop(self._former.pop())

    def _stop(self, producer: AIOKafkaProducer) -> None:
        # Outside of any task group: it raises nothing, and `close` waits for it.
        stopping = asyncio.get_running_loop().create_task(_stop(producer))
        self._stops.add(stopping)
        stopping.add_done_callback(self._stops.discard)

    async def _queue(
        self, producer: AIOKafkaProducer, outgoing: Sequence[Outgoing]
    ) -> list[asyncio.Future[object]]:
        queued: list[asyncio.Future[object]] = []
        for (topic, wanted), records in groupby(sorted(outgoing, key=self._place), self._place):
            # A forged record may name one that is not there; nothing could be committed any more.
            is_there = wanted in await producer.partitions_for(topic)
            partition = wanted if is_there else self._source.partition
            batch = producer.create_batch()
            for record in records:
                fields = {"key": record.key, "value": record.value, "headers": list(record.headers)}
                if batch.append(timestamp=None, **fields) is None:
                    queued.append(await producer.send_batch(batch, topic, partition=partition))
                    batch = producer.create_batch()
                    batch.append(timestamp=None, **fields)
            batch.close()
            queued.append(await producer.send_batch(batch, topic, partition=partition))
        return queued

    def _place(self, record: Outgoing) -> tuple[str, int]:
        wanted = record.partition
        return record.topic, self._source.partition if wanted is None else wanted


async def _stop(producer: AIOKafkaProducer) -> None:
    # Whatever comes of it: the next fence ends what this producer had open.
    await ended(producer)
    _heed_end(producer)


def _heed_end(producer: AIOKafkaProducer) -> None:
    """Retrieve how the transaction ends: the library leaves a failure in a future unretrieved."""
    ended = producer._txn_manager.wait_for_transaction_end()  # noqa: SLF001
    if ended is not None:
        ended.add_done_callback(lambda done: done.cancelled() or done.exception())
