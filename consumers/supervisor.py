"""Runs the stages of a process side by side, and ends them together."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

from consumers.runtime.stage import Stage

__all__ = ["run_together"]


@contextlib.asynccontextmanager
async def run_together(
    stages: Sequence[Stage], tasks: asyncio.TaskGroup, no_wait: asyncio.Event
) -> AsyncIterator[None]:
    """Run stages from when all are ready until the context closes, and drain them."""
    stop, ends = asyncio.Event(), [asyncio.Event() for _ in stages]
    running = [
        tasks.create_task(_run(stage, stop, end, ends))
        for stage, end in zip(stages, ends, strict=True)
    ]
    ready = tasks.create_task(_all_ready(stages))
    told = tasks.create_task(no_wait.wait())
    # A stage that fails before it is ready must not leave us waiting for it.
    await asyncio.wait([ready, told, *running], return_when=asyncio.FIRST_COMPLETED)
    try:
        yield
    finally:
        ready.cancel()
        told.cancel()
        stop.set()
        await asyncio.wait(running)


async def _run(
    stage: Stage, stop: asyncio.Event, end: asyncio.Event, ends: Sequence[asyncio.Event]
) -> None:
    """Run a stage. Whose failure ends the others lets them drain first, and is told afterwards."""
    try:
        await stage.run(stop)
    except Exception:  # told afterwards
        stop.set()
        end.set()
        for other in ends:
            await other.wait()
        raise
    finally:
        end.set()


async def _all_ready(stages: Sequence[Stage]) -> None:
    for stage in stages:
        await stage.ready.wait()
