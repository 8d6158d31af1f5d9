"""A backend for OTLP over HTTP: takes what is sent, or refuses, or hangs."""

import asyncio
import contextlib
import sys
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

__all__ = ["Seen", "Sink", "otlp_sink"]


@dataclass(frozen=True, slots=True)
class Seen:
    """One span as it came over the wire."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    kind: int
    start_ns: int
    end_ns: int
    fields: Mapping[str, Any]
    links: Sequence[str]
    events: Sequence[tuple[str, Mapping[str, Any]]]
    is_error: bool


@dataclass(slots=True)
class Sink:
    """What has come in so far."""

    url: str = ""
    spans: list[Seen] = field(default_factory=list)
    #: The newest state of every metric: its points by name.
    metrics: dict[str, list[Any]] = field(default_factory=dict)
    #: Everything as it came, for looking for what must not be there.
    raw: list[bytes] = field(default_factory=list)
    keeps_raw: bool = True
    #: False: spans are only counted.
    keeps_spans: bool = True
    count: int = 0
    came: asyncio.Event = field(default_factory=asyncio.Event)

    def by_trace(self) -> Mapping[str, list[Seen]]:
        """Spans by trace id."""
        traces = defaultdict(list)
        for span in self.spans:
            traces[span.trace_id].append(span)
        return traces

    def of_request(self, request_id: str) -> list[Seen]:
        """The spans that name a request, and the others of their traces."""
        name = "messaging.message.conversation_id"
        ids = {one.trace_id for one in self.spans if one.fields.get(name) == request_id}
        return sorted(
            (one for one in self.spans if one.trace_id in ids),
            key=lambda one: (one.start_ns, -one.end_ns),
        )

    def orphans(self, others: Iterable[str] = ()) -> list[Seen]:
        """Spans whose parent never came; `others` are spans of producers, sent elsewhere."""
        known = {one.span_id for one in self.spans} | set(others)
        return [one for one in self.spans if one.parent_id and one.parent_id not in known]

    def names(self) -> Counter[str]:
        """How often each span name came."""
        return Counter(one.name for one in self.spans)

    async def until(self, count: int, limit: float = 30) -> None:
        """Wait for so many spans."""
        async with asyncio.timeout(limit):
            while len(self.spans) < count:
                self.came.clear()
                await self.came.wait()

    def take_spans(self, body: bytes) -> None:
        """Read one export."""
        if self.keeps_raw:
            self.raw.append(body)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope in resource.scope_spans:
                self.count += len(scope.spans)
                self.spans += [_seen(span) for span in scope.spans] if self.keeps_spans else []
        self.came.set()

    def take_metrics(self, body: bytes) -> None:
        """Read one export."""
        if self.keeps_raw:
            self.raw.append(body)
        for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    data = getattr(metric, metric.WhichOneof("data") or "gauge")
                    self.metrics[metric.name] = list(data.data_points)
        self.came.set()

    def total(self, metric: str, **by: str) -> float:
        """The sum of a counter's points with these attributes; `_` in a name stands for `.`."""
        wanted = {name.replace("_", "."): said for name, said in by.items()}
        found = 0.0
        for point in self.metrics.get(metric, ()):
            if wanted.items() <= _fields(point.attributes).items():
                found += point.as_double or point.as_int
        return found


@contextlib.asynccontextmanager
async def otlp_sink(
    *, status: int = 200, delay: float = 0, keeps_raw: bool = True, keeps_spans: bool = True
) -> AsyncIterator[Sink]:
    """A backend on loopback, for as long as the context is open."""
    sink = Sink(keeps_raw=keeps_raw, keeps_spans=keeps_spans)

    async def take(request: web.Request) -> web.Response:
        body = await request.read()
        if delay:
            await asyncio.sleep(delay)
        if status != 200:
            return web.Response(status=status)
        reading = {"/v1/traces": sink.take_spans, "/v1/metrics": sink.take_metrics}
        reading[request.path](body)
        return web.Response(content_type="application/x-protobuf")

    app = web.Application(client_max_size=1 << 28)

    async def count(_: web.Request) -> web.Response:
        return web.Response(text=str(sink.count))

    app.router.add_post("/{path:.*}", take)
    app.router.add_get("/count", count)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    try:
        await site.start()
        port = runner.addresses[0][1]
        sink.url = f"http://127.0.0.1:{port}"
        yield sink
    finally:
        await runner.cleanup()


def _seen(span: Any) -> Seen:
    return Seen(
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.name,
        span.kind,
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        _fields(span.attributes),
        [link.span_id.hex() for link in span.links],
        [(event.name, _fields(event.attributes)) for event in span.events],
        span.status.code == 2,
    )


def _fields(attributes: Any) -> dict[str, Any]:
    return {one.key: _value(one.value) for one in attributes}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(one) for one in value.array_value.values]
    return getattr(value, kind) if kind else None


async def _main() -> None:
    """Serve until somebody ends it; the address stands on the first line."""
    delay = 3600.0 if "hang" in sys.argv[1:] else 0.0
    async with otlp_sink(keeps_raw=False, keeps_spans=False, delay=delay) as sink:
        sys.stdout.write(f"{sink.url}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main())
