"""What the tests run reaches nothing beyond this machine, in whatever way it tries."""

import asyncio
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import uvloop

from consumers.runtime.loopback import OutsideError, loop_factory

_OUTSIDE = "192.0.2.1"  # for documentation: nobody has it
_NAME = "models.example.com"
_ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    "reach",
    [
        pytest.param(lambda _: socket.create_connection((_OUTSIDE, 9)), id="create_connection"),
        pytest.param(lambda one: one.connect((_OUTSIDE, 9)), id="connect"),
        pytest.param(lambda one: one.connect_ex((_OUTSIDE, 9)), id="connect_ex"),
        pytest.param(lambda one: one.sendto(b"x", (_OUTSIDE, 9)), id="sendto"),
        pytest.param(lambda one: one.sendmsg([b"x"], [], 0, (_OUTSIDE, 9)), id="sendmsg"),
        pytest.param(lambda _: socket.getaddrinfo(_NAME, 443), id="getaddrinfo"),
        pytest.param(lambda _: socket.getaddrinfo(_NAME.encode(), 443), id="getaddrinfo, bytes"),
        pytest.param(lambda _: socket.gethostbyname(_NAME), id="gethostbyname"),
        pytest.param(lambda _: socket.gethostbyname_ex(_NAME), id="gethostbyname_ex"),
        pytest.param(lambda _: socket.gethostbyaddr(_OUTSIDE), id="gethostbyaddr"),
    ],
)
def test_a_test_reaches_nothing_outside(reach):
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
        pytest.raises(OutsideError, match="a test tried to reach"),
    ):
        reach(datagrams)


def test_this_machine_is_reached():
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(("localhost", server.getsockname()[1])).close()


@pytest.mark.parametrize("kind", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize("host", [_OUTSIDE, _NAME])
def test_an_event_loop_reaches_nothing_outside(kind, host):
    """One of the two has sockets of its own, which Python does not see."""

    async def reach() -> None:
        await asyncio.get_running_loop().create_connection(asyncio.Protocol, host, 9)

    async def look_up() -> None:
        await asyncio.get_running_loop().getaddrinfo(host, 9)

    for one in (reach, look_up):
        with (
            asyncio.Runner(loop_factory=lambda: loop_factory(kind)) as runner,
            pytest.raises(OutsideError),
        ):
            runner.run(one())


@pytest.mark.parametrize("url", ["https://192.0.2.1/v1", "https://models.example.com/v1"])
def test_a_process_that_a_test_starts_reaches_nothing_outside(url, monkeypatch):
    monkeypatch.setenv("TIERLINE_PROVIDERS__P__BASE_URL", url)
    monkeypatch.setenv("TIERLINE_PROVIDERS__P__ALLOW_PRIVATE", "true")
    command = [sys.executable, "-X", "dev", "-c", _CHILD]

    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, cwd=_ROOT
    )

    assert "a test tried to reach" in ended.stdout, ended.stderr


_CHILD = """
import os
from datetime import timedelta
from consumers.providers.client import Providers
from consumers.runtime.process import run_process
from consumers.settings import Settings

async def main():
    async with Providers(Settings().providers) as providers:
        asked = {"model": "m", "messages": []}
        print(await providers.call(
            "p", asked, attempt_id="a", request_id="r", timeout=timedelta(seconds=5)))
    try:
        import socket
        socket.create_connection(("192.0.2.1", 9), timeout=1)
    except OSError as error:
        print(error)

run_process(main)
"""
