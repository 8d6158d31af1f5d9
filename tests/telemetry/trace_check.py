"""Two journeys, read back from a real tracing backend as an operator would: `make trace-check`.

One has a producer that traces itself, a worker killed during the call and an escalation. The other
is a dead letter that a person sends through again three days later. Exits 1 unless each is one
trace without a gap.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any

import typer
from confluent_kafka import Producer
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from rich.console import Console
from rich.table import Table
from rich.tree import Tree

from consumers import clock
from consumers.broker import local_broker
from consumers.cli.dead_letters import requeue
from consumers.cli.logs import configure_logs
from consumers.runtime.clients import Clients
from consumers.runtime.topics import ensure_topics
from consumers.settings import KafkaSettings, Settings
from consumers.simulator import DEFAULT_MODELS, SimulatorSettings, simulator
from consumers.simulator.server import RunningSimulator
from consumers.telemetry.setup import open_telemetry
from tests.kafka.flow import flow, read_topics, request
from tests.telemetry.phoenix import Kept, phoenix, read_spans

_LIMIT_SECONDS = 60
_WANTED = {
    "escalated": (
        "shop checkout", "process llm.intake", "route", "send llm.tier.low",
        "process llm.tier.low", "chat sim-small", "verify", "send llm.escalations",
        "process llm.escalations", "send llm.tier.balanced", "process llm.tier.balanced",
        "chat sim-medium", "send llm.results",
    ),
    "requeued": (
        "process llm.intake", "chat sim-small", "send llm.dead-letters", "send llm.escalations",
        "process llm.escalations", "send llm.results",
    ),
}  # fmt: skip


async def main() -> int:
    """Run both journeys, read them back, show and judge them."""
    configure_logs(is_debug=False)
    os.environ.pop("TIERLINE_KAFKA__PREFIX", None)
    os.environ["OTEL_BSP_SCHEDULE_DELAY"] = "100"
    os.environ["OTEL_METRICS_EXPORTER"] = "none"
    async with phoenix() as url, local_broker() as broker:
        os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = url
        os.environ["TIERLINE_KAFKA__BOOTSTRAP"] = broker.bootstrap
        kafka = KafkaSettings(
            bootstrap=broker.bootstrap, partitions=1, session_timeout=timedelta(seconds=6)
        )
        settings = Settings(kafka=kafka)
        assert await ensure_topics(Clients(kafka)) == []
        escalated = await _escalated(settings, url)
        await _requeued(settings)
        spans = await _until_whole(url, ("escalated", "requeued"))
    console = Console(width=None if sys.stdout.isatty() else 130, highlight=False)
    problems = [
        *_judged(spans, "escalated", console, trace_id=escalated),
        *_judged(spans, "requeued", console),
    ]
    for problem in problems:
        console.print(f"BROKEN: {problem}", markup=False)
    console.print(f"{len(spans)} spans read back, {len(problems)} broken")
    return 1 if problems else 0


async def _escalated(settings: Settings, url: str) -> str:
    """A worker dies during the call, another one makes it; low cannot defend its answer."""
    async with _provider(quality=0, latency_scale=20) as provider, _up("--only", "route"):
        async with _up("--only", "work", provider=provider) as doomed:
            trace_id = await asyncio.to_thread(_produce, settings, url)
            await _until(lambda: bool(provider.bill.lines))
            doomed.send_signal(signal.SIGKILL)
            await doomed.wait()
        async with _up("--only", "work", provider=provider):
            await _ended(settings, 1)
    return trace_id


def _produce(settings: Settings, url: str) -> str:
    """A producer with a setup of its own, as a shop would have it; its trace id."""
    provider = TracerProvider(resource=Resource.create({"service.name": "shop"}))
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(f"{url}/v1/traces")))
    tracer = provider.get_tracer("shop")
    producer = Producer({"bootstrap.servers": settings.kafka.bootstrap})
    with tracer.start_as_current_span("shop checkout", kind=SpanKind.PRODUCER) as span:
        carrier: dict[str, str] = {}
        TraceContextTextMapPropagator().inject(carrier)
        sent = request("escalated")
        headers: dict[str, str | bytes | None] = dict(carrier)
        producer.produce(settings.kafka.topics.intake, sent.value, sent.key, headers=headers)
        producer.flush(10)
    provider.shutdown()
    return f"{span.get_span_context().trace_id:032x}"


async def _requeued(settings: Settings) -> None:
    """Every call is refused; three days later a person sends the request through again."""
    topics = settings.kafka.topics
    with open_telemetry(settings.telemetry, topics) as telemetry:
        async with flow(settings, telemetry, faults={"http_401": 1.0}) as running:
            await running.publish(request("requeued"))
            await _ended(settings, 2)
    with _later(timedelta(days=3)), open_telemetry(settings.telemetry, topics) as telemetry:
        async with flow(settings, telemetry, models=_models(1.0)):
            await asyncio.to_thread(_send_again, "requeued")
            await _ended(settings, 3)


def _send_again(request_id: str) -> None:
    try:
        requeue(request_id, deadline="15m", force=False, kafka=None)
    except typer.Exit as ended:
        assert ended.exit_code == 0  # noqa: PT017  a command ends by an exception


@contextlib.contextmanager
def _later(passed: timedelta) -> Iterator[None]:
    """The clock of traces and deadlines stands later."""
    now, now_ns = clock.now, clock.now_ns
    vars(clock)["now"] = lambda: now() + passed
    vars(clock)["now_ns"] = lambda: now_ns() + int(passed.total_seconds() * 1e9)
    try:
        yield
    finally:
        vars(clock).update(now=now, now_ns=now_ns)


async def _until_whole(url: str, names: Sequence[str]) -> Sequence[Kept]:
    """The backend takes its time to show what it was sent."""
    async with asyncio.timeout(_LIMIT_SECONDS):
        while True:
            spans = await read_spans(url)
            if all(set(_WANTED[name]) <= {one.name for one in _of(spans, name)} for name in names):
                return spans
            await asyncio.sleep(0.5)


def _of(spans: Sequence[Kept], request_id: str) -> list[Kept]:
    """The spans of a request: those that name it, and all of their traces."""
    key = "messaging.message.conversation_id"
    traces = {one.trace_id for one in spans if one.fields.get(key) == request_id}
    return sorted((one for one in spans if one.trace_id in traces), key=lambda one: one.start)


def _judged(
    spans: Sequence[Kept], request_id: str, console: Console, trace_id: str | None = None
) -> list[str]:
    """Show one journey as a tree; what is wrong with it."""
    ours = _of(spans, request_id)
    known = {one.span_id for one in ours}
    roots = [one for one in ours if one.parent_id is None]
    problems = [
        f"{request_id}: {one.name} has no parent in the backend"
        for one in ours
        if one.parent_id is not None and one.parent_id not in known
    ]
    if len({one.trace_id for one in ours}) != 1 or len(roots) != 1:
        problems.append(f"{request_id}: {len(roots)} roots, one trace with one root was expected")
    if trace_id is not None and ours[0].trace_id != trace_id:
        problems.append(f"{request_id}: the producer's trace is not continued")
    missing = set(_WANTED[request_id]) - {one.name for one in ours}
    problems += [f"{request_id}: no span {name!r}" for name in sorted(missing)]
    chats = [one for one in ours if one.name.startswith("chat ")]
    for one in chats:
        if "gen_ai.usage.cost.amount" not in one.fields:
            problems.append(f"{request_id}: {one.name} has no cost")
        if one.status == "OK" and not one.fields.get("gen_ai.usage.input_tokens"):
            problems.append(f"{request_id}: {one.name} has no tokens")
    for root in roots:
        console.print(_tree(ours, root))
    table = Table("spans", "calls", "input tokens", "output tokens", "USD", title=request_id)
    keys = ("gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens", "gen_ai.usage.cost.amount")
    sums = [sum(one.fields.get(key, 0) for one in chats) for key in keys]
    table.add_row(str(len(ours)), str(len(chats)), *(f"{total:g}" for total in sums))
    console.print(table)
    return problems


def _tree(spans: Sequence[Kept], span: Kept) -> Tree:
    said = span.fields.get("tierline.outcome") or span.fields.get("tierline.route.rule") or ""
    branch = Tree(f"{span.start[:19]}  {span.name}  [dim]{said}[/dim]")
    for child in spans:
        if child.parent_id == span.span_id:
            branch.add(_tree(spans, child))
    return branch


@contextlib.asynccontextmanager
async def _provider(quality: float, latency_scale: float) -> AsyncIterator[RunningSimulator]:
    settings = SimulatorSettings(models=_models(quality), latency_scale=latency_scale)
    async with simulator(settings) as provider:
        yield provider


def _models(quality: float) -> dict[str, Any]:
    """The low tier's models answer well so often, the others always."""
    return {
        name: model.model_copy(
            update={"quality": quality if model.tier == "low" else 1, "strain": 0}
        )
        for name, model in DEFAULT_MODELS.items()
    }


