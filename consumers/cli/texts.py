"""Lines that commands print: `say`, `console` and `print_json` escape what others wrote."""

import sys

from consumers.texts import plain

__all__ = ["say"]


def say(text: str, *, is_error: bool = False) -> None:
    """Print a line, or several."""
    _ = (sys.stderr if is_error else sys.stdout).write(f"{plain(text)}\n")
