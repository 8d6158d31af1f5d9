"""Every paid call is booked once: by owners that lost a partition, and by ends without Kafka."""

import asyncio
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from consumers.settings import Settings
from schemas.attempt import LedgerEntry
from schemas.codec import read_model
from schemas.reasons import Reason
from tests.kafka.conftest import BreakableKafka, settings_for
from tests.kafka.flow import Flow, flow, request

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


async def _until_booked(running: Flow) -> None:
    """Until the ledger is the bill: a process that was frozen writes what it has measured late."""
    async with asyncio.timeout(_LIMIT_SECONDS):
        while await _booked(running) != _billed(running):  # noqa: ASYNC110  nor has the ledger
            await asyncio.sleep(0.1)


async def _booked(running: Flow) -> Counter[tuple[str, int]]:
    lines = [read_model(LedgerEntry, seen.value).attempt for seen in await running.ledger()]
    return Counter((one.attempt_id, one.cost_micros) for one in lines)


def _billed(running: Flow) -> Counter[tuple[str, int]]:
    return Counter((line.attempt_id, line.cost_micros) for line in running.bill.lines)


async def test_an_owner_that_comes_back_to_an_equal_state_books_what_it_had_paid(
    settings: Settings, tmp_path: Path
) -> None:
    """It was frozen with replies in hand; the next owner booked estimates and called again."""
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

            await _until_booked(running)
            frozen.terminate()
            assert await frozen.wait() == 0
        assert await _booked(running) == _billed(running)
        assert running.bill.count == 2 * _REQUESTS


async def test_what_a_killed_process_had_started_is_booked_by_the_next_owner_at_its_reserve(
    settings: Settings, tmp_path: Path
) -> None:
    """Once each, and its requests go on."""
    async with flow(settings, tiers=(), latency_scale=10.0) as running:
        async with _worker(running, tmp_path) as first:
            await _publish(running)
            await _until_calling(running)
            first.kill()
            await first.wait()
        async with _worker(running, tmp_path) as second:
            await running.terminal(_REQUESTS)
            second.terminate()
            assert await second.wait() == 0

        lines = [read_model(LedgerEntry, seen.value).attempt for seen in await running.ledger()]
        billed = {line.attempt_id: line.cost_micros for line in running.bill.lines}
        assert Counter(line.attempt_id for line in lines) == Counter(list(billed))
        lost = [line for line in lines if line.attempt_id.endswith(".1.1")]
        assert [line.reason for line in lost] == [Reason.OUTCOME_UNKNOWN] * _REQUESTS
        assert all(line.is_estimated for line in lost)
        assert all(line.cost_micros >= billed[line.attempt_id] > 0 for line in lost)
        others = {line.attempt_id: line.cost_micros for line in lines if line not in lost}
        assert others.items() <= billed.items()


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
            await _until_booked(running)
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
        read = await running.read([running.topics.attempts])
        lines = [line.json["attempt"] for line in read]
        booked = {line["attempt_id"] for line in lines if line["outcome"] != "started"}
        assert named | booked == {line.attempt_id for line in running.bill.lines}
