"""`tierline console`: the review console."""

import asyncio
import contextlib
from typing import Annotated

from typer import Option

from consumers.cli.beside import LOOPBACK, listening_on, store_url
from consumers.cli.common import KafkaAddress, UserError, asynchronous, read_settings
from consumers.cli.terminal import console
from consumers.console.running import ConsoleAt, run_console
from consumers.console.security import is_loopback
from consumers.policies import followed
from consumers.rules import load_rules
from consumers.runtime.liveness import LoopLag, watched
from consumers.runtime.poison import Guard
from consumers.runtime.process import stop_signals
from consumers.telemetry.setup import open_telemetry
from consumers.wiring import state_folder, watch_of

__all__ = ["console_command"]


@asynchronous
async def console_command(
    host: Annotated[str, Option(metavar="ADDRESS", help="Listen on this address.")] = LOOPBACK,
    port: Annotated[
        int | None,
        Option(
            metavar="PORT",
            help="Listen on this port (0: any free one); by default, on 8080 or the next free one.",
            min=0,
            max=65535,
        ),
    ] = None,
    store: Annotated[
        str | None,
        Option(
            metavar="URL",
            help="Keep cases and figures in sqlite:///FILE or postgresql://…; else in a file.",
        ),
    ] = None,
    secure: Annotated[
        bool,
        Option("--secure", help="Say that browsers reach the console by https, through a proxy."),
    ] = False,
    kafka: KafkaAddress = None,
) -> None:
    """Serve the review console until Ctrl-C: the cases that wait for a person."""
    settings = read_settings(kafka)
    needs_sign_in = settings.console.oidc is not None or settings.console.token is not None
    if not needs_sign_in and not is_loopback(host):
        msg = (
            f"--host {host}: others could reach it, and nobody would have to sign in. Set "
            f"TIERLINE_CONSOLE__TOKEN__SECRET or TIERLINE_CONSOLE__OIDC, or listen on 127.0.0.1"
        )
        raise UserError(msg)

    out, rules, stop = console(), load_rules(settings), asyncio.Event()
    for name in stop_signals():
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    number = settings.console.port if port is None else port
    with contextlib.closing(listening_on(host, number, "--port")) as listening:
        how = await watch_of(settings, has_health=False)
        with open_telemetry(settings.telemetry, settings.kafka.topics) as telemetry:
            async with (
                watched(how, dict, LoopLag()) as mark,
                followed(settings, rules, state_folder(settings)) as policies,
            ):
                out.print(policies.words(), soft_wrap=True)
                await run_console(
                    settings,
                    policies,
                    ConsoleAt(listening, await store_url(settings, store), secure),
                    stop,
                    telemetry=telemetry,
                    guard=Guard(f"{settings.kafka.prefix}console", mark, how.folder),
                    tell=lambda words: out.print(words, soft_wrap=True),
                )
