"""`tierline up`: run the stages, with a local Kafka where none is named."""

import asyncio
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from rich.console import Console
from typer import Option

from consumers import parties
from consumers.cli.beside import console_beside, console_socket
from consumers.cli.common import (
    FAILED,
    KafkaAddress,
    RunningKafka,
    UserError,
    address_file,
    asynchronous,
    data_home,
    on_kafka,
    read_settings,
    refuse_unread,
    running_kafka,
    tier_of,
)
from consumers.cli.provided import is_simulated, provided
from consumers.cli.terminal import console
from consumers.files import own_folder, write_own
from consumers.lab.broker import LocalBroker, has_jars, local_broker
from consumers.lab.broker.errors import BrokerError
from consumers.policies import followed
from consumers.rules import released_rules
from consumers.runtime.clients import Clients
from consumers.runtime.connection import KafkaUnreachableError, connected
from consumers.runtime.process import stop_signals
from consumers.runtime.topics import check_topics, ensure_topics
from consumers.settings import Settings
from consumers.telemetry.setup import open_telemetry
from consumers.wiring import running_stages, state_folder
from schemas.base import Tier

__all__ = ["kafka_at", "up"]

#: Seconds for everything in a drain but waiting for calls.
_EXIT_GRACE = 20.0
#: Seconds to wait for a Kafka that does not answer, and for one without the topics.
_WAIT_FOR_KAFKA, _WAIT_FOR_TOPICS = 300.0, 5.0
_TRY_AGAIN_SECONDS = 2.0


@asynchronous
async def up(  # noqa: PLR0913, PLR0917  an option each
    context: typer.Context,
    only: Annotated[
        str | None, Option(metavar="route|admit|work|review", help="Run this stage alone.")
    ] = None,
    tier: Annotated[
        list[str] | None,
        Option(metavar="TIER", help="With `--only work`, serve this tier; may be repeated."),
    ] = None,
    width: Annotated[
        int | None,
        Option(metavar="COUNT", help="Make up to this many calls at once per tier.", min=1),
    ] = None,
    kafka: KafkaAddress = None,
    data_dir: Annotated[
        Path | None, Option(metavar="FOLDER", help="Start a local Kafka that keeps its data here.")
    ] = None,
    port: Annotated[
        int | None,
        Option(
            metavar="PORT",
            help="Let the local Kafka listen on this port; by default, on a free one.",
            min=1,
            max=65535,
        ),
    ] = None,
    simulate: Annotated[
        bool,
        Option(
            "--simulate", help="Let the simulated provider answer requests on your own Kafka, too."
        ),
    ] = False,
    health_port: Annotated[
        int | None,
        Option(
            metavar="PORT", help="Serve /live, /ready and /status on this port.", min=1, max=65535
        ),
    ] = None,
    serves_console: Annotated[
        bool | None,
        Option(
            "--console/--no-console",
            help="Serve the console on 127.0.0.1; by default where all stages run.",
        ),
    ] = None,
    console_port: Annotated[
        int | None,
        Option(
            metavar="PORT",
            help="Let the console listen on this port; by default, on 8080 or the next free one.",
            min=0,
            max=65535,
        ),
    ] = None,
) -> None:
    """Run all stages in one process, or one of them, until Ctrl-C, SIGTERM or SIGHUP."""
    roles = dict.fromkeys(kind.role for kind in parties.STAGES)
    if only is not None and only not in roles:
        msg = f"--only {only}: one of {', '.join(roles)} was expected"
        raise UserError(msg)
    if only not in (None, "work"):
        refuse_unread(context, f"is for the stage work, not for --only {only}", "tier", "width")
    kinds = parties.stages_of(only, [*map(tier_of, tier or Tier)])
    is_calling = any(kind.tier is not None for kind in kinds)

    out = console()
    settings, is_named, is_for_real = _chosen(
        kafka, out, is_own=data_dir is not None or port is not None
    )
    if width is not None:
        worker = settings.worker.model_copy(update={"width": width})
        settings = settings.model_copy(update={"worker": worker})
    if health_port is not None:
        health = settings.health.model_copy(update={"port": health_port})
        settings = settings.model_copy(update={"health": health})
    rules = released_rules(settings)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in stop_signals():
        loop.add_signal_handler(name, _end, stop, name)
    with (
        console_socket(
            settings, out, is_whole=only is None, is_wanted=serves_console, port=console_port
        ) as listening,
        open_telemetry(settings.telemetry, settings.kafka.topics) as telemetry,
    ):
        async with (
            kafka_at(
                settings,
                out,
                stop=stop,
                data_dir=data_dir or data_home() / "kafka",
                port=port,
                creates_topics=not is_named,
                simulates=is_simulated(settings, rules.policy),
            ) as settings,
            followed(settings, rules, state_folder(settings)) as policies,
            provided(
                settings,
                policies.active.policy,
                may_simulate=simulate or not is_for_real or not is_calling,
            ) as (providers, who),
            running_stages(
                settings,
                policies,
                providers,
                kinds=kinds,
                telemetry=telemetry,
                stop=stop,
                on_stuck=lambda: _exit_in_any_case(settings.worker.drain_for.total_seconds()),
                beside=lambda guard: console_beside(
                    *(settings, policies, out, stop),
                    telemetry=telemetry,
                    guard=guard,
                    listening=listening,
                ),
            ) as stages,
        ):
            names = ", ".join(stage.name for stage in stages)
            out.print(f"{names} on Kafka {settings.kafka.bootstrap}; models: {who}")
            out.print(policies.words(), soft_wrap=True)
            out.print("Ctrl-C drains and stops.")
            await stop.wait()
            out.print("draining")


