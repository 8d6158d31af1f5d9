"""`tierline topics`, `settings`, `doctor`, `simulate`, `version`: what operators reach for."""

import os
import textwrap
from pathlib import Path
from typing import Annotated

import typer

from consumers.cli.common import (
    FAILED,
    AsJson,
    KafkaAddress,
    console,
    print_json,
    print_table,
    read_settings,
    run,
)
from consumers.cli.texts import say

__all__ = ["doctor", "list_settings", "simulate", "topics_app", "version"]

topics_app = typer.Typer(help="Show, create and check the topics.", no_args_is_help=True)


def list_settings(
    changed: Annotated[
        bool, typer.Option("--changed", help="Only those that differ from their default.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List every setting: its value, where that comes from, and what it means.

    Secrets are masked. Spans of time may be written as 30s, 15m or 1h30m.
    """
    from consumers.setting_list import setting_rows
    from consumers.settings import Settings

    rows = [
        row
        for row in setting_rows(Settings(), os.environ)
        if not changed or row.source != "default"
    ]
    if as_json:
        print_json([row._asdict() for row in rows])
        return
    for row in rows:
        where = "" if row.source == "default" else f"  (set by {row.source})"
        say(f"{row.variable} = {row.value}{where}")
        told = f"{row.meaning} [{row.type}; default: {row.default}]"
        say(_indented(told))


def _indented(text: str) -> str:
    width = min(console().width, 100)
    return textwrap.fill(
        text,
        width,
        initial_indent="    ",
        subsequent_indent="    ",
        break_on_hyphens=False,
        break_long_words=False,
    )


@topics_app.command("list")
def list_topics(kafka: KafkaAddress = None, as_json: AsJson = False) -> None:
    """List the topics: key, who writes, what they hold, how much is in them."""

    async def main() -> int:
        from consumers.parties import writers_of
        from consumers.runtime.clients import Clients
        from consumers.runtime.topic_reader import topic_reader
        from consumers.runtime.topics import check_timestamps, check_topics

        settings = read_settings(kafka)
        clients, table = Clients(settings.kafka), settings.kafka.topics.all()
        async with topic_reader(clients, [name for name, _ in table]) as reader:
            counts = await reader.counts()
        rows = [
            {
                "topic": name,
                "partitions": counts[name][0] if name in counts else "missing",
                "offsets": counts[name][1] if name in counts else "",
                "key": spec.key,
                "written by": ", ".join(writers_of(spec.name)),
                "holds": spec.holds,
            }
            for name, spec in table
        ]
        if as_json:
            print_json(rows)
        else:
            print_table(rows, ("topic", "partitions", "offsets", "written by", "holds"))
            problems = [*await check_topics(clients), *await check_timestamps(clients)]
            for problem in problems:
                console().print(str(problem))
        return 0

    run(main)


@topics_app.command()
def create(kafka: KafkaAddress = None) -> None:
    """Create the topics that are missing."""

    async def main() -> int:
        from consumers.runtime.clients import Clients
        from consumers.runtime.connection import connected
        from consumers.runtime.topics import ensure_topics

        clients = Clients(read_settings(kafka).kafka)
        async with connected(clients):
            problems = await ensure_topics(clients)
        for problem in problems:
            console().print(str(problem))
        if not problems:
            console().print("all topics are there")
        return FAILED if problems else 0

    run(main)


def doctor(kafka: KafkaAddress = None, as_json: AsJson = False) -> None:
    """Check everything a process needs: client library, policy, prompts, Kafka, topics, Java."""

    async def main() -> int:
        from consumers.cli.checkup import checkup

        found = await checkup(kafka)
        if as_json:
            print_json([{"check": one.name, "ok": one.ok, "detail": one.detail} for one in found])
        else:
            rows = [
                {"": "ok" if one.ok else "FAIL", "check": one.name, "detail": one.detail}
                for one in found
            ]
            print_table(rows, ("", "check", "detail"))
        return 0 if all(one.ok for one in found) else FAILED

    run(main)


def simulate(
    port: Annotated[
        int,
        typer.Option(
            metavar="PORT", help="Listen on this port; 0 takes a free one.", min=0, max=65535
        ),
    ] = 9100,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Listen on this address.")
    ] = "127.0.0.1",
    seed: Annotated[
        int,
        typer.Option(metavar="NUMBER", help="Give the answers of this seed, the same every time."),
    ] = 1,
    latency_scale: Annotated[
        float,
        typer.Option(
            metavar="FACTOR", min=0, help="Take so many times as long; 0 answers at once."
        ),
    ] = 1.0,
    recorded: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Answer from recorded outcomes: JSON Lines, .gz or not."),
    ] = None,
    bill: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a line per call to this file.")
    ] = None,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=SHARE",
            help="Fail this share of calls so, for example http_500=0.1; may be repeated.",
        ),
    ] = None,
) -> None:
    """Run the simulated provider: OpenAI, Anthropic and Gemini formats, and a bill of its own."""

    async def main() -> int:
        import asyncio
        import signal

        from consumers.cli.common import UserError
        from consumers.simulator import SimulatorSettings, simulator
        from consumers.simulator.faults import FAULTS

        shares = {}
        for item in fault or ():
            name, _, share = item.partition("=")
            if name not in FAULTS:
                msg = f"--fault {item}: one of {', '.join(FAULTS)} was expected"
                raise UserError(msg)
            try:
                shares[name] = float(share)
            except ValueError:
                msg = f"--fault {item}: NAME=SHARE with a share from 0 to 1 was expected"
                raise UserError(msg) from None
        settings = SimulatorSettings(
            seed=seed, latency_scale=latency_scale, recorded=recorded, bill_file=bill, faults=shares
        )
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        async with simulator(settings, host=host, port=port) as running:
            console().print(f"simulated provider at {running.base_url}; Ctrl-C stops")
            await stop.wait()
            spent = running.bill.total_micros / 1_000_000
            console().print(f"{running.bill.count} calls, ${spent:.6f}")
        return 0

    run(main)


def version(as_json: AsJson = False) -> None:
    """Print the versions of Tierline and of the policy in use."""
    from importlib.metadata import version as installed

    from consumers.rules import load_rules

    policy = load_rules(read_settings(needs_kafka=False)).policy
    if as_json:
        print_json({"tierline": installed("tierline"), "policy": policy.version})
    else:
        said = f"tierline {installed('tierline')}, policy {policy.name} {policy.version}"
        console().print(said)
