"""The one factory of Kafka clients: nothing else constructs a consumer, producer or admin client.

The client library's defaults are unsafe for us (`latest`, `read_uncommitted`, auto-commit, one
acknowledgement), so every setting that matters is written here, once.
"""

import contextlib
import importlib.util
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, errors
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import KafkaError

from consumers.runtime.limits import at_most
from consumers.settings import KafkaSettings
from schemas.topics import LARGEST_RECORD

__all__ = [
    "KAFKA_IS_AWAY",
    "KAFKA_REFUSES",
    "TOPIC_IS_MISSING",
    "TRANSACTION_LIMIT",
    "Clients",
    "administering",
    "ended",
    "has_fast_records",
]

#: Longest a transaction of ours may take before it is given up and its producer rebuilt.
TRANSACTION_LIMIT = timedelta(seconds=10)
#: What clients raise while Kafka is away. The library asserts that it knows a broker; after an
#: answer of a broker that is just starting it knows none.
KAFKA_IS_AWAY = (KafkaError, TimeoutError, OSError, AssertionError)
#: What waiting does not help: rights, settings, versions. Every other error may come from a Kafka
#: that is away or just starting, whatever the library calls it.
KAFKA_REFUSES = (
    errors.AuthenticationFailedError,
    errors.AuthenticationMethodNotSupported,
    errors.ClusterAuthorizationFailedError,
    errors.GroupAuthorizationFailedError,
    errors.IllegalArgumentError,
    errors.IllegalSaslStateError,
    errors.IncompatibleBrokerVersion,
    errors.InconsistentGroupProtocolError,
    errors.InvalidGroupIdError,
    errors.InvalidSessionTimeoutError,
    errors.InvalidTopicError,
    errors.KafkaConfigurationError,
    errors.SaslAuthenticationFailed,
    errors.SecurityDisabled,
    errors.TopicAuthorizationFailedError,
    errors.UnsupportedSaslMechanismError,
    errors.UnsupportedVersionError,
)
#: What sending raises where Kafka does not know the topic.
TOPIC_IS_MISSING = errors.UnknownTopicOrPartitionError
_REQUEST_TIMEOUT_MS = 8_000
#: Added to the longest call: for the last commits, and to join again.
_REJOIN = timedelta(seconds=30)
_STOP_LIMIT = 3.0
_BATCH_BYTES = 1 << 20
#: Of a partition at a time, for readers from outside the flow.
_READ_BYTES = 128 << 10


