"""The one place that asks the time."""

import time
from datetime import UTC, datetime

__all__ = ["now", "now_ns"]


def now() -> datetime:
    """The present instant, in UTC."""
    return datetime.now(UTC)


def now_ns() -> int:
    """The present instant in nanoseconds since 1970, as traces count."""
    return time.time_ns()
