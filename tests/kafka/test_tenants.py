"""Tenants that share a flow: their ids, their topics and their signatures."""

from collections import Counter
from typing import Any

import pytest

from consumers import clock
from consumers.cli.common import UserError
from consumers.cli.journey import read_journey
from consumers.settings import IntakeSettings, KafkaSettings, Settings
from router.intake.signatures import SIGNATURE, signature_of
from tests.kafka.flow import Flow, Seen, Sent, flow, request

pytestmark = pytest.mark.kafka

SECRET = "a secret of acme's with 32 bytes or more"


def _bound(settings: Settings) -> Settings:
    """Acme has a topic, gamma a key, and everybody else may only be whom nobody can prove to be."""
    kafka: dict[str, Any] = {"acme": {"tenant": "acme", "plan": "enterprise"}}
    keys: dict[str, Any] = {"k1": {"secret": SECRET, "tenants": ["gamma"]}}
    known = KafkaSettings.model_validate({"intakes": kafka}).intakes
    return settings.model_copy(
        update={
            "kafka": settings.kafka.model_copy(update={"intakes": known}),
            "intake": IntakeSettings.model_validate({"keys": keys}),
        }
    )


def _signed(sent: Sent, request_id: str, tenant: str) -> Sent:
    claims = {
        "key": "k1",
        "tenant": tenant,
        "id": request_id,
        "expires": int(clock.now().timestamp()) + 300,
    }
    header = (SIGNATURE, signature_of(sent.value or b"", SECRET.encode(), claims))
    return Sent(sent.value, sent.key, [header])


def _told(seen: Seen) -> tuple[str, str, str]:
    if (reason := seen.header("tierline-reason")) is not None:
        told = seen.header("tierline-request-id"), seen.header("tierline-tenant")
        return str(told[0]), str(told[1]), reason
    return seen.json["id"], seen.json["router"]["tenant"], "answered"


async def test_each_of_three_tenants_has_a_request_of_one_id_and_an_answer_of_its_own(
    settings: Settings,
) -> None:
    async with flow(settings) as running:
        tenants = ("default", "acme", "beta")
        for tenant in tenants:
            sent = request("req-1", f"Which product is it for {tenant}: the P-200", tenant=tenant)
            await running.publish(sent, sent)
        seen = await running.terminal(3)
        assert Counter(map(_told, seen)) == {("req-1", one, "answered"): 1 for one in tenants}
        attempts = {line.json["attempt"]["attempt_id"] for line in await running.ledger()}
        assert len(attempts) == len({line.attempt_id for line in running.bill.lines}) == 3
        assert len({line.request_id for line in running.bill.lines}) == 3
        with pytest.raises(UserError, match="acme, beta, default; name one with --tenant"):
            await read_journey("req-1", running.settings)
        journey = await read_journey("req-1", running.settings, "beta")
        assert [one.router.tenant for one in journey.results] == ["beta"]
        assert journey.request is not None
        assert journey.request.text.startswith("Which product is it for beta")


async def test_tenants_are_bound_to_topics_and_signatures(settings: Settings) -> None:
    async with flow(_bound(settings)) as running:
        await _publish_all(running)
        seen = await running.terminal(8)
        assert Counter(map(_told, seen)) == {
            ("by-topic", "acme", "answered"): 1,
            ("not-beta", "acme", "identity_mismatch"): 1,
            ("elsewhere", "_unknown", "not_proven"): 1,
            ("too-dear", "default", "not_proven"): 1,
            ("signed", "gamma", "answered"): 1,
            ("changed", "_unknown", "bad_signature"): 1,
            ("not-ours", "_unknown", "bad_signature"): 1,
            ("nobody", "default", "answered"): 1,
        }


async def _publish_all(running: Flow) -> None:
    topic = f"{running.topics.intake}.acme"
    await running.publish(request("by-topic"), topic=topic)
    await running.publish(request("not-beta", tenant="beta"), topic=topic)
    signed = _signed(request("signed"), "signed", "gamma")
    changed = _signed(request("changed"), "changed", "gamma")
    await running.publish(
        request("elsewhere", tenant="acme"),
        request("too-dear", plan="enterprise"),
        signed,
        signed,  # who copies it gains nothing
        Sent((changed.value or b"") + b" ", changed.key, changed.headers),
        _signed(request("not-ours", tenant="acme"), "not-ours", "acme"),
        request("nobody"),
    )
