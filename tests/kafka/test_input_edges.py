"""Input at the edges of what Kafka carries: too large, compressed, and headers made to mislead."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from confluent_kafka import KafkaError, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from consumers.settings import Settings
from schemas.codec import read_dead_letter
from schemas.reasons import Reason
from tests.kafka.flow import Flow, Seen, Sent, flow, request

pytestmark = pytest.mark.kafka

_CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
_MEGABYTE = 1_000_000
_NO_LIMIT = 1_000_000_000


async def _publish(running: Flow, *records: Sent, **config: object) -> list[KafkaError | None]:
    """Send records from a client without limits of its own; what the broker says of each."""
    said: dict[int, KafkaError | None] = {}
    producer: Any = Producer(
        {
            "bootstrap.servers": running.settings.kafka.bootstrap,
            "message.max.bytes": _NO_LIMIT,
            "queue.buffering.max.kbytes": _MEGABYTE,
            "log_level": 2,
            **config,
        }
    )

    def send() -> None:
        for number, record in enumerate(records):
            producer.produce(
                running.topics.intake,
                record.value,
                record.key,
                partition=record.partition,
                headers=list(record.headers),
                on_delivery=lambda error, _, number=number: said.update({number: error}),
            )
        producer.flush(60)

    await asyncio.to_thread(send)
    return [said[number] for number in range(len(records))]


def _padded(request_id: str, size: int) -> Sent:
    """A request of this size, all of it text that nobody reads."""
    plain = request(request_id, metadata={"padding": ""}).value or b""
    return request(request_id, metadata={"padding": "x" * (size - len(plain))})


def _of_many_keys(request_id: str, count: int) -> Sent:
    return request(request_id, metadata={f"{number:06}": number % 10 for number in range(count)})


def _ids(running: Flow, ended: Sequence[Seen]) -> set[str]:
    return {seen.json["id"] for seen in ended if seen.topic == running.topics.results}


async def test_the_broker_refuses_what_is_too_large_and_the_flow_goes_on(
    settings: Settings,
) -> None:
    """Also what is small on the way: a compressed record counts as large as it is unpacked."""
    bomb = _padded("bomb", 100 * _MEGABYTE)
    async with flow(settings) as running:
        refused = await _publish(running, _padded("large", 10 * _MEGABYTE))
        refused += await _publish(running, _of_many_keys("keys", _MEGABYTE))
        for codec in ("gzip", "zstd"):
            refused += await _publish(running, bomb, **{"compression.codec": codec})
        assert [error and error.code() for error in refused] == [KafkaError.MSG_SIZE_TOO_LARGE] * 4

        await running.publish(request("behind"))
        assert _ids(running, await running.terminal(1)) == {"behind"}


async def test_the_largest_record_that_intake_takes_has_its_result(settings: Settings) -> None:
    """Its envelope makes it larger still, and its text is of the kind that is slow to read."""
    many = _of_many_keys("many", 95_000)
    large = _padded("large", (1 << 20) - 200)
    assert 1_000_000 < len(many.value or b"") < 1 << 20
    async with flow(settings) as running:
        assert await _publish(running, many, large) == [None, None]
        assert _ids(running, await running.terminal(2)) == {"many", "large"}


@contextlib.asynccontextmanager
async def _foreign(settings: Settings) -> AsyncIterator[Flow]:
    """A flow whose intake another tool has made: it keeps compression and takes 32 MiB."""
    topic = NewTopic(
        settings.kafka.topics.intake,
        num_partitions=settings.kafka.partitions,
        replication_factor=1,
        config={"max.message.bytes": str(32 << 20), "compression.type": "producer"},
    )
    admin = AdminClient({"bootstrap.servers": str(settings.kafka.bootstrap)})
    for made in admin.create_topics([topic]).values():
        await asyncio.to_thread(made.result, 30)
    async with flow(settings) as running:
        yield running


@pytest.mark.parametrize("intake", [flow, _foreign])
async def test_every_codec_of_kafka_is_read(intake: Any, settings: Settings) -> None:
    """On an intake of ours the broker unpacks, on another one we do."""
    async with intake(settings) as running:
        for codec in _CODECS:
            sent = [request(f"{codec}-{number}") for number in range(3)]
            assert not any(await _publish(running, *sent, **{"compression.codec": codec}))
        ended = await running.terminal(3 * len(_CODECS))

        assert _ids(running, ended) == {
            f"{codec}-{number}" for codec in _CODECS for number in range(3)
        }


async def test_what_an_intake_of_another_tool_lets_in_is_refused_unread(
    settings: Settings,
) -> None:
    """The value is no JSON at its end, so only who does not parse it calls it too large."""
    two, three = _padded("two", 2 * _MEGABYTE), _of_many_keys("three", 200_000)
    ten, keys = _padded("ten", 10 * _MEGABYTE), _of_many_keys("keys", _MEGABYTE)
    stream = [
        Sent((record.value or b"") + b"}", record.key, partition=0)
        for record in (two, three, ten, keys)
    ]
    async with _foreign(settings) as running:
        assert not any(await _publish(running, *stream))
        await running.publish(Sent(request("behind").value, b"behind", partition=0))
        ended = await running.terminal(len(stream) + 1)

        assert _ids(running, ended) == {"behind"}
        assert {line.request_id for line in running.bill.lines} == {"behind"}
        letters = {seen.key: seen for seen in ended if seen.topic == running.topics.dead_letters}
        for offset, record in enumerate(stream):
            seen = letters[record.key]
            letter = read_dead_letter(seen.headers)
            assert (letter.reason, letter.source.offset) == (Reason.TOO_LARGE, offset)
            # What no dead letter can hold stays where it is.
            fits = len(record.value or b"") < 3 * _MEGABYTE
            assert seen.value == (record.value if fits else None)
            assert ("still at its place" in letter.detail) is not fits
