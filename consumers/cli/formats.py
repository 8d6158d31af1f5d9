"""How figures, spans of time, answers and tables are written for people.

A table breaks no figure and no word, whatever the width; a colour says what a word means. Colours
are rich's to leave out: where nobody watches, and where `NO_COLOR` is set.
"""

import io
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from consumers.amounts import cell_text
from consumers.texts import plain

__all__ = ["Terminal", "drawn", "least_width", "style_of"]

#: Between two columns, and at the edges.
_BETWEEN, _EDGES = 3, 4
_FIGURE = re.compile(r"[-+]?\$?[\d,.:]+( ?(%|ms|s|MB|tokens))?|-")
_STYLES = {
    "green": "accepted, answer, answered, result, ok, approve, passed, ready",
    "yellow": "approval_required, person_first, escalated, classify, review, waits, edit, "
    "rejected, safe_default, refusal, clarification, unfinished, low_confidence",
    "red": "failed, dead letter, reject, error, broken",
    "cyan": "low",
    "blue": "balanced",
    "magenta": "premium",
}
_BY_WORD = {word: style for style, words in _STYLES.items() for word in words.split(", ")}
#: `Text.wrap` requires a console, and uses nothing of it.
_NOWHERE = Console(file=io.StringIO())


class Terminal(Console):
    """A console that reads no markup in texts, and shows no control characters."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(plain(text), **{**options, "markup": False, "emoji": False})


def style_of(column: str, value: str) -> str:
    """A colour for an outcome, a tier or a failure; empty for everything else."""
    if column == "reason" and value:
        return _BY_WORD.get(value, "red")
    return "" if column == "field" else _BY_WORD.get(value, "")


def drawn(
    rows: Sequence[Mapping[str, object]],
    columns: Sequence[str],
    *,
    width: int,
    title: str | None = None,
    optional: Sequence[str] = (),
) -> tuple[RenderableType, Sequence[str]]:
    """Rows as a table where the width allows one, else each row as lines of its own.

    Columns that are `optional` are left out first, the first named first; those left out are
    returned as well.
    """
    shown, left_out = list(columns), list[str]()
    for name in (*optional, None):
        if least_width(rows, shown) <= width:
            return _table(rows, shown, title, width), left_out
        if name in shown:
            shown.remove(name)
            left_out.append(name)
    return _listed(rows, columns, title, width), ()


def least_width(rows: Sequence[Mapping[str, object]], columns: Collection[str]) -> int:
    """The width below which a word or a figure would break."""
    least = sum(_least_of(column, _cells(rows, column)) for column in columns)
    return least + _BETWEEN * (len(columns) - 1) + _EDGES


def _table(
    rows: Sequence[Mapping[str, object]], columns: Sequence[str], title: str | None, width: int
) -> Table:
    """Rows as a table that has room for the longest word of each column."""
    table = Table(title=None if title is None else Text(plain(title)), title_justify="left")
    by_column = {column: _cells(rows, column) for column in columns}
    widths = _widths(by_column, width)
    for column, cells in by_column.items():
        is_figures = any(cells) and all(_FIGURE.fullmatch(cell) for cell in cells)
        table.add_column(
            Text(plain(column)),
            overflow="fold",
            justify="right" if is_figures else "left",
            width=widths[column],
        )
    for row in zip(*by_column.values(), strict=True):
        texts = (
            Text(plain(cell), style_of(name, cell)) for name, cell in zip(columns, row, strict=True)
        )
        table.add_row(*texts)
    return table


def _widths(by_column: Mapping[str, Sequence[str]], width: int) -> Mapping[str, int]:
    """The width of each column: at least its longest word, at most its widest line."""
    widths = {column: _least_of(column, cells) for column, cells in by_column.items()}
    widest = {
        column: max(_room(line) for cell in (column, *cells) for line in cell.splitlines() or [""])
        for column, cells in by_column.items()
    }
    room = width - _EDGES - _BETWEEN * (len(widths) - 1) - sum(widths.values())
    while room > 0 and (narrow := [name for name in widths if widths[name] < widest[name]]):
        for name in narrow:
            more = min(max(room // len(narrow), 1), widest[name] - widths[name], room)
            widths[name] += more
            room -= more
    return widths


def _listed(
    rows: Sequence[Mapping[str, object]], columns: Sequence[str], title: str | None, width: int
) -> Group:
    """Each row as a block, with a line or more for each field. A word may be longer than a line."""
    wide = max(len(column) for column in columns) + 2
    lines = [] if title is None else [Text(plain(title), style="italic")]
    for no, row in enumerate(rows):
        if no:
            lines.append(Text(""))
        for column in columns:
            name = plain(column)
            for part in _wrapped(cell_text(row.get(column)), max(width - wide, 1)):
                line = Text(f"{name:<{wide}}", style="bold")
                lines.append(line.append(part, style_of(column, part) or "not bold"))
                name = ""
    for text in lines:
        text.no_wrap, text.overflow = True, "ignore"
    return Group(*lines)


def _wrapped(text: str, room: int) -> Sequence[str]:
    """The lines of a text, by the columns that its characters take."""
    return [
        part.plain.rstrip()
        for line in plain(text).splitlines()
        if line.strip()
        for part in Text(line.strip(), overflow="ignore").wrap(_NOWHERE, room)
    ]


def _cells(rows: Sequence[Mapping[str, object]], column: str) -> Sequence[str]:
    return [cell_text(row.get(column)) for row in rows]


def _room(text: str) -> int:
    return Text(plain(text)).cell_len


def _least_of(column: str, cells: Sequence[str]) -> int:
    """The widest of what stays whole: words, figures with their units, and indented drawings."""
    return max(
        _room(part)
        for cell in (column, *cells)
        for part in (
            [cell] if cell.startswith(" ") or _FIGURE.fullmatch(cell) else cell.split() or [""]
        )
    )
