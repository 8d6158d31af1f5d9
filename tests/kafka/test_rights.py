"""The rights that `tierline topics acls` prints are enough, on a broker that checks them."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import TopicAuthorizationFailedError
from confluent_kafka import admin
from pydantic import SecretStr

from consumers.lab.broker import local_broker
from consumers.lab.broker.local import free_ports
from consumers.lab.simulator import SimulatorSettings, simulator
from consumers.parties import STAGES
from consumers.providers.settings import ProviderSettings
from consumers.rights import Right, parties_with_rights, rights_of
from consumers.rules import load_rules
from consumers.runtime.clients import Clients, administering
from consumers.runtime.marks import Left
from consumers.runtime.poison import write_strike
from consumers.runtime.topic_reader import topic_reader
from consumers.runtime.topics import check_topics, ensure_topics
from consumers.settings import KafkaSettings, Settings
from consumers.wiring import running_stages
from schemas.base import Tier
from schemas.codec import read_dead_letter
from tests.kafka.flow import Sent, request
from tests.kafka.test_review import _decision, _line

pytestmark = [pytest.mark.kafka, pytest.mark.anyio]

#: Its types are not exported.
_KAFKA: Any = admin
_PASSWORD = "of-the-tests"
#: The stages that this test needs; the workers of all tiers do the same.
_STAGES = ("route", "work.balanced", "review")


@dataclass(frozen=True)
class _Guarded:
    """A Kafka that checks rights: users sign in at `address`."""

    address: str
    prefix: str

    def of(self, party: str) -> Settings:
        """The settings of a party, which is a user of its own."""
        kafka = KafkaSettings(
            bootstrap=self.address,
            security="SASL_PLAINTEXT",
            username=party,
            password=SecretStr(_PASSWORD),
            prefix=self.prefix,
            partitions=2,
            session_timeout=timedelta(seconds=6),
            heartbeat_interval=timedelta(seconds=1),
        )
        return Settings(kafka=kafka)

    def clients(self, party: str) -> Clients:
        return Clients(self.of(party).kafka)

    async def send(self, party: str, topic: str, sent: Sent) -> None:
        producer = self.clients(party).producer()
        await producer.start()
        try:
            place = None if sent.partition < 0 else sent.partition
            headers = [(name, value or b"") for name, value in sent.headers]
            await producer.send_and_wait(
                topic, sent.value, sent.key, partition=place, headers=headers
            )
        finally:
            await producer.stop()

    async def first(self, party: str, topic: str) -> Any:
        """The first record of a topic, once it has one."""
        async with topic_reader(self.clients(party), [topic]) as reader:
            async for record in reader.follow(60.0):
                return record
        pytest.fail(f"{topic} stays empty for {party}")


@pytest.fixture
async def guarded(prefix: str) -> AsyncIterator[_Guarded]:
    """A broker of its own: users sign in, and have the rights that are printed."""
    inside, control, outside = free_ports()
    listeners = f"PLAINTEXT://127.0.0.1:{inside},USERS://127.0.0.1:{outside}"
    protocols = {"PLAINTEXT": "PLAINTEXT", "CONTROLLER": "PLAINTEXT", "USERS": "SASL_PLAINTEXT"}
    properties = {
        "listeners": f"{listeners},CONTROLLER://127.0.0.1:{control}",
        "advertised.listeners": listeners,
        "listener.security.protocol.map": ",".join(map(":".join, protocols.items())),
        "controller.quorum.voters": f"1@127.0.0.1:{control}",
        "listener.name.users.sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "listener.name.users.scram-sha-512.sasl.jaas.config": (
            "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        ),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        # Who needs no password: the broker itself, and this fixture.
        "super.users": "User:ANONYMOUS",
    }
    async with local_broker(port=inside, properties=properties) as broker:
        kafka = _Guarded(f"127.0.0.1:{outside}", prefix)
        await asyncio.to_thread(_let_in, broker.bootstrap, kafka.of("owner").kafka)
        yield kafka


def _let_in(bootstrap: str, kafka: KafkaSettings) -> None:
    """Make each party a user with its rights, and wait until the broker knows of all of them."""
    owner = _KAFKA.AdminClient({"bootstrap.servers": bootstrap})
    how, parties = (
        _KAFKA.ScramCredentialInfo(_KAFKA.ScramMechanism.SCRAM_SHA_512, 4096),
        parties_with_rights(),
    )
    users = [_KAFKA.UserScramCredentialUpsertion(name, how, _PASSWORD.encode()) for name in parties]
    for user in owner.alter_user_scram_credentials(users).values():
        user.result()
    bindings = [
        binding
        for name in parties
        for right in rights_of([name], kafka)
        for binding in _bindings(name, right)
    ]
    for created in owner.create_acls(bindings).values():
        created.result()
    everything = _KAFKA.AclBindingFilter(
        _KAFKA.ResourceType.ANY,
        None,
        _KAFKA.ResourcePatternType.ANY,
        None,
        None,
        _KAFKA.AclOperation.ANY,
        _KAFKA.AclPermissionType.ANY,
    )
    while len(owner.describe_acls(everything).result()) < len(set(bindings)):
        pass


def _bindings(user: str, right: Right) -> list[Any]:
    pattern = (
        _KAFKA.ResourcePatternType.PREFIXED
        if right.is_prefix
        else _KAFKA.ResourcePatternType.LITERAL
    )
    return [
        _KAFKA.AclBinding(
            _KAFKA.ResourceType[right.kind.replace("-", "_").upper()],
            right.name,
            pattern,
            f"User:{user}",
            "*",
            _KAFKA.AclOperation[re.sub(r"(?<=[a-z])(?=[A-Z])", "_", operation).upper()],
            _KAFKA.AclPermissionType.ALLOW,
        )
        for operation in right.operations
    ]


async def test_the_printed_rights_are_enough_for_every_party_and_no_more(
    guarded: _Guarded,
) -> None:
    topics = guarded.of("commands").kafka.topics
    assert await ensure_topics(guarded.clients("commands")) == []
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        provider = await enter(simulator(SimulatorSettings(latency_scale=0.02)))
        at = ProviderSettings(base_url=provider.base_url, allow_private=True)
        for kind in STAGES:
            if (name := kind.spec.name) in _STAGES:
                settings = guarded.of(name)
                rules = load_rules(settings)
                await enter(running_stages(settings, rules, {"simulated": at}, kinds=[kind]))

        asked = request("dispute", "I was charged twice for order 991", task="billing_dispute")
        await guarded.send("producers", topics.intake, asked)
        letter = await guarded.first("console", topics.dead_letters)
        [*_, answer] = [one for one in read_dead_letter(letter.headers).attempts if one.reply]
        approved = _decision(letter, "d-0", action="approve", attempt_id=answer.attempt_id)
        await guarded.send("console", topics.review, _line("decide", letter, approved))
        assert (await guarded.first("downstream", topics.results)).key == b"dispute"

    for topic in (topics.attempts, topics.status, topics.feedback):
        await guarded.first("commands", topic)
    await guarded.send("downstream", topics.feedback, Sent(b"{}", b"dispute"))
    for party in (*_STAGES, "console"):
        await _looks_around(guarded.clients(party))
    async with administering(guarded.clients("route")) as admin:
        await admin.list_consumer_group_offsets(f"{guarded.prefix}work.balanced")
    for party, topic in (("route", topics.intake), ("console", topics.dead_letters)):
        left = Left(f"{guarded.prefix}{party}", topic, 0, 0, "a-death")
        assert await write_strike(guarded.clients(party), left) == 1
    for topic in (topics.results, topics.review, topics.tier(Tier.LOW)):
        with pytest.raises(TopicAuthorizationFailedError):
            await guarded.send("producers", topic, Sent(b"{}", b"key"))


async def _looks_around(clients: Clients) -> None:
    """Read what the topics are like, as every process of ours does from time to time."""
    assert await check_topics(clients) == []
    wanted = ConfigResource(ConfigResourceType.TOPIC, clients.settings.topics.intake)
    async with administering(clients) as admin:
        [answer] = await admin.describe_configs([wanted])
    [(code, *_)] = answer.resources
    assert code == 0
