"""What commands share: options, where Kafka is, exit codes, tables and JSON."""

import contextlib
import json
import os
import sys
from collections.abc import Callable, Collection, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from consumers.cli.texts import say
from consumers.texts import escaped
from schemas.errors import TierlineError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from consumers.settings import Settings

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
    "Reading",
    "RequestId",
    "Since",
    "UserError",
    "address_file",
    "console",
    "counted",
    "data_home",
    "dollars",
    "fail",
    "in_words",
    "print_json",
    "print_table",
    "progress",
    "read_settings",
    "reading_bar",
    "refuse_unread",
    "run",
    "running_address",
    "shortened",
    "span_of",
]

#: Exit codes. 2 is the command line's own for wrong usage.
OK, FAILED, UNAVAILABLE = 0, 1, 3
#: What `--last` takes at most: so many are held.
MOST_LISTED = 10_000

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
KafkaAddress = Annotated[
    str | None,
    typer.Option(
        "--kafka",
        metavar="HOST:PORT",
        help="Use this Kafka, with the security that TIERLINE_KAFKA__… sets; else the one of `up`.",
    ),
]


OfTenant = Annotated[
    str | None,
    typer.Option(
        "--tenant", metavar="TENANT", help="Say whose request it is: ids are a tenant's own."
    ),
]
OnlyTenant = Annotated[
    str | None,
    typer.Option("--tenant", metavar="TENANT", help="Take only what is of this tenant."),
]
OnlyTask = Annotated[
    str | None, typer.Option("--task", metavar="TASK", help="Take only what is of this task.")
]
Since = Annotated[
    str | None,
    typer.Option(
        "--since", metavar="SPAN", help="Go back so far only, for example 90s, 15m, 24h or 7d."
    ),
]
RequestId = Annotated[
    str, typer.Argument(metavar="REQUEST_ID", help="The id of the request, or its custom_id.")
]


class UserError(TierlineError):
    """Something the user can mend; the message says what and how."""


def refuse_unread(context: typer.Context, why: str, *names: str) -> None:
    """Refuse options that were given and that nothing would read. Raises UserError."""
    for param in context.command.params:
        source = context.get_parameter_source(param.name or "")
        if param.name in names and source is not None and source.name == "COMMANDLINE":
            msg = f"{max(param.opts, key=len)} {why}"
            raise UserError(msg)


def data_home() -> Path:
    """Where `up` keeps Kafka's data between runs."""
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "tierline"


def address_file() -> Path:
    """Where a running broker of ours notes its address for other commands."""
    return data_home() / "address"


def read_settings(kafka: str | None = None, *, needs_kafka: bool = True) -> "Settings":
    """The settings, with Kafka's address: as given, as set, or of a running `up`."""
    from consumers.settings import Settings, read_address

    if kafka is not None:
        try:
            read_address(kafka)
        except ValueError as error:
            msg = f"--kafka {error}"
            raise UserError(msg) from None
    settings = Settings()
    address = kafka or settings.kafka.bootstrap or running_address()
    if address is None:
        if not needs_kafka:
            return settings
        from consumers.runtime.connection import KafkaUnreachableError

        msg = "no Kafka is running"
        raise KafkaUnreachableError(msg)
    return settings.model_copy(
        update={"kafka": settings.kafka.model_copy(update={"bootstrap": address})}
    )


def running_address() -> str | None:
    """Where the Kafka is that a running command of ours has started; None when there is none."""
    try:
        pid, address = address_file().read_text().split()
        os.kill(int(pid), 0)
    except (OSError, ValueError):
        return None
    return address


def run(main: Callable[[], Coroutine[Any, Any, int | None]]) -> None:
    """Run a command's coroutine and exit with its code."""
    from consumers.runtime.process import run_process

    raise typer.Exit(run_process(main) or OK)


def console() -> "Console":
    """The terminal."""
    from consumers.cli.terminal import Terminal

    # A pipe has no width of its own; 80 columns would fold every cell.
    return Terminal(highlight=False, width=None if sys.stdout.isatty() else 150)


