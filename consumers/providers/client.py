"""The one place that calls models."""

import asyncio
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Any

import aiohttp
import httpx
import orjson
from httpx_aiohttp import AiohttpTransport

from consumers import clock
from consumers.providers.outcomes import failed_status, was_sent
from consumers.providers.resolver import GuardedResolver
from consumers.providers.settings import ProviderSettings, ProviderSettingsError
from consumers.providers.usage import estimate, reserve
from consumers.providers.wire import UnreadableError, Wire
from consumers.providers.wires import WIRES
from consumers.runtime.failpoints import failpoint
from router.reply import CallFailure, Reply
from schemas.errors import ContractError
from schemas.json_text import MAX_DEPTH, parse_json
from schemas.reasons import Reason

__all__ = ["Providers"]

#: An idle connection is closed before the other side does it, usually after five seconds or more:
#: a call written to a connection that is just being closed has an unknown outcome.
_KEEP_IDLE_SECONDS = 4.0
#: Read of an error's body; its code is near the beginning.
_ERROR_BYTES = 64 * 1024
_PACKINGS = ("gzip", "deflate", "x-gzip")
_UNPACKED_AT_ONCE = 64 * 1024


class _TooLongError(Exception):
    """The reply is longer than we read."""


@dataclass(frozen=True, slots=True)
class _Provider:
    settings: ProviderSettings
    wire: Wire
    headers: Sequence[tuple[bytes, bytes]]
    extensions: dict[str, Any]


class Providers:
    """All providers of a deployment behind one connection pool.

    The pool has no limit of its own: whoever calls decides how many calls run at once.

    Calls go straight to httpx's transport. An `httpx.AsyncClient` around it would add cookies,
    redirects and authentication, none of which a call to a model may have, and as much work again
    as the call itself.
    """

    def __init__(self, settings: Mapping[str, ProviderSettings]) -> None:
        self._settings = settings
        self._providers: dict[str, _Provider] = {}
        self._urls: dict[tuple[str, str], httpx.URL] = {}
        self._transport: AiohttpTransport

    async def __aenter__(self) -> "Providers":
        """Read the keys and open the pool. Raises ProviderSettingsError."""
        self._providers = {name: _prepared(name, one) for name, one in self._settings.items()}
        private = frozenset(one.host for one in self._settings.values() if one.allow_private)
        context = httpx.create_ssl_context(trust_env=False)

        def session() -> aiohttp.ClientSession:
            connector = aiohttp.TCPConnector(
                limit=0,
                ssl=context,
                keepalive_timeout=_KEEP_IDLE_SECONDS,
                resolver=GuardedResolver(private),
            )
            return aiohttp.ClientSession(
                connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
            )

        self._transport = AiohttpTransport(verify=context, trust_env=False, client=session)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._transport.aclose()

    async def call(
        self,
        provider: str,
        body: Mapping[str, Any],
        *,
        attempt_id: str,
        request_id: str,
        timeout: timedelta,  # noqa: ASYNC109  the whole call, which the transport cannot limit
    ) -> Reply | CallFailure:
        """Call a model and read its reply.

        Whatever the provider does comes back as a value; `timeout` is for everything, from
        connecting to the last byte. Only a cancellation is raised.
        """
        known = self._providers.get(provider)
        if known is None:
            detail = f"no provider is set up under the name {provider}"
            return CallFailure(Reason.PROVIDER_REJECTED, detail)

        if timeout <= timedelta(0):
            return CallFailure(Reason.NOT_SENT, "no time was left for the call")
        path, sent = known.wire.encode(body)
        headers = (
            *known.headers,
            (b"x-request-id", request_id.encode()),
            (b"x-tierline-attempt", attempt_id.encode()),
        )
        try:
            async with asyncio.timeout(timeout.total_seconds()):
                return await self._exchange(known, path, _dumped(sent), headers, body)
        except TimeoutError:
            detail = f"no whole reply within {timeout.total_seconds():g} s"
            return CallFailure(Reason.OUTCOME_UNKNOWN, detail, usage=reserve(body))
        except (httpx.HTTPError, aiohttp.ClientError, OSError) as error:
            what = type(error.__cause__ or error).__name__
            if was_sent(error):
                detail = f"the connection failed before the reply was whole ({what})"
                return CallFailure(Reason.OUTCOME_UNKNOWN, detail, usage=reserve(body))
            return CallFailure(Reason.NOT_SENT, f"no connection could be made ({what})")

    async def _exchange(
        self,
        known: _Provider,
        path: str,
        content: bytes,
        headers: Sequence[tuple[bytes, bytes]],
        body: Mapping[str, Any],
    ) -> Reply | CallFailure:
        # A given stream, because for `content` httpx works out headers that aiohttp sets anyway.
        request = httpx.Request(
            "POST",
            self._url(known.settings.base_url, path),
            headers=headers,
            stream=httpx.ByteStream(content),
            extensions=known.extensions,
        )
        request.headers.encoding = "utf-8"  # else found out by trial, over and over
        request.read()
        response = await self._transport.handle_async_request(request)
        failpoint("call.sent")
        try:
            if not 200 <= response.status_code < 300:
                raw, _ = await _read(response, _ERROR_BYTES)
                return failed_status(response.status_code, response.headers, raw, clock.now())

            most = known.settings.max_reply_bytes
            raw, is_whole = await _read(response, most)
        finally:
            await response.aclose()
        if not is_whole:
            return _unreadable(f"the reply is longer than {most} bytes", raw, response, body)
        try:
            return known.wire.decode(_parsed(raw), body)
        except UnreadableError as error:
            return _unreadable(str(error), raw, response, body)

    def _url(self, base: str, path: str) -> httpx.URL:
        url = self._urls.get((base, path))
        if url is None:
            url = self._urls[base, path] = httpx.URL(base + path)
        return url


