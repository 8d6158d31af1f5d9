"""What commands print: lines and tables on the terminal, JSON, and how far they are."""

import contextlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import orjson
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from consumers.cli.formats import Terminal, drawn
from consumers.texts import escaped, say
from schemas.json_numbers import as_json

__all__ = ["Reading", "console", "print_json", "print_table", "progress", "reading_bar"]


def console() -> Terminal:
    """The terminal."""
    # A pipe has no width of its own; 80 columns would fold every cell.
    return Terminal(highlight=False, width=None if sys.stdout.isatty() else 150)


def print_json(value: object) -> None:
    """One JSON document on standard output."""
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
    out = console()
    table, left_out = drawn(rows, columns, width=out.width, title=title, optional=optional)
    out.print(table, crop=False)
    if left_out:
        say(f"not shown at this width: {', '.join(left_out)} (--json has all)", is_error=True)


def progress() -> Progress:
    """A bar on standard error, for as long as something takes; none where nobody watches."""
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

    _bar: Progress
    _task: TaskID

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
