"""Where a console listens and keeps its tables, and the console beside stages in one process."""

import asyncio
import contextlib
import errno
import re
import socket
from collections.abc import AsyncIterator, Iterator
from importlib.util import find_spec

import structlog
from rich.console import Console

from consumers.cli.common import UserError, data_home
from consumers.files import own_folder
from consumers.policies import Policies
from consumers.runtime.clients import Clients
from consumers.runtime.connection import cluster_of
from consumers.runtime.poison import Guard
from consumers.settings import Settings
from consumers.telemetry.setup import Telemetry
from schemas.errors import TierlineError

__all__ = ["LOOPBACK", "console_beside", "console_socket", "listening_on", "store_url"]

_log = structlog.get_logger(__name__)

LOOPBACK = "127.0.0.1"
#: Where the console listens unless a port is named: at the first of these that is free.
_PORTS = range(8080, 8100)
#: Seconds for pages under way; the server's own limit is shorter.
_END_SECONDS = 8.0
_EXTRA = ("aiosqlite", "fastapi", "joserfc", "sqlalchemy", "uvicorn")


@contextlib.contextmanager
def console_socket(
    settings: Settings,
    out: Console,
    *,
    is_whole: bool = True,
    is_wanted: bool | None = None,
    port: int | None = None,
) -> Iterator[socket.socket | None]:
    """Where the console listens beside stages, on this machine alone; None: it is not served.

    `is_wanted` is what an option says; without one it is served where all stages run (`is_whole`),
    unless the settings forbid that. Raises UserError.
    """
    if is_wanted is False and port is not None:
        msg = f"--console-port {port}: --no-console leaves the console out; give one or the other"
        raise UserError(msg)
    is_asked_for = bool(is_wanted) or port is not None
    if is_wanted is False or not (is_asked_for or (is_whole and settings.console.beside_stages)):
        yield None
    elif all(find_spec(name) is not None for name in _EXTRA):
        option = "--console-port"
        if port is None:
            port, option = settings.console.port, "TIERLINE_CONSOLE__PORT"
        with listening_on(LOOPBACK, port, option) as listening:
            yield listening
    else:
        words = "the console is not installed: pip install 'tierline[console]' adds it"
        if is_asked_for:
            raise UserError(words)
        out.print(words)
        yield None


def listening_on(host: str, port: int | None, option: str) -> socket.socket:
    """A socket on this port; without one on 8080, or the next port that is free.

    `option` names a port. Raises UserError.
    """
    for number in _PORTS if port is None else (port,):
        listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, number))
            listening.listen()
        except OSError as error:
            listening.close()
            if port is None and error.errno == errno.EADDRINUSE:
                continue
            where = f"{host} port {number}"
            msg = f"cannot listen on {where}: {error.strerror}; name another port with {option}"
            raise UserError(msg) from None
        return listening
    where = f"any port from {_PORTS[0]} to {_PORTS[-1]} of {host}"
    msg = f"cannot listen on {where}: they are in use; name another port with {option}"
    raise UserError(msg)


async def store_url(settings: Settings, given: str | None = None) -> str:
    """The store to use: as given, as set, else a file of ours for these topics."""
    if given is not None:
        return given
    if settings.store.url is not None:
        return settings.store.url.get_secret_value()
    own_folder(data_home())
    # A broker of our own that starts anew is another cluster, whose topics are others.
    cluster = await cluster_of(Clients(settings.kafka))
    name = re.sub(r"[^\w-]", "-", f"console-{settings.kafka.prefix}{cluster}")[:100]
    return f"sqlite:///{data_home() / name}.db"


@contextlib.asynccontextmanager
async def console_beside(
    settings: Settings,
    policies: Policies,
    out: Console,
    stop: asyncio.Event,
    *,
    telemetry: Telemetry,
    guard: Guard | None = None,
    listening: socket.socket | None,
    store: str | None = None,
) -> AsyncIterator[None]:
    """Serve the console on a socket until `stop` is set or the context closes.

    Where it cannot go on, that is printed: the stages need no console.
    """
    if listening is None:
        yield
        return
    # It is a server, which takes longer to load than most commands run.
    from consumers.console.running import ConsoleAt, run_console  # noqa: PLC0415  a server

    def tell(words: str) -> None:
        out.print(words, soft_wrap=True)

    async def serve() -> None:
        try:
            url = await store_url(settings, store)
            await run_console(
                *(settings, policies, ConsoleAt(listening, url), stop),
                telemetry=telemetry,
                guard=guard,
                tell=tell,
            )
        except* TierlineError as group:
            tell(f"the console has stopped: {_first(group)}")
        except* Exception as group:  # noqa: BLE001  the stages go on
            _log.exception("console stopped", error=type(_first(group)).__name__)
            tell(f"the console has stopped: unexpected {type(_first(group)).__name__}")

    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(serve())
        try:
            yield
        finally:
            stop.set()
            await asyncio.wait([serving], timeout=_END_SECONDS)
            serving.cancel()  # it may still be opening


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
