"""Every paid call is booked once: by owners that lost a partition, and by ends without Kafka."""

import asyncio
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from consumers.settings import Settings
from schemas.attempt import LedgerEntry
from schemas.codec import read_model
from tests.kafka.conftest import BreakableKafka, settings_for
from tests.kafka.flow import Flow, flow, request
from tests.unit.consumers.servers import a_response, serving
from tests.unit.consumers.test_providers import a_completion

pytestmark = [pytest.mark.kafka, pytest.mark.anyio, pytest.mark.timeout(240)]

_TIERLINE = str(Path(sys.executable).with_name("tierline"))
_REQUESTS = 3
_LIMIT_SECONDS = 60


@asynccontextmanager
async def _worker(
    running: Flow, folder: Path, **more: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A worker of all tiers in a process of its own, which ends with the context at the latest."""
    kafka = running.settings.kafka
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(folder),
        "TIERLINE_KAFKA__BOOTSTRAP": str(kafka.bootstrap),
        "TIERLINE_KAFKA__PREFIX": kafka.prefix,
        "TIERLINE_KAFKA__PARTITIONS": str(kafka.partitions),
        "TIERLINE_KAFKA__SESSION_TIMEOUT": "PT6S",
        "TIERLINE_KAFKA__HEARTBEAT_INTERVAL": "PT0.5S",
        "TIERLINE_PROVIDERS__SIMULATED__BASE_URL": running.providers["simulated"].base_url,
        "TIERLINE_PROVIDERS__SIMULATED__ALLOW_PRIVATE": "true",
        **more,
    }
    with (folder / "worker.log").open("ab") as said:
        process = await asyncio.create_subprocess_exec(
            *(_TIERLINE, "up", "--only", "work"), env=environment, stdout=said, stderr=said
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
            await process.wait()


async def _until_calling(running: Flow, count: int = _REQUESTS) -> None:
    async with asyncio.timeout(_LIMIT_SECONDS):
        while running.bill.open_calls < count:  # noqa: ASYNC110  the provider has no event for it
            await asyncio.sleep(0.01)


async def _until_quiet(running: Flow) -> None:
    async with asyncio.timeout(_LIMIT_SECONDS):
        while running.bill.open_calls:  # noqa: ASYNC110  as above
            await asyncio.sleep(0.01)


async def _publish(running: Flow) -> None:
    """One request per partition: what its owners commit is equal to the last offset."""
    await running.publish(
        *(replace(request(f"paid-{no}"), partition=no) for no in range(_REQUESTS))
    )


async def _booked(running: Flow) -> Counter[tuple[str, int]]:
    lines = [read_model(LedgerEntry, seen.value).attempt for seen in await running.ledger()]
    return Counter((one.attempt_id, one.cost_micros) for one in lines)


def _billed(running: Flow) -> Counter[tuple[str, int]]:
    return Counter((line.attempt_id, line.cost_micros) for line in running.bill.lines)


async def test_an_owner_that_comes_back_to_an_equal_state_books_what_it_had_paid(
    settings: Settings, tmp_path: Path
) -> None:
    """It was frozen with replies in hand; the next owner made the same calls and committed them."""
    async with flow(settings, tiers=(), latency_scale=10.0) as running:
        async with _worker(running, tmp_path) as frozen:
            await _publish(running)
            await _until_calling(running)
            frozen.send_signal(signal.SIGSTOP)
            await _until_quiet(running)
            async with _worker(running, tmp_path) as second:
                await running.terminal(_REQUESTS)
                second.terminate()
                assert await second.wait() == 0
            frozen.send_signal(signal.SIGCONT)

            assert await _booked(running) == _billed(running)
            frozen.terminate()
            assert await frozen.wait() == 0
        assert await _booked(running) == _billed(running)
        assert max(_billed(running).values()) == 2


async def test_what_was_paid_is_booked_before_a_request_waits(
    settings: Settings, tmp_path: Path
) -> None:
    """A kill while it waits would leave nobody to book it."""
    calls = 0

    async def respond(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal calls
        calls += 1
        answer = a_response(b"{}", "429 Slow", retry_after="20")
        if calls == 1:
            answer = a_response(orjson.dumps({**a_completion("no JSON"), "model": "sim-small"}))
        writer.write(answer)
        await writer.drain()

    async with serving(respond) as server, flow(settings, tiers=()) as running:
        url = {"TIERLINE_PROVIDERS__SIMULATED__BASE_URL": server.url}
        async with _worker(running, tmp_path, **url) as worker:
            await running.publish(request("paid-0"))
            [line] = await running.read([running.topics.attempts], 1)
            assert await running.terminal(0) == []
            worker.kill()
            await worker.wait()
        attempt = read_model(LedgerEntry, line.value).attempt
        assert (attempt.outcome, attempt.cost_micros > 0) == ("rejected", True)


async def test_an_end_without_kafka_says_so_and_the_next_start_books_what_was_paid(
    kafka: BreakableKafka, tmp_path: Path
) -> None:
    settings = settings_for(await kafka.start(), "ends.")
    state = {"TIERLINE_STATE_DIR": str(tmp_path / "state"), "TIERLINE_WORKER__DRAIN_FOR": "PT3S"}
    async with flow(settings, tiers=(), latency_scale=5.0) as running:
        async with _worker(running, tmp_path, **state) as worker:
            await _publish(running)
            await _until_calling(running)
            await kafka.lose()
            worker.terminate()
            async with asyncio.timeout(_LIMIT_SECONDS):
                assert await worker.wait() == 1

        [spool] = (tmp_path / "state" / "ledger").iterdir()
        assert any(line.attempt_id in spool.read_text() for line in running.bill.lines)
        assert str(spool) in (tmp_path / "worker.log").read_text()

        await kafka.start()
        async with _worker(running, tmp_path, **state) as worker:
            await running.terminal(_REQUESTS)
            assert await _booked(running) == _billed(running)
            worker.terminate()
            assert await worker.wait() == 0
        assert list(spool.parent.iterdir()) == []


async def test_an_end_without_kafka_and_without_a_disk_names_what_was_paid(
    kafka: BreakableKafka, tmp_path: Path
) -> None:
    settings = settings_for(await kafka.start(), "no-disk.")
    (tmp_path / "state").write_text("a file where a folder should be")
    state = {"TIERLINE_STATE_DIR": str(tmp_path / "state"), "TIERLINE_WORKER__DRAIN_FOR": "PT3S"}
    async with flow(settings, tiers=(), latency_scale=5.0) as running:
        async with _worker(running, tmp_path, **state) as worker:
            await _publish(running)
            await _until_calling(running)
            await kafka.lose()
            worker.terminate()
            async with asyncio.timeout(_LIMIT_SECONDS):
                assert await worker.wait() == 1
        told = (tmp_path / "worker.log").read_text()
        named = {line.attempt_id for line in running.bill.lines if line.attempt_id in told}
        assert named

        await kafka.start()
        lines = await running.read([running.topics.attempts])
        booked = {read_model(LedgerEntry, line.value).attempt.attempt_id for line in lines}
        assert named | booked == {line.attempt_id for line in running.bill.lines}
