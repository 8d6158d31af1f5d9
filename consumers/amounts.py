"""How amounts, spans of time and answers are written for people."""

from collections.abc import Collection, Mapping

from schemas.json_numbers import exact_json

__all__ = ["age", "cell_text", "counted", "dollars", "duration", "in_words", "shortened"]


def dollars(micros: int) -> str:
    """An amount of micro-dollars: small ones keep the digits that matter."""
    amount = micros / 1_000_000
    return f"${amount:.2f}" if amount >= 1 else f"${amount:.6f}"


def duration(milliseconds: float) -> str:
    """A duration with the unit that fits it."""
    seconds, hours = milliseconds / 1_000, milliseconds / 3_600_000
    if seconds < 1:
        return f"{milliseconds:.0f} ms"
    if seconds < 120:
        return f"{seconds:.2f} s"
    return f"{seconds / 60:.1f} min" if hours < 2 else f"{hours:.1f} h"


def age(seconds: float) -> str:
    """A span of time in the largest unit of which it has at least two."""
    for name, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length:.0f} {name}"
    return f"{max(seconds, 0):.0f} s"


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """A count with its noun: `1 result`, `2,000 results`."""
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"


def cell_text(value: object) -> str:
    """A value as a cell of a table: lists and objects in one line."""
    if value is None:
        return ""
    if isinstance(value, (list, tuple, set, frozenset)):
        return ", ".join(map(cell_text, value))
    if isinstance(value, Mapping):
        return "; ".join(f"{name}: {cell_text(field)}" for name, field in value.items())
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def in_words(output: Mapping[str, object], *, but: Collection[str] = ("confidence",)) -> str:
    """An answer in one line: its only text, else its fields by name."""
    fields = {name: value for name, value in output.items() if name not in but}
    if len(fields) == 1 and isinstance(only := next(iter(fields.values())), str):
        return " ".join(only.split())
    if any(value is not None for value in fields.values()):
        fields = {name: value for name, value in fields.items() if value is not None}
    parts = (
        f"{name}: {value if isinstance(value, str) else exact_json(value, gap=chr(32))}"
        for name, value in fields.items()
    )
    return " ".join("; ".join(parts).split())


def shortened(text: str, room: int) -> str:
    """As many words of a text as fit."""
    if len(text) <= room:
        return text
    cut = text[: room - 1]
    return (cut.rpartition(" ")[0] or cut) + "…"
