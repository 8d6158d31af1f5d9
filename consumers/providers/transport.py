"""The connections that calls to providers use, and the guard that a call passes to be written."""

import ssl
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass

import aiohttp
import httpx
from aiohttp.abc import AbstractStreamWriter
from aiohttp.connector import Connection
from httpx_aiohttp import AiohttpTransport

from consumers.providers.resolver import guarded_connector
from consumers.providers.settings import ProviderSettings, ProviderSettingsError

__all__ = ["CallProgress", "begin_call", "may_have_left", "open_pool"]

#: An idle connection is closed before the other side does it, usually after five seconds or more:
#: a call written to a connection that is just being closed has an unknown outcome.
_KEEP_IDLE_SECONDS = 4.0


@dataclass(slots=True)
class CallProgress:
    """How far a call has come."""

    #: False once nothing of the call may be sent any more.
    may_leave: Callable[[], bool]
    #: True as soon as its first byte may have been sent.
    is_written: bool = False


#: The progress of this task's call, also in the tasks that the library starts for the call.
_progress: ContextVar[CallProgress | None] = ContextVar("progress", default=None)


def begin_call(may_leave: Callable[[], bool]) -> CallProgress:
    """Track a new call of this task, which makes one call at a time."""
    progress = CallProgress(may_leave)
    _progress.set(progress)
    return progress


def may_have_left() -> bool:
    """False when nothing of this task's latest call was written."""
    progress = _progress.get()
    return progress is None or progress.is_written


class _GuardedRequest(aiohttp.ClientRequest):
    """A request that is written only if it may still leave once it has a connection.

    A process that was frozen while it connected may have lost its partitions when it wakes up, and
    nobody can take the call back.
    """

    async def write_bytes(
        self, writer: AbstractStreamWriter, conn: Connection, content_length: int | None = None
    ) -> None:
        """Write the request, unless it is too late."""
        progress = _progress.get()
        if progress is None or progress.may_leave():
            if progress is not None:
                progress.is_written = True
            await super().write_bytes(writer, conn, content_length)
        elif conn.protocol is not None:
            what = "the partition may be another process's by now"
            conn.protocol.set_exception(aiohttp.ConnectionTimeoutError(what))


def open_pool(name: str, settings: ProviderSettings, *, allow_private: bool) -> AiohttpTransport:
    """A connection pool by these settings. Raises ProviderSettingsError.

    With a proxy, every connection is one to the proxy, and only the proxy's address is checked.
    """
    certificates = _certificates(name, settings)
    proxy = settings.proxy_with_login

    def session() -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=guarded_connector(
                certificates, allow_private=allow_private, keep_idle=_KEEP_IDLE_SECONDS
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            request_class=_GuardedRequest,
            proxy=proxy.get_secret_value() if proxy else None,
            trust_env=False,
        )

    return AiohttpTransport(verify=certificates, trust_env=False, client=session)


def _certificates(name: str, settings: ProviderSettings) -> ssl.SSLContext:
    """The certificates to trust: the usual ones, or those of the provider's `ca_file` alone."""
    if settings.ca_file is None:
        return httpx.create_ssl_context(trust_env=False)
    try:
        return ssl.create_default_context(cafile=settings.ca_file)
    except OSError as error:
        msg = f"provider {name}: ca_file {settings.ca_file} holds no usable certificate ({error})"
        raise ProviderSettingsError(msg) from None
