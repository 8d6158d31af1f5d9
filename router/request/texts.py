"""The signals of texts, by word tables that are loaded when a first text is read."""

from collections.abc import Callable
from functools import cache

__all__ = ["text_signals"]


def text_signals(text: str) -> frozenset[str]:
    """The signals of a text, by the word tables. Takes linear time."""
    return _reader()(text)


@cache
def _reader() -> Callable[[str], frozenset[str]]:
    """The reader with its tables: a command that reads no text goes without."""
    from router.request import text_signals as tables  # noqa: PLC0415

    return tables.text_signals
