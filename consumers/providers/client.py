"""The one place that calls models."""

import asyncio
import re
import ssl
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

import aiohttp
import httpx
import orjson
from aiohttp.abc import AbstractStreamWriter
from aiohttp.connector import Connection
from httpx_aiohttp import AiohttpTransport

from consumers import clock
from consumers.providers.bodies import parsed_body
from consumers.providers.chat import reply_of
from consumers.providers.masking import masking
from consumers.providers.outcomes import (
    error_within,
    failed_status,
    failed_within,
    was_sent,
    what_failed,
)
from consumers.providers.resolver import guarded_connector
from consumers.providers.settings import ProviderSettings, ProviderSettingsError, sent_fields
from consumers.providers.unpacking import unpacked
from consumers.providers.usage import Counts, booked, reserve, stated_micros
from consumers.providers.wire import UnreadableError, Wire
from consumers.providers.wires import WIRES
from consumers.runtime.failpoints import failpoint
from router.judge.reply import CallFailure, Reply
from router.prompts.chat_fields import OPENAI, ChatFields
from schemas.json_numbers import exact_json
from schemas.reasons import Reason

__all__ = ["Providers", "may_have_left"]

#: An idle connection is closed before the other side does it, usually after five seconds or more:
#: a call written to a connection that is just being closed has an unknown outcome.
_KEEP_IDLE_SECONDS = 4.0
#: Read of an error's body; its code is near the beginning.
_ERROR_BYTES = 64 * 1024
_ERROR_SECONDS = 2.0
#: What a wrong address answers.
_NOT_HERE = (404, 405)
_ATTEMPT = "x-tierline-attempt"


@dataclass(slots=True)
class _Progress:
    """How far a call has come."""

    #: False once nothing of it may leave any more.
    may_leave: Callable[[], bool]
    #: True from the first byte on that may have left.
    is_written: bool = False


#: Of the call that is being made, here and in the tasks that the library starts for it.
_progress: ContextVar[_Progress | None] = ContextVar("progress", default=None)


def may_have_left() -> bool:
    """False where nothing was written of the call that this task has made, or was making, last."""
    progress = _progress.get()
    return progress is None or progress.is_written


class _OwnRequest(aiohttp.ClientRequest):
    """A request that is written only if it may still leave by the time it has a connection.

    A process that was frozen in between is no owner of its partitions any more when it wakes, and
    nobody can take the call back.
    """

    async def write_bytes(
        self, writer: AbstractStreamWriter, conn: Connection, content_length: int | None = None
    ) -> None:
        """Write, unless too late."""
        progress = _progress.get()
        if progress is None or progress.may_leave():
            if progress is not None:
                progress.is_written = True
            await super().write_bytes(writer, conn, content_length)
        elif conn.protocol is not None:
            what = "the partition may be another process's by now"
            conn.protocol.set_exception(aiohttp.ConnectionTimeoutError(what))


#: Headers whose values are secrets, by their names.
_SECRET_FIELD = re.compile(r"(?i)auth|key|token|secret|pass|credential|cookie")


