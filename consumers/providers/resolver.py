"""Names to addresses, without the addresses that a provider must not have."""

import asyncio
import socket
from ipaddress import ip_address

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from typing_extensions import override

from consumers.providers.settings import is_metadata, is_public

__all__ = ["GuardedResolver"]


class GuardedResolver(AbstractResolver):
    """Resolves as the system does and leaves out what is not public.

    Checked at the moment of connecting, so that a name which changes its address gains nothing.
    """

    def __init__(self, private: frozenset[str], patience: float = 5.0) -> None:
        self._private = private
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
        is_private_allowed = host.lower().rstrip(".") in self._private
        allowed = []
        for result in found:
            address = ip_address(result["host"].partition("%")[0])
            if not is_metadata(address) and (is_private_allowed or is_public(address)):
                allowed.append(result)
        if not allowed:
            msg = f"{host} has no address that may be called"
            raise OSError(msg)
        return allowed

    @override
    async def close(self) -> None:
        """Nothing is held."""
        await self._system.close()
