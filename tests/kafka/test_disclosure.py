"""What producers write and what we hold secret appears in no log, span or metric of a process."""

import asyncio
import os
import sys
import uuid
from pathlib import Path

import orjson
import pytest

from consumers.lab.simulator import SimulatorSettings, simulator
from consumers.runtime.clients import Clients
from consumers.runtime.publisher import publisher
from consumers.runtime.topics import ensure_topics
from consumers.settings import Settings
from tests.kafka.flow import read_topics
from tests.telemetry.sink import otlp_sink

pytestmark = pytest.mark.kafka

_TIERLINE = str(Path(sys.executable).with_name("tierline"))
_CANARY = f"canary-{uuid.uuid4().hex}"
_KEY = f"sk-key-{uuid.uuid4().hex}"

#: Every way through the flow, and every way out of it.
_LINES: tuple[bytes, ...] = (
    orjson.dumps({"id": "fine", "task": "triage", "input": f"Printer of {_CANARY}, bay 12"}),
    orjson.dumps({"id": "classified", "input": f"Hello, I am {_CANARY} and have question 7"}),
    orjson.dumps({"id": "risky", "task": "billing_dispute", "input": f"Refund 991 {_CANARY}"}),
    orjson.dumps({"id": "typed", "task": "triage", "input": 7, "metadata": {_CANARY: _CANARY}}),
    orjson.dumps({"id": "twice", "task": "triage", "input": f"one {_CANARY}"}),
    orjson.dumps({"id": "twice", "task": "triage", "input": f"two {_CANARY}"}),
    orjson.dumps({"id": "twice", "task": "triage", "input": f"one {_CANARY}"}),
    b'{"id": "poison", "input": "' + _CANARY.encode(),
    orjson.dumps({"id": "deep", "input": "x", "output_format": {"$ref": f"http://{_CANARY}/x"}}),
)
#: `submit` would not send it.
_NOT_TEXT = b"\xff\xfe" + _CANARY.encode()
_ENDS = 9


@pytest.mark.parametrize("options", [(), ("--debug",)], ids=["as usual", "with --debug"])
async def test_canaries_stay_in_the_topics(
    settings: Settings, options: tuple[str, ...], tmp_path: Path
) -> None:
    assert await ensure_topics(Clients(settings.kafka)) == []
    faults = {"http_429": 0.1, "http_500": 0.1, "malformed_json": 0.1, "reset": 0.1}
    topics = settings.kafka.topics
    async with (
        otlp_sink() as sink,
        simulator(SimulatorSettings(latency_scale=0.02, faults=faults)) as provider,
    ):
        up = await asyncio.create_subprocess_exec(
            *(_TIERLINE, *options, "up", "--kafka", str(settings.kafka.bootstrap)),
            env={
                **os.environ,
                "TIERLINE_KAFKA__PREFIX": settings.kafka.prefix,
                "TIERLINE_KAFKA__PARTITIONS": str(settings.kafka.partitions),
                "TIERLINE_PROVIDERS__SIMULATED__BASE_URL": provider.base_url,
                "TIERLINE_PROVIDERS__SIMULATED__ALLOW_PRIVATE": "true",
                "TIERLINE_PROVIDERS__SIMULATED__API_KEY_ENV": "THE_KEY",
                "THE_KEY": _KEY,
                "XDG_DATA_HOME": str(tmp_path),
                "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url,
            },
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            publishing = await asyncio.create_subprocess_exec(
                *(_TIERLINE, "submit", "-", "--kafka", str(settings.kafka.bootstrap)),
                env={**os.environ, "TIERLINE_KAFKA__PREFIX": settings.kafka.prefix},
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
            )
            await publishing.communicate(b"\n".join(_LINES))
            async with publisher(Clients(settings.kafka)) as out:
                await (await out.publish(topics.intake, _NOT_TEXT))
            ends = [topics.results, topics.dead_letters]
            bootstrap = str(settings.kafka.bootstrap)
            seen = await asyncio.to_thread(read_topics, bootstrap, ends, _ENDS)
        finally:
            up.terminate()
            said, _ = await up.communicate()

    assert len(seen) == _ENDS
    assert sink.spans
    assert sink.metrics
    sent = b"".join(sink.raw)
    for secret in (_CANARY.encode(), _KEY.encode()):
        assert secret not in said
        assert secret not in sent
    # What is written to a pipe is JSON, and says which request and which trace it is about.
    lines = [orjson.loads(line) for line in said.splitlines() if line.startswith(b"{")]
    repeats = [line for line in lines if line["event"] == "repeat"]
    traces = {span.trace_id for span in sink.of_request("twice")}
    assert [line["request_id"] for line in repeats] == ["twice"]
    assert {line["trace_id"] for line in repeats} <= traces