@dataclass(frozen=True, slots=True)
class _Provider:
    name: str
    settings: ProviderSettings
    wire: Wire
    headers: Sequence[tuple[bytes, bytes]]
    extensions: dict[str, Any]
    transport: AiohttpTransport
    #: Takes our keys out of what a server says.
    masked: Callable[[bytes], bytes]


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
        self._fields = {name: sent_fields(settings, name) for name in settings}

    async def __aenter__(self) -> "Providers":
        """Read the keys and open the pools. Raises ProviderSettingsError."""
        # An authority of one's own vouches for its provider alone, only some may call private
        # addresses, and some are called through a proxy: each such kind has a pool of its own.
        pools: dict[tuple[object, ...], AiohttpTransport] = {}
        for name, one in self._settings.items():
            is_private = one.allow_private_proxy if one.proxy else one.allow_private
            kind = (one.ca_file, is_private, one.proxy)
            if kind not in pools:
                trusted = _trusting(name, one.ca_file)
                pools[kind] = _pool(trusted, one, allow_private=is_private)
            self._providers[name] = _prepared(name, one, pools[kind])
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pools = {id(known.transport): known.transport for known in self._providers.values()}
        for pool in pools.values():
            await pool.aclose()

    def chat_fields(self, provider: str) -> ChatFields:
        """What of a producer's chat body a provider is sent."""
        return self._fields.get(provider, OPENAI)

    async def call(
        self,
        provider: str,
        body: Mapping[str, Any],
        *,
        attempt_id: str,
        request_id: str,
        timeout: timedelta,  # noqa: ASYNC109  the whole call, which the transport cannot limit
        may_leave: Callable[[], bool] = lambda: True,
    ) -> Reply | CallFailure:
        """Call a model and read its reply.

        Whatever the provider does comes back as a value; `timeout` is for everything, from
        connecting to the last byte. `may_leave` is asked right before the first byte is written:
        if it says no, nothing is sent. Only a cancellation is raised.
        """
        known = self._providers.get(provider)
        if known is None:
            detail = f"no provider is set up under the name {provider}"
            return CallFailure(Reason.PROVIDER_REJECTED, detail)

        if timeout <= timedelta(0):
            return CallFailure(Reason.NOT_SENT, "no time was left for the call")
        ids = {"x-request-id": request_id, _ATTEMPT: attempt_id}
        try:
            request = self._request(known, ids, body)
        except Exception as error:  # noqa: BLE001  httpx.InvalidURL and others are of no one kind
            return CallFailure(Reason.NOT_SENT, f"no call could be made ({what_failed(error)})")
        progress = _Progress(may_leave)
        _progress.set(progress)  # every call is a task's own, or the one after the other
        try:
            async with asyncio.timeout(timeout.total_seconds()) as whole:
                return await self._exchange(known, request, ids, body, whole.when() or 0.0)
        except TimeoutError:
            return _late(timeout, progress, body)
        except (ValueError, httpx.InvalidURL) as error:
            if not isinstance(error, (aiohttp.ClientError, OSError)):  # before anything was written
                return CallFailure(Reason.NOT_SENT, f"no call could be made ({what_failed(error)})")
            return _broken_off(error, progress, body)
        except Exception as error:  # noqa: BLE001  of the client's libraries, which have many kinds
            return _broken_off(error, progress, body)

    def _request(
        self, known: _Provider, ids: Mapping[str, str], body: Mapping[str, Any]
    ) -> httpx.Request:
        content = _dumped(_with_added(known.wire.encode(body), body, self.chat_fields(known.name)))
        own = [(name.encode(), value.encode()) for name, value in ids.items()]
        # A given stream, because for `content` httpx works out headers that aiohttp sets anyway.
        request = httpx.Request(
            "POST",
            self._url(known, str(body.get("model", ""))),
            headers=[*known.headers, *own],
            stream=httpx.ByteStream(content),
            extensions=known.extensions,
        )
        request.headers.encoding = "utf-8"  # else found out by trial, over and over
        request.read()
        return request

    async def _exchange(
        self,
        known: _Provider,
        request: httpx.Request,
        ids: Mapping[str, str],
        body: Mapping[str, Any],
        until: float,
    ) -> Reply | CallFailure:
        response = await known.transport.handle_async_request(request)
        failpoint("call.sent")
        try:
            if not 200 <= response.status_code < 300:
                raw = known.masked(await _read_soon(response, until))
                status, headers = response.status_code, response.headers
                failure = failed_status(status, headers, raw, clock.now())
                if failure is not None and status in _NOT_HERE and known.settings.is_bare:
                    detail = f"{failure.detail}: base_url has no path; is /v1 missing?"
                    failure = replace(failure, detail=detail)
                return _booked(failure, body)

            most = known.settings.max_reply_bytes
            raw, is_whole = await _read(response, most)
        finally:
            await response.aclose()
        if not is_whole:
            return _unreadable(f"the reply is longer than {most} bytes", response, body)
        data: Any = None
        try:
            _check_ids(response.headers, ids, echoes=known.settings.echoes_request_id)
            kind = response.headers.get("content-type", "")
            data = parsed_body(raw, kind, known.wire.name, known.masked)
            if (found := error_within(data)) is not None:
                return _booked(failed_within(found, response.headers, clock.now()), body)
            stated = stated_micros(data, response.headers)
            reply = replace(known.wire.decode(data, body), stated_micros=stated)
        except UnreadableError as error:
            return _unreadable(str(error), response, body, known.wire.counts(data))
        except Exception as error:  # noqa: BLE001  whatever a provider writes is no fault of ours
            what = f"the reply's format: {type(error).__name__}"
            return _unreadable(what, response, body, known.wire.counts(data))
        return _dated(reply)

    def _url(self, known: _Provider, model: str) -> httpx.URL:
        url = self._urls.get((known.name, model))
        if url is None:
            # Gemini's lists of models have the folder in their names.
            name = quote(model.removeprefix("models/"), safe="")
            path = (known.settings.path or known.wire.path).replace("{model}", name)
            url = httpx.URL(known.settings.base_url + path)
            if known.settings.query:
                url = url.copy_merge_params(known.settings.query)
            self._urls[known.name, model] = url
        return url


