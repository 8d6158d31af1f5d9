"""The one place that calls models."""

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Any
from urllib.parse import quote

import aiohttp
import httpx
import orjson
from httpx_aiohttp import AiohttpTransport

from consumers.failpoints import failpoint
from consumers.providers.masking import masking
from consumers.providers.outcomes import was_sent, what_failed
from consumers.providers.replies import ATTEMPT_HEADER, ReplyReader
from consumers.providers.settings import ProviderSettings, ProviderSettingsError, sent_fields
from consumers.providers.transport import CallProgress, begin_call, open_pool
from consumers.providers.usage import reserve
from consumers.providers.wire import Wire
from consumers.providers.wires import WIRES
from router.prompts.chat_fields import OPENAI, ChatFields
from router.reply.reply import CallFailure, Reply
from schemas.json_numbers import exact_json
from schemas.reasons import Reason

__all__ = ["Providers"]

#: Names of headers whose values are secrets.
_SECRET_FIELD = re.compile(r"(?i)auth|key|token|secret|pass|credential|cookie")


@dataclass(frozen=True, slots=True)
class _Provider:
    name: str
    settings: ProviderSettings
    wire: Wire
    headers: Sequence[tuple[bytes, bytes]]
    extensions: dict[str, Any]
    transport: AiohttpTransport
    replies: ReplyReader


class Providers:
    """All providers of a deployment, and the connection pools that they share.

    The pools have no limits of their own: the caller decides how many calls run at once.

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
        # A CA of one's own vouches for its provider alone, only some providers may be at private
        # addresses, and some are called through a proxy: each combination has its own pool.
        pools: dict[tuple[object, ...], AiohttpTransport] = {}
        for name, settings in self._settings.items():
            is_private = settings.allow_private_proxy if settings.proxy else settings.allow_private
            kind = (settings.ca_file, is_private, settings.proxy)
            if kind not in pools:
                pools[kind] = open_pool(name, settings, allow_private=is_private)
            self._providers[name] = _prepared(name, settings, pools[kind])
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for transport in {provider.transport for provider in self._providers.values()}:
            await transport.aclose()

    def chat_fields(self, provider: str) -> ChatFields:
        """The fields of a producer's chat body that a provider is sent."""
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
        idempotency_key: str | None = None,
    ) -> Reply | CallFailure:
        """Call a model and read its reply.

        Whatever the provider does comes back as a value; `timeout` is for everything, from
        connecting to the last byte. `may_leave` is asked right before the first byte is written:
        if it says no, nothing is sent. Only a cancellation is raised.
        """
        target = self._providers.get(provider)
        if target is None:
            detail = f"no provider is set up under the name {provider}"
            return CallFailure(Reason.PROVIDER_REJECTED, detail)

        if timeout <= timedelta(0):
            return CallFailure(Reason.NOT_SENT, "no time was left for the call")
        ids = {"x-request-id": request_id, ATTEMPT_HEADER: attempt_id}
        sent = dict(ids)
        if target.settings.idempotency_header is not None:
            sent[target.settings.idempotency_header] = idempotency_key or attempt_id
        try:
            request = self._request(target, sent, body)
        except Exception as error:  # noqa: BLE001  httpx.InvalidURL and others have no common class
            return CallFailure(Reason.NOT_SENT, f"no call could be made ({what_failed(error)})")
        progress = begin_call(may_leave)
        try:
            async with asyncio.timeout(timeout.total_seconds()) as whole:
                response = await target.transport.handle_async_request(request)
                failpoint("call.sent")
                return await target.replies.read(response, ids, body, whole.when() or 0.0)
        except TimeoutError:
            return _timed_out(timeout, progress, body)
        except (ValueError, httpx.InvalidURL) as error:
            if not isinstance(error, (aiohttp.ClientError, OSError)):  # before anything was written
                return CallFailure(Reason.NOT_SENT, f"no call could be made ({what_failed(error)})")
            return _disconnected(error, progress, body)
        except Exception as error:  # noqa: BLE001  the client's libraries raise many kinds
            return _disconnected(error, progress, body)

    def _request(
        self, target: _Provider, ids: Mapping[str, str], body: Mapping[str, Any]
    ) -> httpx.Request:
        fields = self.chat_fields(target.name)
        content = _dumped(_with_added(target.wire.encode(body), body, fields))
        id_headers = [(name.encode(), value.encode()) for name, value in ids.items()]
        # As a stream: for `content` httpx works out headers that aiohttp sets anyway.
        request = httpx.Request(
            "POST",
            self._url(target, str(body.get("model", ""))),
            headers=[*target.headers, *id_headers],
            stream=httpx.ByteStream(content),
            extensions=target.extensions,
        )
        request.headers.encoding = "utf-8"  # else httpx tries out encodings again and again
        request.read()
        return request

    def _url(self, target: _Provider, model: str) -> httpx.URL:
        url = self._urls.get((target.name, model))
        if url is None:
            # Gemini's lists of models have the folder in their names.
            name = quote(model.removeprefix("models/"), safe="")
            path = (target.settings.path or target.wire.path).replace("{model}", name)
            url = httpx.URL(target.settings.base_url + path)
            if target.settings.query:
                url = url.copy_merge_params(target.settings.query)
            self._urls[target.name, model] = url
        return url


def _timed_out(timeout: timedelta, progress: CallProgress, body: Mapping[str, Any]) -> CallFailure:
    """A call whose time is up: unsent where nothing was written."""
    within = f"within {timeout.total_seconds():g} s"
    if not progress.is_written:
        return CallFailure(Reason.NOT_SENT, f"no connection could be made {within}")
    return CallFailure(Reason.OUTCOME_UNKNOWN, f"no whole reply {within}", usage=reserve(body))


def _disconnected(error: Exception, progress: CallProgress, body: Mapping[str, Any]) -> CallFailure:
    """A call whose connection failed: unsent only where that is certain."""
    what = what_failed(error)
    if progress.is_written and was_sent(error):
        detail = f"the connection failed before the reply was whole ({what})"
        return CallFailure(Reason.OUTCOME_UNKNOWN, detail, usage=reserve(body))
    return CallFailure(Reason.NOT_SENT, f"no connection could be made ({what})")


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
    timeouts = {"connect": connect, "read": None, "write": None, "pool": None}
    encoded = [(field.encode(), value.encode()) for field, value in headers.items()]
    secrets = [key.get_secret_value()] if key is not None else []
    for field, value in settings.headers.items():
        if _SECRET_FIELD.search(field):  # the words of other headers may be in an answer too
            secrets += value.get_secret_value().split()
    replies = ReplyReader(settings, wire, masking(secrets))
    return _Provider(name, settings, wire, encoded, {"timeout": timeouts}, transport, replies)


def _with_added(
    sent: Mapping[str, Any], body: Mapping[str, Any], fields: ChatFields
) -> Mapping[str, Any]:
    """A body in the provider's format with the fields that its settings let through as they are.

    Where the format has set the same field, its value wins; two objects are merged.
    """
    merged = dict(sent)
    for name in fields.added & body.keys():
        ours, given = sent.get(name), body[name]
        if isinstance(ours, dict) and isinstance(given, dict):
            merged[name] = {**given, **ours}
        else:
            merged[name] = given if ours is None else ours
    return merged


def _dumped(body: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(body)
    except TypeError:  # half a character, which only an escape can carry, or a number too large
        return exact_json(body, ascii_only=True).encode()
