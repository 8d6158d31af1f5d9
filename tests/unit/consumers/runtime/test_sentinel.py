"""The sentinel answers for a process whose event loop does not turn, and ends it."""

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from consumers.lab.broker.local import free_ports

#: Answers on a port with a patience, says so, and then does what it is told.
_PROCESS = """
import asyncio, re, sys, time
from pathlib import Path
from consumers.runtime.liveness import LoopLag, Watched, watched

def answers():
    return {{"/live": (200, '{{"live": true}}'), "/status": (200, '{{"figures": 7}}')}}

async def main():
    how = Watched(
        *(float(sys.argv[3]), Path(sys.argv[1]), "here", {{"bootstrap": "nowhere"}}),
        listens=("127.0.0.1", int(sys.argv[2])),
    )
    async with watched(how, answers, LoopLag()) as mark:
        await asyncio.sleep(0)
        print("up", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        {act}

asyncio.run(main())
"""
_SPINS = "while True: pass"
#: With a mark of a topic that nobody has named.
_LOST = f"mark.set(9, 0, 1)\n        {_SPINS}"
_HOLDS = "re.match(r'(a|a)*$', 'a' * 64 + 'b')"


@contextmanager
def _process(folder: Path, port: int, patience: float, act: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", _PROCESS.format(act=act), str(folder), str(port)]
    process = subprocess.Popen(
        [*command, str(patience)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def _go(process: "subprocess.Popen[str]") -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def _ask(port: int, head: str) -> tuple[int, str]:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(head.encode())
        said = b""
        while part := connection.recv(4096):
            said += part
    head, _, body = said.decode().partition("\r\n\r\n")
    return int(head.split(" ")[1]), body


def _get(port: int, path: str) -> tuple[int, str]:
    return _ask(port, f"GET {path} HTTP/1.1\r\nHost: here\r\n\r\n")


@pytest.mark.parametrize(
    "act",
    [_SPINS, _HOLDS, _LOST],
    ids=["in Python", "in C, with the lock", "without a strike that can be written"],
)
def test_a_loop_that_hangs_is_not_live_and_then_ended(tmp_path: Path, act: str) -> None:
    port = free_ports()[0]
    with _process(tmp_path, port, 3, act) as process:
        assert _get(port, "/live") == (200, '{"live": true}')
        assert _get(port, "/status") == (200, '{"figures": 7}')
        _go(process)
        status, body = _get(port, "/live")
        while status == 200:
            status, body = _get(port, "/live")
        assert status == 503
        assert json.loads(body)["reasons"][0].startswith("event loop: has not turned for")
        assert _get(port, "/ready")[0] == 503
        status, body = _get(port, "/status")
        assert (status, json.loads(body)["figures"], json.loads(body)["live"]) == (200, 7, False)

        _, said = process.communicate(timeout=20)

    assert process.returncode == -signal.SIGKILL
    assert "event loop stands still, process ended" in said
    assert "Current thread" in said  # the stacks
    assert "refused" in _failure(port)


def _failure(port: int) -> str:
    with pytest.raises(OSError, match=r".*") as failed:
        _get(port, "/live")
    return str(failed.value).lower()


def test_an_orderly_end_leaves_neither_sentinel_nor_file(tmp_path: Path) -> None:
    port = free_ports()[0]
    with _process(tmp_path, port, 3, "pass") as process:
        _go(process)
        _, said = process.communicate(timeout=20)
    assert (process.returncode, said, list(tmp_path.iterdir())) == (0, "", [])
    assert "refused" in _failure(port)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("GET /nothing HTTP/1.1\r\n\r\n", 404),
        ("POST /live HTTP/1.1\r\n\r\n", 405),
        ("GET /live?now HTTP/1.0\r\nX: y\r\n\r\n", 200),
        ("HEAD /live HTTP/1.1\r\n\r\n", 200),
        ("nonsense\r\n\r\n", 404),
    ],
)
def test_what_is_asked_for_is_answered_or_refused(tmp_path: Path, head: str, status: int) -> None:
    port = free_ports()[0]
    with _process(tmp_path, port, 60, "pass"):
        found, body = _ask(port, head)
        assert found == status
        assert (body == "") is head.startswith("HEAD")


def test_connections_that_say_nothing_hold_up_nobody(tmp_path: Path) -> None:
    """Nor does a head without an end; beyond a number of them they are closed at once."""
    port = free_ports()[0]
    with _process(tmp_path, port, 60, "pass"):
        silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(40)]
        endless = socket.create_connection(("127.0.0.1", port))
        endless.sendall(b"GET /live HTTP/1.1\r\n" + b"a" * 10_000)
        assert _get(port, "/live")[0] == 200
        assert endless.recv(10) == b""
        for one in (*silent, endless):
            one.close()
