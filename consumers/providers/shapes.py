"""Values of JSON that others wrote, read as the shape that is expected there."""

from typing import Any

__all__ = ["dict_of", "dicts_of"]


def dict_of(value: Any) -> dict[str, Any]:
    """The object itself; an empty one in place of anything else."""
    return value if isinstance(value, dict) else {}


def dicts_of(value: Any) -> list[dict[str, Any]]:
    """The objects of a list; none where there is no list."""
    items = value if isinstance(value, list | tuple) else ()
    return [item for item in items if isinstance(item, dict)]
