"""The sentinel: a small process that watches one of ours, and acts for it when that one hangs.

The process that it watches writes into a file that both have mapped: a beat of its event loop, and
a mark while it handles a record. When the loop has stood still for too long, or the process has
died in the middle of a record, the sentinel has a strike against that record written, and kills a
process that still hangs. It also answers the health port, so that an answer comes in any case.

A thread could not do this: C code may hold the interpreter's lock. Only the standard library is
imported, so that it starts at once and stays small.
"""

import contextlib
import json
import mmap
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

__all__ = [
    "ASIDE_AT",
    "BEAT",
    "BEAT_AT",
    "LOOP_AT",
    "RECORD",
    "SIZE",
    "STRIKING_AT",
    "read_about",
    "write_about",
]

#: Where the beat's count lies in the file.
BEAT, BEAT_AT = struct.Struct("<Q"), 8
#: Where the records are that are being handled, one in the loop and one in a thread: the number of
#: the source from 1 on (0: none), partition, offset.
RECORD, LOOP_AT, ASIDE_AT = struct.Struct("<iiq"), 16, 40
#: One byte, set while a strike is written.
STRIKING_AT = 32
_LENGTH, _LENGTH_AT, _ABOUT_AT = struct.Struct("<I"), 64, 68
SIZE = 1 << 16

#: One byte is one question.
_ASK = b"?"
_FRAME = struct.Struct("<I")
_LOOK_SECONDS = 0.25
#: A look after a longer pause counts no more than this: then the sentinel itself stood still.
_MOST_COUNTED = 0.5
_ASK_SECONDS = 2.0
#: How long a health answer waits for the loop; orchestrators wait a second by default.
_ANSWER_SECONDS = 0.7
#: A loop that has stood still for this share of the patience is reported as not live.
_NOT_LIVE = 0.25
_STRIKE_SECONDS = 15.0
_READ_SECONDS = 5.0
_MOST_CONNECTIONS = 64
_LARGEST_HEAD = 8_192
_WORDS = {200: "OK", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}


def write_about(memory: mmap.mmap, about: dict[str, Any]) -> None:
    """Write the process's description into the file. Raises ValueError when it does not fit."""
    text = json.dumps(about).encode()
    if len(text) > SIZE - _ABOUT_AT:
        msg = f"{len(text)} bytes do not fit into {SIZE - _ABOUT_AT}"
        raise ValueError(msg)
    memory[_ABOUT_AT : _ABOUT_AT + len(text)] = text
    _LENGTH.pack_into(memory, _LENGTH_AT, len(text))


def read_about(memory: mmap.mmap | bytes) -> dict[str, Any]:
    """Read that back. Raises ValueError for a file that is not ours."""
    (length,) = _LENGTH.unpack_from(memory, _LENGTH_AT)
    return dict(json.loads(bytes(memory[_ABOUT_AT : _ABOUT_AT + length])))


