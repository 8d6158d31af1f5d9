"""Tasks whose unknown outcomes go to a person: a call is noted first, and never repeated."""

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


async def test_a_call_is_noted_before_it_starts_and_costs_nothing_then(settings: Settings) -> None:
    async with flow(settings) as running:
        await running.publish(request("dispute-1", _TEXT, task="billing_dispute"))
        await running.publish(request("label-1"))
        await running.terminal(2)

        noted = await _noted_before_the_call(running)

        assert [line.request_id for line in noted] == ["dispute-1"] * len(noted)
        billed = [line for line in running.bill.lines if line.request_id == "dispute-1"]
        assert [line.attempt.attempt_id for line in noted] == [line.attempt_id for line in billed]
        assert all(line.attempt.cost_micros == 0 for line in noted)


async def test_a_call_that_a_dead_process_started_is_not_made_again(settings: Settings) -> None:
    """Its request goes to a person, with the price the call may have had."""
    async with flow(settings) as running:
        await running.publish(request("dispute-0", _TEXT, task="billing_dispute"))
        await running.terminal(1)
        [line, *_] = await _noted_before_the_call(running)
        calls = running.bill.count
        await running.stop()
        dispute = request("dispute-1", _TEXT, task="billing_dispute")
        async with running_stages(settings, running.rules, {}, kinds=stages_of(tiers=())):
            [(partition, _)] = await running.publish(dispute)
            await running.read([running.topics.tier(Tier.BALANCED)], 2)
        noted = line.model_copy(
            update={
                "request_id": "dispute-1",
                "attempt": line.attempt.model_copy(update={"attempt_id": "dispute-1.1.1"}),
            }
        )
        value = noted.model_dump_json(exclude_none=True).encode()
        await running.publish(Sent(value, partition=partition), topic=running.topics.attempts)
        await running.start()

        ended = await running.terminal(2)

        [letter] = [seen for seen in ended if seen.header("tierline-request-id") == "dispute-1"]
        assert letter.header("tierline-reason") == "outcome_unknown"
        assert letter.value == dispute.value
        assert running.bill.count == calls
        assert int(letter.header("tierline-cost-micros") or 0) > 0
