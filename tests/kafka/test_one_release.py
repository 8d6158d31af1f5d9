"""One release per request, whatever runs where: changes, restarts and files that differ."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import NewTopic

from consumers import clock
from consumers.parties import stages_of
from consumers.policies import Policies, followed
from consumers.runtime.clients import Clients, administering
from consumers.settings import Settings
from consumers.wiring import running_stages
from router.releases.bundle import Bundle
from schemas.attempt import LedgerEntry
from schemas.base import Tier
from schemas.codec import dump_envelope, read_dead_letter, read_envelope, read_model
from schemas.escalation import Assignment, Escalation, Origin
from schemas.policy_log import Act
from schemas.reasons import Reason
from schemas.result import Result
from schemas.status import Status
from tests.builders import a_route, an_assignment, an_attempt
from tests.kafka.flow import Flow, Sent, flow, request
from tests.releases import acted, all_apply, edited, statuses

pytestmark = pytest.mark.kafka

_LABELS = "reason: a wrong label is cheap and easy to see"


def _with_approval(files: Bundle, version: str) -> Bundle:
    """Under this release labels wait for a person."""
    return edited(files, version, (_LABELS, f"approval: person\n    {_LABELS}"))


@contextlib.asynccontextmanager
async def _process(
    running: Flow, rules: Bundle | Policies, state_dir: Path, *roles: str
) -> AsyncIterator[None]:
    """A process of stages of these roles, with a disk of its own."""
    settings = running.settings.model_copy(update={"state_dir": state_dir})
    kinds = [kind for role in roles for kind in stages_of(role)]
    async with running_stages(settings, rules, running.providers, kinds=kinds):
        yield


async def _check_one_release_each(running: Flow, names: Sequence[str]) -> dict[str, str]:
    """By request its release: that of all its routes, its attempts and its end."""
    seen: defaultdict[str, set[str | None]] = defaultdict(set)
    tiers = [running.topics.tier(tier) for tier in Tier]
    for record in await running.read([*tiers, running.topics.escalations]):
        kind: Any = Assignment if record.topic in tiers else Escalation
        envelope, _ = read_envelope(kind, record.value)
        seen[envelope.id].update(taken.policy_digest for taken in envelope.routes)
    for line in await running.ledger():
        entry = read_model(LedgerEntry, line.value)
        seen[entry.request_id].add(entry.attempt.policy_digest)
    for end in await running.terminal(len(names)):
        if end.topic == running.topics.results:
            result = read_model(Result, end.value)
            seen[result.id].add(result.router.policy_digest)
        else:
            letter = read_dead_letter(end.headers)
            seen[letter.request_id or ""].add(letter.policy_digest)
    assert {name: len(releases) for name, releases in seen.items()} == dict.fromkeys(names, 1)
    return {name: next(iter(releases)) or "" for name, releases in seen.items()}


async def test_a_release_and_its_rollback_are_applied_by_every_process(
    settings: Settings, tmp_path: Path
) -> None:
    """New requests get what is active; the start of a process reads it; without it, the copy."""
    async with flow(settings) as running:
        await running.stop()
        files = running.rules
        old, new = edited(files, "t1"), _with_approval(files, "t2")
        async with (
            _process(running, files, tmp_path / "one", "route", "work"),
            _process(running, files, tmp_path / "two", "route", "work"),
        ):
            await running.publish(*(request(f"files-{number}") for number in range(6)))
            await running.terminal(6)
            acts: list[tuple[Act, Bundle, str]] = [
                ("publish", old, "old"),
                ("publish", new, "new"),
                ("rollback", old, "back"),
            ]
            for what, bundle, name in acts:
                written = await acted(settings, what, bundle)
                await statuses(settings, all_apply(bundle, written, 2))
                await running.publish(*(request(f"{name}-{number}") for number in range(6)))
            await running.terminal(24)
        names = [f"{name}-{no}" for name in ("files", "old", "new", "back") for no in range(6)]
        by_name = await _check_one_release_each(running, names)
        expected = {"files": files, "old": old, "new": new, "back": old}
        assert by_name == {name: expected[name.split("-")[0]].digest for name in names}

        # Another process that starts now, with other files, applies what is active.
        async with followed(settings, edited(files, "t0")) as policies:
            assert policies.words() == f"release {old.label} from llm.policy"


@pytest.mark.parametrize("roles", [("route", "work"), ("work", "route")], ids=str)
async def test_a_rolling_restart_keeps_each_request_under_its_release(
    settings: Settings, tmp_path: Path, roles: Sequence[str]
) -> None:
    """Old processes know one release and no more; they are replaced one after the other.

    Some requests climb, and some are classified first: they pass through both stages meanwhile.
    """

    def some(group: str) -> list[Sent]:
        climbs = {"task": "extraction", "plan": "enterprise"}
        return [
            request(f"{group}-label"),
            request(f"{group}-none", "Hello?", task=None),
            request(f"{group}-climbs", "Where is order 7?", **climbs),
        ]

    async with flow(settings, latency_scale=0.3) as running, contextlib.AsyncExitStack() as stack:
        await running.stop()
        old, new = edited(running.rules, "t1"), _with_approval(running.rules, "t2")
        await acted(settings, "publish", old)
        await acted(settings, "publish", new)
        olds = {role: contextlib.AsyncExitStack() for role in roles}
        for role, own in olds.items():
            await stack.enter_async_context(own)
            process = _process(running, Policies(old), tmp_path / role, role)
            await own.enter_async_context(process)
        await running.publish(*some("0"))
        # Until the old router has decided about them, the new one could.
        await running.read([running.topics.tier(tier) for tier in Tier], 3)
        for number, role in enumerate(roles):
            beside = _process(running, running.rules, tmp_path / f"new-{role}", role)
            await stack.enter_async_context(beside)
            await running.publish(*some(f"1{number}"))
            await olds[role].aclose()
            await running.publish(*some(f"2{number}"))
        groups = ("0", "10", "20", "11", "21")
        names = [f"{group}-{kind}" for group in groups for kind in ("label", "none", "climbs")]
        ended = await running.terminal(len(names))
        by_name = await _check_one_release_each(running, names)

    assert set(by_name.values()) == {old.digest, new.digest}
    for group, release in (("0", old), ("21", new)):
        kinds = ("label", "none", "climbs")
        assert {by_name[f"{group}-{kind}"] for kind in kinds} == {release.digest}
    waiting = {
        read_dead_letter(end.headers).request_id
        for end in ended
        if end.topic == running.topics.dead_letters
    }
    labels = {name for name in names if name.endswith("label")}
    assert labels & waiting == {name for name in labels if by_name[name] == new.digest}


def _assigned(name: str, **fields: Any) -> Sent:
    """A request that a router of long ago gave to a tier, under files that nobody has."""
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


async def test_what_nobody_has_the_release_of_is_routed_anew(settings: Settings) -> None:
    """The route is taken back: the attempts before it stay, and none is counted for it."""
    gone = {"policy_version": "2026-01-01", "policy_digest": "000000000000"}
    climbed = _assigned(
        "climbed",
        routes=[
            a_route(Tier.LOW, routed_at=clock.now() - timedelta(minutes=3), **gone),
            a_route(
                Tier.BALANCED,
                rule="escalation",
                code=Reason.LOW_CONFIDENCE,
                routed_at=clock.now() - timedelta(minutes=2),
                **gone,
            ),
        ],
        attempts=[an_attempt(Tier.LOW, attempt_id="climbed.1.1")],
        attempts_left=5,
    )
    async with flow(settings) as running:
        await running.publish(_assigned("first"), topic=running.topics.tier(Tier.LOW))
        await running.publish(climbed, topic=running.topics.tier(Tier.BALANCED))
        ended = {end.json["id"]: end for end in await running.terminal(2)}
        back = [
            read_envelope(Escalation, record.value)[0]
            for record in await running.read([running.topics.escalations])
        ]

    taken_back = {each.id: each for each in back if each.replaced_policy}
    assert taken_back["first"].replaced_policy == "2026-01-01 (000000000000)"
    assert taken_back["first"].reason is Reason.POLICY_REPLACED
    assert taken_back["climbed"].reason is Reason.LOW_CONFIDENCE
    results = {name: read_model(Result, end.value).router for name, end in ended.items()}
    assert results["first"].path == [Tier.LOW]
    assert results["climbed"].path == [Tier.LOW, Tier.BALANCED]
    assert {router.policy_digest for router in results.values()} == {running.rules.digest}


async def test_without_its_topic_the_files_count_and_a_process_says_so(
    settings: Settings, tmp_path: Path
) -> None:
    topic = settings.kafka.topics.policy
    words = f"{topic} is missing or may not be read"

    def say_so(heard: Mapping[str, Status]) -> bool:
        return any(why.startswith(words) for each in heard.values() for why in each.reasons)

    async with flow(settings) as running, administering(Clients(settings.kafka)) as admin:
        await running.stop()
        await admin.delete_topics([topic])
        while topic in await admin.list_topics():  # noqa: ASYNC110  Kafka tells nobody
            await asyncio.sleep(0.1)
        async with _process(running, running.rules, tmp_path, "route", "work"):
            await running.publish(request("r-1"))
            await running.terminal(1)
            await statuses(settings, say_so)

            await admin.create_topics([NewTopic(topic, 1, 1)])
            new = edited(running.rules, "t1")
            written = await acted(settings, "publish", new)
            heard = await statuses(settings, all_apply(new, written, 1))
            assert not say_so(heard)
