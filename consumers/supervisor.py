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
    """Run stages until the context closes, then drain them.

    It opens when all are ready, when one has failed, or when `no_wait` is set.
    """
    stop, ends = asyncio.Event(), [asyncio.Event() for _ in stages]
    running = [
        tasks.create_task(_run(stage, stop, end, ends))
        for stage, end in zip(stages, ends, strict=True)
    ]
    ready = tasks.create_task(_all_ready(stages))
    stopped = tasks.create_task(no_wait.wait())
    await asyncio.wait([ready, stopped, *running], return_when=asyncio.FIRST_COMPLETED)
    try:
        yield
    finally:
        ready.cancel()
        stopped.cancel()
        stop.set()
        await asyncio.wait(running)


async def _run(
    stage: Stage, stop: asyncio.Event, end: asyncio.Event, ends: Sequence[asyncio.Event]
) -> None:
    """Run a stage. If it fails, the others are drained before its error is raised."""
    try:
        await stage.run(stop)
    except Exception:
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
