"""Safety rails for every test: no real provider, no leftovers from the developer's shell."""

import ipaddress
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings

settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.register_profile("here", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "here")

#: Set while a fast test runs; an audit hook cannot be taken out again.
_guarding = threading.Event()


def _refuse_the_outside(event: str, arguments: tuple[Any, ...]) -> None:
    if event != "socket.connect" or not _guarding.is_set():
        return

    address = arguments[1]
    host = address[0] if isinstance(address, tuple) else "127.0.0.1"
    if not _is_loopback(host):
        msg = f"a test without the marker `kafka` wanted to connect to {host}"
        raise PermissionError(msg)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host == "localhost"


sys.addaudithook(_refuse_the_outside)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Tierline runs on asyncio, and one loop serves the fixtures of a whole session."""
    return "asyncio"


@pytest.fixture(autouse=True)
def _no_leftovers(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Settings and keys of the shell stay out, those that choose the test broker come in."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.getbasetemp() / "state"))
    for name in list(os.environ):
        ours = name.startswith("TIERLINE_") and not name.startswith("TIERLINE_TEST_")
        if ours or name.endswith(("_API_KEY", "_API_TOKEN")):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _loopback_only(request: pytest.FixtureRequest) -> Iterator[None]:
    """A fast test talks to this machine alone; the broker may run elsewhere, or be fetched."""
    if request.node.get_closest_marker("kafka") is None:
        _guarding.set()
    yield
    _guarding.clear()