class Sentinel:
    """Watches its parent until it is gone."""

    def __init__(self, memory: mmap.mmap, link: socket.socket, patience: float) -> None:
        self._memory = memory
        self._link = link
        self._patience = patience
        self._parent = os.getppid()
        #: The process's last answers, by path: an HTTP status and a JSON text.
        self._answers: dict[str, tuple[int, str]] = {}
        self._asked = self._answered = 0
        self._news = threading.Condition()
        #: Seconds for which the loop has not turned.
        self._still = 0.0
        self._port: socket.socket | None = None
        self._handed: dict[str, Any] = {}

    def serve(self, port: socket.socket) -> None:
        """Answer the health port from a thread."""
        self._port = port
        threading.Thread(target=self._accept, daemon=True).start()

    def watch(self) -> None:
        """Look until the process has ended, or has to."""
        last_beat, received = -1, bytearray()
        looked = asked = time.monotonic()
        link = select.poll()  # not `select`: the descriptor's number may be large
        link.register(self._link, select.POLLIN)
        while True:
            if link.poll(_LOOK_SECONDS * 1000):
                part = self._receive()
                if not part:
                    self._close_port()
                    self._strike()
                    return
                received += part
                self._take(received)
            now = time.monotonic()
            if (passed := now - looked) < _LOOK_SECONDS:
                continue
            looked = now
            (beat,) = BEAT.unpack_from(self._memory, BEAT_AT)
            if beat != last_beat:
                last_beat, self._still = beat, 0.0
            elif not _is_stopped(self._parent):
                self._still += min(passed, _MOST_COUNTED)
            if self._still >= self._patience and self._end(last_beat):
                return
            if now - asked >= _ASK_SECONDS:
                asked = now
                self._ask()

    def _receive(self) -> bytes:
        try:
            return self._link.recv(1 << 16)
        except OSError:
            return b""

    def _take(self, received: bytearray) -> None:
        """Handle the whole frames, and leave the rest."""
        while len(received) >= _FRAME.size:
            (length,) = _FRAME.unpack_from(received)
            if len(received) < _FRAME.size + length:
                return
            message = json.loads(received[_FRAME.size : _FRAME.size + length])
            del received[: _FRAME.size + length]
            if "handed" in message:
                self._handed = message["handed"]
                continue
            with self._news:
                self._answers, self._answered = message["answers"], message["asked"]
                self._news.notify_all()

    def _ask(self) -> int:
        """Ask the process for answers; the number of this question."""
        with self._news, contextlib.suppress(OSError):
            self._link.send(_ASK, socket.MSG_DONTWAIT)
            self._asked += 1
        return self._asked

    def _end(self, last_beat: int) -> bool:
        """Have a strike written and kill the process. False when it has gone on meanwhile."""
        still = self._still
        self._strike()
        (beat,) = BEAT.unpack_from(self._memory, BEAT_AT)
        if beat != last_beat or os.getppid() != self._parent or _is_stopped(self._parent):
            self._memory[STRIKING_AT] = 0
            return False
        self._say("event loop stands still, process ended", seconds=round(still))
        self._close_port()
        with contextlib.suppress(ProcessLookupError):
            # It prints its stacks, by file and line, and is then killed.
            os.kill(self._parent, signal.SIGUSR2)
            time.sleep(_LOOK_SECONDS)
            os.kill(self._parent, signal.SIGKILL)
        return True

    def _strike(self) -> None:
        """Have a strike written against each record in hand, as far as that is possible.

        A process that hangs is killed even where no strike can be written against its record.
        """
        for slot in (LOOP_AT, ASIDE_AT):
            try:
                self._write_strike(slot)
            except Exception as error:  # noqa: BLE001  the mark stays, for the next start to find
                self._say("strike not written", error=f"{type(error).__name__}: {error}"[:200])

    def _write_strike(self, slot: int) -> None:
        source, partition, offset = RECORD.unpack_from(self._memory, slot)
        if not source or not self._handed:
            return
        self._memory[STRIKING_AT] = 1
        group, topic = read_about(self._memory)["sources"][source - 1]
        place = {"topic": topic, "partition": partition, "offset": offset}
        strike = {
            "kafka": self._handed["kafka"],
            "group": group,
            **place,
            "death": self._handed["death"],
        }
        command = [sys.executable, "-P", "-m", "consumers.runtime.poison"]
        environment = {**os.environ, "PYTHONPATH": self._handed["path"]}
        try:
            done = subprocess.run(  # noqa: S603  our own module
                command,
                input=json.dumps(strike).encode(),
                env=environment,
                capture_output=True,
                timeout=_STRIKE_SECONDS,
                check=True,
            )
        except (OSError, subprocess.SubprocessError) as error:
            # The mark stays in its file, and the next start in this folder writes the strike.
            output = getattr(error, "stderr", b"") or b""
            last_line = output.decode(errors="replace").strip().rpartition("\n")[2][:200]
            self._say("strike not written", **place, error=last_line or type(error).__name__)
            return
        # The count comes last; libraries may have printed something before it.
        times = int(done.stdout.split()[-1])
        self._say("process ended at a record", **place, times=times)
        RECORD.pack_into(self._memory, slot, 0, 0, 0)

    def _say(self, event: str, **fields: object) -> None:
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        line = {**fields, "pid": self._parent, "event": event, "level": "error", "timestamp": at}
        with contextlib.suppress(OSError):
            sys.stderr.write(json.dumps(line) + "\n")
            sys.stderr.flush()

    def _close_port(self) -> None:
        """Free the port for the next process; the thread that waits for connections ends."""
        if self._port is not None:
            with contextlib.suppress(OSError):
                self._port.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        room = threading.Semaphore(_MOST_CONNECTIONS)
        assert self._port is not None  # noqa: S101  set by who starts this
        while True:
            try:
                connection, _ = self._port.accept()
            except OSError:
                return
            if not room.acquire(blocking=False):
                connection.close()
                continue
            threading.Thread(target=self._serve, args=(connection, room), daemon=True).start()

    def _serve(self, connection: socket.socket, room: threading.Semaphore) -> None:
        try:
            with connection, contextlib.suppress(OSError):
                connection.settimeout(_READ_SECONDS)
                method, path = _read_request(connection)
                status, body = self._answer(method, path)
                head = (
                    f"HTTP/1.1 {status} {_WORDS.get(status, '')}\r\n"
                    "Content-Type: application/json; charset=utf-8\r\n"
                    f"Content-Length: {len(body.encode())}\r\nConnection: close\r\n\r\n"
                )
                connection.sendall((head + ("" if method == "HEAD" else body)).encode())
        finally:
            room.release()

    def _answer(self, method: str, path: str) -> tuple[int, str]:
        if path not in ("/live", "/ready", "/status"):
            return 404, json.dumps({"reasons": ["/live, /ready or /status was expected"]})
        if method not in ("GET", "HEAD"):
            return 405, json.dumps({"reasons": ["GET was expected"]})
        number = self._ask()
        with self._news:
            is_fresh = self._news.wait_for(lambda: self._answered >= number, _ANSWER_SECONDS)
            answer = self._answers.get(path)
        if is_fresh and answer is not None:
            return answer[0], answer[1]
        return self._in_its_place(path, answer)

    def _in_its_place(self, path: str, last: tuple[int, str] | None) -> tuple[int, str]:
        """The answer for a process whose loop does not answer; `last` is the one before."""
        still = self._still
        reasons = [f"event loop: has not turned for {still:.0f} s"]
        is_live = still < self._patience * _NOT_LIVE
        if path == "/live":
            body = {"live": is_live, "reasons": [] if is_live else reasons}
            return (200 if is_live else 503), json.dumps(body)
        if path == "/ready":
            return 503, json.dumps({"ready": False, "reasons": reasons})
        figures = json.loads(last[1]) if last else {}
        return 200, json.dumps({**figures, "live": is_live, "ready": False, "reasons": reasons})


