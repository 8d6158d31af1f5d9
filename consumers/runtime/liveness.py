"""Starts the sentinel of this process, answers its questions, and replaces it when it is lost."""

import asyncio
import contextlib
import faulthandler
import json
import signal
import socket
import struct
import sys
import time
from asyncio.subprocess import Process
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from consumers.failpoints import before_death
from consumers.runtime.marks import Mark, marking

__all__ = ["Answers", "LoopLag", "Watched", "watched"]

_log = structlog.get_logger(__name__)

_PROGRAM = Path(__file__).with_name("sentinel.py")
_BEAT_SECONDS = 0.1
#: A later beat counts no more than this: then this process stood still, not the sentinel.
_MOST_COUNTED = 0.5
#: The sentinel asks every two seconds; silent for longer than this, it is replaced.
_SILENT_SECONDS = 15.0
#: Between two starts; longer where each ends soon.
_START_AGAIN_SECONDS, _LONGEST_PAUSE = 0.5, 30.0
_END_SECONDS = 2.0
_LOOK_SECONDS = 1.0
_FRAME = struct.Struct("<I")

#: A status and a JSON text, by path.
Answers = Mapping[str, tuple[int, str]]


@dataclass(slots=True)
class LoopLag:
    """How late the event loop was recently."""

    #: Called with each lag, in seconds.
    tell: Callable[[float], None] = lambda _: None
    #: The worst of each five seconds of the last minute.
    _worst: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=12))

    def note(self, now: float, seconds: float) -> None:
        """Note how late a turn was, at a monotonic time."""
        self.tell(seconds)
        slot = int(now / 5)
        if self._worst and self._worst[-1][0] == slot:
            seconds = max(seconds, self._worst.pop()[1])
        self._worst.append((slot, seconds))

    def worst(self, now: float) -> float | None:
        """The worst of the last minute, in seconds; None: nothing was measured yet."""
        recent = [lag for slot, lag in self._worst if slot > now / 5 - 12]
        return max(recent, default=None)


@dataclass(frozen=True, slots=True)
class Watched:
    """How a process is watched."""

    #: Seconds for which its event loop may stand still.
    patience: float
    #: The folder of its mark; None: nowhere that the next start would look.
    folder: Path | None
    #: The Kafka cluster that its records are in.
    kafka: str = ""
    #: The settings by which the sentinel reaches it; None: it writes no strikes.
    handed: Mapping[str, Any] | None = None
    #: Where health is answered; None: nowhere.
    listens: tuple[str, int] | None = None


@asynccontextmanager
async def watched(
    how: Watched, answers: Callable[[], Answers], lag: LoopLag
) -> AsyncIterator[Mark]:
    """Have this process watched until the context closes. Raises OSError for a port in use."""
    # The handler runs in C, so it also shows where C code hangs; files and lines only.
    faulthandler.register(signal.SIGUSR2, file=2, all_threads=True)
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(_listening(*how.listens)) if how.listens else None
        mark, descriptor = stack.enter_context(marking(how.folder, how.kafka))
        end = _End(how, answers, mark, descriptor, port)
        before_death.append(mark.clear)
        stack.callback(before_death.remove, mark.clear)
        beating = asyncio.ensure_future(_beat(end, lag))
        keeping = asyncio.ensure_future(end.keep())
        try:
            yield mark
        finally:
            mark.clear()
            for task in (keeping, beating):
                task.cancel()
            await asyncio.wait({keeping, beating})


async def _beat(end: "_End", lag: LoopLag) -> None:
    """Count the turns of the event loop, and note how late each is."""
    due = time.monotonic()
    while True:
        now = time.monotonic()
        late = max(now - due, 0.0)
        lag.note(now, late)
        end.mark.beat()
        end.silent += min(_BEAT_SECONDS + late, _MOST_COUNTED)
        due = now + _BEAT_SECONDS
        await asyncio.sleep(_BEAT_SECONDS)


@contextlib.contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    with socket.create_server((host, port), family=_family(host)) as listening:
        yield listening


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


class _End:
    """This process's end of the link to its sentinel."""

    def __init__(
        self,
        how: Watched,
        answers: Callable[[], Answers],
        mark: Mark,
        descriptor: int,
        port: socket.socket | None,
    ) -> None:
        self.mark = mark
        #: Seconds for which the sentinel has said nothing.
        self.silent = 0.0
        self._how = how
        self._answers = answers
        self._descriptor = descriptor
        self._port = port

    async def keep(self) -> None:
        """Keep a sentinel running, for ever: one that ends or falls silent is replaced."""
        pause = _START_AGAIN_SECONDS
        while True:
            began = time.monotonic()
            try:
                await self._run_one()
            except Exception:  # noqa: BLE001  the process goes on without one, and tries again
                _log.exception("sentinel not started")
            await asyncio.sleep(pause)
            lived = time.monotonic() - began > _LONGEST_PAUSE
            pause = _START_AGAIN_SECONDS if lived else min(pause * 2, _LONGEST_PAUSE)

    async def _run_one(self) -> None:
        ours, theirs = socket.socketpair()
        try:
            process = await self._start(theirs)
        finally:
            theirs.close()
        reader, writer = await asyncio.open_connection(sock=ours)
        reason, self.silent = "it has ended", 0.0
        self._hand_over(writer)
        answering = asyncio.ensure_future(self._answer(reader, writer))
        try:
            while not (await asyncio.wait({answering}, timeout=_LOOK_SECONDS))[0]:
                if self.silent > _SILENT_SECONDS:
                    reason = "it does not answer"
                    break
        finally:
            answering.cancel()
            writer.close()
            await self._end(process)
        _log.error("sentinel lost, another is started", reason=reason, exit=process.returncode)

    async def _start(self, theirs: socket.socket) -> Process:
        port = -1 if self._port is None else self._port.fileno()
        descriptors = (self._descriptor, theirs.fileno(), port)
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *("-I", "-S", str(_PROGRAM), *map(str, descriptors), str(self._how.patience)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            pass_fds=[descriptor for descriptor in descriptors if descriptor >= 0],
        )

    def _hand_over(self, writer: asyncio.StreamWriter) -> None:
        """Send what a strike needs: how to reach Kafka, who we are, and where our code is."""
        if self._how.handed is not None:
            path = ":".join(filter(None, sys.path))
            handed = {"kafka": self._how.handed, "death": self.mark.death, "path": path}
            writer.write(_framed({"handed": handed}))

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the questions: all that have come by now with one answer."""
        asked = 0
        with contextlib.suppress(OSError):
            while questions := await reader.read(1 << 12):
                asked += len(questions)
                self.silent = 0.0
                writer.write(_framed({"asked": asked, "answers": self._answers()}))
                await writer.drain()

    async def _end(self, process: Process) -> None:
        """Wait until a sentinel has ended, as it does with its link closed, unless it is frozen."""
        try:
            async with asyncio.timeout(_END_SECONDS if self.silent < _SILENT_SECONDS else 0):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def _framed(message: Mapping[str, Any]) -> bytes:
    text = json.dumps(message).encode()
    return _FRAME.pack(len(text)) + text
