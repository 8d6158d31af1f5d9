"""The broker of the tests: our own, one in a container, or any that is named.

`TIERLINE_TEST_BROKER` chooses: unset starts a Kafka on loopback, `container` starts the image
`apache/kafka`, `HOST:PORT` takes what listens there.
"""

import contextlib
import io
import os
import signal
import tarfile
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from anyio.from_thread import start_blocking_portal

from consumers.lab.broker import LocalBroker, local_broker
from consumers.lab.broker.jars import fetch_jars
from consumers.lab.broker.local import free_ports
from consumers.settings import KafkaSettings, Settings
from tests.postgres import Postgres, postgres

_IMAGE = "apache/kafka:4.2.0"
_PORT = 9092
_SCRIPT = "/tmp/advertise-and-run"


@pytest.fixture(scope="session", autouse=True)
def _jars() -> None:
    """Fetched before any test, which may then reach nothing outside."""
    if not os.environ.get("TIERLINE_TEST_BROKER"):
        fetch_jars()


@pytest.fixture(scope="session")
def broker() -> Iterator[str]:
    """`HOST:PORT` of a broker that serves the whole session."""
    chosen = os.environ.get("TIERLINE_TEST_BROKER", "")
    if chosen == "container":
        with _in_container() as address:
            yield address
    elif chosen:
        yield chosen
    else:
        # In a loop of its own, so that fixtures and tests of every kind can share it.
        with (
            start_blocking_portal("asyncio") as portal,
            portal.wrap_async_context_manager(local_broker()) as started,
        ):
            yield started.bootstrap


@pytest.fixture
def prefix() -> str:
    """A prefix that makes topics, groups and transactional ids the test's own."""
    return f"t{uuid.uuid4().hex[:10]}."


@pytest.fixture
def settings(broker: str, prefix: str) -> Settings:
    """Settings for one test's flow on the broker."""
    return settings_for(broker, prefix)


def settings_for(broker: str, prefix: str) -> Settings:
    """Few partitions, and a group that notices quickly who has left."""
    kafka = KafkaSettings(
        bootstrap=broker,
        prefix=prefix,
        partitions=3,
        session_timeout=timedelta(seconds=6),  # what a broker allows at least by default
        heartbeat_interval=timedelta(seconds=1),
    )
    return Settings(kafka=kafka)


@dataclass(slots=True)
class BreakableKafka:
    """A broker that can be lost and comes back at the same address with the same data."""

    folder: Path
    port: int
    node: LocalBroker | None = None
    _stack: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)

    async def start(self) -> str:
        self.node = await self._stack.enter_async_context(
            local_broker(data_dir=self.folder, port=self.port)
        )
        return self.node.bootstrap

    def signal(self, name: signal.Signals) -> None:
        assert self.node is not None
        os.kill(self.node.pid, name)

    @contextlib.contextmanager
    def asleep(self) -> Iterator[None]:
        """Half-open connections say nothing until the context ends."""
        self.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.signal(signal.SIGCONT)

    async def lose(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.signal(signal.SIGKILL)
        await self._stack.aclose()


@pytest.fixture
async def kafka() -> AsyncIterator[BreakableKafka]:
    with tempfile.TemporaryDirectory(prefix="tierline-test-") as folder:
        broker = BreakableKafka(Path(folder), free_ports()[0])
        try:
            yield broker
        finally:
            await broker.lose()


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres() as found:
        if found is None:
            pytest.skip("no PostgreSQL")
        yield found


@pytest.fixture(params=["sqlite", "postgresql"])
def urls(request: pytest.FixtureRequest, tmp_path: Path) -> list[str]:
    """Addresses of two new databases of each kind."""
    if request.param == "sqlite":
        return [f"sqlite:///{tmp_path}/{name}.db" for name in ("one", "two")]
    server = request.getfixturevalue("server")
    return [server.database(), server.database()]


@contextlib.contextmanager
def _in_container() -> Iterator[str]:
    # Here, because only this choice needs them.
    from testcontainers.core.container import DockerContainer  # noqa: PLC0415
    from testcontainers.core.wait_strategies import LogMessageWaitStrategy  # noqa: PLC0415

    container = DockerContainer(_IMAGE).with_exposed_ports(_PORT)
    # The address to advertise is known once the port is mapped, so the start waits for a script.
    wait = f"while [ ! -f {_SCRIPT} ]; do sleep 0.1; done; exec bash {_SCRIPT}"
    container = container.with_kwargs(entrypoint=["bash", "-c", wait])
    settings = {
        "KAFKA_NODE_ID": "1",
        "KAFKA_PROCESS_ROLES": "broker,controller",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
        "KAFKA_LISTENERS": f"PLAINTEXT://:{_PORT},INSIDE://:9094,CONTROLLER://:9093",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": ",".join(
            f"{name}:PLAINTEXT" for name in ("PLAINTEXT", "INSIDE", "CONTROLLER")
        ),
        # The broker talks to itself to end transactions, and cannot reach the mapped port.
        "KAFKA_INTER_BROKER_LISTENER_NAME": "INSIDE",
        "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
        "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
    }
    for topic in ("OFFSETS_TOPIC", "TRANSACTION_STATE_LOG", "SHARE_COORDINATOR_STATE_TOPIC"):
        settings[f"KAFKA_{topic}_REPLICATION_FACTOR"] = "1"
        settings[f"KAFKA_{topic}_NUM_PARTITIONS"] = "4"
    for topic in ("TRANSACTION_STATE_LOG", "SHARE_COORDINATOR_STATE_TOPIC"):
        settings[f"KAFKA_{topic}_MIN_ISR"] = "1"
    for name, value in settings.items():
        container = container.with_env(name, value)
    with container:
        address = f"{container.get_container_host_ip()}:{container.get_exposed_port(_PORT)}"
        listeners = f"PLAINTEXT://{address},INSIDE://localhost:9094"
        script = f"export KAFKA_ADVERTISED_LISTENERS={listeners}\nexec /etc/kafka/docker/run\n"
        container.get_wrapped_container().put_archive("/tmp", _archive(_SCRIPT, script))
        started = LogMessageWaitStrategy("Kafka Server started").with_startup_timeout(60)
        started.wait_until_ready(container)
        yield address


def _archive(path: str, text: str) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        entry = tarfile.TarInfo(path.rpartition("/")[2])
        entry.size, entry.mode = len(text), 0o644
        tar.addfile(entry, io.BytesIO(text.encode()))
    return packed.getvalue()
