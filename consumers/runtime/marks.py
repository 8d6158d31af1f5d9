"""The mark: which record is being handled this moment, where another process can read it.

A process that dies leaves it behind, and one that hangs shows it. Setting it takes well under a
microsecond, so it is set for each step of each record: a record that waits is not marked.
"""

import asyncio
import contextlib
import fcntl
import mmap
import os
import secrets
import tempfile
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType, coroutine
from typing import Any, Protocol, TypeVar

import structlog

from consumers import clock
from consumers.files import own_folder
from consumers.runtime.sentinel import (
    ASIDE_AT,
    BEAT,
    BEAT_AT,
    LOOP_AT,
    RECORD,
    SIZE,
    STRIKING_AT,
    read_about,
    write_about,
)

__all__ = ["Left", "Mark", "aside", "left_behind", "marking", "stepwise", "usable_folder"]

_log = structlog.get_logger(__name__)

_SUFFIX = ".mark"
#: Marks that were not turned into strikes for this long are about records that are gone.
_OLD_SECONDS = 7 * 86_400.0
_T = TypeVar("_T")
_Record = tuple[int, int, int]
_NEW = os.O_CREAT | os.O_EXCL | os.O_RDWR


class _Steps(Protocol):
    """A coroutine, by what is needed to run its steps."""

    def send(self, value: Any) -> Any: ...
    def throw(self, error: BaseException) -> Any: ...


class Mark:
    """The mark of one process, in memory that its sentinel sees too."""

    def __init__(self, memory: mmap.mmap | None = None, kafka: str = "") -> None:
        """Without `memory` no other process sees it; `kafka` is the cluster of its records."""
        self.kafka = kafka
        self._memory = memory or mmap.mmap(-1, SIZE)
        self._sources: dict[tuple[str, str], int] = {}
        self._beats = 0
        #: Tells this process from all others, and from earlier ones with the same pid.
        self.death = secrets.token_hex(4)
        self._about: dict[str, Any] = {"death": self.death, "kafka": kafka, "sources": []}
        write_about(self._memory, self._about)
        #: One at a time, as the file has one place for the record of a thread.
        self.thread = ThreadPoolExecutor(1, "aside")

    def source(self, group: str, topic: str) -> int:
        """The number of a topic that a group reads."""
        if (number := self._sources.get((group, topic))) is None:
            number = self._sources[group, topic] = len(self._sources) + 1
            self._about["sources"].append([group, topic])
            write_about(self._memory, self._about)
        return number

    def beat(self) -> None:
        """Count a turn of the event loop."""
        self._beats += 1
        BEAT.pack_into(self._memory, BEAT_AT, self._beats)

    def set(self, source: int, partition: int, offset: int) -> None:
        """Mark a record as being handled from now on."""
        RECORD.pack_into(self._memory, LOOP_AT, source, partition, offset)

    def clear(self) -> None:
        """Mark no record."""
        RECORD.pack_into(self._memory, LOOP_AT, 0, 0, 0)

    def work_aside(self, record: _Record, work: Callable[[], _T]) -> _T:
        """Do work of a thread, with its record marked beside the one that the loop handles."""
        RECORD.pack_into(self._memory, ASIDE_AT, *record)
        try:
            return work()
        finally:
            RECORD.pack_into(self._memory, ASIDE_AT, 0, 0, 0)

    @property
    def current(self) -> _Record:
        """Source, partition and offset of the record in hand; source 0: none."""
        source, partition, offset = RECORD.unpack_from(self._memory, LOOP_AT)
        return source, partition, offset

    def on(self, source: int, partition: int, offset: int) -> "_Marked":
        """Mark a record within a block; after it the earlier mark is back."""
        return _Marked(self, (source, partition, offset))


#: The mark of work that belongs to no stage.
_UNWATCHED = Mark()


class _Marked:
    __slots__ = ("_before", "_mark", "_record")

    def __init__(self, mark: Mark, record: _Record) -> None:
        self._mark, self._record, self._before = mark, record, (0, 0, 0)

    def __enter__(self) -> None:
        self._before = self._mark.current
        self._mark.set(*self._record)

    def __exit__(
        self,
        _: type[BaseException] | None,
        __: BaseException | None,
        ___: TracebackType | None,
    ) -> None:
        self._mark.set(*self._before)


