"""Names to addresses and addresses to connections, without those that nobody may call."""

import asyncio
import socket
import ssl
from ipaddress import ip_address

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from typing_extensions import override

from consumers.addresses import is_metadata, is_public

__all__ = ["GuardedResolver", "guarded_connector"]


def guarded_connector(
    trusted: ssl.SSLContext, *, allow_private: bool, keep_idle: float = 15.0
) -> aiohttp.TCPConnector:
    """Connections to addresses that may be called, and to no others.

    The address is looked at when its socket is made, so a host that is a number passes the same
    check as a name, and a name is connected to the address that was checked.
    """

    def a_socket(info: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, _, address = info
        if not _may_be_called(str(address[0]), allow_private=allow_private):
            msg = f"{address[0]} may not be called"
            raise PermissionError(msg)
        return socket.socket(family, kind, protocol)

    return aiohttp.TCPConnector(
        limit=0,
        ssl=trusted,
        keepalive_timeout=keep_idle,
        resolver=GuardedResolver(allow_private=allow_private),
        socket_factory=a_socket,
    )


class GuardedResolver(AbstractResolver):
    """Resolves as the system does and leaves out what may not be called.

    A name is connected to an address that was looked at here, and not resolved once more.
    """

    def __init__(self, *, allow_private: bool, patience: float = 5.0) -> None:
        self._allow_private = allow_private
        #: Seconds; the client's own timeout begins with the connection.
        self._patience = patience
        self._system = ThreadedResolver()

    @override
    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of a host that may be called. Raises OSError when there are none."""
        try:
            async with asyncio.timeout(self._patience):
                found = await self._system.resolve(host, port, family)
        except TimeoutError:
            msg = f"{host} was not resolved within {self._patience:g} s"
            raise OSError(msg) from None
        except UnicodeError:  # of the system's own encoding of names
            msg = f"{host!r} is no name that can be resolved"
            raise OSError(msg) from None
        allowed = [
            result
            for result in found
            if _may_be_called(result["host"], allow_private=self._allow_private)
        ]
        if not allowed:
            msg = f"{host} has no address that may be called"
            raise OSError(msg)
        return allowed

    @override
    async def close(self) -> None:
        """Nothing is held."""
        await self._system.close()


def _may_be_called(host: str, *, allow_private: bool) -> bool:
    address = ip_address(host.partition("%")[0])
    return not is_metadata(address) and (allow_private or is_public(address))