def _end(stop: asyncio.Event, number: int) -> None:
    """Begin the drain. After a hangup there is no terminal left to write to."""
    if number == signal.SIGHUP:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):
            if stream.isatty():
                os.dup2(nowhere, stream.fileno())
    stop.set()


class _Chosen(NamedTuple):
    """The settings of an `up`, and what their Kafka is to it."""

    settings: Settings
    #: Named by an option or a variable: neither started here nor found running.
    is_named: bool
    #: The requests on it are somebody's own, so made-up answers are given only on request.
    is_for_real: bool


def _chosen(kafka: str | None, out: Console, *, is_own: bool) -> _Chosen:
    """What the options, the settings and another running `up` say.

    Options for a local Kafka mean that one is started, whatever else runs or is set.
    """
    if is_own:
        if kafka is not None:
            msg = "--kafka names a Kafka, --data-dir and --port start one: give one or the other"
            raise UserError(msg)
        return _Chosen(on_kafka(read_settings(needs_kafka=False), None), False, False)
    settings = read_settings(kafka, needs_kafka=False)
    if kafka is not None or Settings().kafka.bootstrap is not None:
        return _Chosen(settings, True, True)
    if (joined := running_kafka()) is None:
        return _Chosen(settings, False, False)
    out.print(
        f"joining the Kafka at {joined.address}, which another `tierline up` runs; "
        "--data-dir or --port starts a second one"
    )
    return _Chosen(on_kafka(settings, joined.address), False, not joined.is_simulated)


def _exit_in_any_case(drain_for: float) -> None:
    """End the process after the drain's time, even where something still hangs."""
    timer = threading.Timer(drain_for + _EXIT_GRACE, os._exit, (FAILED,))
    timer.daemon = True
    timer.start()


@asynccontextmanager
async def kafka_at(
    settings: Settings,
    out: Console,
    *,
    data_dir: Path | None,
    port: int | None = None,
    stop: asyncio.Event | None = None,
    creates_topics: bool = True,
    simulates: bool = True,
) -> AsyncIterator[Settings]:
    """Settings with a Kafka that answers and has every topic; started here when none is named.

    With `stop`, a Kafka that does not answer is waited for until `stop` is set. Missing topics of a
    named Kafka are created only with `creates_topics`. Others that join a Kafka started here learn
    from `simulates` whether the simulated provider answers on it.
    """
    if settings.kafka.bootstrap is not None:
        if stop is None:
            await _prepare(settings, creates_topics=creates_topics)
        else:
            await _await_kafka(settings, out, stop, creates_topics=creates_topics)
        yield settings
        return

    if not out.is_terminal:
        first = "" if has_jars() else " (its jars are downloaded first, once: 44 MB)"
        out.print(f"starting Kafka{first}")
    with out.status("starting Kafka") as status:

        def tell(what: str, share: float | None) -> None:
            status.update(what if share is None else f"{what}: {share:.0%}")

        broker = local_broker(data_dir=data_dir, port=port, progress=tell)
        started = await broker.__aenter__()
    try:
        ready = on_kafka(settings, started.bootstrap)
        await _prepare(ready, creates_topics=True)
        async with _watching(started, out, stop):
            with _noted(RunningKafka(started.bootstrap, simulates)):
                yield ready
    finally:
        await broker.__aexit__(None, None, None)


@asynccontextmanager
async def _watching(
    started: LocalBroker, out: Console, stop: asyncio.Event | None
) -> AsyncIterator[None]:
    """Report at once when our broker ends by itself, and end what runs on it.

    That is done by `stop`, which lets calls finish and be noted on disk, else by an error. Raises
    BrokerError.
    """
    problems: list[str] = []

    async def watch() -> None:
        problems.append(await started.died())
        if stop is None:
            raise BrokerError(problems[0])
        out.print(problems[0], soft_wrap=True)
        stop.set()

    async def warn() -> None:
        out.print(await started.filled(), soft_wrap=True)

    async with asyncio.TaskGroup() as tasks:
        watching = [tasks.create_task(watch()), tasks.create_task(warn())]
        try:
            yield
        finally:
            for task in watching:
                task.cancel()
    if problems:
        msg = f"the Kafka at {started.bootstrap} has ended; the reason is above"
        raise BrokerError(msg)


@contextmanager
def _noted(kafka: RunningKafka) -> Iterator[None]:
    """Let other commands find this broker, unless another one runs that they find already."""
    if running_kafka() is not None:
        yield
        return
    own_folder(address_file().parent)
    write_own(address_file(), kafka.note())
    try:
        yield
    finally:
        if running_kafka() == kafka:
            address_file().unlink(missing_ok=True)


async def _await_kafka(
    settings: Settings, out: Console, stop: asyncio.Event, *, creates_topics: bool
) -> None:
    """Wait for a Kafka that does not answer, or does not have its topics yet."""
    began = time.monotonic()
    while True:
        try:
            return await _prepare(settings, creates_topics=creates_topics)
        except (KafkaUnreachableError, UserError) as error:
            waited = time.monotonic() - began
            limit = _WAIT_FOR_TOPICS if isinstance(error, UserError) else _WAIT_FOR_KAFKA
            if stop.is_set() or waited > limit:
                raise
            out.print(f"{error}. Waiting for it; Ctrl-C stops.")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_TRY_AGAIN_SECONDS):
                await stop.wait()


async def _prepare(settings: Settings, *, creates_topics: bool) -> None:
    clients = Clients(settings.kafka)
    async with connected(clients):
        problems = await (ensure_topics if creates_topics else check_topics)(clients)
    if words := [str(problem) for problem in problems if problem.stops]:
        raise UserError("\n".join(words))
