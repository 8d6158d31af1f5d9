"""Samples: a few answered requests of a week, the same ones in every draw."""

import hashlib
from collections import defaultdict, deque
from datetime import datetime
from typing import Any

from schemas.tenancy import RequestKey

__all__ = ["Draw", "week_of"]


def week_of(instant: datetime) -> str:
    """The ISO 8601 week, for example 2026-W48, in the instant's own time zone."""
    year, week, _ = instant.isocalendar()
    return f"{year}-W{week:02}"


class Draw:
    """A sample of a week, drawn while requests are read: it keeps only what may be part of it.

    Tasks have equal shares, as far as they have requests. A hash of the week and the id decides, so
    a request's chance does not depend on its content or its answer, and every draw is the same.
    """

    def __init__(self, week: str, count: int) -> None:
        self._week, self._count = week, count
        #: By task and request: the hash, and what was offered. Only the lowest hashes are kept.
        self._kept: defaultdict[str, dict[RequestKey, tuple[bytes, Any]]] = defaultdict(dict)
        #: How many were offered.
        self.offered = 0

    def offer(self, key: RequestKey, task: str, what: Any) -> None:
        """Offer a request; if it is offered again, the later offer counts."""
        digest = hashlib.sha256(f"{self._week} {key.text}".encode()).digest()
        line = self._kept[task]
        self.offered += key not in line
        line[key] = digest, what
        # Sorting a line only now and then keeps an offer cheap.
        if len(line) > 2 * self._count + 64:
            self._kept[task] = dict(self._lowest(line))

    def drawn(self) -> list[tuple[RequestKey, Any]]:
        """The sample, by taking from each task in turn."""
        lines = [deque(self._lowest(line)) for _, line in sorted(self._kept.items())]
        sample: list[tuple[RequestKey, Any]] = []
        while len(sample) < self._count and any(lines):
            for line in lines:
                if line and len(sample) < self._count:
                    key, (_, what) = line.popleft()
                    sample.append((key, what))
        return sample

    def _lowest(
        self, line: dict[RequestKey, tuple[bytes, Any]]
    ) -> list[tuple[RequestKey, tuple[bytes, Any]]]:
        return sorted(line.items(), key=lambda entry: entry[1][0])[: self._count]
