"""A new stage is one file and one line: it runs, and all that is generated names it."""

import orjson
import pytest

from consumers import parties
from consumers.cli.publish import documents
from consumers.settings import Settings
from consumers.wiring import running_stages
from schemas.codec import read_dead_letter
from schemas.reasons import Reason
from tests.kafka import accepting_stage
from tests.kafka.flow import Sent, flow, request

pytestmark = [pytest.mark.kafka, pytest.mark.anyio]


@pytest.fixture
def added(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one line: a name in `consumers/parties.py`."""
    monkeypatch.setattr(parties, "STAGES", [*parties.STAGES, accepting_stage.KIND])


@pytest.mark.usefixtures("added")
async def test_an_added_stage_runs_beside_the_others(settings: Settings) -> None:
    kinds = parties.stages_of("accepting")
    async with flow(settings) as running:
        await running.publish(request("req-1", "Order AB-1 for Jane Doe", task="extraction"))
        await running.terminal(1)
        await running.publish(Sent(b"no result", b"key"), topic=running.topics.results)
        async with running_stages(settings, running.rules, {}, kinds=kinds):
            [feedback] = await running.read([running.topics.feedback], 1)
            [letter] = await running.read([running.topics.dead_letters], 1)

    assert orjson.loads(feedback.value or b"")["request_id"] == "req-1"
    diagnosis = read_dead_letter(letter.headers)
    assert (diagnosis.reason, diagnosis.stage) == (Reason.NOT_JSON, "accepting")


@pytest.mark.usefixtures("added")
def test_what_is_generated_names_an_added_stage() -> None:
    assert "accepting" in parties.readers_of("llm.results")
    assert "accepting" in parties.writers_of("llm.feedback")
    assert "accepting-send-llm.feedback" in documents()["asyncapi.yaml"]


def test_one_that_is_gone_leaves_nothing_behind() -> None:
    assert "accepting" not in parties.readers_of("llm.results")
    assert "accepting" not in documents()["asyncapi.yaml"]
