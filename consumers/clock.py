"""The one place that asks the time."""

from datetime import UTC, datetime

__all__ = ["now"]


def now() -> datetime:
    """The present instant, in UTC."""
    return datetime.now(UTC)
