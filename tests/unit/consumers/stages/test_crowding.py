"""Tasks that share a tier: what one of them takes, or fails at, holds up no other."""

import asyncio
from collections.abc import Mapping
from itertools import islice
from typing import Any

import orjson
import pytest

from consumers.providers.gate import Admission, Gate
from consumers.providers.settings import ModelLimits
from consumers.runtime.poison import Guard
from consumers.runtime.shell import Shell
from consumers.runtime.task_pool import TaskPool
from consumers.stages.route import Router
from consumers.stages.work import Worker
from router.reply.reply import CallFailure, Reply
from schemas.base import Tier
from schemas.codec import read_envelope
from schemas.escalation import Escalation
from schemas.reasons import Reason
from tests.builders import (
    NOON,
    Restless,
    a_record,
    a_worker,
    decided,
    handled,
    policies_of,
    with_task,
)
from tests.unit.consumers.runtime.test_pool import a_fetched_record, a_partition
from tests.unit.consumers.stages.test_work import TOPICS, Answers

pytestmark = pytest.mark.anyio


def _filled(**row: Any) -> tuple[Worker, Gate, Admission]:
    """A worker whose task has one slot, and the call that has it."""
    policy = with_task("extraction", slots=1, **row)
    gate = Gate(lambda _: ModelLimits(), lambda: 1)
    gate.serve([policy])
    model, own = policy.models["sim-small"], policy.apart("extraction")
    held = gate.admit(model, (Tier.LOW, 1), 0, own)
    assert isinstance(held, Admission)
    answer = {"name": "Jo", "order_number": "7", "date": None, "confidence": 0.99}
    provider = Answers(orjson.dumps(answer).decode(), {})
    worker = a_worker(Tier.LOW, policies_of(policy), provider, gate=gate)
    return worker, gate, held


def _assigned(worker: Worker) -> Any:
    request = {"id": "r-1", "task": "extraction", "plan": "enterprise", "input": "Jo, order 7"}
    router = Router(worker.refusals.policies, TOPICS, lambda: NOON)
    [out] = decided(router, a_record(orjson.dumps(request)))
    return a_record(out.value, topic=out.topic)


async def test_who_waits_for_a_slot_of_its_task_holds_up_no_other_task() -> None:
    worker, gate, held = _filled()
    kept: list[bool] = []

    class _Place(Restless):
        async def wait(
            self, seconds: float, *, keeps_place: bool = False, paid: bool = False
        ) -> None:
            kept.append(keeps_place)
            if len(kept) == 3:
                gate.settle(held, None)

    _, result = await handled(worker, _assigned(worker), _Place())

    assert kept == [False] * 3
    assert result.topic == TOPICS.results


async def test_who_finds_no_slot_takes_the_overflow_route_of_its_task() -> None:
    worker, _, _ = _filled(overflow="balanced")

    [out] = await handled(worker, _assigned(worker), Restless())

    escalation, _ = read_envelope(Escalation, out.value)
    assert (escalation.reason, escalation.attempts) == (Reason.OVERFLOW, [])


class _Sick(Answers):
    """A provider that labels, and never extracts anything."""

    def __init__(self, *, hangs: bool) -> None:
        super().__init__('{"label": "printer", "confidence": 0.99}', {})
        self.hangs = hangs

    async def call(self, provider: str, body: dict[str, Any], **named: Any) -> Reply | CallFailure:
        if not named["request_id"].startswith("extraction"):
            return await super().call(provider, body, **named)
        if self.hangs:
            await asyncio.Event().wait()
        return CallFailure(Reason.UNREADABLE_REPLY, "nonsense", http_status=200)


@pytest.mark.parametrize(
    ("hangs", "row"),
    [
        pytest.param(False, {"breaker": "own"}, id="its failures are its own"),
        pytest.param(True, {"slots": 2}, id="its slow calls have few places"),
    ],
)
async def test_one_failing_task_starves_no_other(hangs: bool, row: Mapping[str, Any]) -> None:
    policy = with_task("extraction", **row)
    gate = Gate(lambda _: ModelLimits(), lambda: 1)
    gate.serve([policy])
    worker = a_worker(Tier.LOW, policies_of(policy), _Sick(hangs=hangs), gate=gate)
    router = Router(worker.refusals.policies, TOPICS, lambda: NOON)
    tasks = ["extraction"] * 20 + ["classification"] * 10
    partition, records = a_partition(*range(len(tasks))), []
    for offset, task in enumerate(tasks):
        fields = {"id": f"{task}-{offset}", "task": task, "input": "The printer 7 is out of ink"}
        [out] = decided(router, a_record(orjson.dumps(fields)))
        records.append(a_fetched_record(offset, out.value or b""))
    pool = TaskPool(
        worker.handle,
        Shell(worker.dead_letters),
        Guard(),
        width=4,
        most=lambda: gate.most_calls(Tier.LOW),
        book=lambda *_: None,
        last_grace=0.0,
    )

    partition.open()
    waiting, labelled = iter(records), set[int]()
    async with asyncio.timeout(20), pool.open():
        while len(labelled) < 10:
            pool.start(partition, list(islice(waiting, pool.free)))
            await asyncio.sleep(0.001)
            labelled = {offset for offset, _ in partition._finished if offset >= 20}
        assert pool.in_flight > 0, "the others wait"
        pool.cancel_all(partition)
