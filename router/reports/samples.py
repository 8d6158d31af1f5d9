"""Samples: a few answered requests of a week, the same ones for everybody who draws them."""

import hashlib
from collections import defaultdict, deque
from datetime import datetime
from typing import Any

from schemas.tenancy import RequestKey

__all__ = ["Draw", "week_of"]


def week_of(instant: datetime) -> str:
    """The ISO 8601 week, for example 2026-W48; by the instant's own zone."""
    year, week, _ = instant.isocalendar()
    return f"{year}-W{week:02}"


class Draw:
    """A sample of a week, drawn while the requests go by: keeps what may be in it and no more.

    As many requests of each task as of any other, while they last. Which ones is decided by a hash
    of the week and the id, so that a request's chance depends on nothing that it or its answer
    says, and another draw comes to the same.
    """

    def __init__(self, week: str, count: int) -> None:
        self._week, self._count = week, count
        #: The lowest hashes of each task, by request, with what was offered.
        self._kept: defaultdict[str, dict[RequestKey, tuple[bytes, Any]]] = defaultdict(dict)
        #: How many were offered.
        self.offered = 0

    def offer(self, key: RequestKey, task: str, what: Any) -> None:
        """A request; of one that is offered again, the later counts."""
        digest = hashlib.sha256(f"{self._week} {key.text}".encode()).digest()
        line = self._kept[task]
        self.offered += key not in line
        line[key] = digest, what
        # Sorting a line only now and then keeps an offer cheap.
        if len(line) > 2 * self._count + 64:
            self._kept[task] = dict(self._lowest(line))

    def drawn(self) -> list[tuple[RequestKey, Any]]:
        """The sample: the tasks take turns."""
        lines = [deque(self._lowest(line)) for _, line in sorted(self._kept.items())]
        found: list[tuple[RequestKey, Any]] = []
        while len(found) < self._count and any(lines):
            for line in lines:
                if line and len(found) < self._count:
                    key, (_, what) = line.popleft()
                    found.append((key, what))
        return found

    def _lowest(
        self, line: dict[RequestKey, tuple[bytes, Any]]
    ) -> list[tuple[RequestKey, tuple[bytes, Any]]]:
        return sorted(line.items(), key=lambda one: one[1][0])[: self._count]
