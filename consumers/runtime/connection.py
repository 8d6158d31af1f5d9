"""Connecting to Kafka from outside the flow: its troubles in one clear line."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
)

from consumers.runtime.clients import KAFKA_IS_AWAY, Clients, administering
from schemas.errors import TierlineError

__all__ = [
    "CONNECT_LIMIT",
    "CREATE_TOPICS",
    "KafkaUnreachableError",
    "cluster_of",
    "connected",
    "is_refusal",
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
    """Turn the client library's connection troubles into one clear line."""
    try:
        yield
    except KAFKA_IS_AWAY as error:
        msg = f"no Kafka at {clients.settings.bootstrap} ({type(error).__name__})"
        raise KafkaUnreachableError(msg) from error


async def cluster_of(clients: Clients) -> str:
    """The id of the cluster, new for each that is set up; empty where a broker tells none.

    Raises KafkaUnreachableError.
    """
    async with connected(clients), asyncio.timeout(CONNECT_LIMIT), administering(clients) as admin:
        return str((await admin.describe_cluster()).get("cluster_id") or "")


def is_refusal(error: Exception) -> bool:
    """True when Kafka has not written a record for certain, and will not when it is sent again."""
    return isinstance(
        error,
        (
            ClusterAuthorizationFailedError,
            MessageSizeTooLargeError,
            RecordListTooLargeError,
            TopicAuthorizationFailedError,
        ),
    )
