"""`tierline console`: the review console, and the line of a user who may sign in to it."""

import contextlib
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from consumers.cli.common import (
    KafkaAddress,
    UserError,
    console,
    data_home,
    read_settings,
    run,
)

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator, Mapping

    from fastapi import FastAPI
    from rich.console import Console

    from consumers.console.security import User
    from consumers.settings import Settings

__all__ = ["console_command", "console_user"]


def console_command(
    host: Annotated[str, typer.Option(help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port.", min=0, max=65535)] = 8080,
    users: Annotated[
        Path | None,
        typer.Option(
            help="Who may sign in: lines of `tierline console-user`. Else: nobody has to."
        ),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(metavar="URL", help="sqlite:///FILE or postgresql://…; else a file of ours."),
    ] = None,
    secure: Annotated[
        bool, typer.Option("--secure", help="Browsers come by https (a proxy in front of us).")
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
    from consumers.console.security import is_loopback, read_users

    settings = read_settings(kafka)
    oidc = settings.console.oidc
    if users is None and oidc is None and not is_loopback(host):
        msg = (
            f"--host {host}: others could reach it, and nobody would have to sign in. Give --users "
            f"FILE (`tierline console-user NAME` makes a line), set TIERLINE_CONSOLE__OIDC__…, or "
            f"listen on 127.0.0.1"
        )
        raise UserError(msg)
    known = read_users(users) if users is not None else {} if oidc is not None else None

    async def main() -> int:
        url = store or f"sqlite:///{data_home() / 'console.db'}"
        if store is None:
            data_home().mkdir(parents=True, exist_ok=True)
        with contextlib.closing(_listening(host, port)) as listening:
            await _serve(settings, url, known, listening, is_secure=secure)
        return 0

    run(main)


async def _serve(
    settings: "Settings",
    url: str,
    users: "Mapping[str, User] | None",
    listening: socket.socket,
    *,
    is_secure: bool,
) -> None:
    import asyncio

    from consumers import clock
    from consumers.console.app import console_app
    from consumers.console.bulk import Bulk
    from consumers.console.dashboard import Figures
    from consumers.console.deciding import Desk
    from consumers.console.queue import Queue, StoreMismatchError
    from consumers.console.security import Guard
    from consumers.console.store import StoreUnusableError, open_store
    from consumers.runtime import poison
    from consumers.runtime.clients import Clients
    from consumers.runtime.figures import tell_review
    from consumers.runtime.liveness import LoopLag, watched
    from consumers.runtime.reading import publisher
    from consumers.telemetry.setup import open_telemetry
    from consumers.wiring import load_rules, watch_of

    brief = settings.console.brief_task
    if brief is not None and brief not in load_rules(settings).policy.tasks:
        msg = f"TIERLINE_CONSOLE__BRIEF_TASK={brief}: the policy has no such task"
        raise UserError(msg)
    out, topics, rules = console(), settings.kafka.topics, load_rules(settings)
    clients, how = Clients(settings.kafka), await watch_of(settings, has_health=False)
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
                desk = Desk(
                    store,
                    sending,
                    rules.policy,
                    rules.prompts,
                    topics,
                    clock.now,
                    brief_task=settings.console.brief_task,
                    trace_url=settings.console.trace_url,
                )
                guard = Guard(
                    store.sessions,
                    users,
                    clock.now,
                    is_secure=is_secure,
                    has_oidc=settings.console.oidc is not None,
                )
                bulk, figures = Bulk(desk), Figures(desk, clients)
                tell_review(telemetry.meter, lambda: queue.standing)
                work = (
                    queue.run(),
                    queue.look(),
                    desk.resend(),
                    bulk.run(),
                    _tell(out, queue.caught_up),
                )
                running = [tasks.create_task(one) for one in work]
                host, number = listening.getsockname()[:2]
                out.print(f"the console is at http://{host}:{number}", markup=False)
                await _served(
                    console_app(desk, guard, bulk, figures, settings.console.oidc), listening
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


async def _served(app: "FastAPI", listening: socket.socket) -> None:
    """Answer until Ctrl-C or SIGTERM."""
    import asyncio
    import signal

    import uvicorn

    class Server(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self) -> "Iterator[None]":
            """Signals are ours."""
            yield

    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        timeout_graceful_shutdown=5,
    )
    server = Server(config)
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(
            name, lambda: setattr(server, "should_exit", True)
        )
    await server.serve([listening])


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
    out.print("every dead letter is a case now; Ctrl-C stops", markup=False)


def console_user(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Without blanks.")],
    role: Annotated[str, typer.Option(help="viewer, reviewer, operator or admin.")] = "reviewer",
    tenant: Annotated[
        list[str] | None, typer.Option(help="They see only this tenant's cases. Give it again.")
    ] = None,
) -> None:
    """Print the line of a user for the file of `console --users`. Asks for the password."""
    from consumers.console.security import Role, hash_password

    if role not in list(Role):
        msg = f"--role {role}: one of {', '.join(Role)} was expected"
        raise UserError(msg)
    if ":" in name or not name.isprintable() or " " in name:
        msg = f"{name!r}: a name without blanks and colons was expected"
        raise UserError(msg)
    if tenant and (role == Role.ADMIN or any(len(one.split()) != 1 for one in tenant)):
        msg = "--tenant: a tenant without blanks was expected; an admin sees all of them"
        raise UserError(msg)
    if sys.stdin.isatty():
        password = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    else:
        password = sys.stdin.readline().rstrip("\n")
    if len(password) < 8:
        msg = "a password of at least 8 characters was expected"
        raise UserError(msg)
    tenants = f":{' '.join(tenant)}" if tenant else ""
    sys.stdout.write(f"{name}:{role}:{hash_password(password)}{tenants}\n")