@contextlib.asynccontextmanager
async def _up(
    *words: str, provider: RunningSimulator | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process of ours, from when it has its partitions until it has drained."""
    given = {
        "TIERLINE_KAFKA__PARTITIONS": "1",
        "TIERLINE_KAFKA__SESSION_TIMEOUT": "PT6S",
        "TIERLINE_KAFKA__HEARTBEAT_INTERVAL": "PT1S",
    }
    if provider is not None:
        given["TIERLINE_PROVIDERS__SIMULATED__BASE_URL"] = provider.base_url
        given["TIERLINE_PROVIDERS__SIMULATED__ALLOW_PRIVATE"] = "true"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "consumers.cli.main", "up", *words),
        env={**os.environ, **given},
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(_LIMIT_SECONDS):
            while b"Ctrl-C" not in (line := await process.stdout.readline()):
                assert line, "the process ended before it was ready"
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.communicate()


async def _ended(settings: Settings, count: int) -> None:
    topics = settings.kafka.topics
    wanted, bootstrap = [topics.results, topics.dead_letters], str(settings.kafka.bootstrap)
    await asyncio.to_thread(read_topics, bootstrap, wanted, count)


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(_LIMIT_SECONDS):
        while not condition():  # noqa: ASYNC110  the provider has no event for a call
            await asyncio.sleep(0.01)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
