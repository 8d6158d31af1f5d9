"""Points at which tests can have a process die, so that every gap between two steps is tried.

`TIERLINE_FAILPOINT=work.sent:3` kills the process with SIGKILL when it comes to `work.sent` for the
third time. Only a checkout obeys; an installed build refuses to start with the variable set.
"""

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from schemas.errors import TierlineError

__all__ = [
    "ADMISSION_FAILPOINTS",
    "CONSOLE_FAILPOINTS",
    "FAILPOINTS",
    "HOSTILE_TEXT",
    "RECORD_FAILPOINTS",
    "FailpointError",
    "before_death",
    "check_failpoint",
    "failpoint",
    "failpoint_of",
]

#: In the order in which a request passes them.
FAILPOINTS = (
    "fetched",
    "decided",
    "route.sent",
    "route.committed",
    "call.decided",
    "call.noted",
    "call.sent",
    "call.read",
    "work.finished",
    "work.sent",
    "work.committed",
    "work.settled",
)
ADMISSION_FAILPOINTS = ("admit.sent", "admit.committed")
#: In the console: its act is noted and not sent; sent, and nobody has been told.
CONSOLE_FAILPOINTS = ("console.noted", "console.sent")
#: At a record with the hostile text: loop in Python, hold the interpreter's lock in C, abort.
RECORD_FAILPOINTS = ("record.spins", "record.holds", "record.aborts")
HOSTILE_TEXT = b"tierline-failpoint"
_VARIABLE = "TIERLINE_FAILPOINT"
_IS_CHECKOUT = (Path(__file__).resolve().parents[1] / "tests").is_dir()


class FailpointError(TierlineError):
    """The failpoint that is set cannot be used."""


def check_failpoint() -> None:
    """Raises FailpointError for a failpoint in an installed build, or one that does not exist."""
    setting = os.environ.get(_VARIABLE)
    if setting is None:
        return
    if not _IS_CHECKOUT:
        msg = f"{_VARIABLE} is set: failpoints kill the process and work in a checkout only"
        raise FailpointError(msg)
    name, _, count = setting.partition(":")
    names = (*FAILPOINTS, *ADMISSION_FAILPOINTS, *CONSOLE_FAILPOINTS, *RECORD_FAILPOINTS)
    if name not in names or not (count or "1").isdigit():
        msg = f"{_VARIABLE}={setting}: NAME or NAME:COUNT was expected, of {', '.join(names)}"
        raise FailpointError(msg)


def failpoint(name: str) -> None:
    """Die here if this is the failpoint that is set, and the time that it names."""
    if name == _name:
        _pass()


class _Valued(Protocol):
    value: bytes | None


def failpoint_of(record: _Valued) -> None:
    """Hang or abort at a record with the hostile text, if that failpoint is set."""
    if _fail is not None and HOSTILE_TEXT in (record.value or b""):
        _fail()


def _spin() -> None:
    while True:
        pass


def _hold() -> None:
    re.match(r"(a|a)*$", "a" * 64 + "b")


def _pass() -> None:
    global _left  # noqa: PLW0603  a process has one failpoint
    _left -= 1
    if _left == 0:
        for callback in before_death:
            callback()
        os.kill(os.getpid(), signal.SIGKILL)


#: Called before a failpoint kills. It stands for a kill from outside: no record is to blame.
before_death: list[Callable[[], None]] = []

_name, _, _count = os.environ.get(_VARIABLE, "").partition(":") if _IS_CHECKOUT else ("", "", "")
_left = int(_count) if _count.isdigit() else 1
_fail = {"record.spins": _spin, "record.holds": _hold, "record.aborts": os.abort}.get(_name)
