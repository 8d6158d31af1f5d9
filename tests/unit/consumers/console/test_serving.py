"""A listener of the console, with real connections: none of them only waits."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Sequence

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

from consumers.console.security import HEADERS
from consumers.console.serving import Limits, serve

pytestmark = pytest.mark.anyio

_SOON = 0.05
_GET = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"


@contextlib.asynccontextmanager
async def _served(
    limits: Limits, given_up: asyncio.Event | None = None, proxies: Sequence[str] = ()
) -> AsyncIterator[tuple[str, int]]:
    """The address of a console with one page that never ends but when it is `given_up`."""
    app, given_up = FastAPI(), given_up or asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x" * 65_536
                await asyncio.sleep(0)
        finally:
            given_up.set()

    @app.get("/endless")
    async def page() -> StreamingResponse:
        return StreamingResponse(endless())

    @app.get("/who")
    async def who(request: Request) -> str:
        return request.client.host if request.client else ""

    with contextlib.closing(socket.socket()) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(serve(app, listening, limits, proxies))
            yield listening.getsockname()
            task.cancel()


@contextlib.asynccontextmanager
async def _opened(
    address: tuple[str, int],
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(*address)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def _is_ended(reader: asyncio.StreamReader) -> bool:
    async with asyncio.timeout(10):
        with contextlib.suppress(ConnectionResetError):
            while await reader.read(65_536):
                pass
    return True


@pytest.mark.parametrize(
    "said",
    [b"", b"GET", b"GET / HTTP/1.1\r\nhost: loc", _GET + b"GET / HT"],
    ids=["nothing", "a word", "half a head", "half of the next one"],
)
async def test_a_head_that_does_not_come_ends_its_connection(said: bytes) -> None:
    limits = Limits(head=_SOON, keep_alive=600)
    async with _served(limits) as address, _opened(address) as (reader, writer):
        writer.write(said)
        assert await _is_ended(reader)


async def test_a_reply_that_nobody_takes_ends_its_connection() -> None:
    given_up = asyncio.Event()
    async with (
        _served(Limits(take=_SOON), given_up) as address,
        _opened(address) as (reader, writer),
    ):
        writer.write(_GET.replace(b"/ ", b"/endless "))
        # The stream's buffer is small: what is not read here stops being taken.
        await reader.readuntil(b"\r\n\r\n")
        async with asyncio.timeout(10):
            await given_up.wait()
        assert await _is_ended(reader)


async def test_there_are_so_many_connections_and_no_more() -> None:
    async with (
        _served(Limits(connections=2)) as address,
        _opened(address) as (first, to_first),
        _opened(address) as (second, to_second),
        _opened(address) as (third, _),
    ):
        assert await _is_ended(third)
        for reader, writer in ((first, to_first), (second, to_second)):
            writer.write(_GET)
            assert (await reader.readline()).startswith(b"HTTP/1.1 404")


async def test_what_is_no_request_is_answered_with_our_headers() -> None:
    async with _served(Limits()) as address, _opened(address) as (reader, writer):
        writer.write(b"no HTTP at all\r\n\r\n")
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        assert head.startswith("http/1.1 400")
        assert all(name in head for name in HEADERS)


@pytest.mark.parametrize(
    ("proxies", "seen"), [((), "127.0.0.1"), (("127.0.0.1",), "203.0.113.9")], ids=["none", "named"]
)
async def test_only_a_proxy_that_is_named_says_who_comes(proxies: Sequence[str], seen: str) -> None:
    """Else whoever guesses would have a new address for each guess."""
    async with (
        _served(Limits(), proxies=proxies) as (host, port),
        httpx.AsyncClient(base_url=f"http://{host}:{port}", trust_env=False) as client,
    ):
        reply = await client.get("/who", headers={"x-forwarded-for": "203.0.113.9"})
    assert reply.json() == seen
