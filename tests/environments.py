"""Programs of others that tests run, each in an environment of its own, pinned by hashes."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

__all__ = ["environment"]


def environment(home: Path, lock: Path) -> Path:
    """The interpreter of an environment with what a lock file names; made anew when it changes."""
    python = home / "bin" / "python"
    stamp = home / f"installed-{hashlib.sha256(lock.read_bytes()).hexdigest()[:16]}"
    if not stamp.exists():
        sys.stderr.write(f"installing {lock.name} into {home} (once, about a minute) ...\n")
        shutil.rmtree(home, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        install = [str(python), "-m", "pip", "-q", "install", "--require-hashes", "-r", str(lock)]
        subprocess.run(install, check=True)
        stamp.touch()
    return python.absolute()
