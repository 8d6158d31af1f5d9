"""Kafka's jars: fetched once into the user's cache, checked against a lock of SHA-256 sums.

Run as `python -m consumers.lab.broker.jars` to write a new lock after a change of version.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from consumers.files import own_file, own_folder
from consumers.lab.broker.errors import BrokerError

__all__ = ["KAFKA_VERSION", "Progress", "cache_dir", "fetch_jars", "has_jars"]

KAFKA_VERSION = "4.2.0"
_ROOTS = (f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}", "org.slf4j:slf4j-simple:1.7.36")
_LOCK = Path(__file__).with_name("jars.lock")
#: The size of the download, for the progress bar.
_TOTAL_BYTES = 44_000_000
_DOWNLOADS_AT_ONCE = 6

#: Is told what is being done and how far it has come: from 0 to 1, None where that is not known.
Progress = Callable[[str, float | None], None]


def cache_dir() -> Path:
    """Our folder in the user's cache, by `XDG_CACHE_HOME`."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "tierline"


def has_jars() -> bool:
    """True when nothing needs to be downloaded."""
    return _home().is_dir()


def _home() -> Path:
    return cache_dir() / f"kafka-{KAFKA_VERSION}"


def fetch_jars(progress: Progress | None = None) -> list[Path]:
    """The locked jars, downloaded if necessary. Raises BrokerError when a sum does not match.

    Several processes may call this at once; the first one downloads.
    """
    home = _home()
    locked = {name: sha256 for sha256, name, _ in _lock_lines()}
    if not home.is_dir():
        try:
            with _only_one(cache_dir() / f"kafka-{KAFKA_VERSION}.lock"):
                if not home.is_dir():
                    _download(home, locked, progress)
        except OSError as error:
            msg = f"{home}: Kafka's jars cannot be kept there ({error}). Set XDG_CACHE_HOME"
            raise BrokerError(msg) from error
    jars = [home / name for name in locked]
    if broken := [jar.name for jar in jars if _sum(jar) != locked[jar.name]]:
        msg = (
            f"{home}: {', '.join(broken)} missing or not the locked file. Delete that folder and "
            f"start again to download it anew."
        )
        raise BrokerError(msg)
    return jars


def _download(home: Path, locked: Mapping[str, str], progress: Progress | None) -> None:
    own_folder(home.parent)
    # In the same folder, so that the rename is atomic and a failed download leaves nothing behind.
    with tempfile.TemporaryDirectory(dir=home.parent, prefix="jars-") as scratch:
        with _watched(Path(scratch), progress):
            coordinates = [line[2] for line in _lock_lines()]
            jars = {jar.name: jar for jar in _fetch(Path(scratch), coordinates)}
        ready = Path(scratch) / "ready"
        ready.mkdir()
        for name, expected in locked.items():
            if _sum(jars[name]) != expected:
                msg = f"{name}: not the file that the lock names, so it was not used"
                raise BrokerError(msg)
            shutil.move(jars[name], ready / name)
        ready.rename(home)


def _fetch(scratch: Path, coordinates: Sequence[str]) -> list[Path]:
    """Download jars by their coordinates, `group:artifact:version`, in any order."""
    maven = _maven(scratch)
    try:
        artifacts = [maven.create_dependency(jar).artifact for jar in coordinates]
        with ThreadPoolExecutor(_DOWNLOADS_AT_ONCE) as pool:
            return list(pool.map(lambda artifact: Path(artifact.resolve()), artifacts))
    except Exception as error:
        msg = (
            f"Kafka's jars could not be fetched ({type(error).__name__}). They are needed once; "
            f"check the network, or give --kafka HOST:PORT"
        )
        raise BrokerError(msg) from error


def _maven(scratch: Path) -> Any:
    try:
        # Not `jgo.build`: where no Java is installed, that fetches a JDK merely to classify jars.
        from jgo.maven import MavenContext  # noqa: PLC0415  an extra, needed only here
    except ImportError:
        msg = "fetching Kafka's jars needs the extra `tierline[local]`; install it"
        raise BrokerError(msg) from None

    return MavenContext(repo_cache=scratch / "repository")


@contextlib.contextmanager
def _watched(scratch: Path, progress: Progress | None) -> Iterator[None]:
    """Report how much has arrived, which the resolver does not."""
    if progress is None:
        yield
        return

    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.2):
            arrived = sum(jar.stat().st_size for jar in scratch.rglob("*.jar") if jar.is_file())
            progress("fetching Kafka (once)", min(arrived / _TOTAL_BYTES, 1.0))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _lock_lines() -> list[list[str]]:
    """The SHA-256 sum, the file name and the coordinates of every jar."""
    return [line.split() for line in _LOCK.read_text().splitlines() if line[:1] not in ("#", "")]


def _sum(jar: Path) -> str:
    try:
        with jar.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


@contextlib.contextmanager
def _only_one(lock: Path) -> Iterator[None]:
    own_folder(lock.parent)
    with own_file(lock).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _write_lock() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        maven = _maven(Path(scratch))
        roots, others = maven.resolver.resolve([maven.create_dependency(root) for root in _ROOTS])
        needed = [*roots, *(other for other in others if other.scope in ("compile", "runtime"))]
        coordinates = {
            item.artifact.filename: f"{item.groupId}:{item.artifactId}:{item.version}"
            for item in needed
        }
        jars = sorted(_fetch(Path(scratch), list(coordinates.values())), key=lambda jar: jar.name)
        lines = [f"# Kafka {KAFKA_VERSION}: SHA-256 sums, file names and coordinates of its jars."]
        lines += [f"{_sum(jar)}  {jar.name}  {coordinates[jar.name]}" for jar in jars]
    _LOCK.write_text("\n".join(lines) + "\n")
    sys.stdout.write(f"{_LOCK}: {len(jars)} jars\n")


if __name__ == "__main__":
    _write_lock()
