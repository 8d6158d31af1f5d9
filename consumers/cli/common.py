"""What commands share: their options, where Kafka is, exit codes, and how a command is run."""

import asyncio
import functools
import os
import signal
from collections.abc import Callable, Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, NamedTuple, ParamSpec

import typer
from typer import Argument, Option

from consumers.runtime.connection import KafkaUnreachableError
from consumers.runtime.process import run_process
from consumers.settings import Settings, read_address
from schemas.base import Tier
from schemas.errors import TierlineError
from schemas.spans import read_positive_span

__all__ = [
    "FAILED",
    "MOST_LISTED",
    "OK",
    "UNAVAILABLE",
    "AsJson",
    "KafkaAddress",
    "OfTenant",
    "OnlyTask",
    "OnlyTenant",
    "RequestId",
    "RunningKafka",
    "Since",
    "StoreUrl",
    "UserError",
    "address_file",
    "asynchronous",
    "data_home",
    "interrupted",
    "on_kafka",
    "read_settings",
    "refuse_unread",
    "run",
    "running_kafka",
    "span_of",
    "tier_of",
]

#: Exit codes. 2 is the command line's own for wrong usage.
OK, FAILED, UNAVAILABLE = 0, 1, 3
_SIMULATED = "simulated"
#: The most that `--last` takes: that many are held in memory.
MOST_LISTED = 10_000

AsJson = Annotated[bool, Option("--json", help="Print JSON for machines.")]
KafkaAddress = Annotated[
    str | None,
    Option(
        "--kafka",
        metavar="HOST:PORT",
        help="Use this Kafka, with the security of TIERLINE_KAFKA__…; else the one that `up` runs.",
    ),
]
OfTenant = Annotated[
    str | None,
    Option(
        "--tenant",
        metavar="TENANT",
        help="Look for this tenant's request: ids are unique within a tenant.",
    ),
]
OnlyTenant = Annotated[
    str | None, Option("--tenant", metavar="TENANT", help="Take only this tenant's.")
]
StoreUrl = Annotated[
    str | None,
    Option(
        "--store",
        metavar="URL",
        help="Keep figures in sqlite:///FILE or postgresql://…, and read only what is new.",
    ),
]
OnlyTask = Annotated[
    str | None, Option("--task", metavar="TASK", help="Take only those of this task.")
]
Since = Annotated[
    str | None,
    Option("--since", metavar="SPAN", help="Look back this far, for example 90s, 15m, 24h or 7d."),
]
RequestId = Annotated[
    str, Argument(metavar="REQUEST_ID", help="The id of the request, or its custom_id.")
]


_P = ParamSpec("_P")


class UserError(TierlineError):
    """A mistake that the user can correct; the message says how."""


def run(main: Callable[[], Coroutine[Any, Any, int | None]]) -> None:
    """Run a command's coroutine and exit with its code."""
    raise typer.Exit(run_process(main) or OK)


def asynchronous(command: Callable[_P, Coroutine[Any, Any, int | None]]) -> Callable[_P, None]:
    """Make a coroutine function a command whose result is the exit code."""

    @functools.wraps(command)
    def in_event_loop(*args: _P.args, **kwargs: _P.kwargs) -> None:
        run(lambda: command(*args, **kwargs))

    return in_event_loop


def interrupted() -> asyncio.Event:
    """An event that Ctrl-C and SIGTERM set."""
    event = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, event.set)
    return event


def refuse_unread(context: typer.Context, why: str, *names: str) -> None:
    """Refuse options that would have no effect. Raises UserError."""
    for param in context.command.params:
        source = context.get_parameter_source(param.name or "")
        if param.name in names and source is not None and source.name == "COMMANDLINE":
            msg = f"{max(param.opts, key=len)} {why}"
            raise UserError(msg)


def span_of(text: str, option: str) -> timedelta:
    """A span of time as people give it, such as 90m. Raises UserError."""
    try:
        return read_positive_span(text)
    except ValueError as error:
        msg = f"{option} {text}: {error}"
        raise UserError(msg) from None


def tier_of(name: str) -> Tier:
    """The tier that `--tier` names. Raises UserError."""
    try:
        return Tier(name)
    except ValueError:
        msg = f"--tier {name}: one of {', '.join(Tier)} was expected"
        raise UserError(msg) from None


def data_home() -> Path:
    """Where `up` keeps Kafka's data between runs."""
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "tierline"


def address_file() -> Path:
    """Where a running broker of ours notes its address for other commands."""
    return data_home() / "address"


class RunningKafka(NamedTuple):
    """A Kafka that a running `up` has started, and whether it answers with the simulator."""

    address: str
    is_simulated: bool

    def note(self) -> str:
        """What `running_kafka` reads, as long as this process runs."""
        return f"{os.getpid()} {self.address} {_SIMULATED if self.is_simulated else 'configured'}\n"


def running_kafka() -> RunningKafka | None:
    """The Kafka of a running `up`; None when there is none."""
    try:
        pid, address, models = address_file().read_text().split()
        os.kill(int(pid), 0)
    except (OSError, ValueError):
        return None
    return RunningKafka(address, models == _SIMULATED)


def read_settings(kafka: str | None = None, *, needs_kafka: bool = True) -> Settings:
    """The settings, with Kafka's address: as given, as set, or that of a running `up`."""
    if kafka is not None:
        try:
            read_address(kafka)
        except ValueError as error:
            msg = f"--kafka {error}"
            raise UserError(msg) from None
    settings = Settings()
    address = kafka or settings.kafka.bootstrap
    if address is None and (running := running_kafka()) is not None:
        address = running.address
    if address is None and needs_kafka:
        msg = "no Kafka is running"
        raise KafkaUnreachableError(msg)
    return settings if address is None else on_kafka(settings, address)


def on_kafka(settings: Settings, address: str | None) -> Settings:
    """The same settings with another Kafka."""
    kafka = settings.kafka.model_copy(update={"bootstrap": address})
    return settings.model_copy(update={"kafka": kafka})
