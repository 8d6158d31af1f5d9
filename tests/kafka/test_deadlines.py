"""Under overload a request is told in time that its turn would come too late."""

import asyncio
from datetime import timedelta

import pytest

from consumers import clock
from consumers.settings import Settings, WorkerSettings
from consumers.simulator import DEFAULT_MODELS
from schemas.codec import read_dead_letter
from schemas.dead_letter import DeadLetter
from schemas.reasons import Reason
from tests.kafka.flow import Flow, flow, request

pytestmark = pytest.mark.kafka

#: Answers come at twenty a second or so: when the rate is known, most of a minute's backlog
#: is left.
_WIDTH, _LATENCY_MS, _BACKLOG = 2, 200, 1_500
_SLOW = {
    name: model.model_copy(update={"latency_ms": _LATENCY_MS, "quality": 1, "strain": 0})
    for name, model in DEFAULT_MODELS.items()
}


async def _unreachable(running: Flow) -> list[DeadLetter]:
    seen = await running.read([running.topics.dead_letters])
    letters = [read_dead_letter(one.headers) for one in seen]
    return [one for one in letters if one.reason is Reason.DEADLINE_UNREACHABLE]


async def test_a_deadline_behind_a_long_backlog_is_refused_at_intake(settings: Settings) -> None:
    """As soon as the rate is known, and long before the turn of the request would have come."""
    narrow = settings.model_copy(update={"worker": WorkerSettings(width=_WIDTH)})
    async with flow(narrow, models=_SLOW, latency_scale=1.0) as running:
        await running.publish(*(request(f"long-{number}") for number in range(_BACKLOG)))
        async with asyncio.timeout(90):
            while not (told := await _unreachable(running)):
                soon = clock.now() + timedelta(seconds=10)
                name = f"short-{soon:%H%M%S}"
                await running.publish(request(name, deadline=soon.isoformat()))
                await asyncio.sleep(1)  # one a second, until one is refused

        assert told[0].deadline is not None
        assert told[0].failed_at < told[0].deadline - timedelta(seconds=5)
        results = await running.read([running.topics.results])
        assert len(results) < _BACKLOG