@dataclass(frozen=True, slots=True)
class Clients:
    """Builds the Kafka clients of one process."""

    settings: KafkaSettings
    #: The longest a call may take. A rebalance waits for members that still work on theirs.
    longest_call: timedelta = timedelta(seconds=60)
    #: The client id, by which brokers count and log.
    name: str = "tierline"

    def named(self, party: str) -> "Clients":
        """The same clients for one stage or tool of the process."""
        return replace(self, name=f"tierline.{party}")

    def group_consumer(self, group: str, *, member: str | None = None) -> AIOKafkaConsumer:
        """A member of a stage's group. Only our own code seeks and commits offsets."""

        # The library keeps the assignor's memory on its class; two members in one process need two.
        class Assignor(StickyPartitionAssignor):  # type: ignore[misc]
            pass

        return AIOKafkaConsumer(
            group_id=group,
            group_instance_id=member,
            partition_assignment_strategy=(Assignor,),
            session_timeout_ms=_ms(self.settings.session_timeout),
            heartbeat_interval_ms=_ms(self.settings.heartbeat_interval),
            rebalance_timeout_ms=_ms(self.longest_call + _REJOIN),
            # Slots may be full for minutes; our own watchdog watches the progress.
            max_poll_interval_ms=100_000_000,
            **self._reading(),
        )

    def reader(self, *, committed: bool = True) -> AIOKafkaConsumer:
        """A consumer without a group, for readers that choose where they begin."""
        level = "read_committed" if committed else "read_uncommitted"
        # A reader of every topic holds a batch of each partition: small ones, then.
        sizes = {"max_partition_fetch_bytes": _READ_BYTES, "fetch_max_bytes": 16 * _READ_BYTES}
        return AIOKafkaConsumer(
            group_id=None, **{**self._reading(), **sizes, "isolation_level": level}
        )

    def lone_committer(self, group: str) -> AIOKafkaConsumer:
        """A consumer that commits offsets for a group that has no members."""
        return AIOKafkaConsumer(group_id=group, **self._reading())

    def transactional(self, transactional_id: str) -> AIOKafkaProducer:
        """The producer of one input partition. Starting it fences the partition's former owner."""
        return AIOKafkaProducer(
            transactional_id=transactional_id,
            transaction_timeout_ms=_ms(TRANSACTION_LIMIT) + 5_000,
            **self._writing(),
        )

    def producer(self, linger_ms: int = 5) -> AIOKafkaProducer:
        """An idempotent producer without transactions."""
        return AIOKafkaProducer(enable_idempotence=True, linger_ms=linger_ms, **self._writing())

    def admin(self) -> AIOKafkaAdminClient:
        return AIOKafkaAdminClient(request_timeout_ms=_REQUEST_TIMEOUT_MS, **self._connection())

    def _reading(self) -> dict[str, Any]:
        return {
            "isolation_level": "read_committed",
            "enable_auto_commit": False,
            # `none` fails for ever when the assignment callback is slow; we seek explicitly.
            "auto_offset_reset": "earliest",
            "fetch_max_wait_ms": 100,
            "max_partition_fetch_bytes": _BATCH_BYTES,
            "request_timeout_ms": _REQUEST_TIMEOUT_MS,
            "retry_backoff_ms": 50,
            **self._connection(),
        }

    def _writing(self) -> dict[str, Any]:
        return {
            "acks": "all",
            "max_batch_size": _BATCH_BYTES,
            "max_request_size": LARGEST_RECORD,
            "request_timeout_ms": _REQUEST_TIMEOUT_MS,
            # Measured: the wait for the last transaction's markers. More and less are both slower.
            "retry_backoff_ms": 20,
            **self._connection(),
        }

    def _connection(self) -> dict[str, Any]:
        kafka = self.settings
        if kafka.bootstrap is None:
            msg = "no Kafka address: give --kafka HOST:PORT or let `tierline up` start a broker"
            raise ValueError(msg)

        connection: dict[str, Any] = {
            "bootstrap_servers": kafka.bootstrap,
            # Topics may gain partitions: with the library's five minutes those would be neither
            # read nor written for so long.
            "metadata_max_age_ms": 15_000,
            "security_protocol": kafka.security,
            "client_id": self.name,
        }
        if "SSL" in kafka.security:
            context = ssl.create_default_context(cafile=kafka.ca_file)
            if kafka.cert_file is not None:
                context.load_cert_chain(kafka.cert_file, kafka.key_file)
            connection["ssl_context"] = context
        if kafka.security.startswith("SASL"):
            connection["sasl_mechanism"] = kafka.sasl_mechanism
            connection["sasl_plain_username"] = kafka.username
            password = kafka.password.get_secret_value() if kafka.password else None
            connection["sasl_plain_password"] = password
        return connection


@contextlib.asynccontextmanager
async def administering(clients: Clients) -> AsyncIterator[AIOKafkaAdminClient]:
    """An admin client for as long as the context is open."""
    admin = clients.admin()
    try:
        await admin.start()
        yield admin
    finally:
        await admin.close()


async def ended(client: AIOKafkaConsumer | AIOKafkaProducer) -> None:
    """Stop a client, whatever Kafka does. Raises nothing.

    A stop that fails or hangs half-way leaves connections open, and a task that keeps them alive;
    without Kafka a producer would try for ever to send what it holds.
    """
    is_reader = isinstance(client, AIOKafkaConsumer)
    # Only producers name their connections.
    connections = client._client if is_reader else client.client  # noqa: SLF001
    for stop in (client.stop, connections.close):
        with contextlib.suppress(Exception):
            await at_most(_STOP_LIMIT, stop())


def has_fast_records() -> bool:
    """True when the library's C extension is there; without it reading is 77 times slower."""
    return importlib.util.find_spec("aiokafka.record._crecords") is not None


def _ms(duration: timedelta) -> int:
    return int(duration.total_seconds() * 1000)
