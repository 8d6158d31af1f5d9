"""The network between clients and a real broker fails in each way, and comes back."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from consumers.lab.broker import local_broker
from consumers.lab.broker.local import free_ports
from tests.nemesis.proxy import Proxy

pytestmark = [pytest.mark.kafka, pytest.mark.anyio]

_LIMIT_SECONDS = 30
#: Long for one send on loopback; only what does not happen is waited for as long.
_LONG = 0.7


@dataclass
class Line:
    """A proxy, the broker behind it, and a topic of the test's own."""

    proxy: Proxy
    direct: str
    topic: str = ""


@pytest.fixture(scope="module")
async def behind(anyio_backend: str) -> AsyncIterator[Line]:
    port = free_ports()[0]
    async with (
        Proxy("127.0.0.1", port) as proxy,
        local_broker(port=port, advertised=proxy.address) as broker,
    ):
        yield Line(proxy, broker.bootstrap)


@pytest.fixture
async def line(behind: Line) -> AsyncIterator[Line]:
    admin = AIOKafkaAdminClient(bootstrap_servers=behind.direct)
    topic = uuid.uuid4().hex
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, 1, 1)])
    finally:
        await admin.close()
    yield Line(behind.proxy, behind.direct, topic)
    behind.proxy.resume()
    behind.proxy.slow()
    await behind.proxy.restore()


@asynccontextmanager
async def a_producer(bootstrap: str) -> AsyncIterator[AIOKafkaProducer]:
    async with AIOKafkaProducer(
        bootstrap_servers=bootstrap, enable_idempotence=True, request_timeout_ms=20_000
    ) as producer:
        yield producer


async def written(bootstrap: str, topic: str, count: int) -> list[bytes]:
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap, fetch_max_wait_ms=50) as consumer:
        consumer.assign([TopicPartition(topic, 0)])
        await consumer.seek_to_beginning()
        async with asyncio.timeout(_LIMIT_SECONDS):
            return [(await consumer.getone()).value for _ in range(count)]


async def finishes(what: "asyncio.Task[object]") -> bool:
    done, _ = await asyncio.wait({what}, timeout=_LONG)
    return bool(done)


async def seconds(what: Awaitable[object]) -> float:
    began = time.monotonic()
    await what
    return time.monotonic() - began


async def test_clients_that_come_through_the_proxy_stay_on_it(line: Line):
    value = b"v" * 50_000
    sent, received = line.proxy.bytes_to_broker, line.proxy.bytes_to_client
    async with a_producer(line.proxy.address) as producer:
        await producer.send_and_wait(line.topic, value)
    assert await written(line.proxy.address, line.topic, 1) == [value]
    assert line.proxy.bytes_to_broker - sent > len(value)
    assert line.proxy.bytes_to_client - received > len(value)


async def test_the_broker_does_without_the_proxy_and_so_does_who_comes_directly(line: Line):
    await line.proxy.cut()
    # Ends of transactions are marked by the broker writing to itself.
    async with AIOKafkaProducer(
        bootstrap_servers=line.direct, transactional_id=line.topic
    ) as producer:
        for value in (b"one", b"two"):
            async with asyncio.timeout(_LIMIT_SECONDS), producer.transaction():
                await producer.send_and_wait(line.topic, value)
    assert await written(line.direct, line.topic, 2) == [b"one", b"two"]


async def test_a_paused_line_holds_a_send_and_gives_it_out_afterwards(line: Line):
    async with a_producer(line.proxy.address) as producer, asyncio.TaskGroup() as group:
        await producer.send_and_wait(line.topic, b"before")
        open_before = line.proxy.connections
        line.proxy.pause()
        sending = group.create_task(producer.send_and_wait(line.topic, b"held"))
        assert not await finishes(sending)
        assert line.proxy.connections == open_before

        line.proxy.resume()
        async with asyncio.timeout(_LIMIT_SECONDS):
            await sending
    assert await written(line.direct, line.topic, 2) == [b"before", b"held"]


async def test_held_answers_leave_done_what_the_client_does_not_know_of(line: Line):
    async with a_producer(line.proxy.address) as producer, asyncio.TaskGroup() as group:
        await producer.send_and_wait(line.topic, b"before")
        line.proxy.pause(answers_only=True)
        sending = group.create_task(producer.send_and_wait(line.topic, b"done"))
        assert await written(line.direct, line.topic, 2) == [b"before", b"done"]
        assert not sending.done()

        line.proxy.resume()
        async with asyncio.timeout(_LIMIT_SECONDS):
            await sending


async def test_a_cut_resets_and_refuses_and_clients_recover_when_it_is_restored(line: Line):
    host, _, port = line.proxy.address.partition(":")
    async with a_producer(line.proxy.address) as producer, asyncio.TaskGroup() as group:
        await producer.send_and_wait(line.topic, b"before")
        await line.proxy.cut()
        assert line.proxy.connections == 0
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(host, int(port))
        sending = group.create_task(producer.send_and_wait(line.topic, b"after"))
        assert not await finishes(sending)

        await line.proxy.restore()
        async with asyncio.timeout(_LIMIT_SECONDS):
            await sending
    assert await written(line.proxy.address, line.topic, 2) == [b"before", b"after"]


async def test_a_cut_ends_a_paused_line_and_drops_what_it_held(line: Line):
    host, _, port = line.proxy.address.partition(":")
    line.proxy.pause()
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"held")
    await writer.drain()
    await line.proxy.cut()
    async with asyncio.timeout(_LIMIT_SECONDS):
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)
    writer.close()


async def test_a_slow_line_delays_each_way_and_lets_so_much_through(line: Line):
    async with a_producer(line.proxy.address) as producer:
        await producer.send_and_wait(line.topic, b"first")
        line.proxy.slow(delay_s=0.1)
        assert await seconds(producer.send_and_wait(line.topic, b"late")) >= 0.2
        line.proxy.slow(bytes_per_s=1_000_000)
        assert await seconds(producer.send_and_wait(line.topic, b"v" * 300_000)) >= 0.3
        line.proxy.slow()
        assert await seconds(producer.send_and_wait(line.topic, b"v" * 300_000)) < 0.3
