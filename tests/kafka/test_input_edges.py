"""Input at the edges of what Kafka carries: too large, compressed, and headers made to mislead."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from confluent_kafka import KafkaError, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from consumers.providers.settings import ProviderSettings
from consumers.settings import Settings
from schemas.codec import read_dead_letter
from schemas.reasons import Reason
from tests.kafka.flow import Flow, Seen, Sent, flow, request

pytestmark = pytest.mark.kafka

_CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
_MEGABYTE = 1_000_000
_NO_LIMIT = 1_000_000_000
_CANARY = "canary-4711"
_TRACE_ID, _SPAN_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
_TRACE_HEADERS = ("traceparent", "tracestate", "baggage")


def _header(name: str, text: str) -> list[tuple[str, bytes | None]]:
    return [(name, text.encode())]


_MISLEADING: Mapping[str, list[tuple[str, bytes | None]]] = {
    "all-zero": _header("traceparent", f"00-{'0' * 32}-{'0' * 16}-00"),
    "ten-kilobytes": _header("traceparent", f"00-{_TRACE_ID}-{_SPAN_ID}-01-{'a' * 10_000}"),
    "ten-thousand-members": [
        *_header("traceparent", f"00-{_TRACE_ID}-{_SPAN_ID}-00"),
        *_header("tracestate", ",".join(f"v{number}={_CANARY}" for number in range(10_000))),
    ],
    "upper-case": _header("TraceParent", f"00-{_TRACE_ID.upper()}-{_SPAN_ID.upper()}-01"),
    "version-ff": _header("traceparent", f"ff-{_TRACE_ID}-{_SPAN_ID}-01"),
    "forged-sampling": _header("traceparent", f"00-{_TRACE_ID}-{_SPAN_ID}-01"),
    "secrets": _header("baggage", f"password={_CANARY},userId={_CANARY}"),
    "no-text": [("traceparent", b"\xff\xfe"), ("tracestate", None), ("baggage", b"\x00\r\n")],
    "again-and-again": _header("traceparent", f"00-{_TRACE_ID}-{_SPAN_ID}-01") * 1000,
}


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


@contextlib.asynccontextmanager
async def _overheard(base_url: str) -> AsyncIterator[tuple[str, list[str]]]:
    """An address that passes calls on to the provider, and all that was said in them."""
    said: list[str] = []

    async def pass_on(call: web.Request) -> web.Response:
        body = await call.text()
        said.append("".join(f"{name}: {text}\n" for name, text in call.headers.items()) + body)
        headers = {name: text for name, text in call.headers.items() if name != "Content-Length"}
        to = base_url + call.path.removeprefix("/v1")
        async with session.post(to, data=body, headers=headers) as reply:
            return web.Response(body=await reply.read(), status=reply.status)

    app = web.Application()
    app.router.add_post("/{path:.*}", pass_on)
    runner = web.AppRunner(app)
    async with aiohttp.ClientSession() as session:
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1", said
        finally:
            await runner.cleanup()


async def test_trace_headers_mislead_nobody_and_reach_no_provider(settings: Settings) -> None:
    stream = [
        Sent(request(name).value, name.encode(), headers) for name, headers in _MISLEADING.items()
    ]
    async with flow(settings) as running:
        await running.stop()
        async with _overheard(running.providers["simulated"].base_url) as (address, said):
            running.providers["simulated"] = ProviderSettings(base_url=address, allow_private=True)
            await running.start()
            await running.publish(*stream)
            ended = await running.terminal(len(stream))
            await running.stop()

        assert _ids(running, ended) == set(_MISLEADING)
        assert len(said) == running.bill.count >= len(_MISLEADING)
        for call in said:
            assert _CANARY not in call
            names = {line.partition(":")[0].lower() for line in call.splitlines()}
            assert "x-request-id" in names
            assert names.isdisjoint(_TRACE_HEADERS)
        for seen in ended:
            names_seen = [name.lower() for name, _ in seen.headers]
            assert names_seen.count("traceparent") <= 1
            assert names_seen.count("tracestate") <= 1