def _late(timeout: timedelta, progress: _Progress, body: Mapping[str, Any]) -> CallFailure:
    """A call whose time is up: unsent where nothing was written."""
    within = f"within {timeout.total_seconds():g} s"
    if not progress.is_written:
        return CallFailure(Reason.NOT_SENT, f"no connection could be made {within}")
    return CallFailure(Reason.OUTCOME_UNKNOWN, f"no whole reply {within}", usage=reserve(body))


def _broken_off(error: Exception, progress: _Progress, body: Mapping[str, Any]) -> CallFailure:
    """A call that failed in its connection: unsent only where that is certain."""
    what = what_failed(error)
    if progress.is_written and was_sent(error):
        detail = f"the connection failed before the reply was whole ({what})"
        return CallFailure(Reason.OUTCOME_UNKNOWN, detail, usage=reserve(body))
    return CallFailure(Reason.NOT_SENT, f"no connection could be made ({what})")


async def _read_soon(response: httpx.Response, until: float) -> bytes:
    """The body of an error, as far as it comes: its status says what happened without it too."""
    now = asyncio.get_running_loop().time()
    # The status is known: the end of the whole call must not make an unknown outcome of it.
    soon = min(now + _ERROR_SECONDS, now + (until - now) / 2)
    try:
        async with asyncio.timeout_at(soon):
            raw, _ = await _read(response, _ERROR_BYTES)
    except (TimeoutError, httpx.HTTPError, aiohttp.ClientError, OSError):
        return b""
    return raw


def _trusting(name: str, ca_file: Path | None) -> ssl.SSLContext:
    """The certificates we trust: the usual ones, or those of one file alone."""
    if ca_file is None:
        return httpx.create_ssl_context(trust_env=False)
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        msg = f"provider {name}: ca_file {ca_file} holds no usable certificate ({error})"
        raise ProviderSettingsError(msg) from None


def _pool(
    trusted: ssl.SSLContext, settings: ProviderSettings, *, allow_private: bool
) -> AiohttpTransport:
    """With a proxy every connection is one to it, and only that address is looked at here."""
    proxy = settings.proxy_with_login

    def session() -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=guarded_connector(
                trusted, allow_private=allow_private, keep_idle=_KEEP_IDLE_SECONDS
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            request_class=_OwnRequest,
            proxy=proxy.get_secret_value() if proxy else None,
            trust_env=False,
        )

    return AiohttpTransport(verify=trusted, trust_env=False, client=session)


