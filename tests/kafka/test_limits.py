"""Worker processes that share nothing keep together to what a provider asks and allows."""

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest

from consumers.settings import Settings
from tests.kafka.flow import flow, request
from tests.unit.consumers.servers import a_response, serving
from tests.unit.consumers.test_hostile_providers import GOOD
from tests.unit.consumers.test_providers import a_completion

pytestmark = pytest.mark.kafka

_TIERLINE = str(Path(sys.executable).with_name("tierline"))
_COUNT, _WIDTH = 60, 4
#: The provider throttles for so long, and asks to wait for so long each time.
_TROUBLE, _WAIT = 5.0, 2.0
#: What had left before the process knew comes this late at most; the answers take longer.
_UNDER_WAY, _ANSWERING = 0.2, 0.3
#: Calls that may come a moment later than they were let through.
_SLACK = 3


@dataclass(frozen=True)
class _Call:
    process: str
    model: str
    came: float
    answered: float
    is_throttled: bool


@contextlib.asynccontextmanager
async def _worker(
    settings: Settings, name: str, url: str, home: Path, limits: str = "{}"
) -> AsyncIterator[None]:
    """A worker process of the low tier that tells the provider its name."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("TIERLINE_")}
    ours = {
        "HOME": str(home),
        "TIERLINE_KAFKA__BOOTSTRAP": str(settings.kafka.bootstrap),
        "TIERLINE_KAFKA__PREFIX": settings.kafka.prefix,
        "TIERLINE_KAFKA__PARTITIONS": str(settings.kafka.partitions),
        "TIERLINE_KAFKA__SESSION_TIMEOUT": "PT6S",
        "TIERLINE_KAFKA__HEARTBEAT_INTERVAL": "PT1S",
        "TIERLINE_PROVIDERS__SIMULATED__BASE_URL": url,
        "TIERLINE_PROVIDERS__SIMULATED__ALLOW_PRIVATE": "true",
        "TIERLINE_PROVIDERS__SIMULATED__LIMITS": limits,
        "TIERLINE_PROVIDERS__SIMULATED__HEADERS": f'{{"x-process": "{name}"}}',
    }
    words = ("up", "--only", "work", "--tier", "low", "--width", str(_WIDTH))
    process = await asyncio.create_subprocess_exec(
        _TIERLINE, *words, env={**kept, **ours}, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        await process.stdout.readuntil(b"Ctrl-C")
        yield
    finally:
        process.terminate()
        await process.communicate()
    assert process.returncode == 0


def _early(calls: Sequence[_Call]) -> list[_Call]:
    """Calls of a process to a model after it was told to wait, and before it may call again."""
    return [
        call
        for call in calls
        for told in calls
        if (told.process, told.model) == (call.process, call.model)
        and told.is_throttled
        and told.answered + _UNDER_WAY < call.came < told.answered + _WAIT
    ]


async def test_no_process_calls_before_the_time_it_was_given_and_every_request_is_answered(
    settings: Settings, tmp_path: Path
) -> None:
    """All models of the tier throttle at first: requests wait, nothing more is fetched."""
    calls: list[_Call] = []
    began: list[float] = []

    async def respond(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came, head, model = time.monotonic(), server.heads[-1], orjson.loads(server.bodies[-1])
        began.append(came)
        is_throttled = came < began[0] + _TROUBLE
        # All calls that were under way when the first one was answered are in by then.
        await asyncio.sleep(_ANSWERING)
        answer = a_response(b"{}", "429 Slow", retry_after=str(int(_WAIT)))
        if not is_throttled:
            answer = a_response(orjson.dumps({**a_completion(GOOD), "model": model["model"]}))
        process = _headers(head)["x-process"]
        calls.append(_Call(process, model["model"], came, time.monotonic(), is_throttled))
        writer.write(answer)
        await writer.drain()

    async with (
        serving(respond) as server,
        flow(settings, tiers=()) as running,
        _worker(settings, "one", server.url, tmp_path),
        _worker(settings, "two", server.url, tmp_path),
    ):
        await running.publish(*(request(f"r-{number}") for number in range(_COUNT)))
        ends = await running.terminal(_COUNT)

    throttled = [call for call in calls if call.is_throttled]
    assert {call.process for call in throttled} == {"one", "two"}
    assert _early(calls) == []
    assert [end.topic for end in ends] == [running.topics.results] * _COUNT
    # Two models in two processes: what was under way, and a probe for each wait.
    probes = int(_TROUBLE / _WAIT) + 1
    assert len(throttled) <= 2 * 2 * (_WIDTH + probes)


async def test_all_processes_together_stay_under_the_limit_while_partitions_move(
    settings: Settings, tmp_path: Path
) -> None:
    """A second process joins in the middle; in no span of time is more let through than allowed."""
    per_minute, count = 300, 60
    came: list[tuple[float, str]] = []

    async def respond(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.append((time.monotonic(), _headers(server.heads[-1])["x-process"]))
        model = orjson.loads(server.bodies[-1])["model"]
        writer.write(a_response(orjson.dumps({**a_completion(GOOD), "model": model})))
        await writer.drain()

    limits = f'{{"*": {{"requests_per_minute": {per_minute}}}}}'
    async with (
        serving(respond) as server,
        flow(settings, tiers=()) as running,
        _worker(settings, "one", server.url, tmp_path, limits),
    ):
        await running.publish(*(request(f"r-{number}") for number in range(count)))
        await running.terminal(count // 4, to_end=False)
        async with _worker(settings, "two", server.url, tmp_path, limits):
            ends = await running.terminal(count)

    assert [end.topic for end in ends] == [running.topics.results] * count
    assert {process for _, process in came} == {"one", "two"}
    burst = per_minute * 5 / 60
    for first, (began, _) in enumerate(came):
        for last, (ended, _) in enumerate(came[first:]):
            assert last + 1 <= burst + (per_minute - burst) / 60 * (ended - began) + _SLACK


def _headers(head: str) -> Mapping[str, str]:
    pairs = (line.partition(": ") for line in head.lower().splitlines()[1:])
    return {name: value for name, _, value in pairs}
