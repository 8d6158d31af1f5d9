"""The broker of our own: it keeps its data, refuses clearly and never outlives its parent."""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from consumers.lab.broker import BrokerError, LocalBroker, local_broker

pytestmark = [pytest.mark.kafka, pytest.mark.anyio]

_TOPIC = "written"
_LIMIT_SECONDS = 30

#: A parent that says where its broker is and then waits to be killed.
_PARENT = """
import asyncio, pathlib, sys
from consumers.lab.broker import local_broker

async def main():
    data = pathlib.Path(sys.argv[1]) if sys.argv[1] else None
    async with local_broker(data_dir=data) as broker:
        print(broker.pid, broker.bootstrap, broker.data_dir, flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


async def _write(bootstrap: str, *values: bytes) -> None:
    async with AIOKafkaProducer(
        bootstrap_servers=bootstrap, transactional_id="test-writer"
    ) as producer:
        async with producer.transaction():
            for value in values:
                await producer.send_and_wait(_TOPIC, value, partition=0)
        with contextlib.suppress(RuntimeError):
            async with producer.transaction():
                await producer.send_and_wait(_TOPIC, b"aborted", partition=0)
                raise RuntimeError


async def _committed(bootstrap: str, count: int) -> list[bytes]:
    async with AIOKafkaConsumer(
        bootstrap_servers=bootstrap, isolation_level="read_committed", auto_offset_reset="earliest"
    ) as consumer:
        consumer.assign([TopicPartition(_TOPIC, 0)])
        async with asyncio.timeout(_LIMIT_SECONDS):
            return [(await consumer.getone()).value for _ in range(count)]


async def _create(bootstrap: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(_TOPIC, 1, 1)])
    finally:
        await admin.close()


def _parent(data: str) -> tuple["subprocess.Popen[str]", LocalBroker]:
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT, data], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    pid, bootstrap, folder = parent.stdout.readline().split()
    data_dir = Path(folder)
    return parent, LocalBroker(bootstrap, data_dir, int(pid), data_dir / "broker.log")


def _kill(parent: "subprocess.Popen[str]") -> None:
    parent.kill()
    parent.wait()
    assert parent.stdout is not None
    parent.stdout.close()


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def _gone(pid: int) -> float:
    """Seconds until the process is gone."""
    began = time.monotonic()
    async with asyncio.timeout(_LIMIT_SECONDS):
        while _is_alive(pid):  # noqa: ASYNC110 -- another process's end cannot be awaited
            await asyncio.sleep(0.02)
    return time.monotonic() - began


async def test_data_of_a_kept_folder_is_there_after_a_restart(tmp_path: Path):
    async with local_broker(data_dir=tmp_path) as first:
        await _create(first.bootstrap)
        await _write(first.bootstrap, b"one", b"two")
    assert not _is_alive(first.pid)

    async with local_broker(data_dir=tmp_path) as second:
        await _write(second.bootstrap, b"three")
        assert await _committed(second.bootstrap, 3) == [b"one", b"two", b"three"]


async def test_data_is_for_nobody_else_to_read(tmp_path: Path):
    before = os.umask(0)
    try:
        async with local_broker(data_dir=tmp_path / "kept") as running:
            await _create(running.bootstrap)
            await _write(running.bootstrap, b"one")
    finally:
        os.umask(before)
    found = [tmp_path / "kept", *(tmp_path / "kept").rglob("*")]
    open_to_others = [one.name for one in found if one.stat().st_mode & 0o077]
    assert open_to_others == []


async def test_temporary_data_is_deleted_at_the_end():
    async with local_broker() as broker:
        assert broker.data_dir.is_relative_to(tempfile.gettempdir())
        assert broker.log_file.exists()
    assert not broker.data_dir.exists()
    assert not _is_alive(broker.pid)


async def test_a_killed_parent_takes_its_broker_and_the_temporary_data_with_it():
    parent, broker = _parent("")
    _kill(parent)
    assert await _gone(broker.pid) < 3
    async with asyncio.timeout(_LIMIT_SECONDS):
        while broker.data_dir.exists():  # noqa: ASYNC110 -- nobody tells us
            await asyncio.sleep(0.02)


async def test_a_folder_is_taken_over_from_a_killed_parent_whose_broker_still_ends(tmp_path: Path):
    parent, broker = _parent(str(tmp_path))
    _kill(parent)
    async with local_broker(data_dir=tmp_path) as second:
        assert second.pid != broker.pid
        assert not _is_alive(broker.pid)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
async def test_a_killed_guard_takes_its_broker_with_it():
    parent, broker = _parent("")
    try:
        status = Path(f"/proc/{broker.pid}/status").read_text()  # noqa: ASYNC240
        guard = int(status.partition("PPid:")[2].split()[0])
        os.kill(guard, signal.SIGKILL)
        assert await _gone(broker.pid) < 3
    finally:
        _kill(parent)
        shutil.rmtree(broker.data_dir)  # nobody is left who would


async def test_a_second_broker_on_the_same_folder_is_refused_and_told_whose_it_is(tmp_path: Path):
    async with local_broker(data_dir=tmp_path):
        with pytest.raises(BrokerError) as refused:
            await local_broker(data_dir=tmp_path).__aenter__()
    assert str(tmp_path) in str(refused.value)
    assert f"process {os.getpid()}" in str(refused.value)


async def test_a_port_in_use_is_refused_before_anything_starts():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BrokerError, match=f"port {port} on 127.0.0.1 is in use"):
            await local_broker(port=port).__aenter__()


async def test_a_broker_that_does_not_come_up_shows_the_end_of_its_log():
    with pytest.raises(BrokerError, match=r"(?s)ended while it was starting.*num\.io\.threads"):
        await local_broker(properties={"num.io.threads": "none"}).__aenter__()
