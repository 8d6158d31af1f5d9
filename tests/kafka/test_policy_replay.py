"""What the route stage decided on a real broker, the replay decides alike."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from consumers.cli.past import past_of, print_past
from consumers.lab.simulator.settings import DEFAULT_MODELS
from consumers.settings import Settings
from router.policy.load import load_policy
from schemas.base import Tier
from tests.builders import POLICY_FILE, the_policy
from tests.kafka.flow import Flow, flow, request

pytestmark = [pytest.mark.kafka, pytest.mark.anyio]

_RELIABLE = {
    name: model.model_copy(update={"quality": 1, "strain": 0})
    for name, model in DEFAULT_MODELS.items()
}
_TASKS = ("triage", "extraction", "support_answer", "policy_question", "complex_analysis")


def _asked() -> list[Any]:
    tagged = [
        request(f"{task}-{plan}", f"Order {no}: what is to be done?", task=task, plan=plan)
        for no, task in enumerate(_TASKS)
        for plan in ("free", "standard", "enterprise")
    ]
    untagged = [
        request(f"untagged-{no}", f"How do I export report {no}?", task=None) for no in range(4)
    ]
    return [*tagged, *untagged, request("angry", "This is ridiculous!!", task="brief")]


async def _recorded(running: Flow) -> Counter[str]:
    """Where the requests were first sent to be answered."""
    sent = await running.read(map(running.topics.tier, Tier))
    routes = [(seen.json, seen.json["routes"][-1]) for seen in sent]
    return Counter(
        f"{envelope['task']} at {route['tier']}"
        for envelope, route in routes
        if route["step"] == "answer" and route["code"] in (None, "classified")
    )


async def test_the_same_release_decides_every_request_alike(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked, text = _asked(), POLICY_FILE.read_text(encoding="utf-8")
    async with flow(settings, models=_RELIABLE) as running:
        await running.publish(*asked, request("broken", input=3))
        await running.terminal(len(asked) + 1)
        recorded = await _recorded(running)
    again = load_policy(text, "again")
    past = await past_of(settings, (the_policy(), again), "1h", None)

    assert (past["requests"], past["unreadable"]) == (len(asked), 1)
    assert (past["elsewhere"], past["moved"]) == (0, [])
    first = Counter[str]()
    for words, count in past["where"].items():
        first[words.partition(",")[0]] += count
    assert first == recorded
    active, candidate, *_ = ({**way, "name": ""} for way in past["ways"])
    assert active == candidate
    assert active["micros"] > 0 == active["unpriced"]

    file = tmp_path / "candidate.yaml"
    file.write_text(text.replace("text: [angry]", "text: [urgent]"), encoding="utf-8")
    policies = the_policy(), load_policy(file.read_text(), "b")
    other = await past_of(settings, policies, "1h", None)
    assert [moved["for example"] for moved in other["moved"]] == [["angry"]]
    print_past(other)
    printed = capsys.readouterr().out
    for words in ("20 requests since", "5.0% would go elsewhere", "by lot", "cannot know"):
        assert words in printed
