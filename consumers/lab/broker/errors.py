"""Errors of a broker of our own, and what to say about a full disk."""

import shutil
from pathlib import Path

from schemas.errors import TierlineError

__all__ = ["BrokerError", "fullness_of", "refuse_full_disk", "with_tail"]

#: Bytes of free space, below which Kafka may give its folder up: one of its files takes as many.
_LITTLE_SPACE = 16 << 20
_TAIL_LINES = 15
_LAST_BYTES = 64 * 1024


class BrokerError(TierlineError):
    """The broker cannot be started, or has ended."""

    exit_code = 3


def with_tail(what: str, log_file: Path) -> str:
    """The sentence, and the last lines of the broker's log."""
    lines = log_file.read_text(errors="replace").splitlines()[-_TAIL_LINES:]
    return "\n".join([f"{what}. The end of its log ({log_file}):", *lines])


def fullness_of(folder: Path, log_file: Path | None = None) -> str | None:
    """A clause that says that the disk of a broker's folder is full; None where it is not."""
    free = shutil.disk_usage(folder).free
    if free >= _LITTLE_SPACE and not (log_file is not None and _is_out_of_space(log_file)):
        return None
    return f"the disk of {folder} is full, {free >> 20} MB are free"


def refuse_full_disk(folder: Path) -> None:
    """Raise BrokerError where the disk has no room for a broker's data."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if (full := fullness_of(existing)) is not None:
        msg = (
            f"{full}, and Kafka needs {_LITTLE_SPACE >> 20} MB to start. Make room there, or give "
            "another --data-dir"
        )
        raise BrokerError(msg)


def _is_out_of_space(log_file: Path) -> bool:
    """True where the end of the broker's log says that the disk is full."""
    with log_file.open("rb") as log:
        log.seek(max(0, log_file.stat().st_size - _LAST_BYTES))
        tail = log.read()
    return b"No space left on device" in tail or b"Disk quota exceeded" in tail
