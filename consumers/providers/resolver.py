"""Resolves names and makes connections, but only to addresses that may be called."""

import asyncio
import socket
import ssl
from ipaddress import ip_address
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from typing_extensions import override

from consumers.addresses import is_metadata, is_public
from schemas.errors import TierlineError

__all__ = ["GuardedConnector", "GuardedResolver", "guarded_connector"]

#: How long a proxy may take to connect us to a provider.
_PROXY_SECONDS = 15.0


def guarded_connector(
    certificates: ssl.SSLContext, *, allow_private: bool, keep_idle: float = 15.0
) -> "GuardedConnector":
    """Connects to addresses that may be called, and to no others.

    The address is checked when its socket is made, so a host that is a number passes the same check
    as a name, and a name is connected to the address that was checked.
    """

    def a_socket(info: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, _, address = info
        if not _may_be_called(str(address[0]), allow_private=allow_private):
            msg = f"{address[0]} may not be called"
            raise PermissionError(msg)
        return socket.socket(family, kind, protocol)

    return GuardedConnector(
        limit=0,
        ssl=certificates,
        keepalive_timeout=keep_idle,
        resolver=GuardedResolver(allow_private=allow_private),
        socket_factory=a_socket,
    )


class GuardedConnector(aiohttp.TCPConnector):
    """Tells failures of a proxy apart: before it has connected us, no provider got anything."""

    @override
    async def _create_proxy_connection(
        self, req: aiohttp.ClientRequest, traces: list[Any], timeout: aiohttp.ClientTimeout
    ) -> tuple[asyncio.BaseTransport, Any]:
        try:
            async with asyncio.timeout(_PROXY_SECONDS):
                return await super()._create_proxy_connection(req, traces, timeout)
        except aiohttp.ClientConnectorError:
            raise
        except aiohttp.ClientHttpProxyError as error:
            msg = f"the proxy answered {error.status}"
            raise ProxyRefusedError(msg) from error
        except (aiohttp.ClientError, OSError) as error:
            msg = "the proxy made no connection"
            raise ProxyRefusedError(msg) from error


class ProxyRefusedError(TierlineError, aiohttp.ConnectionTimeoutError):
    """The proxy has made no connection to the provider.

    A connection timeout for the client, which means that nothing was sent.
    """


class GuardedResolver(AbstractResolver):
    """Resolves as the system does and leaves out addresses that may not be called.

    A name is connected to an address that was checked here, and not resolved again.
    """

    def __init__(self, *, allow_private: bool, patience: float = 5.0) -> None:
        self._allow_private = allow_private
        #: Seconds to wait: the client's own timeout only begins with the connection.
        self._patience = patience
        self._system = ThreadedResolver()

    @override
    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of a host that may be called. Raises OSError when there are none."""
        try:
            async with asyncio.timeout(self._patience):
                results = await self._system.resolve(host, port, family)
        except TimeoutError:
            msg = f"{host} was not resolved within {self._patience:g} s"
            raise OSError(msg) from None
        except UnicodeError:  # from the system's own encoding of names
            msg = f"{host!r} is not a name that can be resolved"
            raise OSError(msg) from None
        allowed = [
            result
            for result in results
            if _may_be_called(result["host"], allow_private=self._allow_private)
        ]
        if not allowed:
            msg = f"{host} has no address that may be called"
            raise OSError(msg)
        return allowed

    @override
    async def close(self) -> None:
        await self._system.close()


def _may_be_called(host: str, *, allow_private: bool) -> bool:
    address = ip_address(host.partition("%")[0])
    return not is_metadata(address) and (allow_private or is_public(address))
