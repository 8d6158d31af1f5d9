"""Tables that break no figure and no word, whatever the width; colours by what a word means.

Colours are rich's to leave out: where nobody watches, and where `NO_COLOR` is set.
"""

import io
import re
from collections.abc import Collection, Mapping, Sequence

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from consumers.texts import plain

__all__ = ["drawn", "least_width", "style_of", "styled", "table_of"]

#: Between two columns, and at the edges.
_BETWEEN, _EDGES = 3, 4
_FIGURE = re.compile(r"[-+]?\$?[\d,.:]+( ?(%|ms|s|MB|tokens))?|-|")
_STYLES = {
    "green": ("accepted", "answer", "answered", "result", "ok", "approve", "passed", "ready"),
    "yellow": (
        *("approval_required", "escalated", "classify", "review", "waits", "edit", "rejected"),
        *("safe_default", "refusal", "clarification", "unfinished", "low_confidence"),
    ),
    "red": ("failed", "dead letter", "reject", "error", "broken"),
    "cyan": ("low",),
    "blue": ("balanced",),
    "magenta": ("premium",),
}
#: Wrapping asks for a console, and takes nothing from it.
_NOWHERE = Console(file=io.StringIO())
_BY_WORD = {word: style for style, words in _STYLES.items() for word in words}


def style_of(column: str, value: str) -> str:
    """A colour for an outcome, a tier or a failure; empty for everything else."""
    if column == "reason" and value:
        return _BY_WORD.get(value, "red")
    return "" if column == "field" else _BY_WORD.get(value, "")


def styled(column: str, value: str) -> Text:
    """A cell in its colour."""
    return Text(plain(value), style=style_of(column, value))


def table_of(
    rows: Sequence[Mapping[str, object]],
    columns: Sequence[str],
    *,
    title: str | None = None,
    width: int | None = None,
) -> Table:
    """Rows as a table; cells break between words, as long as the longest word has room.

    `width` is the terminal's, in columns.
    """
    table = Table(title=None if title is None else Text(plain(title)), title_justify="left")
    texts = [[_text(row.get(column)) for column in columns] for row in rows]
    widths = _widths(texts, columns, width)
    for no, column in enumerate(columns):
        cells = [row[no] for row in texts]
        is_figures = any(cells) and all(_FIGURE.fullmatch(cell) for cell in cells)
        table.add_column(
            Text(plain(column)),
            overflow="fold",
            justify="right" if is_figures else "left",
            width=widths[no],
        )
    for row in texts:
        table.add_row(*(styled(name, cell) for name, cell in zip(columns, row, strict=True)))
    return table


def drawn(
    rows: Sequence[Mapping[str, object]],
    columns: Sequence[str],
    *,
    width: int,
    title: str | None = None,
    optional: Sequence[str] = (),
) -> tuple[RenderableType, Sequence[str]]:
    """Rows as a table where the width allows one, else each row as lines of its own.

    Columns that are `optional` are left out first, the first named first; which ones were is told.
    """
    shown, left_out = list(columns), list[str]()
    for name in (*optional, None):
        if least_width(rows, shown) <= width:
            return table_of(rows, shown, title=title, width=width), left_out
        if name in shown:
            shown.remove(name)
            left_out.append(name)
    return _listed(rows, columns, title, width), ()


def _listed(
    rows: Sequence[Mapping[str, object]], columns: Sequence[str], title: str | None, width: int
) -> Group:
    """Each row as a block, a line or more for each field. A word may be longer than a line."""
    wide = max(len(column) for column in columns) + 2
    lines = [] if title is None else [Text(plain(title), style="italic")]
    for no, row in enumerate(rows):
        if no:
            lines.append(Text(""))
        for column in columns:
            name = plain(column)
            for part in _wrapped(_text(row.get(column)), max(width - wide, 1)):
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


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, (list, tuple, set, frozenset)):
        return ", ".join(map(_text, value))
    if isinstance(value, Mapping):
        return "; ".join(f"{name}: {_text(one)}" for name, one in value.items())
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def _longest_word(text: str) -> int:
    return max((Text(plain(word)).cell_len for word in text.split()), default=0)


def least_width(rows: Sequence[Mapping[str, object]], columns: Collection[str]) -> int:
    """The width below which a word or a figure would break."""
    least = _EDGES - _BETWEEN
    for column in columns:
        cells = [_text(row.get(column)) for row in rows]
        least += _BETWEEN + max(_least_of(one) for one in (column, *cells))
    return least


def _least_of(cell: str) -> int:
    """A figure with its unit stays whole, and so does what is indented, such as a drawing."""
    whole = Text(plain(cell)).cell_len
    is_whole = cell.startswith(" ") or _FIGURE.fullmatch(cell) is not None
    return whole if is_whole else _longest_word(cell)


def _widths(
    texts: Sequence[Sequence[str]], columns: Sequence[str], width: int | None
) -> list[int | None]:
    """For each column its widest cell, as far as there is room, and its longest word at least."""
    by_column = [[column, *(row[no] for row in texts)] for no, column in enumerate(columns)]
    least = [max(map(_least_of, cells)) for cells in by_column]
    wanted = [
        max(Text(plain(line)).cell_len for cell in cells for line in (cell.splitlines() or [""]))
        for cells in by_column
    ]
    if width is None:
        return [None] * len(columns)
    room = width - _EDGES - _BETWEEN * (len(columns) - 1) - sum(least)
    given = list(least)
    while room > 0 and (open_ := [no for no, one in enumerate(wanted) if given[no] < one]):
        for no in open_:
            more = min(max(room // len(open_), 1), wanted[no] - given[no], room)
            given[no] += more
            room -= more
    return list(given)
