"""Child processes that end with us, however we end: each under a guard (see guard.py)."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from consumers.files import own_file

__all__ = ["read_pid", "running"]


@contextlib.asynccontextmanager
async def running(
    command: Sequence[str],
    log_file: Path,
    *,
    discard: Path | None = None,
    keep_open: int | None = None,
) -> AsyncIterator[asyncio.subprocess.Process]:
    """The guard of `command`, which ends with the context or with this process.

    With `discard` the command is killed and that folder deleted; otherwise it may shut down in
    order. The guard keeps the file descriptor `keep_open`, and so a lock, until the command has
    ended.
    """
    with own_file(log_file).open("ab") as log:
        guard = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            str(Path(__file__).with_name("guard.py")),
            str(discard) if discard is not None else "",
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            start_new_session=True,
            pass_fds=() if keep_open is None else (keep_open,),
        )
    try:
        yield guard
    finally:
        if guard.stdin is not None:
            guard.stdin.close()
        await asyncio.shield(guard.wait())


async def read_pid(guard: asyncio.subprocess.Process) -> int:
    """The process id of the guarded command; 0 when it could not be started."""
    line = await guard.stdout.readline() if guard.stdout else b""
    return int(line.split()[-1]) if line else 0
