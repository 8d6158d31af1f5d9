"""Three journeys, read back from a real tracing backend as an operator would: `make trace-check`.

One has a producer that traces itself, a worker killed during a call and an escalation. The other is
a dead letter that a person sends through again three days later, the third one that a reviewer
approves in the console then. Exits 1 unless each is one whole trace.
"""

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
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

from consumers import clock
from consumers.cli.dead_letters import requeue
from consumers.cli.logs import configure_logs
from consumers.console.queue import Queue
from consumers.console.review_service import ReviewService, decision_of
from consumers.console.store import Case, CaseFilter, open_store
from consumers.lab.broker import local_broker
from consumers.lab.broker.local import free_ports
from consumers.lab.simulator import DEFAULT_MODELS
from consumers.policies import Policies
from consumers.runtime.clients import Clients
from consumers.runtime.publisher import publisher
from consumers.runtime.topics import ensure_topics
from consumers.settings import KafkaSettings, Settings
from consumers.telemetry.setup import Telemetry, open_telemetry
from router.releases.bundle import Bundle
from router.review.decisions import answers_of, hash_of_answers
from tests.kafka.flow import flow, read_topics, request
from tests.telemetry.journeys import Finding, Journey, findings, spans_of, strangers, trees
from tests.telemetry.phoenix import Kept, phoenix, read_spans, read_tokens
from tests.telemetry.processes import is_calling, refusing_provider, stage

_LIMIT_SECONDS = 60.0
#: How long the backend may take to show what it was sent.
_SHOW_SECONDS = 20.0
_LATER = timedelta(days=3)
_RELIABLE = {
    name: model.model_copy(update={"quality": 1, "strain": 0})
    for name, model in DEFAULT_MODELS.items()
}
_ESCALATED = Journey(
    "escalated",
    "shop checkout",
    (
        "shop checkout", "process llm.intake", "route", "send llm.tier.low",
        "chat sim-small",  # of the worker that was killed
        "process llm.tier.low", "chat sim-small", "chat sim-small-b", "verify",
        "send llm.escalations", "process llm.escalations", "route", "send llm.tier.balanced",
        "process llm.tier.balanced", "chat sim-medium", "verify", "send llm.results",
    ),
)  # fmt: skip
_REQUEUED = Journey(
    "requeued",
    "process llm.intake",
    (
        "process llm.intake", "route", "send llm.tier.low", "process llm.tier.low",
        "chat sim-small", "chat sim-small-b", "send llm.dead-letters", "send llm.escalations",
        "process llm.escalations", "route", "send llm.tier.low", "process llm.tier.low",
        "chat sim-small", "verify", "send llm.results",
    ),
    pause=_LATER,
)  # fmt: skip
_REVIEWED = Journey(
    "reviewed",
    "process llm.intake",
    (
        "process llm.intake", "route", "send llm.tier.balanced", "process llm.tier.balanced",
        "chat sim-medium", "verify", "send llm.dead-letters",
        "send llm.review", "process llm.review", "send llm.results",
    ),
    pause=_LATER,
)  # fmt: skip


async def main() -> int:
    """Run the journeys, read them back, show and judge them."""
    configure_logs(is_debug=False)
    _forget_settings()
    with tempfile.TemporaryDirectory(prefix="tierline-trace-check-") as folder:
        async with phoenix() as url, local_broker() as broker:
            began = time.monotonic()
            os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = url
            os.environ["OTEL_METRICS_EXPORTER"] = "none"
            os.environ["OTEL_BSP_SCHEDULE_DELAY"] = "100"
            os.environ["TIERLINE_KAFKA__BOOTSTRAP"] = broker.bootstrap
            kafka = KafkaSettings(bootstrap=broker.bootstrap, partitions=1)
            settings = Settings(kafka=kafka)
            assert await ensure_topics(Clients(kafka)) == []
            journeys = (await _escalated(settings, url, Path(folder)), _REQUEUED, _REVIEWED)
            await _days_later(settings, Path(folder))
            spans, found = await _judged(url, journeys)
    console = Console(width=None if sys.stdout.isatty() else 150, highlight=False)
    for journey in journeys:
        console.print(f"\n[bold]{journey.request_id}[/bold]")
        for tree in trees(spans_of(spans, journey.request_id)):
            console.print(tree)
    _show(found, console)
    broken = sum(not one.is_good for one in found)
    seconds = time.monotonic() - began
    console.print(f"{len(spans)} spans read back after {seconds:.0f} s, {broken} broken")
    return 1 if broken else 0


def _forget_settings() -> None:
    """What the shell says of Tierline and of traces stays out, as in every test."""
    for name in list(os.environ):
        ours = name.startswith(("TIERLINE_", "OTEL_")) and not name.startswith("TIERLINE_TEST_")
        if ours or name.endswith(("_API_KEY", "_API_TOKEN")):
            del os.environ[name]


