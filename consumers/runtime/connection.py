"""Connecting to Kafka from outside the flow, with one clear error when that fails."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
)

from consumers.runtime.clients import KAFKA_IS_AWAY, Clients, administering, ended
from schemas.errors import TierlineError

__all__ = [
    "CONNECT_LIMIT",
    "CREATE_TOPICS",
    "KafkaUnreachableError",
    "cluster_of",
    "connected",
    "is_refusal",
    "started",
]

#: Seconds that a client may take to connect.
CONNECT_LIMIT = 15.0
#: What to do where a topic is not there.
CREATE_TOPICS = "`tierline topics create` creates what is missing"


class KafkaUnreachableError(TierlineError):
    """No broker answers at the address given."""

    exit_code = 3
    advice = "start one with `tierline up`, or name yours with --kafka HOST:PORT"


@contextlib.asynccontextmanager
async def connected(clients: Clients) -> AsyncIterator[None]:
    """Raise KafkaUnreachableError for whatever the client library raises when it cannot connect."""
    try:
        yield
    except KAFKA_IS_AWAY as error:
        msg = f"no Kafka at {clients.settings.bootstrap} ({type(error).__name__})"
        raise KafkaUnreachableError(msg) from error


@contextlib.asynccontextmanager
async def started(
    clients: Clients, client: AIOKafkaConsumer | AIOKafkaProducer
) -> AsyncIterator[None]:
    """Start a client, and stop it when the context closes. Raises KafkaUnreachableError."""
    try:
        async with connected(clients), asyncio.timeout(CONNECT_LIMIT):
            await client.start()
        yield
    finally:
        await ended(client)


async def cluster_of(clients: Clients) -> str:
    """The id of the cluster, which every new cluster draws; empty where a broker gives none.

    Raises KafkaUnreachableError.
    """
    async with connected(clients), asyncio.timeout(CONNECT_LIMIT), administering(clients) as admin:
        return str((await admin.describe_cluster()).get("cluster_id") or "")


def is_refusal(error: Exception) -> bool:
    """True when Kafka has certainly not written a record, and would refuse it again."""
    return isinstance(
        error,
        (
            ClusterAuthorizationFailedError,
            MessageSizeTooLargeError,
            RecordListTooLargeError,
            TopicAuthorizationFailedError,
        ),
    )