def _read_request(connection: socket.socket) -> tuple[str, str]:
    """Method and path. Raises OSError where a whole head does not come in time."""
    head, ends_at = b"", time.monotonic() + _READ_SECONDS
    while b"\r\n\r\n" not in head:
        part = connection.recv(_LARGEST_HEAD)
        head += part
        if not part or len(head) > _LARGEST_HEAD or time.monotonic() > ends_at:
            raise OSError
    words = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
    return words[0], words[1].partition("?")[0] if len(words) > 1 else ""


def _is_stopped(pid: int) -> bool:
    """True for a process that somebody has stopped, which says nothing about its event loop."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="latin-1")
        return stat.rpartition(")")[2].split()[0] in ("T", "t")
    except OSError:  # no such file system: ask another way
        command = ("/bin/ps", "-o", "state=", "-p", str(pid))
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            ps = subprocess.run(command, capture_output=True, timeout=1, check=False)  # noqa: S603  a number
            return ps.stdout.strip()[:1] == b"T"
        return False


def main() -> None:
    """`sentinel.py MEMORY LINK PORT PATIENCE`: inherited descriptors (no port: -1), and seconds."""
    memory_fd, link_fd, port_fd = map(int, sys.argv[1:4])
    # A process group of our own: the terminal's signals are not for us, and the kernel lets us go
    # on where our parent dies while we are stopped.
    with contextlib.suppress(OSError):
        os.setpgid(0, 0)
    for quiet in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(quiet, signal.SIG_IGN)
    sentinel = Sentinel(
        mmap.mmap(memory_fd, SIZE), socket.socket(fileno=link_fd), float(sys.argv[4])
    )
    if port_fd >= 0:
        sentinel.serve(socket.socket(fileno=port_fd))
    sentinel.watch()


if __name__ == "__main__":
    main()
