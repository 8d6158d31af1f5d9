"""Files and folders of ours, which nobody else on the machine can read."""

import errno
import os
from pathlib import Path

__all__ = ["own_file", "own_folder", "read_text", "write_own"]


def own_folder(path: Path) -> Path:
    """A folder that only its owner can enter, made with the parents that are missing.

    The mode is set whatever the umask says. Existing parents stay as they are; the folder itself is
    closed to others where it is ours. Raises OSError.
    """
    if path.is_dir():
        if path.stat().st_uid == os.getuid() and path.stat().st_mode & 0o077:
            path.chmod(0o700)
        return path
    if not path.parent.is_dir():
        own_folder(path.parent)
    path.mkdir(mode=0o700, exist_ok=True)
    path.chmod(0o700)
    return path


def own_file(path: Path) -> Path:
    """A file that only its owner can read, made where it is missing. Raises OSError."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        status = os.fstat(file)
        if status.st_uid == os.getuid() and status.st_mode & 0o777 != 0o600:
            os.fchmod(file, 0o600)
    finally:
        os.close(file)
    return path


def write_own(path: Path, text: str) -> None:
    """Write a file that only its owner can read. Raises OSError."""
    own_file(path).write_text(text, encoding="utf-8")


def read_text(path: Path) -> str:
    """The text of a person's file, without a byte order mark. Raises OSError, also if not UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        what = f"byte {error.start + 1} is not UTF-8; a text in UTF-8 was expected"
        raise OSError(errno.EILSEQ, what, str(path)) from None
