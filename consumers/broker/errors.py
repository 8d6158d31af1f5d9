"""What can go wrong with a broker of our own."""

from pathlib import Path

__all__ = ["BrokerError", "with_tail"]

_TAIL_LINES = 15


class BrokerError(Exception):
    """The broker cannot be started; the message says why and what to do."""


def with_tail(what: str, log_file: Path) -> str:
    """The sentence and the last of what the broker said."""
    lines = log_file.read_text(errors="replace").splitlines()[-_TAIL_LINES:]
    return "\n".join([f"{what}. The end of its log ({log_file}):", *lines])
