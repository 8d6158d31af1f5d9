"""Calls are announced first, so that none of a dead process goes unbooked, or is paid twice."""

import pytest

from consumers.parties import stages_of
from consumers.settings import Settings
from consumers.wiring import running_stages
from schemas.attempt import LedgerEntry
from schemas.base import Tier
from schemas.codec import read_model
from tests.kafka.flow import Flow, Sent, flow, request

pytestmark = pytest.mark.kafka

_TEXT = "You charged me twice for order 7, I want a refund"


async def _noted_before_the_call(running: Flow) -> list[LedgerEntry]:
    lines = [read_model(LedgerEntry, seen.value) for seen in await running.read(_ledger(running))]
    return [line for line in lines if line.attempt.outcome == "started"]


def _ledger(running: Flow) -> list[str]:
    return [running.topics.attempts]


async def test_every_call_is_announced_before_it_starts_and_costs_nothing_then(
    settings: Settings,
) -> None:
    async with flow(settings) as running:
        await running.publish(request("dispute-1", _TEXT, task="billing_dispute"))
        await running.publish(request("label-1"))
        await running.terminal(2)

        noted = await _noted_before_the_call(running)

        assert {line.request_id for line in noted} == {"dispute-1", "label-1"}
        calls = sorted(line.attempt_id for line in running.bill.lines)
        assert sorted(line.attempt.attempt_id for line in noted) == calls
        assert all(line.attempt.cost_micros == 0 for line in noted)
        most = {line.attempt.attempt_id: line.attempt.reserve_micros or 0 for line in noted}
        assert all(line.cost_micros <= most[line.attempt_id] for line in running.bill.lines)


async def test_a_call_that_a_dead_process_started_is_booked_and_its_task_says_what_follows(
    settings: Settings,
) -> None:
    """One request goes to a person, with the price the call may have had; another is called for."""
    async with flow(settings) as running:
        await running.publish(request("dispute-0", _TEXT, task="billing_dispute"))
        await running.publish(request("label-0"))
        await running.terminal(2)
        noted = {line.request_id: line for line in await _noted_before_the_call(running)}
        billed = running.bill.count
        await running.stop()
        dispute = request("dispute-1", _TEXT, task="billing_dispute")
        async with running_stages(settings, running.rules, {}, kinds=stages_of(tiers=())):
            places = await running.publish(dispute, request("label-1"))
            tiers = [running.topics.tier(tier) for tier in (Tier.LOW, Tier.BALANCED)]
            await running.read(tiers, 4)
        for name, (partition, _) in zip(("dispute", "label"), places, strict=True):
            line = noted[f"{name}-0"]
            attempt = line.attempt.model_copy(update={"attempt_id": f"{name}-1.1.1"})
            line = line.model_copy(update={"request_id": f"{name}-1", "attempt": attempt})
            value = line.model_dump_json(exclude_none=True).encode()
            started = Sent(value, f"{name}-1".encode(), partition=partition)
            await running.publish(started, topic=running.topics.attempts)
        await running.start()

        ended = await running.terminal(4)

        [letter] = [seen for seen in ended if seen.header("tierline-request-id") == "dispute-1"]
        assert letter.header("tierline-reason") == "outcome_unknown"
        assert letter.value == dispute.value
        assert int(letter.header("tierline-cost-micros") or 0) > 0
        again = [line.attempt_id for line in running.bill.lines[billed:]]
        assert again == ["label-1.1.2"]
        lines = [
            read_model(LedgerEntry, seen.value) for seen in await running.read(_ledger(running))
        ]
        for name in ("dispute", "label"):
            [lost] = [
                line.attempt
                for line in lines
                if line.attempt.attempt_id == f"{name}-1.1.1" and line.attempt.outcome != "started"
            ]
            assert lost.cost_micros == noted[f"{name}-0"].attempt.reserve_micros
            assert (lost.is_estimated, lost.started_at) == (
                True,
                noted[f"{name}-0"].attempt.started_at,
            )