#: What `stepwise` handles in this task.
_in_hand: ContextVar[tuple[Mark, _Record]] = ContextVar("in_hand")


async def aside(work: Callable[[], _T]) -> _T:
    """Do long work in a thread, with the record in hand marked meanwhile."""
    mark, record = _in_hand.get((_UNWATCHED, (0, 0, 0)))
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(mark.thread, mark.work_aside, record, work)


@coroutine
def stepwise(mark: Mark, record: _Record, work: "_Steps") -> Generator[Any, Any, Any]:
    """Await a coroutine, with the mark set in each of its steps and cleared while it waits."""
    source, partition, offset = record
    _in_hand.set((mark, record))
    set_, clear, send, throw = mark.set, mark.clear, work.send, work.throw
    value, error = None, None
    while True:
        set_(source, partition, offset)
        try:
            waits_for = send(value) if error is None else throw(error)
        except StopIteration as end:
            return end.value
        finally:
            clear()
        try:
            value, error = (yield waits_for), None
        except BaseException as thrown:  # noqa: BLE001  for the coroutine to handle
            error = thrown


@dataclass(frozen=True, slots=True)
class Left:
    """A record that a process left marked, which is gone together with its sentinel."""

    group: str
    topic: str
    partition: int
    offset: int
    death: str


def usable_folder(preferred: Path) -> Path | None:
    """That folder, made where it is missing; else a temporary one; None: neither can be used."""
    for folder in (preferred, *_spare()):
        with contextlib.suppress(OSError):
            own_folder(folder)
            if os.access(folder, os.W_OK) and folder.stat().st_uid == os.getuid():
                return folder
    _log.warning("no state folder", wanted=str(preferred), set="TIERLINE_STATE_DIR")
    return None


def _spare() -> Iterator[Path]:
    with contextlib.suppress(OSError):  # there may be no temporary folder
        yield Path(tempfile.gettempdir()) / f"tierline-{os.getuid()}"


@contextlib.contextmanager
def marking(folder: Path | None, kafka: str) -> Iterator[tuple[Mark, int]]:
    """A mark in a file of that folder, and the file's descriptor; gone after an orderly end.

    The file is locked while this process or its sentinel lives. Raises OSError.
    """
    file = None if folder is None else folder / f"{secrets.token_hex(8)}{_SUFFIX}"
    descriptor = _nameless() if file is None else os.open(file, _NEW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.ftruncate(descriptor, SIZE)
        mark = Mark(mmap.mmap(descriptor, SIZE), kafka)
        yield mark, descriptor
        mark.clear()
    finally:
        # A process that gets here has not died in the middle of a record.
        if file is not None:
            file.unlink(missing_ok=True)
        os.close(descriptor)


def _nameless() -> int:
    """A file without a name, where no folder can be written to."""
    if (make := getattr(os, "memfd_create", None)) is not None:
        return int(make("tierline"))
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def left_behind(folder: Path, kafka: str) -> Iterator[Left | None]:
    """The records at that Kafka which dead processes left marked.

    None in between: a sentinel is writing a strike, so look again later. Each file is removed when
    the next record is asked for, or the iteration ends.
    """
    for file in sorted(folder.glob(f"*{_SUFFIX}")):
        with contextlib.suppress(OSError), file.open("r+b") as opened:
            memory = opened.read()
            if len(memory) != SIZE:
                continue  # it is just being created
            try:
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if memory[STRIKING_AT]:
                    yield None
                continue
            marked = [slot for slot in (LOOP_AT, ASIDE_AT) if RECORD.unpack_from(memory, slot)[0]]
            left = [record for slot in marked if (record := _left_in(memory, slot, kafka))]
            yield from left
            if marked and not left and not _is_old(file):
                continue  # of another Kafka
            file.unlink(missing_ok=True)


def _left_in(memory: bytes, slot: int, kafka: str) -> Left | None:
    source, partition, offset = RECORD.unpack_from(memory, slot)
    try:
        about = read_about(memory)
        if about["kafka"] != kafka:
            return None
        group, topic = about["sources"][source - 1]
        return Left(str(group), str(topic), partition, offset, str(about["death"]))
    except (ValueError, TypeError, LookupError):
        return None


def _is_old(file: Path) -> bool:
    return clock.now().timestamp() - file.stat().st_mtime > _OLD_SECONDS
