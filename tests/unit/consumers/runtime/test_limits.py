"""Work ends in its time whatever it does with its cancellation."""

import asyncio

import pytest

from consumers.runtime.limits import at_most, ended_tasks

pytestmark = pytest.mark.anyio


async def _stubborn(times: int) -> int:
    """Go on as if nothing had happened, so many times, as the Kafka client does."""
    swallowed = 0
    while True:
        try:
            await asyncio.sleep(3_600)
        except asyncio.CancelledError:
            if swallowed == times:
                raise
            swallowed += 1


@pytest.mark.parametrize("times", [0, 1, 2])
async def test_tasks_that_swallow_a_cancellation_are_ended_all_the_same(times: int) -> None:
    tasks = [asyncio.ensure_future(_stubborn(times)), asyncio.ensure_future(_stubborn(0))]
    await asyncio.sleep(0)
    await ended_tasks(*tasks)

    assert all(task.cancelled() for task in tasks)


async def test_what_does_not_end_in_time_is_left_behind() -> None:
    with pytest.raises(TimeoutError):
        await at_most(0.01, _stubborn(1))
