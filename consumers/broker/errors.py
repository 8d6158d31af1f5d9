"""What can go wrong with a broker of our own."""

from pathlib import Path

from schemas.errors import TierlineError

__all__ = ["BrokerError", "is_out_of_space", "with_tail"]

_TAIL_LINES = 15
_LAST_BYTES = 64 * 1024


class BrokerError(TierlineError):
    """The broker cannot be started, or has ended."""

    exit_code = 3


def with_tail(what: str, log_file: Path) -> str:
    """The sentence and the last of what the broker said."""
    lines = log_file.read_text(errors="replace").splitlines()[-_TAIL_LINES:]
    return "\n".join([f"{what}. The end of its log ({log_file}):", *lines])


def is_out_of_space(log_file: Path) -> bool:
    """True where the last that the broker said is that its disk is full."""
    with log_file.open("rb") as log:
        log.seek(max(0, log_file.stat().st_size - _LAST_BYTES))
        said = log.read()
    return b"No space left on device" in said or b"Disk quota exceeded" in said
