"""Class data sharing: an archive, in the user's cache, of the classes that the JVM loads for Kafka.

The first run lists the classes it loads and makes the archive at the lowest priority; with it,
later starts take half as long. A JVM that cannot use an archive starts without it. Its code runs
with our rights, so an archive is used only if nobody else can have written it.
"""

import contextlib
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from consumers.files import own_file, own_folder, write_own
from consumers.lab.broker.jars import KAFKA_VERSION, cache_dir
from consumers.lab.broker.process import running

__all__ = ["ClassData"]

_FILE = "archive.jsa"


@dataclass(frozen=True, slots=True)
class ClassData:
    """The archive for one Java runtime and one set of jars."""

    java: Path
    classpath: str
    archive: Path
    #: What the archive is made for: with another runtime or other jars it is made again.
    identity: str
    #: The file where this run lists the classes it loads, if there is no archive yet.
    classes: Path

    @classmethod
    def find(cls, java: Path, jars: list[Path], folder: Path) -> "ClassData":
        """Look for the archive; `folder` is the running broker's."""
        home = java.resolve().parent.parent
        parts = [str(home), *map(_stamp, (home / "lib" / "modules", *jars))]
        return cls(
            java,
            os.pathsep.join(str(jar) for jar in jars),
            cache_dir() / f"kafka-{KAFKA_VERSION}.classes",
            hashlib.sha256("\n".join(parts).encode()).hexdigest(),
            folder / "classes.list",
        )

    @property
    def is_ready(self) -> bool:
        """True for an unchanged archive of ours for exactly this runtime and these jars."""
        file = self.archive / _FILE
        try:
            if not all(map(_is_ours_alone, (self.archive.parent, self.archive, file))):
                return False
            return (self.archive / "identity").read_text() == self._identity_of(file)
        except OSError:
            return False

    def _identity_of(self, archive: Path) -> str:
        with archive.open("rb") as file:
            return f"{self.identity} {hashlib.file_digest(file, 'sha256').hexdigest()}"

    @property
    def flags(self) -> list[str]:
        """The JVM's flags to use the archive, or to list the classes it loads."""
        if self.is_ready:
            return [f"-XX:SharedArchiveFile={self.archive / _FILE}"]
        return [f"-XX:DumpLoadedClassList={self.classes}"]

    @contextlib.asynccontextmanager
    async def being_made(self, log_file: Path) -> AsyncIterator[None]:
        """Make the archive, if there is none, while the context is open, or give up at its end."""
        if self.is_ready or not self.classes.exists():
            yield
            return

        own_folder(cache_dir())
        scratch = Path(tempfile.mkdtemp(dir=cache_dir(), prefix="classes-"))
        # The broker is still writing its list: take whole lines only.
        listed = self.classes.read_bytes()
        classes = scratch / "classes.list"
        classes.write_bytes(listed[: listed.rfind(b"\n") + 1])
        archive = scratch / _FILE
        command = [
            *("nice", "-n", "19"),
            *(str(self.java), "-Xshare:dump", "-XX:+UseSerialGC", "-Xlog:disable"),
            *(f"-XX:SharedClassListFile={classes}", f"-XX:SharedArchiveFile={archive}"),
            *("-cp", self.classpath),
        ]
        try:
            async with running(command, log_file, discard=scratch / "unfinished") as process:
                yield
                is_made = process.returncode == 0 and archive.exists()
            if is_made:
                classes.unlink()
                self._put_in_place(scratch)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _put_in_place(self, scratch: Path) -> None:
        own_file(scratch / _FILE)
        write_own(scratch / "identity", self._identity_of(scratch / _FILE))
        # Another process may have been faster; its archive is as good.
        with contextlib.suppress(OSError):
            shutil.rmtree(self.archive, ignore_errors=True)
            scratch.rename(self.archive)


def _is_ours_alone(path: Path) -> bool:
    """True for a path that is ours, not a link, and writable by nobody else. Raises OSError."""
    status = path.lstat()
    is_ours = status.st_uid == os.getuid() and not status.st_mode & 0o022
    return is_ours and not stat.S_ISLNK(status.st_mode)


def _stamp(path: Path) -> str:
    with contextlib.suppress(OSError):
        status = path.stat()
        return f"{path.name} {status.st_size} {status.st_mtime_ns}"

    return f"{path.name} missing"
