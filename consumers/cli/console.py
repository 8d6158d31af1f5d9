"""`tierline console`: the review console."""

import asyncio
import contextlib
import socket
from typing import Annotated

import typer
from rich.console import Console

from consumers import clock
from consumers.admissions import admission_of
from consumers.cli.common import (
    KafkaAddress,
    UserError,
    asynchronous,
    data_home,
    read_settings,
)
from consumers.cli.terminal import console
from consumers.console.app import console_app
from consumers.console.auth import Authenticator
from consumers.console.bulk import Bulk
from consumers.console.dashboard import Figures
from consumers.console.queue import Queue
from consumers.console.review_service import ReviewService
from consumers.console.security import is_loopback
from consumers.console.serving import serve
from consumers.console.store import open_store
from consumers.files import own_folder
from consumers.rules import load_rules
from consumers.runtime.clients import Clients
from consumers.runtime.liveness import LoopLag, watched
from consumers.runtime.metrics import tell_review
from consumers.runtime.poison import Guard
from consumers.runtime.process import stop_signals
from consumers.runtime.publisher import publisher
from consumers.settings import Settings
from consumers.telemetry.setup import open_telemetry
from consumers.wiring import watch_of

__all__ = ["console_command"]


@asynchronous
async def console_command(
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Listen on this address.")
    ] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(
            metavar="PORT", help="Listen on this port; 0 takes a free one.", min=0, max=65535
        ),
    ] = 8080,
    store: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Keep cases and figures in sqlite:///FILE or postgresql://…; else in a file.",
        ),
    ] = None,
    secure: Annotated[
        bool,
        typer.Option(
            "--secure", help="Say that browsers reach the console by https, through a proxy."
        ),
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

    kept = settings.store.url
    url = store or (kept.get_secret_value() if kept else None)
    if url is None:
        own_folder(data_home())
        url = f"sqlite:///{data_home() / 'console.db'}"
    with contextlib.closing(_listening(host, port)) as listening:
        await _serve(settings, url, listening, is_secure=secure)


async def _serve(
    settings: Settings, url: str, listening: socket.socket, *, is_secure: bool
) -> None:
    out, topics, rules = console(), settings.kafka.topics, load_rules(settings)
    if (brief := settings.console.brief_task) is not None and brief not in rules.policy.tasks:
        msg = f"TIERLINE_CONSOLE__BRIEF_TASK={brief}: the policy has no such task"
        raise UserError(msg)
    clients = Clients(settings.kafka).named("console")
    how = await watch_of(settings, has_health=False)
    with open_telemetry(settings.telemetry, topics) as telemetry:
        async with (
            watched(how, dict, LoopLag()) as mark,
            open_store(url) as store,
            publisher(clients, telemetry.tracing) as sending,
            asyncio.TaskGroup() as tasks,
        ):
            poison_guard = Guard(f"{settings.kafka.prefix}console", mark, how.folder)
            queue = Queue(store, clients, rules.policy, topics, clock.now, poison_guard)
            reviews = ReviewService(
                store,
                sending,
                rules.policy,
                rules.prompts,
                topics,
                clock.now,
                brief_task=brief,
                trace_url=settings.console.trace_url,
            )
            authenticator = Authenticator(
                store.sessions,
                clock.now,
                token=settings.console.token,
                has_oidc=settings.console.oidc is not None,
                is_secure=is_secure,
            )
            bulk, keep, admission = Bulk(reviews), settings.store.keep, admission_of(settings)
            figures = Figures(reviews, clients, keep, admission=admission)
            for tables in (queue, figures.model):
                await tables.check()
            tell_review(telemetry.meter, lambda: queue.standing)
            works = (
                *(queue.run(), queue.look(), figures.model.run(), reviews.resend(), bulk.run()),
                _say_caught_up(out, queue.caught_up),
            )
            running = [tasks.create_task(work) for work in works]
            host, number = listening.getsockname()[:2]
            out.print(f"the console is at http://{host}:{number}")
            stop = asyncio.Event()
            for name in stop_signals():
                asyncio.get_running_loop().add_signal_handler(name, stop.set)
            app = console_app(reviews, authenticator, bulk, figures, settings.console.oidc)
            await serve(app, listening, proxies=settings.console.proxies, stop=stop)
            for task in running:
                task.cancel()


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        where = f"{host} port {port}"
        msg = f"cannot listen on {where}: {error.strerror}; name another port with --port"
        raise UserError(msg) from None
    return listening


async def _say_caught_up(out: Console, caught_up: asyncio.Event) -> None:
    await caught_up.wait()
    out.print("all dead letters have been read; Ctrl-C stops the console")
