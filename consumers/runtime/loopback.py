"""Keeps a process of the tests from reaching another machine, whatever it was told to call.

`TIERLINE_TEST_LOOPBACK=1` refuses connections to other machines and the look-up of their names. The
tests set it for every process they start. An audit hook sees whatever a library does through
Python's sockets; uvloop has sockets of its own, so its loops check each address themselves.
"""

import asyncio
import functools
import ipaddress
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

from schemas.errors import TierlineError

__all__ = ["VARIABLE", "OutsideError", "guarding", "is_wanted", "loop_factory", "stay_on_loopback"]

VARIABLE = "TIERLINE_TEST_LOOPBACK"
#: Where each of Python's own events has the host or the address.
_EVENTS = {
    "socket.connect": 1,
    "socket.sendto": 1,
    "socket.sendmsg": 1,
    "socket.getaddrinfo": 0,
    "socket.gethostbyname": 0,
    "socket.gethostbyaddr": 0,
}
#: Set while nothing outside may be reached; an audit hook cannot be taken out again.
guarding = threading.Event()


class OutsideError(TierlineError, PermissionError):
    """Something tried to reach another machine."""


def is_wanted() -> bool:
    """True when this process is one of the tests'."""
    return os.environ.get(VARIABLE) == "1"


@functools.cache
def stay_on_loopback() -> None:
    """Refuse connections to other machines from now on, while `guarding` is set."""
    sys.addaudithook(_look)
    guarding.set()


def loop_factory(factory: Callable[[], asyncio.AbstractEventLoop]) -> asyncio.AbstractEventLoop:
    """An event loop of this kind that looks up and connects to this machine alone."""
    loop = factory()
    look_up, connect = loop.getaddrinfo, loop.create_connection

    async def getaddrinfo(host: Any, *words: Any, **more: Any) -> Any:
        _check(host)
        return await look_up(host, *words, **more)

    async def create_connection(protocol: Any, host: Any = None, *words: Any, **more: Any) -> Any:
        _check(host)
        return await connect(protocol, host, *words, **more)

    loop.getaddrinfo = getaddrinfo  # type: ignore[method-assign]
    loop.create_connection = create_connection  # type: ignore[method-assign,assignment]
    return loop


def _look(event: str, arguments: tuple[Any, ...]) -> None:
    if event in _EVENTS:
        target = arguments[_EVENTS[event]]
        is_name = event.startswith("socket.get")
        _check(target if is_name else target[0] if isinstance(target, tuple) else None)


def _check(host: Any) -> None:
    """Raises OutsideError. None is a socket of another kind, or one that is connected."""
    if not guarding.is_set():
        return
    text = host.decode("latin-1") if isinstance(host, (bytes, bytearray)) else host
    if text and not _is_here(text):
        msg = f"a test tried to reach {text}"
        raise OutsideError(msg)


def _is_here(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host == "localhost"
    return address.is_loopback or address.is_unspecified  # to listen everywhere, or on nothing
