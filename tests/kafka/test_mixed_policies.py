"""Processes whose policies differ: what one routed, another does not answer by rules of its own."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from consumers import clock
from consumers.parties import stages_of
from consumers.rules import Rules
from consumers.runtime.clients import Clients
from consumers.runtime.topic_reader import topic_reader
from consumers.settings import Settings
from consumers.wiring import running_stages
from router.policy.load import load_policy
from router.policy.table import Policy
from schemas.attempt import Attempt, LedgerEntry
from schemas.base import Tier
from schemas.codec import dump_envelope, read_dead_letter, read_envelope, read_model
from schemas.dead_letter import DeadLetter
from schemas.escalation import Escalation, Origin
from schemas.reasons import Reason
from schemas.status import Status
from tests.builders import POLICY_FILE, a_route, an_assignment, an_attempt, the_policy
from tests.kafka.flow import Flow, Sent, flow, request

pytestmark = pytest.mark.kafka

OLD = the_policy()


def _newer() -> Policy:
    """Under the same version, labels wait for a person."""
    text = POLICY_FILE.read_text(encoding="utf-8")
    line = "reason: a wrong label is cheap and easy to see"
    assert line in text
    return load_policy(text.replace(line, f"approval: person\n    {line}"), "newer")


NEW = _newer()


@asynccontextmanager
async def _only(
    running: Flow, policy: Policy, *, route: bool = False, work: bool = False
) -> AsyncIterator[None]:
    rules = Rules(policy, running.rules.prompts)
    kinds = (stages_of("route") if route else []) + (stages_of("work") if work else [])
    async with running_stages(running.settings, rules, running.providers, kinds=kinds):
        yield


async def _status(settings: Settings, is_wanted: Callable[[Status], bool]) -> Status:
    """The first status of a kind."""
    topics = [settings.kafka.topics.status]
    async with asyncio.timeout(60), topic_reader(Clients(settings.kafka), topics) as reader:
        async for record in reader.follow():
            if record.value and is_wanted(said := read_model(Status, record.value)):
                return said
    raise AssertionError


async def _letters(running: Flow, count: int) -> list[DeadLetter]:
    ended = await running.terminal(count)
    assert {one.topic for one in ended} == {running.topics.dead_letters}
    assert len(ended) == count
    return [read_dead_letter(one.headers) for one in ended]


async def test_a_worker_refuses_what_a_newer_router_routed(settings: Settings) -> None:
    """Nothing is asked, nothing lost; the worker that replaces it goes on."""
    async with flow(settings) as running:
        await running.stop()
        async with _only(running, NEW, route=True):
            async with _only(running, OLD, work=True):
                await running.publish(*(request(f"r-{number}") for number in range(5)))
                said = await _status(settings, lambda one: sum(r.waiting for r in one.refused) == 5)
                assert running.bill.count == 0
            assert (said.policy_digest, said.refused[0].policy_digest) == (OLD.digest, NEW.digest)
            # No router applies its policy, so it is the one to be replaced.
            assert any(NEW.digest in reason for reason in said.reasons)
            async with _only(running, NEW, work=True):
                letters = await _letters(running, 5)

        assert {one.reason for one in letters} == {Reason.APPROVAL_REQUIRED}
        applied = {a.policy_digest for one in letters for a in one.attempts}
        assert applied == {NEW.digest}
        assert await running.read([running.topics.escalations]) == []


def _assigned(name: str, **fields: Any) -> Sent:
    """A request that a router of long ago gave to the low tier, under a policy nobody has."""
    long_ago = clock.now() - timedelta(minutes=3)
    gone = {"policy_version": "2026-01-01", "policy_digest": "000000000000", "routed_at": long_ago}
    origin = Origin(topic="llm.intake", partition=0, offset=7, appended_at=long_ago)
    assignment = an_assignment(
        id=name,
        task="classification",
        origin=origin,
        deadline=clock.now() + timedelta(minutes=5),
        **{"routes": [a_route(Tier.LOW, **gone)], **fields},
    )
    return Sent(dump_envelope(assignment, request(name).value or b""), name.encode())


async def test_what_nobody_comes_for_is_routed_anew(settings: Settings) -> None:
    """The route is taken back: the attempts before it stay, and none is counted for it."""
    async with flow(settings) as running:
        await running.stop()
        climbed = _assigned(
            "climbed",
            routes=[
                a_route(Tier.LOW, policy_version="2026-01-01"),
                a_route(
                    Tier.BALANCED,
                    policy_version="2026-01-01",
                    policy_digest="000000000000",
                    rule="escalation",
                    code=Reason.LOW_CONFIDENCE,
                    routed_at=clock.now() - timedelta(minutes=2),
                ),
            ],
            attempts=[an_attempt(Tier.LOW, attempt_id="climbed.1.1")],
            attempts_left=5,
        )
        await running.publish(_assigned("first"), topic=running.topics.tier(Tier.LOW))
        await running.publish(climbed, topic=running.topics.tier(Tier.BALANCED))
        async with _only(running, NEW, work=True, route=True):
            letters = {one.request_id: one for one in await _letters(running, 2)}

        back = [
            read_envelope(Escalation, one.value)[0]
            for one in await running.read([running.topics.escalations])
        ]
        taken_back = {one.id: one for one in back if one.replaced_policy}
        assert taken_back["first"].replaced_policy == "2026-01-01 (000000000000)"
        assert taken_back["first"].reason is Reason.POLICY_REPLACED
        assert taken_back["climbed"].reason is Reason.LOW_CONFIDENCE
        assert letters["first"].path == ("low",)
        assert letters["climbed"].path == ("low", "balanced")
        assert [one.policy_digest for one in letters["climbed"].attempts] == [None, NEW.digest]


async def test_a_rolling_deploy_ends_every_request_once(settings: Settings) -> None:
    """Old and new route and work side by side; none is answered by rules it was not routed by."""
    async with flow(settings) as running:
        await running.stop()
        async with _only(running, NEW, route=True, work=True):
            async with _only(running, OLD, route=True, work=True):
                await running.publish(*(request(f"r-{number}") for number in range(40)))
                _ = await _status(settings, lambda one: bool(one.refused))
            ended = await running.terminal(40)
        last = dict[str, Attempt]()
        for line in await running.ledger():
            entry = read_model(LedgerEntry, line.value)
            last[entry.request_id] = entry.attempt

    results = {one.json["id"] for one in ended if one.topic == running.topics.results}
    letters = [read_dead_letter(one.headers) for one in ended if one.json["id"] not in results]
    assert len(ended) == 40
    assert results | {one.request_id for one in letters} == {f"r-{number}" for number in range(40)}
    assert {last[name].policy_digest for name in results} <= {OLD.digest}
    approved = [one for one in letters if one.reason is Reason.APPROVAL_REQUIRED]
    assert {one.attempts[-1].policy_digest for one in approved} == {NEW.digest}
