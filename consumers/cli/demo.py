"""`tierline demo`: support messages on their way through a real Kafka and all stages."""

import contextlib
import os
import shutil
import sys
import tempfile
import time
from typing import Annotated

from rich.console import Group
from rich.live import Live
from rich.table import Table
from typer import Option

from consumers.amounts import dollars
from consumers.cli.beside import console_beside, console_socket
from consumers.cli.common import (
    FAILED,
    KafkaAddress,
    asynchronous,
    interrupted,
    on_kafka,
    read_settings,
)
from consumers.cli.provided import provided
from consumers.cli.request_files import Line
from consumers.cli.terminal import console, print_table
from consumers.cli.up import kafka_at
from consumers.lab.demo import MESSAGES, DemoCounts
from consumers.policies import followed
from consumers.rules import released_rules
from consumers.runtime.clients import Clients
from consumers.runtime.publisher import publisher
from consumers.runtime.topic_reader import topic_reader
from consumers.telemetry.setup import open_telemetry
from consumers.wiring import running_stages
from schemas.base import Tier

__all__ = ["demo"]

_LIMIT_SECONDS = 60.0


@asynchronous
async def demo(
    keep: Annotated[
        bool,
        Option(
            "--keep", help="Keep running afterwards, until Ctrl-C, with all of it in the console."
        ),
    ] = False,
    kafka: KafkaAddress = None,
) -> int:
    """Start Kafka, the stages and a simulated provider, and watch 60 support messages flow."""
    began = time.monotonic()
    out = console()
    settings = read_settings(kafka, needs_kafka=False)
    if kafka is None:
        # A demo never touches the Kafka of an `up` that happens to run.
        settings = on_kafka(settings, None)
    rules = released_rules(settings)
    lines = [Line.of(raw, no) for no, raw in enumerate(MESSAGES.read_bytes().splitlines())]
    tally = DemoCounts(len(lines))
    async with (
        kafka_at(settings, out, data_dir=None) as settings,
        provided(settings, rules.policy) as (providers, who),
    ):
        topics, clients = settings.kafka.topics, Clients(settings.kafka)
        out.print(f"Kafka {settings.kafka.bootstrap}; models: {who}")
        watched = [topics.attempts, topics.escalations, topics.results, topics.dead_letters]
        async with contextlib.AsyncExitStack() as stack:
            telemetry = stack.enter_context(open_telemetry(settings.telemetry, topics))
            enter = stack.enter_async_context
            reader = await enter(topic_reader(clients, watched, at_end=True))
            policies = await enter(followed(settings, rules))
            await enter(running_stages(settings, policies, providers, telemetry=telemetry))
            intake = await enter(publisher(clients, telemetry.tracing))
            started = time.monotonic()
            for sent in lines:
                _ = await intake.publish(
                    topics.intake, sent.value, key=sent.key, request_id=sent.id
                )
            with Live(_picture(tally), console=out, refresh_per_second=12) as live:
                async for record in reader.follow(_LIMIT_SECONDS):
                    tally.take(record, topics, rules.policy, time.monotonic() - began)
                    live.update(_picture(tally))
                    if tally.is_complete:
                        break
                took = time.monotonic() - started
            if tally.done >= tally.total and keep:
                _summarise(tally, took, is_up=True)
                stop = interrupted()
                out.print("Still running; Ctrl-C drains and stops.")
                folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="tierline-"))
                await enter(
                    console_beside(
                        *(settings, policies, out, stop),
                        telemetry=telemetry,
                        listening=stack.enter_context(console_socket(settings, out)),
                        store=f"sqlite:///{folder}/console.db",
                    )
                )
                await stop.wait()
        if not keep:
            _summarise(tally, took, is_up=False)
    return 0 if tally.done == tally.total else FAILED


def _picture(tally: DemoCounts) -> Group:
    """The counts by tier, as a table with a bar."""
    table = Table("tier", "calls", "answers", "spend")
    for tier in Tier:
        table.add_row(
            tier, str(tally.calls[tier]), str(tally.results[tier]), dollars(tally.spent[tier])
        )
    escalated = sum(n for code, n in tally.escalations.items() if code != "classified")
    table.add_row("escalated", "", str(escalated), "")
    table.add_row("to a person", "", str(tally.letters.total()), "")
    return Group(_bar(tally), table)


def _bar(tally: DemoCounts) -> str:
    width = 30
    filled = width * tally.done // tally.total
    return f"{'█' * filled}{'░' * (width - filled)} {tally.done} of {tally.total} requests"


def _summarise(tally: DemoCounts, took: float, *, is_up: bool) -> None:
    out = console()
    spent = tally.spent.total()
    results, letters = tally.results.total(), tally.letters.total()
    published = f"{tally.total} published = {results} results + {letters} dead letters"
    out.print(f"\n{published}, in {took:.1f} s")
    if tally.done < tally.total:
        out.print(f"{tally.total - tally.done} have no outcome yet; the demo has stopped waiting")
    ends = {"escalated because": tally.escalations, "to a person because": tally.letters}
    for column, counts in ends.items():
        listed = [(code, count) for code, count in counts.most_common() if code != "classified"]
        if listed:
            rows = [{column: code, "requests": count} for code, count in listed]
            print_table(rows, (column, "requests"))
    if tally.all_premium:
        premium = int(tally.all_premium)
        share = 100 * spent / premium
        out.print(
            f"spent {dollars(spent)}; every answer by the premium tier would have cost about "
            f"{dollars(premium)}: {share:.0f} %"
        )
    if tally.latencies:
        ordered = sorted(tally.latencies)
        first = tally.first_result or 0.0
        p50, p95 = ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.95)]
        times = f"p50 {p50:.0f} ms, p95 {p95:.0f} ms"
        out.print(f"intake to result: {times}; first result {first:.1f} s after the start")
    out.print("\nNext:")
    if is_up:
        hints = [f"explain {tally.sample}", "dead-letters list", "results"]
    else:
        hints = ['try "I was charged twice for order 991"', "policy show", "demo --keep"]
    for hint in hints:
        out.print(f"  {_command()} {hint}")


def _command() -> str:
    """The command as the reader can call it: by name, or by its path in a checkout."""
    return "tierline" if shutil.which("tierline") else os.path.relpath(sys.argv[0])