def _prepared(name: str, settings: ProviderSettings, transport: AiohttpTransport) -> _Provider:
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
        **wire.headers,
    }
    if key is not None:
        header = (settings.key_header or wire.key_header).lower()
        bearer = "Bearer " if header == "authorization" else ""
        headers[header] = bearer + key.get_secret_value()
    headers |= {
        field.lower(): value.get_secret_value() for field, value in settings.headers.items()
    }
    connect = settings.connect_timeout.total_seconds()
    limits = {"connect": connect, "read": None, "write": None, "pool": None}
    written = [(field.encode(), value.encode()) for field, value in headers.items()]
    secrets = [key.get_secret_value()] if key is not None else []
    for field, value in settings.headers.items():
        if _SECRET_FIELD.search(field):  # others hold words that an answer may hold too
            secrets += value.get_secret_value().split()
    extensions = {"timeout": limits}
    return _Provider(name, settings, wire, written, extensions, transport, masking(secrets))


def _check_ids(headers: Mapping[str, str], ids: Mapping[str, str], *, echoes: bool) -> None:
    """Refuse the reply to another call. Raises UnreadableError.

    Most servers send an `x-request-id` of their own; our attempt header nobody else has.
    """
    for name, value in ids.items():
        if (echoes or name == _ATTEMPT) and headers.get(name, value) != value:
            what = f"{name}: the reply is to another call"
            raise UnreadableError(what)


def _with_added(
    sent: Mapping[str, Any], body: Mapping[str, Any], fields: ChatFields
) -> Mapping[str, Any]:
    """A body in the provider's format, with the fields that its settings add under their names.

    What the format itself says wins; objects of both are joined.
    """
    made = dict(sent)
    for name in fields.added & body.keys():
        ours, given = sent.get(name), body[name]
        if isinstance(ours, dict) and isinstance(given, dict):
            made[name] = {**given, **ours}
        else:
            made[name] = given if ours is None else ours
    return made


def _dumped(body: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(body)
    except TypeError:  # half a character, which only an escape can carry, or a number too large
        return exact_json(body, ascii_only=True).encode()


async def _read(response: httpx.Response, most: int) -> tuple[bytes, bool]:
    """The unpacked body, at most so many bytes, and whether that is all of it."""
    read = bytearray()
    async for part in _parts(response):
        read += part
        if len(read) > most:
            return bytes(read[:most]), False
    packing = response.headers.get("content-encoding", "")
    whole = unpacked(bytes(read), packing, most)
    return (b"", False) if whole is None else (whole, True)


def _parts(response: httpx.Response) -> httpx.AsyncByteStream:
    """The body as it comes. `Response.aiter_raw` around it costs as much as reading it."""
    assert isinstance(response.stream, httpx.AsyncByteStream)  # noqa: S101  the transport's
    return response.stream


def _booked(failure: CallFailure | None, body: Mapping[str, Any]) -> Reply | CallFailure:
    """A failure at what it may have cost; without one a filter stopped the prompt."""
    if failure is None:
        return _dated(_stopped(body))
    ran = failure.reason is Reason.OUTCOME_UNKNOWN
    return replace(failure, usage=reserve(body)) if ran else failure


def _stopped(body: Mapping[str, Any]) -> Reply:
    """The reply to a prompt that was filtered before any model read it."""
    return reply_of(
        body,
        reply_id="",
        served=None,
        text="",
        finish="content_filter",
        counts=None,
        refusal="the provider's filter stopped the prompt",
    )


def _dated(reply: Reply) -> Reply:
    """Not every format tells when it was written, and a completion has to."""
    if not reply.body.get("created"):
        reply.body["created"] = int(clock.now().timestamp())
    return reply


def _unreadable(
    detail: str, response: httpx.Response, body: Mapping[str, Any], counts: Counts | None = None
) -> CallFailure:
    """A reply that was paid for and has no answer: booked at what it says was used.

    Where that cannot be read, or cannot be true, at the most the call can have cost.
    """
    usage, odd = booked(body, "?", counts)  # something was written, whatever it is
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind and kind != "application/json":
        detail = f"{detail} ({kind[:80]})"
    return CallFailure(
        Reason.UNREADABLE_REPLY,
        detail,
        http_status=response.status_code,
        usage=reserve(body) if odd else usage,
    )
