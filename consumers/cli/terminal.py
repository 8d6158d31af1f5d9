"""What commands print: lines and tables on the terminal, JSON, and progress bars."""

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
from consumers.texts import escaped
from schemas.json_numbers import as_json

__all__ = ["Reading", "console", "print_json", "print_table", "progress", "reading_bar"]


def console() -> Terminal:
    # A pipe has no width of its own; 80 columns would fold every cell.
    return Terminal(highlight=False, width=None if sys.stdout.isatty() else 150)


def print_json(value: object) -> None:
    """Print a JSON document on standard output."""
    try:
        document = as_json(value, orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z).decode()
    except TypeError:  # half a surrogate pair, or a value that JSON cannot hold
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
        words = f"not shown at this width: {', '.join(left_out)} (--json has them)"
        Terminal(stderr=True, highlight=False, width=out.width).print(words)


def progress() -> Progress:
    """A progress bar on standard error, where that is a terminal."""
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
    """A bar for the reading of topics, called with how many records of how many were read."""

    _bar: Progress
    _task: TaskID

    def __call__(self, done: int, total: int) -> None:
        self._bar.update(self._task, completed=done, total=total)

    def end(self) -> None:
        """Stop the bar: everything has been read."""
        self._bar.stop()

    def give_way(self) -> None:
        """Stop the bar where results are printed on a terminal, which shows progress by itself."""
        if sys.stdout.isatty():
            self._bar.stop()


@contextlib.contextmanager
def reading_bar() -> Iterator[Reading]:
    with progress() as bar:
        yield Reading(bar, bar.add_task("reading", total=None))
