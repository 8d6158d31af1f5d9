"""A repeat is seen whatever time other records claim to be from."""

import pytest
from aiokafka import TopicPartition

from consumers import clock
from consumers.runtime.clients import Clients
from consumers.settings import KafkaSettings, RepeatSettings
from consumers.stages.repeats import Repeats
from router.intake.repeats import Repeat
from schemas.topics import Topics
from tests.builders import a_record, a_request, policies_of

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("at", [2**62, 2**53, -1, -(2**62)])
async def test_a_record_of_an_impossible_time_has_nothing_forgotten(at: int) -> None:
    """Topics that other tools created may carry the producers' own times."""
    repeats = Repeats(Clients(KafkaSettings()), RepeatSettings(), policies_of())
    topic, now = Topics().intake, int(clock.now().timestamp() * 1000)
    await repeats.prepare(TopicPartition(topic, 1), 0)
    first = a_record(b"{}", topic=topic, timestamp=now)
    odd = a_record(b"{}", topic=topic, offset=8, timestamp=at)

    assert repeats.judge(first, a_request(id="one")) is Repeat.NEW
    assert repeats.judge(odd, a_request(id="odd")) is Repeat.NEW
    assert repeats.judge(first, a_request(id="one")) is Repeat.SAME
