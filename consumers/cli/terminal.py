"""The terminal as commands write to it."""

from typing import Any

from rich.console import Console
from rich.text import Text

from consumers.texts import plain

__all__ = ["Terminal"]


class Terminal(Console):
    """A console that takes no text for markup, and shows no control characters."""

    def render_str(self, text: str, **options: Any) -> Text:
        """The text as it stands."""
        return super().render_str(plain(text), **{**options, "markup": False, "emoji": False})