def _prepared(name: str, settings: ProviderSettings) -> _Provider:
    wire = WIRES.get(settings.wire)
    if wire is None:
        msg = f"provider {name}: wire {settings.wire!r} is not one of {', '.join(WIRES)}"
        raise ProviderSettingsError(msg)

    key = settings.api_key(name)
    headers = {
        "content-type": "application/json",
        "accept": "application/json",
        "accept-encoding": "gzip, deflate",
        "user-agent": "tierline",
        **(wire.authorize(key.get_secret_value()) if key else {}),
        **{name: value.get_secret_value() for name, value in settings.headers.items()},
    }
    connect = settings.connect_timeout.total_seconds()
    limits = {"connect": connect, "read": None, "write": None, "pool": None}
    written = [(name.encode(), value.encode()) for name, value in headers.items()]
    return _Provider(settings, wire, written, {"timeout": limits})


def _dumped(body: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(body)
    except TypeError:  # half a character: only an escape can carry it
        return json.dumps(body, ensure_ascii=True, allow_nan=False).encode()


async def _read(response: httpx.Response, most: int) -> tuple[bytes, bool]:
    """The unpacked body, at most so many bytes, and whether that is all of it."""
    read = bytearray()
    # Any other packing was not asked for; its bytes will not be JSON.
    is_packed = response.headers.get("content-encoding", "").lower() in _PACKINGS
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32) if is_packed else None
    async for part in _parts(response):
        packed = part
        while unpacker and packed and not unpacker.eof:
            # In bits, because a packed body may grow a thousandfold.
            try:
                read += unpacker.decompress(packed, _UNPACKED_AT_ONCE)
            except zlib.error:
                return bytes(read), True  # what came before is cut off and will not be JSON
            packed = unpacker.unconsumed_tail
            if len(read) > most:
                break
        if unpacker is None:
            read += part
        if len(read) > most:
            return bytes(read[:most]), False
    return bytes(read), True


def _parts(response: httpx.Response) -> httpx.AsyncByteStream:
    """The body as it comes. `Response.aiter_raw` around it costs as much as reading it."""
    assert isinstance(response.stream, httpx.AsyncByteStream)  # noqa: S101  the transport's
    return response.stream


def _parsed(raw: bytes) -> Any:
    """The reply's JSON. Nesting beyond what our own records may hold is refused."""
    try:
        parsed = orjson.loads(raw)
        if raw.count(b"{") + raw.count(b"[") > MAX_DEPTH:
            parse_json(raw)
    except orjson.JSONDecodeError:
        what = "the reply is not JSON"
        raise UnreadableError(what) from None
    except ContractError as error:
        what = f"the reply is not plain JSON: {error.reason.value}"
        raise UnreadableError(what) from None
    return parsed


def _unreadable(
    detail: str, raw: bytes, response: httpx.Response, body: Mapping[str, Any]
) -> CallFailure:
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind and kind != "application/json":
        detail = f"{detail} ({kind[:80]})"
    return CallFailure(
        Reason.UNREADABLE_REPLY,
        detail,
        http_status=response.status_code,
        usage=estimate(body, raw.decode("utf-8", "replace")),
    )
