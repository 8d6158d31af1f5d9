"""Records that end the process that handles them: known after the second time, and set aside.

`python -m consumers.runtime.poison` writes one strike, given as JSON on standard input, and prints
how many there are now: for a sentinel, whose process cannot do so any more.
"""

import asyncio
import json
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import structlog
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupAuthorizationFailedError, KafkaError
from aiokafka.structs import OffsetAndMetadata

from consumers.failpoints import failpoint_of
from consumers.records import Record, record_ref
from consumers.runtime.clients import Clients, ended
from consumers.runtime.limits import at_most
from consumers.runtime.marks import Left, Mark, left_behind
from consumers.runtime.strikes import MOST_TRIES, Strikes, group_of_strikes
from consumers.settings import KafkaSettings

__all__ = ["Guard", "adopt", "read_strikes", "settings_to_hand", "write_strike"]

_log = structlog.get_logger(__name__)

_ANSWER_LIMIT = 15.0
_WRITE_LIMIT = 12.0
_LOOK_AGAIN_SECONDS = 0.2
#: Strikes are not read again so soon: partitions are taken several at a time.
_FRESH_SECONDS = 1.0


class Guard:
    """Marks the records of one group while they are handled, and knows which must not be."""

    def __init__(
        self, group: str = "", mark: Mark | None = None, folder: Path | None = None
    ) -> None:
        """Without `mark` no other process sees the marks; dead ones left theirs in `folder`."""
        self.mark = mark or Mark()
        self.group = group
        self._folder = folder
        self._learning = asyncio.Lock()
        self._learned_at = -_FRESH_SECONDS
        self._numbers: dict[str, int] = {}
        self._strikes: Mapping[TopicPartition, Strikes] = {}

    def on(self, record: Record) -> AbstractContextManager[None]:
        """Mark a record within a block."""
        return self.mark.on(*self.mark_of(record))

    def mark_of(self, record: Record) -> tuple[int, int, int]:
        """A record as it is marked: its source's number, partition and offset."""
        return self.number(record.topic), record.partition, record.offset

    def number(self, topic: str) -> int:
        """The number under which records of a topic are marked."""
        if (number := self._numbers.get(topic)) is None:
            number = self._numbers[topic] = self.mark.source(self.group, topic)
        return number

    async def learn(self, clients: Clients, admin: AIOKafkaAdminClient) -> None:
        """Read the strikes against the group's records, unless that was just done.

        Raises KafkaError.
        """
        async with self._learning:
            began = time.monotonic()
            if began - self._learned_at < _FRESH_SECONDS:
                return
            try:
                if self._folder is not None:
                    await adopt(clients, self._folder, self.mark.kafka)
                self._strikes = await read_strikes(admin, self.group)
            except GroupAuthorizationFailedError:
                _log.error(
                    "strikes not read",
                    group=group_of_strikes(self.group),
                    next="give this process the right to read and commit offsets of that group",
                )
            self._learned_at = began

    def each(self, records: Iterable[Record]) -> Iterator[Record]:
        """The records that may be handled, each marked until the next is asked for."""
        try:
            for record in records:
                if self.is_poisonous(record):
                    _log.error("poisonous record", place=record_ref(record))
                    continue
                self.mark.set(*self.mark_of(record))
                failpoint_of(record)
                yield record
        finally:
            self.mark.clear()

    def deaths(self, record: Record) -> int:
        """How many processes have ended at a record."""
        if not self._strikes:
            return 0
        strikes = self._strikes.get(TopicPartition(record.topic, record.partition))
        return strikes.count(record.offset) if strikes else 0

    def is_poisonous(self, record: Record) -> bool:
        """True for a record that must not be handled again."""
        return self.deaths(record) >= MOST_TRIES


async def read_strikes(admin: AIOKafkaAdminClient, group: str) -> dict[TopicPartition, Strikes]:
    """All strikes against a group's records."""
    reading = admin.list_consumer_group_offsets(group_of_strikes(group))
    commits = await at_most(_ANSWER_LIMIT, reading)
    strikes: dict[TopicPartition, Strikes] = {}
    for tp, committed in commits.items():
        try:
            strikes[tp] = Strikes.decode(committed.metadata or "")
        except ValueError as error:
            _log.warning("strikes not read", topic=tp.topic, error=str(error))
    return strikes


async def write_strike(clients: Clients, left: Left) -> int:
    """Note that a process has ended at a record; returns how many have. Raises KafkaError."""
    tp = TopicPartition(left.topic, left.partition)
    consumer = clients.lone_committer(group_of_strikes(left.group))
    admin = clients.admin()
    try:
        await admin.start()
        before = (await read_strikes(admin, left.group)).get(tp, Strikes())
        strikes = before.after(left.offset, left.death)
        await consumer.start()
        consumer.assign([tp])
        await consumer.commit({tp: OffsetAndMetadata(left.offset, strikes.encode())})
    finally:
        await ended(consumer)
        await admin.close()
    return strikes.count(left.offset)


async def adopt(clients: Clients, folder: Path, kafka: str) -> None:
    """Turn the marks of dead processes of this machine into strikes, before anything is read.

    They are left by processes that died together with their sentinel. Waits for a sentinel that is
    writing a strike. Raises KafkaError.
    """
    for _ in range(round(_WRITE_LIMIT / _LOOK_AGAIN_SECONDS)):
        is_waiting = False
        for left in left_behind(folder, kafka):
            if left is None:
                is_waiting = True
                continue
            count = await at_most(_WRITE_LIMIT, write_strike(clients, left))
            _tell(left, count)
        if not is_waiting:
            return
        await asyncio.sleep(_LOOK_AGAIN_SECONDS)


def settings_to_hand(settings: KafkaSettings) -> dict[str, Any]:
    """How to reach Kafka, for the sentinel: secrets in clear text, and only through pipes."""
    handed: dict[str, Any] = settings.model_dump(mode="json")
    if settings.password is not None:
        handed["password"] = settings.password.get_secret_value()
    return handed


def _tell(left: Left, count: int) -> None:
    _log.error(
        "process ended at a record",
        topic=left.topic,
        partition=left.partition,
        offset=left.offset,
        times=count,
        next="it is tried again" if count < MOST_TRIES else "it becomes a dead letter",
    )


async def _main(strike: Mapping[str, Any]) -> int:
    settings = KafkaSettings.model_validate_json(json.dumps(strike["kafka"]))
    names = ("group", "topic", "partition", "offset", "death")
    left = Left(**{name: strike[name] for name in names})
    return await at_most(_WRITE_LIMIT, write_strike(Clients(settings), left))


if __name__ == "__main__":
    # Standard output is for the count alone.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    try:
        sys.stdout.write(f"{asyncio.run(_main(json.load(sys.stdin)))}\n")
    except (KafkaError, TimeoutError, OSError) as failed:
        sys.exit(f"{type(failed).__name__}")
