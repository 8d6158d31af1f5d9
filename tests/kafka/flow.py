"""The whole flow in this process, seen from outside through a client that is not ours."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)

from consumers.lab.simulator import Bill, SimulatorSettings, simulator
from consumers.parties import stages_of
from consumers.providers.settings import ProviderSettings
from consumers.rules import load_rules
from consumers.runtime.clients import Clients
from consumers.runtime.topics import ensure_topics
from consumers.settings import Settings
from consumers.telemetry.setup import Telemetry
from consumers.wiring import running_stages
from router.releases.bundle import Bundle
from schemas.base import Tier
from schemas.topics import Topics

__all__ = ["Flow", "Seen", "Sent", "flow", "read_topics", "request"]

_LIMIT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Sent:
    """A record as a producer sends it."""

    value: bytes | None
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes | None]] = ()
    #: -1: the client chooses by key.
    partition: int = -1
    timestamp_ms: int = 0


@dataclass(frozen=True, slots=True)
class Seen:
    """A record as a reader of committed records sees it."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]

    def all_of(self, name: str) -> list[bytes]:
        """The values of every header of that name."""
        return [value for header, value in self.headers if header == name]

    def header(self, name: str) -> str | None:
        """The text of the first header of that name."""
        values = self.all_of(name)
        return values[0].decode() if values else None

    @property
    def json(self) -> Any:
        """The value, parsed."""
        return orjson.loads(self.value or b"null")


def request(request_id: str, text: str = "", **fields: Any) -> Sent:
    """A request that names its id as its key; a label for a printer, unless told otherwise."""
    body = {
        "id": request_id,
        "task": "classification",
        "input": text or "Which product is this about: the P-200 printer is out of ink",
        **fields,
    }
    given = {name: value for name, value in body.items() if value is not None}
    return Sent(orjson.dumps(given), request_id.encode())


@dataclass(slots=True)
class Flow:
    """Topics, a simulated provider and all stages, running."""

    settings: Settings
    bill: Bill
    rules: Bundle
    providers: dict[str, ProviderSettings]
    _producer: Any
    telemetry: Telemetry | None = None
    #: Whose workers run here.
    tiers: Sequence[Tier] = tuple(Tier)
    _stages: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)

    @property
    def topics(self) -> Topics:
        """The names of this flow's topics."""
        return self.settings.kafka.topics

    async def publish(self, *records: Sent, topic: str | None = None) -> list[tuple[int, int]]:
        """Send records to intake, unless told; the partition and offset of each, in their order."""
        places: dict[int, tuple[int, int]] = {}

        def sent(number: int, error: KafkaError | None, message: Any) -> None:
            if error is not None:
                raise KafkaException(error)
            places[number] = (message.partition(), message.offset())

        def send() -> None:
            for number, record in enumerate(records):
                self._producer.produce(
                    topic or self.topics.intake,
                    record.value,
                    record.key,
                    partition=record.partition,
                    timestamp=record.timestamp_ms,
                    headers=list(record.headers),
                    on_delivery=lambda error, message, number=number: sent(number, error, message),
                )
                self._producer.poll(0)
            self._producer.flush(_LIMIT_SECONDS)

        await asyncio.to_thread(send)
        assert len(places) == len(records)
        return [places[number] for number in range(len(records))]

    async def terminal(self, count: int, *, to_end: bool = True) -> list[Seen]:
        """All results and dead letters, once there are `count` of them."""
        return await self.read(
            [self.topics.results, self.topics.dead_letters], count, to_end=to_end
        )

    async def ledger(self) -> list[Seen]:
        """A line of each call that has ended, once all that were billed have: a measured one first.

        Each call has one line that announces it, and one at least that says what came of it.
        """
        counted: dict[tuple[str, str], Seen] = {}
        for seen in await self.read([self.topics.attempts], 2 * self.bill.count):
            attempt = seen.json["attempt"]
            call = attempt["attempt_id"], attempt["started_at"]
            if attempt["outcome"] == "started":
                continue
            if call not in counted or not attempt["is_estimated"]:
                counted[call] = seen
        return list(counted.values())

    async def read(
        self, topics: Iterable[str], count: int = 0, *, to_end: bool = True
    ) -> list[Seen]:
        """All committed records of these topics, once there are at least `count` of them."""
        bootstrap = str(self.settings.kafka.bootstrap)
        return await asyncio.to_thread(read_topics, bootstrap, list(topics), count, to_end=to_end)

    async def start(self) -> None:
        """Start the stages and wait until they have their partitions."""
        stages = running_stages(
            self.settings,
            self.rules,
            self.providers,
            kinds=stages_of(tiers=self.tiers),
            telemetry=self.telemetry,
        )
        await self._stages.enter_async_context(stages)

    async def stop(self) -> None:
        """Drain the stages and stop them."""
        await self._stages.aclose()


@contextlib.asynccontextmanager
async def flow(
    settings: Settings,
    telemetry: Telemetry | None = None,
    tiers: Sequence[Tier] = tuple(Tier),
    **simulated: Any,
) -> AsyncIterator[Flow]:
    """The flow for as long as the context is open; `simulated` are the provider's settings."""
    assert await ensure_topics(Clients(settings.kafka)) == []
    rules = load_rules(settings)
    wanted = {"latency_scale": 0.02, **simulated}
    async with simulator(SimulatorSettings(**wanted)) as provider:
        at = ProviderSettings(base_url=provider.base_url, allow_private=True)
        producer = Producer(
            {"bootstrap.servers": settings.kafka.bootstrap, "linger.ms": 5, "log_level": 2}
        )
        providers = {"simulated": at}
        running = Flow(settings, provider.bill, rules, providers, producer, telemetry, tiers)
        await running.start()
        try:
            yield running
        finally:
            await running.stop()


def read_topics(
    bootstrap: str, topics: Sequence[str], count: int = 0, *, to_end: bool = True
) -> list[Seen]:
    """Every committed record of the topics, in the order of each partition.

    Reads on to the ends after `count` records, so that whatever is too many is seen as well;
    where records keep coming there is no end, and `to_end=False` stops at the count.
    """
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "tierline-tests",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 50,
            "log_level": 2,
        }
    )
    seen: list[Seen] = []
    try:
        give_up = time.monotonic() + _LIMIT_SECONDS
        while True:  # a broker that just woke may name a topic without its partitions
            known = consumer.list_topics(timeout=10).topics
            if all(known[name].partitions for name in topics) or time.monotonic() > give_up:
                break
            time.sleep(0.1)
        places = {(name, number) for name in topics for number in known[name].partitions}
        consumer.assign([TopicPartition(*place, OFFSET_BEGINNING) for place in places])
        at_end: set[tuple[str, int]] = set()
        while len(seen) < count or (to_end and at_end != places):
            if time.monotonic() > give_up:
                msg = f"{len(seen)} of {count} records after {_LIMIT_SECONDS:.0f} s in {topics}"
                raise TimeoutError(msg)
            message: Any
            for message in consumer.consume(500, timeout=0.1):
                place = (message.topic(), message.partition())
                if message.error() is None:
                    at_end.discard(place)
                    seen.append(_seen(message))
                elif message.error().code() == KafkaError._PARTITION_EOF:
                    at_end.add(place)
                else:
                    raise KafkaException(message.error())
    finally:
        consumer.close()
    return seen


def _seen(message: Any) -> Seen:
    return Seen(
        message.topic(),
        message.partition(),
        message.offset(),
        message.key(),
        message.value(),
        message.headers() or [],
    )
