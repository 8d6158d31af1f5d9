"""Under overload a request is told in time that its turn would come too late."""

import asyncio
from datetime import timedelta

import pytest

from consumers import clock
from consumers.lab.simulator import DEFAULT_MODELS
from consumers.settings import Settings, WorkerSettings
from schemas.codec import dump, read_dead_letter
from schemas.dead_letter import DeadLetter
from schemas.reasons import Reason
from schemas.status import StageStatus, Status
from tests.kafka.flow import Flow, Sent, flow, request

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


async def test_what_somebody_says_of_a_backlog_refuses_nobody(settings: Settings) -> None:
    """Whoever may write to the topic of statuses can claim any backlog, and any rate."""
    async with flow(settings) as running:
        now = clock.now()
        for seconds, passed in ((20, 0), (0, 40)):
            claimed = StageStatus(
                stage="work.low", partitions=1, lag=10**9, passed=passed, in_flight=0, free=0
            )
            at = now - timedelta(seconds=seconds)
            status = Status(process="forged", started_at=at, at=at, stages=[claimed])
            value = dump(status.model_dump(mode="json", exclude_none=True))
            await running.publish(Sent(value, b"forged"), topic=running.topics.status)
        ends = [running.topics.results, running.topics.dead_letters]
        for number in range(1, 21):  # one after the other, so that it would be heard meanwhile
            soon = clock.now() + timedelta(minutes=1)
            await running.publish(request(f"innocent-{number}", deadline=soon.isoformat()))
            seen = await running.read(ends, number)
            assert {one.topic for one in seen} == {running.topics.results}
