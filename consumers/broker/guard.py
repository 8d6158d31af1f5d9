"""Runs the broker and ends it with its parent, also when the parent is killed.

The parent holds the other end of our standard input. However it dies, the kernel closes that end,
and the broker goes with it. Only the standard library is imported: this must start at once.
"""

import signal
import subprocess
import sys
import threading

_GRACE_SECONDS = 15


def main() -> int:
    """`guard.py keep|discard COMMAND…`: `keep` lets the broker shut down in order."""
    is_kept, command = sys.argv[1] == "keep", sys.argv[2:]
    for quiet in (signal.SIGINT, signal.SIGHUP):
        signal.signal(quiet, signal.SIG_IGN)  # the terminal's signals are the parent's to handle
    broker = subprocess.Popen(command, stdin=subprocess.DEVNULL)  # noqa: S603  our own command
    sys.stdout.write(f"pid {broker.pid}\n")
    sys.stdout.flush()

    def end(*_: object) -> None:
        if not is_kept:
            broker.kill()
            return
        broker.terminate()
        try:
            broker.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            broker.kill()

    def wait_for_parent() -> None:
        sys.stdin.buffer.read()
        end()

    signal.signal(signal.SIGTERM, end)
    threading.Thread(target=wait_for_parent, daemon=True).start()
    return broker.wait()


if __name__ == "__main__":
    sys.exit(main())
