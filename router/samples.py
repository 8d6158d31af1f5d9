"""Samples: a few answered requests of a week, the same ones for everybody who draws them."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime

from schemas.tenancy import RequestKey

__all__ = ["drawn", "week_of"]


def week_of(instant: datetime) -> str:
    """The ISO 8601 week, for example 2026-W48; by the instant's own zone."""
    year, week, _ = instant.isocalendar()
    return f"{year}-W{week:02}"


def drawn(week: str, requests: Iterable[tuple[RequestKey, str]], count: int) -> list[RequestKey]:
    """So many of (request, task) pairs: as many of each task as of any other, while they last.

    Which ones is decided by a hash of the week and the id, so that a request's chance depends on
    nothing that it or its answer says, and another draw comes to the same.
    """
    by_task: defaultdict[str, list[RequestKey]] = defaultdict(list)
    for key, task in dict(requests).items():
        by_task[task].append(key)
    lines = [
        sorted(keys, key=lambda key: hashlib.sha256(f"{week} {key.text}".encode()).digest())
        for _, keys in sorted(by_task.items())
    ]
    found: list[RequestKey] = []
    while len(found) < count and any(lines):
        for line in lines:
            if line and len(found) < count:
                found.append(line.pop(0))
    return found
