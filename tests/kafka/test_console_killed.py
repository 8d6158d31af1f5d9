"""A console that is killed while somebody decides: the decision is carried out once."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from consumers.settings import Settings
from tests.kafka.flow import flow, request

pytestmark = [pytest.mark.kafka, pytest.mark.anyio]

_TIERLINE = str(Path(sys.executable).with_name("tierline"))
_TEXT = "You charged me twice for order 7, I want a refund of 30.00"


@contextlib.asynccontextmanager
async def _console(
    settings: Settings, home: Path, failpoint: str | None = None
) -> AsyncIterator[tuple[httpx.AsyncClient, asyncio.subprocess.Process]]:
    """A console as a process of its own, once every dead letter is a case."""
    kafka = settings.kafka
    env = {
        **os.environ,
        "XDG_DATA_HOME": str(home),
        "TIERLINE_KAFKA__BOOTSTRAP": str(kafka.bootstrap),
        "TIERLINE_KAFKA__PREFIX": kafka.prefix,
        "TIERLINE_KAFKA__PARTITIONS": str(kafka.partitions),
        **({"TIERLINE_FAILPOINT": failpoint} if failpoint else {}),
    }
    words = (_TIERLINE, "console", "--port", "0")
    process = await asyncio.create_subprocess_exec(*words, env=env, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    lines = [b""]
    while b"have been read" not in lines[-1]:
        lines.append(await process.stdout.readline())
    [at] = [word for word in b"".join(lines).decode().split() if word.startswith("http://")]
    try:
        async with httpx.AsyncClient(base_url=at, trust_env=False) as http:
            yield http, process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _decide(http: httpx.AsyncClient, place: str) -> None:
    page = (await http.get("/cases")).text
    heads = {"x-csrf-token": page.partition('data-token="')[2].partition('"')[0]}
    claimed = await http.post(f"/api/cases/{place}/claim", headers=heads)
    assert claimed.status_code == 200
    body = {"action": "reject", "decision_id": "killed-once", "undo_seconds": 0}
    await http.post(f"/api/cases/{place}/decision", json=body, headers=heads)


@pytest.mark.parametrize("point", ["console.noted", "console.sent"])
async def test_a_console_killed_mid_decision_neither_loses_nor_doubles_it(
    settings: Settings, tmp_path: Path, point: str
) -> None:
    async with flow(settings) as running:
        await running.publish(request("dispute-1", _TEXT, task="billing_dispute"))
        [letter] = await running.read([running.topics.dead_letters], 1)
        place = f"{letter.topic}-{letter.partition}-{letter.offset}"
        async with _console(settings, tmp_path, point) as (http, process):
            with pytest.raises(httpx.HTTPError):
                await _decide(http, place)
            assert await process.wait() == -signal.SIGKILL
        async with _console(settings, tmp_path) as (http, _):
            [result] = await running.read([running.topics.results], 1)
            assert result.json["router"]["review"] == "reject"
            state = ""
            async with asyncio.timeout(30):
                while state != "closed":
                    state = (await http.get(f"/api/cases/{place}")).json()["state"]
        lines = await running.read([running.topics.review])
        results = await running.read([running.topics.results])
        assert len(results) == 1
        assert {
            seen.json["decision"]["decision_id"] for seen in lines if "decision" in seen.json
        } == {"killed-once"}
