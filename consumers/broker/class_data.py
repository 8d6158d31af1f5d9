"""Class data sharing: what the JVM loads for Kafka, laid ready in the user's cache.

The first run notes the classes it loads and makes an archive of them at the lowest priority; with
it, later starts take half as long. Speed alone hangs on it: a JVM that cannot use an archive
starts without.
"""

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from consumers.broker.jars import KAFKA_VERSION, cache_dir
from consumers.broker.process import running

__all__ = ["ClassData"]


@dataclass(frozen=True, slots=True)
class ClassData:
    """The archive for one Java runtime and one set of jars."""

    java: Path
    classpath: str
    archive: Path
    #: What the archive was made for; another runtime or other jars make it anew.
    identity: str
    #: Where this run notes the classes it loads, if there is no archive yet.
    classes: Path

    @classmethod
    def find(cls, java: Path, jars: list[Path], folder: Path) -> "ClassData":
        """Look for the archive; `folder` is the running broker's."""
        home = java.resolve().parent.parent
        parts = [str(home), *(f"{_stamp(path)}" for path in (home / "lib" / "modules", *jars))]
        return cls(
            java,
            os.pathsep.join(str(jar) for jar in jars),
            cache_dir() / f"kafka-{KAFKA_VERSION}.classes",
            hashlib.sha256("\n".join(parts).encode()).hexdigest(),
            folder / "classes.list",
        )

    @property
    def is_ready(self) -> bool:
        """Whether there is an archive for exactly this runtime and these jars."""
        try:
            return (self.archive / "identity").read_text() == self.identity
        except OSError:
            return False

    @property
    def flags(self) -> list[str]:
        """What the broker's JVM is told: to use the archive, or to note what it loads."""
        if self.is_ready:
            return [f"-XX:SharedArchiveFile={self.archive / 'archive.jsa'}"]
        return [f"-XX:DumpLoadedClassList={self.classes}"]

    @contextlib.asynccontextmanager
    async def being_made(self, log_file: Path) -> AsyncIterator[None]:
        """Make the archive meanwhile, if there is none; given up when the context ends before."""
        if self.is_ready or not self.classes.exists():
            yield
            return

        scratch = Path(tempfile.mkdtemp(dir=cache_dir(), prefix="classes-"))
        # The broker still writes to its list: whole lines only.
        noted = self.classes.read_bytes()
        classes = scratch / "classes.list"
        classes.write_bytes(noted[: noted.rfind(b"\n") + 1])
        archive = scratch / "archive.jsa"
        command = [
            *(
                "nice",
                "-n",
                "19",
                str(self.java),
                "-Xshare:dump",
                "-XX:+UseSerialGC",
                "-Xlog:disable",
            ),
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
        (scratch / "identity").write_text(self.identity)
        # Another process may have been faster: theirs is as good.
        with contextlib.suppress(OSError):
            shutil.rmtree(self.archive, ignore_errors=True)
            scratch.rename(self.archive)


def _stamp(path: Path) -> str:
    with contextlib.suppress(OSError):
        found = path.stat()
        return f"{path.name} {found.st_size} {found.st_mtime_ns}"

    return f"{path.name} missing"
