"""The broker's data folder: which process owns it, and how it is formatted for Kafka."""

import asyncio
import base64
import contextlib
import fcntl
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from consumers.files import own_file, own_folder, write_own
from consumers.lab.broker.errors import BrokerError, with_tail
from consumers.lab.broker.jars import KAFKA_VERSION, cache_dir

__all__ = ["DataFolder", "data_folder", "format_folder"]

#: How long a broker whose parent was killed may take to shut down.
_ORPHAN_SECONDS = 20


@dataclass(frozen=True, slots=True)
class DataFolder:
    """The folder with all that one broker keeps."""

    path: Path
    #: The open lock file of a folder that is kept; None for a temporary one.
    lock: int | None

    @property
    def logs(self) -> Path:
        """Kafka's own folder, with the partitions."""
        return self.path / "log"

    @property
    def log_file(self) -> Path:
        return self.path / "broker.log"


@contextlib.asynccontextmanager
async def data_folder(kept: Path | None) -> AsyncIterator[DataFolder]:
    """The folder for one broker, for nobody else to read; a temporary one without `kept`.

    Raises BrokerError when another broker uses it.
    """
    if kept is None:
        folder = Path(tempfile.mkdtemp(prefix="tierline-kafka-"))
        try:
            yield DataFolder(folder, None)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return

    with _lock_file(kept) as lock:
        give_up = time.monotonic() + _ORPHAN_SECONDS
        while not _locked(lock.fileno()):
            lock.seek(0)
            owner = lock.read().strip()
            # The broker of a killed owner holds the lock while it shuts down.
            if _is_alive(owner) or time.monotonic() > give_up:
                msg = (
                    f"{kept}: in use by the broker of process {owner or 'unknown'}. "
                    f"Stop that process, or give another --data-dir"
                )
                raise BrokerError(msg)
            await asyncio.sleep(0.1)
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield DataFolder(kept, lock.fileno())


async def format_folder(folder: DataFolder, command: Sequence[str], config: Path) -> None:
    """Prepare the folder for Kafka, unless it is prepared already.

    Kafka's tool prepares the first folder. Of what it writes, the features with their levels are
    the same every time, so they are kept in the cache and the next folder needs no JVM.
    """
    if (folder.logs / "meta.properties").exists():
        own_folder(folder.logs)
        return

    features = cache_dir() / f"kafka-{KAFKA_VERSION}.checkpoint"
    if not features.exists():
        await _run_tool(folder, command, config, features)
    own_folder(folder.logs)
    shutil.copyfile(features, own_file(folder.logs / "bootstrap.checkpoint"))
    names = {"version": "1", "node.id": "1", "cluster.id": _new_id(), "directory.id": _new_id()}
    # Written last, and atomically: a folder with this file counts as complete.
    draft = folder.logs / "meta.properties.new"
    write_own(draft, "".join(f"{name}={value}\n" for name, value in names.items()))
    draft.rename(folder.logs / "meta.properties")


async def _run_tool(
    folder: DataFolder, command: Sequence[str], config: Path, features: Path
) -> None:
    with own_file(folder.log_file).open("ab") as log:
        arguments = ["format", "-t", _new_id(), "-c", str(config)]
        process = await asyncio.create_subprocess_exec(
            *command, "kafka.tools.StorageTool", *arguments, stdout=log, stderr=log
        )
        if await process.wait() != 0:
            msg = with_tail("Kafka's data folder could not be prepared", folder.log_file)
            raise BrokerError(msg)
    draft = features.with_name(f"{features.name}.{os.getpid()}")
    shutil.copyfile(folder.logs / "bootstrap.checkpoint", own_file(draft))
    draft.rename(features)
    shutil.rmtree(folder.logs)


def _new_id() -> str:
    """16 random bytes as Kafka writes them, without a leading dash, which its tools misread."""
    while (text := base64.urlsafe_b64encode(uuid.uuid4().bytes).decode()[:22]).startswith("-"):
        pass
    return text


def _lock_file(kept: Path) -> IO[str]:
    try:
        if not kept.is_dir():  # the rights of an existing folder stay as they are
            own_folder(kept)
        return own_file(kept / "owner.lock").open("a+")
    except OSError as error:
        msg = f"{kept}: the broker's data cannot be kept there ({error}). Give another --data-dir"
        raise BrokerError(msg) from error


def _locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _is_alive(owner: str) -> bool:
    try:
        os.kill(int(owner), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:  # a process of another user
        return True
    return True