def progress() -> "Progress":
    """A bar on standard error, for as long as something takes; none where nobody watches."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from consumers.cli.terminal import Terminal

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    terminal = Terminal(stderr=True, highlight=False)
    return Progress(
        *columns,
        TimeElapsedColumn(),
        console=terminal,
        transient=True,
        disable=not terminal.is_terminal,
        # What is printed meanwhile may be meant for a file.
        redirect_stdout=False,
    )


@dataclass(frozen=True, slots=True)
class Reading:
    """A bar for the reading of topics: it hears how many records of how many have been read."""

    _bar: "Progress"
    _task: "TaskID"

    def __call__(self, done: int, total: int) -> None:
        """Show it."""
        self._bar.update(self._task, completed=done, total=total)

    def end(self) -> None:
        """Everything has been read."""
        self._bar.stop()

    def give_way(self) -> None:
        """Make room for what is printed next: on a terminal that is progress enough."""
        if sys.stdout.isatty():
            self._bar.stop()


@contextlib.contextmanager
def reading_bar() -> Iterator[Reading]:
    """A bar for the reading of topics, and what a reader tells how far it is."""
    with progress() as bar:
        yield Reading(bar, bar.add_task("reading", total=None))


def in_words(output: Mapping[str, object], *, but: Collection[str] = ("confidence",)) -> str:
    """An answer in one line: its only text as it stands, else its fields by name."""
    from schemas.json_numbers import exact_json

    said = {name: value for name, value in output.items() if name not in but}
    if len(said) == 1 and isinstance(only := next(iter(said.values())), str):
        return " ".join(only.split())
    told = (
        f"{name}: {value if isinstance(value, str) else exact_json(value, gap=chr(32))}"
        for name, value in said.items()
        if value is not None or not any(one is not None for one in said.values())
    )
    return " ".join("; ".join(told).split())


def shortened(text: str, room: int) -> str:
    """As many words of it as fit."""
    if len(text) <= room:
        return text
    cut = text[: room - 1]
    return (cut.rpartition(" ")[0] or cut) + "…"


def fail(message: str, code: int = FAILED) -> None:
    """Say what is wrong and exit."""
    say(f"tierline: {message}", is_error=True)
    raise typer.Exit(code)


def dollars(micros: int) -> str:
    """An amount for people: small ones keep the digits that matter."""
    amount = micros / 1_000_000
    return f"${amount:.2f}" if amount >= 1 else f"${amount:.6f}"


def counted(count: int, what: str) -> str:
    """A count with its noun: `1 result`, `2 results`."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def print_json(value: object) -> None:
    """One JSON document on standard output."""
    import orjson

    from schemas.json_numbers import as_json

    try:
        document = as_json(value, orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z).decode()
    except TypeError:  # half a character, or what JSON has no form for
        document = json.dumps(value, indent=2, ensure_ascii=False, default=str)
    sys.stdout.write(escaped(document) + "\n")


def print_table(
    rows: Sequence[Mapping[str, object]],
    columns: Sequence[str],
    *,
    title: str | None = None,
    optional: Sequence[str] = (),
) -> None:
    """Print rows as a table, or as a block each where the terminal is too narrow for one.

    Columns that are `optional` are left out before that, the first named first.
    """
    from consumers.cli.tables import drawn

    out = console()
    table, left_out = drawn(rows, columns, width=out.width, title=title, optional=optional)
    out.print(table, crop=False)
    if left_out:
        say(f"not shown at this width: {', '.join(left_out)} (--json has all)", is_error=True)


def span_of(text: str, option: str) -> timedelta:
    """A span of time as people give it, such as 90m. Raises UserError."""
    from schemas.spans import read_positive_span

    try:
        return read_positive_span(text)
    except ValueError as error:
        msg = f"{option} {text}: {error}"
        raise UserError(msg) from None
