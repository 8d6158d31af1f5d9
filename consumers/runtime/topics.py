"""The topics on the broker: created from the topic table, and checked against it."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    KafkaError,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
    for_code,
)
from aiokafka.protocol.admin import ApiVersionRequest

from consumers.runtime.clients import KAFKA_IS_AWAY, Clients, administering

__all__ = [
    "TopicProblem",
    "TopicWatch",
    "check_timestamps",
    "check_topics",
    "describe_brokers",
    "ensure_topics",
    "is_before_4",
    "uneven",
]

_log = structlog.get_logger(__name__)

_STAMPED, _CREATED = "message.timestamp.type", "CreateTime"
#: Seconds between two looks at the topics.
_LOOK_EVERY = 15.0

#: Seconds that a new topic may take to reach every broker.
_KNOWN_WITHIN = 10.0
_FETCH = 1


@dataclass(frozen=True, slots=True)
class TopicProblem:
    """A topic, or several, not as the flow needs it, and what to do."""

    topic: str
    message: str
    #: False where the flow runs all the same: without the topic of releases the files count.
    stops: bool = True

    def __str__(self) -> str:
        return f"{self.topic}: {self.message}"


async def ensure_topics(clients: Clients) -> Sequence[TopicProblem]:
    """Create the topics that are missing, then check them all."""
    async with administering(clients) as admin:
        existing = set(await admin.list_topics())
        kafka = clients.settings
        missing = [
            NewTopic(name, kafka.partitions, kafka.replication, topic_configs=dict(spec.config))
            for name, spec in kafka.topics.all()
            if name not in existing
        ]
        not_created = await _create(admin, missing) if missing else []
    if not_created or not missing:
        return not_created or await check_topics(clients)
    # A new topic takes a moment to reach every broker: only a problem that stays is reported.
    loop = asyncio.get_running_loop()
    limit = loop.time() + _KNOWN_WITHIN
    while (problems := await check_topics(clients)) and loop.time() < limit:  # noqa: ASYNC110
        await asyncio.sleep(0.2)
    return problems


async def check_topics(clients: Clients) -> Sequence[TopicProblem]:
    """The topics that are missing, or that differ from the table; empty when all is well."""
    topics = clients.settings.topics
    async with administering(clients) as admin:
        names = [name for name, _ in topics.all()]
        described = {topic["topic"]: topic for topic in await admin.describe_topics(names)}
    counts = {
        name: len(described[name]["partitions"])
        for name in names
        # No request passes through the other two.
        if name in described
        and described[name]["error_code"] == 0
        and name not in (topics.status, topics.policy)
    }
    problems = []
    for name in names:
        code = described.get(name, {}).get("error_code", 3)
        if code:
            what = "missing; create it, or run `tierline topics create`" if code == 3 else ""
            words = what or _in_words(for_code(code))
            problems.append(TopicProblem(name, words, stops=name != topics.policy))
    return [*problems, *uneven(counts)]


def uneven(counts: Mapping[str, int]) -> list[TopicProblem]:
    """One problem for all topics whose number of partitions differs from that of most."""
    (usual, others), *odd = Counter(counts.values()).most_common() or [(0, 0)]
    return [
        TopicProblem(
            ", ".join(name for name, its_own in counts.items() if its_own == count),
            f"{count} partition{'s'[: count != 1]}, where {others} other topics have {usual}; all "
            f"must have the same number, because a request keeps its partition over every hop",
        )
        for count, _ in odd
    ]


async def check_timestamps(clients: Clients) -> Sequence[TopicProblem]:
    """Topics whose records should carry the time at which Kafka appended them, and do not.

    Empty for a user who may not read the configuration of topics.
    """
    names = [
        name
        for name, spec in clients.settings.topics.all()
        if spec.config.get(_STAMPED) and name != clients.settings.topics.status
    ]
    async with administering(clients) as admin:
        answers = await admin.describe_configs(
            [ConfigResource(ConfigResourceType.TOPIC, name, {_STAMPED: ""}) for name in names]
        )
    stamped_by: dict[str, str] = {}
    for answer in answers:
        for code, _, _, name, entries, *_ in answer.resources:
            values = {entry[0]: entry[1] for entry in entries}
            if not code and _STAMPED in values:
                stamped_by[name] = values[_STAMPED]
    message = (
        f"its {_STAMPED} is CreateTime, so producers' clocks decide when deadlines pass; "
        f"LogAppendTime was expected: kafka-configs --alter --topic {{}} "
        f"--add-config {_STAMPED}=LogAppendTime"
    )
    return [
        TopicProblem(name, message.format(name))
        for name in names
        if stamped_by.get(name) == _CREATED
    ]


class TopicWatch:
    """Checks the topics from time to time while a process runs: others may change them."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        #: What is wrong with them, as of the last look that Kafka answered.
        self.problems: Sequence[str] = ()

    async def run(self) -> None:
        """Check at intervals, until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_EVERY)
            with contextlib.suppress(*KAFKA_IS_AWAY):
                await self.look()

    async def look(self) -> None:
        """Check once, and log what has changed. Raises KafkaError."""
        checks = [*await check_topics(self._clients), *await check_timestamps(self._clients)]
        problems = [str(problem) for problem in checks if problem.stops]
        if problems != list(self.problems):
            if problems:
                _log.error("topics are not as they must be", problems=problems)
            else:
                _log.info("topics are as they must be again")
        self.problems = problems


async def _create(admin: AIOKafkaAdminClient, topics: Sequence[NewTopic]) -> list[TopicProblem]:
    try:
        answer = await admin.create_topics(list(topics))
    except KafkaError as failure:
        return [TopicProblem(topic.name, _in_words(type(failure))) for topic in topics]
    problems = []
    for name, code, *_ in answer.topic_errors:
        error = for_code(code)
        if code and error is not TopicAlreadyExistsError:
            problems.append(TopicProblem(name, f"could not be created: {_in_words(error)}"))
    return problems


def _in_words(error: type[Exception]) -> str:
    if error in (TopicAuthorizationFailedError, ClusterAuthorizationFailedError):
        return "this user has no right to it; ask the cluster's owner for an ACL"
    return error.__name__.removesuffix("Error")


async def describe_brokers(clients: Clients) -> tuple[str, bool]:
    """How many brokers there are, in words, and whether they are recent enough for us."""
    async with administering(clients) as admin:
        cluster = await admin.describe_cluster()
        connections = admin._client  # noqa: SLF001  the library has no public way to ask
        answer = await connections.send(connections.get_random_node(), ApiVersionRequest())
    count = len(cluster["brokers"])
    versions = {key: (oldest, newest) for key, oldest, newest in answer.api_versions}
    return f"{count} broker{'s' if count != 1 else ''}", not is_before_4(versions)


def is_before_4(versions: Mapping[int, tuple[int, int]]) -> bool:
    """True for a Kafka before 4.0, by the oldest and newest version of each API that it speaks.

    The protocol does not name the release, but 4.0 removed the first four versions of Fetch
    (KIP-896).
    """
    oldest, _ = versions.get(_FETCH, (0, 0))
    return oldest < 4
