"""Runs the broker and ends it with the parent process, also when that is killed.

The parent holds the other end of our standard input. However it dies, the kernel closes that end,
and we end the broker. Only the standard library is imported, so that this starts at once.
"""

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable

_GRACE_SECONDS = 15
_PR_SET_PDEATHSIG = 1


def main() -> int:
    """`guard.py FOLDER COMMAND…`: kills the command at the end and deletes the folder.

    With an empty FOLDER the command may shut down in order, and nothing is deleted.
    """
    folder, command = sys.argv[1], sys.argv[2:]
    os.umask(0o077)  # Kafka's files hold what customers wrote
    for ignored in (signal.SIGINT, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)  # the parent handles the terminal's signals
    # The JVM's standard output goes into the log: of ours the parent reads one line only.
    broker = subprocess.Popen(  # noqa: S603  our own command
        command,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        preexec_fn=_die_with_guard(),  # noqa: PLW1509  no thread runs yet
    )

    is_asked = threading.Event()

    def end() -> None:
        is_asked.set()
        if folder:
            broker.kill()
            return
        broker.terminate()
        try:
            broker.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            broker.kill()

    def wait_for_parent() -> None:
        os.read(0, 1)  # not `sys.stdin`: its lock, held here, would abort our own exit
        end()

    # In a thread: as part of the handler, `end` would interrupt and block the wait below.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=end, daemon=True).start())
    threading.Thread(target=wait_for_parent, daemon=True).start()
    with contextlib.suppress(OSError):  # the parent is gone already
        sys.stdout.write(f"pid {broker.pid}\n")
        sys.stdout.flush()
    code = broker.wait()
    if folder and is_asked.is_set():  # else the parent reads there why the broker ended
        shutil.rmtree(folder, ignore_errors=True)
    return code


def _die_with_guard() -> Callable[[], object] | None:
    """Run in the child: lets Linux kill it when this process dies. None on other systems."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
