"""An egress proxy: used where a setting names it, and for nothing else."""

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from consumers.providers.client import Providers
from consumers.providers.settings import ProviderSettings
from router.reply.reply import CallFailure, Reply
from schemas.reasons import Reason
from tests.unit.consumers.servers import a_response, sending, serving
from tests.unit.consumers.test_provider_trust import ANSWER, BODY, Authority, authority

__all__ = ["authority"]


@pytest.fixture
def anyio_backend():
    return "asyncio"


@dataclass
class Proxy:
    """What a proxy was asked for."""

    url: str = ""
    heads: list[str] = field(default_factory=list)


@asynccontextmanager
async def proxying(
    answer: bytes = b"HTTP/1.1 200 OK\r\n\r\n", to: str = ""
) -> AsyncIterator[Proxy]:
    """A proxy that answers so, and then passes on what comes to and fro where it connects."""
    proxy = Proxy()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        proxy.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(answer)
        await writer.drain()
        if to:
            host, _, port = to.rpartition(":")
            inner, outer = await asyncio.open_connection(host, int(port))
            await asyncio.wait(
                {
                    asyncio.ensure_future(pump(reader, outer)),
                    asyncio.ensure_future(pump(inner, writer)),
                }
            )
            await _closed(outer)

    handled: list[asyncio.Future[None]] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handled.append(asyncio.get_running_loop().create_future())
        with contextlib.suppress(ConnectionError):
            await connect(reader, writer)
        await _closed(writer)
        handled[-1].set_result(None)

    listening = await asyncio.start_server(handle, "127.0.0.1", 0)
    proxy.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        listening.close()
        await asyncio.gather(*handled)


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def called(**fields: Any) -> Reply | CallFailure:
    async with Providers({"p": ProviderSettings(**fields)}) as providers:
        return await providers.call(
            "p", BODY, attempt_id="r.1.1", request_id="r", timeout=timedelta(seconds=20)
        )


async def test_the_proxy_connects_to_the_provider_and_sees_neither_key_nor_request(
    authority: Authority,
) -> None:
    context = authority.context("DNS:llm.example.com")
    async with (
        serving(sending(a_response(ANSWER)), context) as server,
        proxying(to=server.url.split("/")[2]) as proxy,
    ):
        outcome = await called(
            base_url="https://llm.example.com/v1",
            ca_file=authority.certificate,
            api_key_env="A_KEY",
            proxy=proxy.url,
            allow_private_proxy=True,
        )
    assert isinstance(outcome, Reply), outcome
    [head] = proxy.heads
    assert head.startswith("CONNECT llm.example.com:443 HTTP/1.1\r\n")
    assert "secret" not in head
    assert "Bearer secret" in server.heads[0]


@pytest.mark.parametrize("base_url", ["https://llm.example.com/v1", "http://vllm.internal/v1"])
async def test_the_proxy_is_told_who_we_are_and_nobody_else_is(
    authority: Authority, base_url: str
) -> None:
    is_plain = base_url.startswith("http:")
    async with (
        serving(sending(a_response(ANSWER)), authority.context("DNS:llm.example.com")) as server,
        proxying(
            a_response(ANSWER) if is_plain else b"HTTP/1.1 200 OK\r\n\r\n",
            to="" if is_plain else server.url.split("/")[2],
        ) as proxy,
    ):
        fields: dict[str, Any] = {
            "base_url": base_url,
            "allow_private": is_plain,
            "ca_file": authority.certificate,
            "proxy": proxy.url.replace("//", "//tier%40line:p%C3%A4ss:w%2Frd@"),
            "allow_private_proxy": True,
        }
        outcome = await called(**fields)
    assert isinstance(outcome, Reply), outcome
    said = base64.b64encode("tier@line:päss:w/rd".encode()).decode()
    assert f"Proxy-Authorization: Basic {said}\r\n".lower() in proxy.heads[0].lower()
    assert not any("authorization: basic" in head.lower() for head in server.heads)
    settings = ProviderSettings(**fields)
    assert settings.proxy_url == proxy.url
    for shown in (repr(settings), settings.model_dump_json()):
        assert "ss:w" not in shown


async def test_plain_http_goes_through_the_proxy_too() -> None:
    async with proxying(a_response(ANSWER)) as proxy:
        outcome = await called(
            base_url="http://vllm.internal/v1",
            allow_private=True,
            proxy=proxy.url,
            allow_private_proxy=True,
        )
    assert isinstance(outcome, Reply), outcome
    assert proxy.heads[0].startswith("POST http://vllm.internal/v1/chat/completions HTTP/1.1")


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"",
    ],
)
async def test_nothing_was_sent_where_the_proxy_makes_no_connection(answer: bytes) -> None:
    async with proxying(answer) as proxy:
        outcome = await called(
            base_url="https://llm.example.com/v1", proxy=proxy.url, allow_private_proxy=True
        )
    assert isinstance(outcome, CallFailure)
    assert outcome.reason is Reason.NOT_SENT
    assert outcome.usage is None or outcome.usage.input_tokens == 0


async def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with proxying() as proxy, serving(sending(a_response(ANSWER))) as server:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy"):
            monkeypatch.setenv(name, proxy.url)
        assert isinstance(await called(base_url=server.url, allow_private=True), Reply)
    assert proxy.heads == []


async def test_a_name_that_leads_to_a_private_proxy_is_refused_unless_allowed() -> None:
    async with proxying() as proxy:
        port = proxy.url.rpartition(":")[2]
        named = {"base_url": "https://llm.example.com/v1", "proxy": f"https://proxy.test:{port}"}
        outcome = await called(**named)
    assert isinstance(outcome, CallFailure)
    assert outcome.reason is Reason.NOT_SENT
    assert proxy.heads == []


def _refused() -> Iterator[tuple[str, str]]:
    for url in ("http://127.0.0.1:3128", "http://10.0.0.7:3128", "https://10.0.0.7", "http://p:1"):
        yield url, "allow_private_proxy: true"
    yield "http://169.254.169.254:80", "metadata services are never called"
    yield "https://user@proxy.example.com:3128", "USER:PASSWORD before the @"
    yield "https://us@er:word@proxy.example.com:3128", "USER:PASSWORD before the @"
    yield "http://user:word@10.0.0.7:3128", "allow_private_proxy: true"
    yield "socks5://proxy.example.com:1080", "a URL such as"
    yield "https://proxy.example.com/path", "without a path"


@pytest.mark.parametrize(("url", "words"), tuple(_refused()))
def test_a_proxy_keeps_the_rules_for_addresses(url: str, words: str) -> None:
    with pytest.raises(ValidationError, match=f"(?s)proxy.*{words}"):
        ProviderSettings(base_url="https://llm.example.com/v1", proxy=url)


def test_a_provider_keeps_them_behind_a_proxy() -> None:
    for url in ("http://llm.example.com/v1", "https://10.0.0.7/v1", "https://169.254.169.254/v1"):
        with pytest.raises(ValidationError, match="base_url"):
            ProviderSettings(base_url=url, proxy="https://proxy.example.com")
