"""`tierline console`: the review console."""

import contextlib
import socket
from typing import TYPE_CHECKING, Annotated

import typer

from consumers.cli.common import (
    KafkaAddress,
    UserError,
    data_home,
    read_settings,
    run,
)
from consumers.cli.terminal import console
from consumers.files import own_folder

if TYPE_CHECKING:
    import asyncio

    from rich.console import Console

    from consumers.settings import Settings

__all__ = ["console_command"]


def console_command(
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
            help="Keep cases and figures in sqlite:///FILE or postgresql://…; else in our file.",
        ),
    ] = None,
    secure: Annotated[
        bool,
        typer.Option(
            "--secure", help="Say that browsers come by https, through a proxy in front of us."
        ),
    ] = False,
    kafka: KafkaAddress = None,
) -> None:
    """Serve the review console until Ctrl-C: the cases that wait for a person."""
    try:
        import uvicorn  # noqa: F401

        import consumers.console.app  # noqa: F401
    except ImportError as error:
        msg = f"the console needs: pip install 'tierline[console]' ({error.name} is missing)"
        raise UserError(msg) from None
    from consumers.console.security import is_loopback

    settings = read_settings(kafka)
    needs_sign_in = settings.console.oidc is not None or settings.console.token is not None
    if not needs_sign_in and not is_loopback(host):
        msg = (
            f"--host {host}: others could reach it, and nobody would have to sign in. Set "
            f"TIERLINE_CONSOLE__TOKEN__SECRET or TIERLINE_CONSOLE__OIDC, or listen on 127.0.0.1"
        )
        raise UserError(msg)

    async def main() -> int:
        kept = settings.store.url
        url = store or (kept.get_secret_value() if kept else None)
        if url is None:
            own_folder(data_home())
            url = f"sqlite:///{data_home() / 'console.db'}"
        with contextlib.closing(_listening(host, port)) as listening:
            await _serve(settings, url, listening, is_secure=secure)
        return 0

    run(main)


async def _serve(
    settings: "Settings",
    url: str,
    listening: socket.socket,
    *,
    is_secure: bool,
) -> None:
    import asyncio

    from consumers import clock
    from consumers.console.app import console_app
    from consumers.console.auth import Authenticator
    from consumers.console.bulk import Bulk
    from consumers.console.dashboard import Figures
    from consumers.console.queue import Queue, StoreMismatchError
    from consumers.console.review_service import ReviewService
    from consumers.console.serving import serve
    from consumers.console.store import StoreUnusableError, open_store
    from consumers.rules import load_rules
    from consumers.runtime import poison
    from consumers.runtime.clients import Clients
    from consumers.runtime.liveness import LoopLag, watched
    from consumers.runtime.metrics import tell_review
    from consumers.runtime.publisher import publisher
    from consumers.telemetry.setup import open_telemetry
    from consumers.wiring import watch_of

    out, topics, rules = console(), settings.kafka.topics, load_rules(settings)
    if (brief := settings.console.brief_task) is not None and brief not in rules.policy.tasks:
        msg = f"TIERLINE_CONSOLE__BRIEF_TASK={brief}: the policy has no such task"
        raise UserError(msg)
    clients, how = (
        Clients(settings.kafka).named("console"),
        await watch_of(settings, has_health=False),
    )
    try:
        with open_telemetry(settings.telemetry, topics) as telemetry:
            async with (
                watched(how, dict, LoopLag()) as mark,
                open_store(url) as store,
                publisher(clients, telemetry.tracing) as sending,
                asyncio.TaskGroup() as tasks,
            ):
                queue = Queue(
                    store,
                    clients,
                    rules.policy,
                    topics,
                    clock.now,
                    poison.Guard(f"{settings.kafka.prefix}console", mark, how.folder),
                )
                desk = ReviewService(
                    store,
                    sending,
                    rules.policy,
                    rules.prompts,
                    topics,
                    clock.now,
                    brief_task=brief,
                    trace_url=settings.console.trace_url,
                )
                guard = Authenticator(
                    store.sessions,
                    clock.now,
                    token=settings.console.token,
                    has_oidc=settings.console.oidc is not None,
                    is_secure=is_secure,
                )
                await queue.check_origin()
                bulk, figures = Bulk(desk), Figures(desk, clients, settings.store.keep)
                tell_review(telemetry.meter, lambda: queue.standing)
                running = [
                    tasks.create_task(one)
                    for one in (
                        queue.run(),
                        queue.look(),
                        figures.model.run(),
                        desk.resend(),
                        bulk.run(),
                        _tell(out, queue.caught_up),
                    )
                ]
                host, number = listening.getsockname()[:2]
                out.print(f"the console is at http://{host}:{number}")
                await serve(
                    console_app(desk, guard, bulk, figures, settings.console.oidc),
                    listening,
                    proxies=settings.console.proxies,
                )
                for task in running:
                    task.cancel()
    except StoreUnusableError as error:
        raise UserError(str(error)) from None
    except ExceptionGroup as group:
        mismatch, others = group.split(StoreMismatchError)
        if mismatch is None or others is not None:
            raise
        raise UserError(str(mismatch.exceptions[0])) from None


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((host, port))
    except OSError as error:
        made.close()
        msg = f"cannot listen on {host} port {port}: {error.strerror}; name another with --port"
        raise UserError(msg) from None
    return made


async def _tell(out: "Console", caught_up: "asyncio.Event") -> None:
    await caught_up.wait()
    out.print("every dead letter is a case now; Ctrl-C stops")
