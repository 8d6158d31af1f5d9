"""The demo, seen by a tracing backend."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from tests.telemetry.sink import otlp_sink

pytestmark = pytest.mark.kafka

_TIERLINE = str(Path(sys.executable).with_name("tierline"))


async def test_the_demo_is_one_whole_trace_per_request() -> None:
    """It starts a broker of its own and ends by itself."""
    async with otlp_sink() as sink:
        demo = await asyncio.create_subprocess_exec(
            *(_TIERLINE, "demo"),
            env={**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await demo.communicate()
        assert demo.returncode == 0, said.decode()

    requests = sink.total("tierline.requests")
    traces = sink.by_trace()
    assert requests >= 50
    assert len(traces) == requests
    assert sink.orphans() == []
    for spans in traces.values():
        assert [span.name for span in spans if not span.parent_id] == ["send llm.intake"]
        ends = {"send llm.results", "send llm.dead-letters"}
        assert len([span for span in spans if span.name in ends]) == 1
