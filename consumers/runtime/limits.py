"""Time limits and cancellations that hold even where the Kafka client swallows them."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["at_most", "ended_tasks"]

_T = TypeVar("_T")
_CANCEL_AGAIN_SECONDS = 0.5


async def at_most(seconds: float, work: Coroutine[Any, Any, _T]) -> _T:
    """The outcome of `work`; after `seconds` TimeoutError, even if it does not end then.

    The Kafka client swallows cancellations in places, and raises them in others where nobody was
    cancelled. So the work runs in a task of its own, which is left behind when its time is over.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({task}, timeout=seconds)
    finally:
        if not task.done():
            task.cancel()
            task.add_done_callback(_see)
    if not task.done() or task.cancelled():
        raise TimeoutError
    return task.result()


def _see(task: "asyncio.Future[Any]") -> None:
    if not task.cancelled():
        task.exception()


async def ended_tasks(*tasks: "asyncio.Future[Any]") -> None:
    """Cancel tasks until they have ended: the Kafka client may swallow a cancellation."""
    while pending := [task for task in tasks if not task.done()]:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=_CANCEL_AGAIN_SECONDS)
