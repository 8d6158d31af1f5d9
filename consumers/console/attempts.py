"""Limits on failed sign-ins: for one address, and for all addresses together."""

import ipaddress
from collections import OrderedDict, deque
from collections.abc import Callable
from datetime import datetime, timedelta

from fastapi import HTTPException

__all__ = ["Attempts", "too_many_attempts"]

_WINDOW = timedelta(minutes=1)
#: An address with so many failures within the window is refused for the rest of it.
_PER_ADDRESS = 5
#: After so many failures of all addresses, only those that have signed in before are served.
_IN_TOTAL = 60
_MOST_KEPT = 10_000


def too_many_attempts() -> HTTPException:
    """The error for an address with too many failed sign-ins."""
    words = "too many sign-ins have failed: try again in a minute"
    return HTTPException(429, words, {"retry-after": "60"})


class Attempts:
    """Counts the failures in this process. An attempt counts as failed until it succeeds."""

    def __init__(
        self,
        clock: Callable[[], datetime],
        *,
        per_address: int = _PER_ADDRESS,
        in_total: int = _IN_TOTAL,
    ) -> None:
        self._clock = clock
        self._per_address, self._in_total = per_address, in_total
        self._failed: OrderedDict[str, deque[datetime]] = OrderedDict()
        self._all: deque[datetime] = deque()
        self._known: OrderedDict[str, None] = OrderedDict()

    def begin(self, address: str) -> bool:
        """Count an attempt; False where it must be refused unseen."""
        who, now = _network(address), self._clock()
        own = self._failed.setdefault(who, deque())
        self._failed.move_to_end(who)
        for times in (own, self._all):
            while times and times[0] <= now - _WINDOW:
                times.popleft()
        is_crowded = len(self._all) >= self._in_total and who not in self._known
        if len(own) >= self._per_address or is_crowded:
            return False
        own.append(now)
        self._all.append(now)
        if len(self._failed) > _MOST_KEPT:
            self._failed.popitem(last=False)
        return True

    def succeeded(self, address: str) -> None:
        """Remove the last attempt of this address from the failures."""
        who = _network(address)
        for times in (self._failed.get(who), self._all):
            if times:
                times.pop()
        self._known[who] = None
        if len(self._known) > _MOST_KEPT:
            self._known.popitem(last=False)

    def is_last(self, address: str) -> bool:
        """True when the next attempt from this address will be refused."""
        return len(self._failed.get(_network(address), ())) >= self._per_address


def _network(address: str) -> str:
    """The address, or its network of 64 bits for IPv6, where every client has a whole network."""
    try:
        numbers = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:100]
    if isinstance(numbers, ipaddress.IPv6Address):
        mapped = numbers.ipv4_mapped
        return str(mapped or ipaddress.ip_network((numbers, 64), strict=False))
    return str(numbers)
