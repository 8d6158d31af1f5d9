"""The guard on a real broker: it takes a harmful candidate back, and a good one on."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from consumers import clock
from consumers.policy_log import Draft, PolicyLog, read_log, write_act
from consumers.readmodel import arms
from consumers.readmodel.model import opened
from consumers.rollout_guard import RolloutGuard
from consumers.rules import load_rules
from consumers.runtime.clients import Clients
from consumers.runtime.topics import ensure_topics
from consumers.settings import Settings
from router.releases.bundle import Bundle
from router.releases.canary import Step
from router.releases.rollout import reach_of
from schemas.reasons import Reason
from tests.builders import a_request, a_route, an_assignment
from tests.tables import record_of
from tests.unit.consumers.readmodel.test_projection import a_letter, a_line, a_result

pytestmark = [pytest.mark.kafka, pytest.mark.anyio]


async def _act(settings: Settings, bundle: Bundle, **fields: Any) -> PolicyLog:
    policy, release = bundle.policy, bundle.release
    names = {"version": release.version, "digest": release.digest, "seal": release.seal}
    draft = Draft({**names, "reach": sorted(reach_of(policy)), "who": "ann", **fields}, release)
    return (await write_act(settings, policy.name, lambda _: draft))[1]


def _answered(request_id: str, release: str, *, is_bad: bool) -> Iterator[Any]:
    now = clock.now()
    yield a_request(id=request_id)
    yield an_assignment(id=request_id, routes=[a_route(policy_digest=release)])
    rejected: dict[str, Any] = {"outcome": "rejected", "reason": Reason.SCHEMA_FAILED}
    yield a_line(1, request_id, started_at=now, **(rejected if is_bad else {}))
    yield a_letter(request_id) if is_bad else a_result(1, request_id)


def _tierline(settings: Settings, *words: str) -> str:
    """What a command prints that ends well."""
    kafka = settings.kafka
    env = {
        "TIERLINE_KAFKA__PREFIX": kafka.prefix,
        "TIERLINE_KAFKA__BOOTSTRAP": str(kafka.bootstrap),
    }
    run = [str(Path(sys.executable).with_name("tierline")), *words]
    done = subprocess.run(
        run, env={**os.environ, **env}, capture_output=True, text=True, check=True
    )
    return done.stdout


async def _answer(settings: Settings, digests: Sequence[str], name: str, *, harm: bool) -> None:
    """Two hundred requests of both releases; with `harm`, half of the second one's are given up."""
    producer = Producer({"bootstrap.servers": settings.kafka.bootstrap})
    for no in range(200):
        is_bad = harm and no % 4 == 1
        for what in _answered(f"{name}-{no}", digests[no % 2], is_bad=is_bad):
            record = record_of(what)
            topic, headers = f"{settings.kafka.prefix}{record.topic}", list(record.headers)
            producer.produce(topic, record.value, b"k", headers=headers)
    assert producer.flush(60) == 0


async def test_a_harmful_candidate_is_taken_back_and_a_good_one_becomes_active(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arms, "_TRANSITION", timedelta(0))
    assert await ensure_topics(Clients(settings.kafka)) == []
    active = load_rules(settings)
    text = active.text.replace(f'version: "{active.policy.version}"', 'version: "next"')
    candidate = Bundle.of_texts(text, active.files)
    digests = (active.digest, candidate.digest)
    start = {"what": "start", "share": 0.5, "steps": [1.0], "salt": "s", "why": "it is cheaper"}
    await _act(settings, active, what="publish", why="the first one")
    await _act(settings, candidate, **start)
    await _answer(settings, digests, "harmed", harm=True)

    shown = await asyncio.to_thread(_tierline, settings, "policy", "canary", "show")
    assert "The guard: waits for answers: 0 of 2,000 at 50%." in shown
    drawn = json.loads(
        await asyncio.to_thread(_tierline, settings, "policy", "canary", "pairs", "--json", "-n3")
    )
    assert len(drawn) == 3
    ids = [(int(pair["active request"][7:]), int(pair["candidate request"][7:])) for pair in drawn]
    assert {(old % 2, new % 2) for old, new in ids} == {(0, 1)}

    version = active.policy.version
    for words in (("replay", "--candidate", "next"), ("diff", version, "next", "--since", "1h")):
        printed = await asyncio.to_thread(_tierline, settings, "policy", *words)
        assert "0.0% would go elsewhere" in printed

    soon = timedelta(minutes=3)
    async with opened(Clients(settings.kafka), f"sqlite:///{tmp_path}/figures.db") as model:
        guard = RolloutGuard(settings, active.policy, model, [Step(0.5, soon, 50)])
        early = await guard.act(clock.now())
        assert early is not None
        assert early.words == "waits for answers: 0 of 50 at 50%"
        stopped = await guard.act(clock.now() + soon)
        assert stopped is not None
        assert stopped.what == "stop"
        assert "an accepted answer: 50.0% of 100 instead of 0.0% of 100" in stopped.words
        log = await read_log(settings, active.policy.name)
        last = log.acts[-1].act
        assert (last.what, last.who, last.why) == ("stop", "guard", stopped.words)
        assert log.standing.candidate is None
        assert await guard.act(clock.now() + soon) is None

        await _act(settings, candidate, **start)
        await _answer(settings, digests, "served", harm=False)
        done = await guard.act(clock.now() + soon)
        assert done is not None
        assert done.words == "no figure is worse after 100 answers at 50%: all requests"
        standing = (await read_log(settings, active.policy.name)).standing
        assert standing.active is not None
        assert standing.active.digest == candidate.digest
