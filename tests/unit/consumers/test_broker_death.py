"""What is said when a broker of ours ends by itself."""

import asyncio
import sys
from pathlib import Path

import pytest

from consumers.lab.broker import LocalBroker


@pytest.fixture
def anyio_backend():
    return "asyncio"


async def said_of(folder: Path, ending: str, log: str = "INFO all is well\n") -> str:
    (folder / "broker.log").write_text(log)
    guard = await asyncio.create_subprocess_exec(sys.executable, "-c", f"import sys; {ending}")
    broker = LocalBroker("127.0.0.1:9092", folder, 1, folder / "broker.log", guard)
    return await broker.died()


@pytest.mark.parametrize("ending", ["sys.exit(-9)", "import os; os.kill(os.getpid(), 9)"])
async def test_a_killed_broker_is_told_with_its_log_and_what_to_do(
    tmp_path: Path, ending: str
) -> None:
    said = await said_of(tmp_path, ending)

    assert "the Kafka that we had started at 127.0.0.1:9092 was killed (signal 9)" in said
    assert f"Its log: {tmp_path / 'broker.log'}" in said
    assert "start `tierline up` again" in said
    assert "full" not in said


async def test_a_full_disk_is_told_as_one(tmp_path: Path) -> None:
    log = "ERROR Error while writing\njava.io.IOException: No space left on device\nERROR halt\n"
    said = await said_of(tmp_path, "sys.exit(1)", log)

    assert "ended (code 1)" in said
    assert f"the disk of {tmp_path} is full" in said
    assert "Make room there" in said
