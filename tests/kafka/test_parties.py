"""Every stage writes and reads what it says of itself, and nothing else: seen on the wire."""

from collections import defaultdict
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.produce import ProduceRequest

from consumers.parties import PARTIES, STAGES
from consumers.rules import load_rules
from consumers.settings import Settings
from router.policy.caps import Cap
from schemas.codec import dump_envelope
from tests.builders import an_escalation
from tests.kafka.flow import Flow, Sent, flow, request
from tests.kafka.test_review import _decide, _decision, _letters, _line

pytestmark = [pytest.mark.kafka, pytest.mark.anyio]

#: Only in place of a decision that ends its process each time, or that no client can parse; and
#: where a partition of parking tasks is taken with work in it; where time passes at admission, a
#: release is gone, or there is something to remember.
_RARE = {
    *{("review", "llm.dead-letters"), ("ledger", "llm.attempts"), ("ledger", "llm.tier")},
    *{("admit", "llm.admission"), ("admit", "llm.escalations"), ("admit", "llm.state.admit")},
}


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, set[str]]]:
    """Who wrote and read which topics, as their clients ask the broker for it."""
    asked: dict[str, dict[str, set[str]]] = {"writes": defaultdict(set), "reads": defaultdict(set)}
    send = AIOKafkaClient.send

    async def recorded(self: Any, node_id: Any, request: Any, **more: Any) -> Any:
        kind = {ProduceRequest: "writes", FetchRequest: "reads"}.get(type(request))
        if kind is not None:
            asked[kind][self._client_id].update(topic for topic, _ in request._topics)
        return await send(self, node_id, request, **more)

    monkeypatch.setattr(AIOKafkaClient, "send", recorded)
    return asked


async def _do_everything(running: Flow) -> None:
    """All that leads to a record of another kind."""
    refused, rejected, requeued = await _letters(running, 3)
    gone = replace(refused, offset=10**6)
    expired = an_escalation(
        task="billing_dispute",
        deadline=datetime.now(UTC) - timedelta(minutes=1),  # noqa: TID251
    )
    again = Sent(dump_envelope(expired, b'{"input":"I was charged twice"}'), b"again")
    await running.publish(again, topic=running.topics.escalations)
    await running.publish(Sent(b"no JSON", b"broken"), Sent(b'{"input":"Say hello"}', b"untagged"))
    await _decide(
        running,
        _line("decide", gone, _decision(gone, "d-0", action="reject")),
        _line("decide", rejected, _decision(rejected, "d-1", action="reject")),
        _line("decide", requeued, _decision(requeued, "d-2", action="requeue")),
    )
    await running.read([running.topics.review], 4)
    await running.read([running.topics.feedback], 2)
    await running.read([running.topics.escalations], 3)
    tasks = ("triage", "summarization", "extraction")
    await running.publish(*(request(task, "Order 7 is late", task=task) for task in tasks))
    await running.read([running.topics.admission], len(tasks) + 1)


async def test_a_stage_writes_and_reads_what_it_says(
    settings: Settings, seen: dict[str, dict[str, set[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.kafka.flow.load_rules", _notifying)
    async with flow(settings) as running:
        await _do_everything(running)

    prefix = settings.kafka.prefix
    for kind, by_party in seen.items():
        found = {
            (_kind(party.removeprefix("tierline.")), _kinds(topic.removeprefix(prefix)))
            for party, topics in by_party.items()
            for topic in topics
        }
        said = {
            (_kind(one.name), _kinds(topic))
            for one in (kind.spec for kind in STAGES)
            for topic in (one.writes if kind == "writes" else (*one.reads, *one.consults))
        }
        said |= {
            (one.name, _kinds(topic))
            for one in PARTIES
            if one.is_within_stages
            for topic in (one.writes if kind == "writes" else one.reads)
        }

        assert sorted(found - said) == [], kind
        assert sorted(said - found - _RARE) == [], kind


def _kind(party: str) -> str:
    """One name for the workers of all tiers, which do the same, each with a topic of its own."""
    return party.partition(".")[0]


def _kinds(topic: str) -> str:
    return "llm.tier" if topic.startswith("llm.tier.") else topic


def _notifying(settings: Settings) -> Any:
    """The rules as they are, with caps, and with a word to whoever waits for a person."""
    rules = load_rules(settings)
    tasks = dict(rules.policy.tasks)
    tasks["billing_dispute"] = tasks["billing_dispute"].model_copy(
        update={"while_in_review": "notify"}
    )
    rows = (("triage", "ask", "0"), ("summarization", "review", "0"), ("extraction", "hold", "9"))
    caps = {
        task: Cap.model_validate(
            {"where": {"task": task}, "per": "day", "dollars": dollars, "at_cap": at_cap}
            | {"because": "a test"}
        )
        for task, at_cap, dollars in rows
    }
    return replace(rules, policy=rules.policy.model_copy(update={"tasks": tasks, "caps": caps}))


def test_no_party_has_two_names() -> None:
    names = [*(one.name for one in (kind.spec for kind in STAGES)), *(one.name for one in PARTIES)]

    assert len(set(names)) == len(names)
