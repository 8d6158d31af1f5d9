"""Ledger lines on this machine's disk, until Kafka has taken them.

A process that ends while Kafka is away cannot book what it has paid. Its lines stay in a file that
the next start on this machine takes over. A file belongs to the process that holds its lock, so the
lines of a living process are left alone, and those of a dead one are taken over once.
"""

import fcntl
import os
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import structlog

from consumers.files import own_folder
from schemas.codec import Outgoing

__all__ = ["Kept", "Spool"]

_log = structlog.get_logger(__name__)


class Kept(NamedTuple):
    """A ledger line, and the partition that it belongs to."""

    partition: int
    line: Outgoing


class Spool:
    """The file of one process, made when it is first needed and removed when it is empty.

    Its methods raise OSError.
    """

    def __init__(self, folder: Path, cluster: str, topic: str) -> None:
        """`cluster` and `topic` say where the lines belong: those of another are left alone."""
        self._folder = folder
        belongs_to = re.sub(r"[^\w.-]", "_", f"{topic}@{cluster}")
        self._pattern = f"{belongs_to}.*.jsonl"
        self._name = f"{belongs_to}.{os.getpid()}-{secrets.token_hex(8)}.jsonl"
        self._file: int | None = None

    @property
    def path(self) -> Path:
        """Where the lines are, if there are any."""
        return self._folder / self._name

    def keep(self, lines: Sequence[Kept]) -> None:
        """Write lines down; when this returns they outlast a crash of the machine."""
        if not lines:
            return
        if self._file is None:
            self._file = self._new_file()
        size, left = os.fstat(self._file).st_size, b"".join(map(_written, lines))
        try:
            while left:
                left = left[os.write(self._file, left) :]
            os.fsync(self._file)
        except OSError:
            # Half a line would spoil the next one.
            os.ftruncate(self._file, size)
            raise

    def clear(self) -> None:
        """Forget all lines: they are booked."""
        if self._file is not None:
            os.ftruncate(self._file, 0)

    def close(self, *, is_done: bool) -> None:
        """Close the file; it is removed when all of its lines are booked."""
        if self._file is None:
            return
        if is_done:
            self.path.unlink(missing_ok=True)
        os.close(self._file)
        self._file = None

    def take_over(self) -> Sequence[Kept]:
        """The lines that dead processes have left, kept in our own file from now on.

        A process that dies in here leaves lines in two files. They are not booked twice: whoever
        takes lines over first looks for them in the ledger.
        """
        taken: list[Kept] = []
        for path in sorted(self._folder.glob(self._pattern)):
            if path == self.path:
                continue
            with _locked(path) as file:
                if file is None:
                    continue
                lines = list(_lines_of(path))
                self.keep(lines)
                path.unlink()
                taken += lines
        return taken

    def _new_file(self) -> int:
        own_folder(self._folder)
        # Locked before it has the name under which others look for it.
        unnamed = self._folder / f".{self._name}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW
        file = os.open(unnamed, flags, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            unnamed.rename(self.path)
            folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except BaseException:
            os.close(file)
            raise
        return file


@contextmanager
def _locked(path: Path) -> Iterator[int | None]:
    """A file that no living process holds; None for one that is held, or gone by now."""
    try:
        file = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:
        yield None
        return
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        # Another start may have taken it over between our look at the folder and the lock.
        yield file if os.fstat(file).st_nlink else None
    finally:
        os.close(file)


def _written(kept: Kept) -> bytes:
    line = kept.line
    fields = {
        "topic": line.topic,
        "partition": kept.partition,
        "key": (line.key or b"").decode("latin-1"),
        "value": (line.value or b"").decode(),
        "headers": [[name, value.decode("latin-1")] for name, value in line.headers],
    }
    return orjson.dumps(fields) + b"\n"


def _lines_of(path: Path) -> Iterator[Kept]:
    for no, raw in enumerate(path.read_bytes().splitlines(), 1):
        try:
            yield _read(orjson.loads(raw))
        except (ValueError, KeyError, TypeError, AttributeError):
            # A machine that stopped while the last line was written has cut it off.
            text = raw.decode("utf-8", "replace")
            _log.error("spooled line cannot be read", file=str(path), no=no, line=text)


def _read(fields: Mapping[str, Any]) -> Kept:
    key = fields["key"].encode("latin-1")
    headers = [(name, value.encode("latin-1")) for name, value in fields["headers"]]
    line = Outgoing(fields["topic"], key, fields["value"].encode(), headers)
    return Kept(int(fields["partition"]), line)