async def _escalated(settings: Settings, url: str, folder: Path) -> Journey:
    """A worker dies in its second call, the other one makes both; low cannot defend its answer."""
    bill, ports = folder / "bill.jsonl", free_ports()[:2]
    async with contextlib.AsyncExitStack() as stack:
        address = await stack.enter_async_context(refusing_provider(folder, bill))
        await stack.enter_async_context(stage("route"))
        workers = {
            port: await stack.enter_async_context(stage("work", port, address)) for port in ports
        }
        trace_id = await asyncio.to_thread(_produce, settings, url)

        async def is_between_calls() -> bool:
            kept = await read_spans(url)
            has_sent = any(one.name.startswith("chat ") for one in kept)
            return has_sent and len(_lines(bill)) == 2

        async def callers() -> Sequence[int]:
            return [port for port in ports if await asyncio.to_thread(is_calling, port)]

        await _until(is_between_calls)
        [caller] = await _until(callers)
        workers[caller].send_signal(signal.SIGKILL)
        await workers[caller].wait()
        died_at = clock.now()
        await _ended(settings, 1)
    calls = len(_lines(bill))
    return replace(_ESCALATED, trace_id=trace_id, died_at=died_at, received_calls=calls)


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


async def _days_later(settings: Settings, folder: Path) -> None:
    """Every call is refused; three days later a person sends the request through again.

    Another request's answer waits for a reviewer, who approves it then.
    """
    topics = settings.kafka.topics
    with open_telemetry(settings.telemetry, topics) as telemetry:
        async with flow(settings, telemetry, faults={"http_403": 1.0}) as running:
            await running.publish(request("requeued"))
            await _ended(settings, 2)
        async with flow(settings, telemetry, models=_RELIABLE) as running:
            text = "You charged me twice for order 7, I want a refund of 30.00"
            await running.publish(request("reviewed", text, task="billing_dispute"))
            await _ended(settings, 3)
    with _later(_LATER), open_telemetry(settings.telemetry, topics) as telemetry:
        async with flow(settings, telemetry, models=_RELIABLE) as running:
            await asyncio.to_thread(_send_again, "requeued")
            await _ended(settings, 4)
            await _approve(settings, running.rules, telemetry, folder)
            await _ended(settings, 5)


async def _approve(settings: Settings, rules: Bundle, telemetry: Telemetry, folder: Path) -> None:
    """As the console does it: a case is claimed and its answer approved."""
    clients, topics = Clients(settings.kafka), settings.kafka.topics
    async with (
        open_store(f"sqlite:///{folder / 'console.db'}") as store,
        publisher(clients, telemetry.tracing) as out,
    ):
        await Queue(store, clients, Policies(rules), topics, clock.now).catch_up()
        desk = ReviewService(store, out, Policies(rules), topics, clock.now)
        cases = await store.cases(CaseFilter(), clock.now())
        [case] = [case for case in cases if case.request_id == "reviewed"]
        claimed, found = await desk.claim(case.place, "ann"), await store.content(case.place)
        assert isinstance(claimed, Case)
        assert found is not None
        answer = answers_of(found.letter)[-1].attempt_id
        decision = decision_of(
            claimed,
            found.letter,
            "approve",
            decision_id="approved",
            attempt_id=answer,
            undo_seconds=0.0,
        )
        shown = hash_of_answers(found.letter)
        await desk.decide("ann", claimed.version, decision, seen=shown)


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


async def _judged(
    url: str, journeys: Sequence[Journey]
) -> tuple[Sequence[Kept], Sequence[Finding]]:
    """Ask until all is well and nothing more comes, or for as long as the backend may take."""
    give_up, before = time.monotonic() + _SHOW_SECONDS, -1
    while True:
        spans, tokens = await read_spans(url), await read_tokens(url)
        found = [one for journey in journeys for one in findings(journey, spans, tokens)]
        found.append(strangers(spans, journeys))
        is_whole = all(one.is_good for one in found) and len(spans) == before
        if is_whole or time.monotonic() > give_up:
            return spans, found
        before = len(spans)
        await asyncio.sleep(0.5)


def _show(found: Sequence[Finding], console: Console) -> None:
    table = Table("journey", "question", "found", "")
    for one in found:
        verdict = "[green]good[/green]" if one.is_good else "[red]BROKEN[/red]"
        table.add_row(one.request_id, one.question, one.found, verdict)
    console.print(table)


def _lines(file: Path) -> Sequence[str]:
    return file.read_text().splitlines() if file.exists() else ()


async def _ended(settings: Settings, count: int) -> None:
    topics = settings.kafka.topics
    wanted, bootstrap = [topics.results, topics.dead_letters], str(settings.kafka.bootstrap)
    await asyncio.to_thread(read_topics, bootstrap, wanted, count)


async def _until(asked: Callable[[], Awaitable[Any]]) -> Any:
    """Ask again and again, until the answer is one."""
    async with asyncio.timeout(_LIMIT_SECONDS):
        while not (answer := await asked()):  # noqa: ASYNC110  others have no event for us
            await asyncio.sleep(0.05)
        return answer


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
