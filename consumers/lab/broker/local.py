"""Starts and stops a single-node Kafka on loopback."""

import asyncio
import contextlib
import random
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient

from consumers.files import write_own
from consumers.lab.broker.class_data import ClassData
from consumers.lab.broker.errors import BrokerError, fullness_of, refuse_full_disk, with_tail
from consumers.lab.broker.jars import Progress, fetch_jars
from consumers.lab.broker.java import find_java
from consumers.lab.broker.process import read_pid, running
from consumers.lab.broker.storage import data_folder, format_folder

__all__ = ["LocalBroker", "broker_properties", "local_broker"]

_READY_SECONDS = 60
#: Exit codes above this stand for the signal that ended the broker: 256 minus its number.
_SIGNALLED = 192
_LOOK_EVERY = 1.0
_JVM = (
    "-Xms128m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Xshare:auto",
    "-Djava.awt.headless=true",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
)


@dataclass(frozen=True, slots=True)
class LocalBroker:
    """A running broker."""

    bootstrap: str
    data_dir: Path
    pid: int
    log_file: Path
    #: The process that ends together with the broker. None for a broker of another process.
    guard: asyncio.subprocess.Process | None = None

    async def died(self) -> str:
        """Wait until the broker ends, which nobody has asked for, and say what happened."""
        code = await self.guard.wait() if self.guard else 0
        # Either the guard was killed, and the broker with it, or the guard reports how that ended.
        number = -code if code < 0 else 256 - code
        is_killed = code < 0 or code > _SIGNALLED
        how = f"was killed (signal {number})" if is_killed else f"ended (code {code})"
        if (full := fullness_of(self.data_dir, self.log_file)) is not None:
            how, what = f"{how}: {full}", "Make room there"
        else:
            what = "See its log"
        return (
            f"the Kafka that we had started at {self.bootstrap} {how}. Its log: {self.log_file}. "
            f"{what}, then start `tierline up` again: it goes on after the last commit."
        )

    async def filled(self) -> str:
        """Wait until the disk is full, which ends the broker with its next write, and say so."""
        while (full := fullness_of(self.data_dir)) is None:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_EVERY)
        return (
            f"{full}: the Kafka that we had started at {self.bootstrap} ends when it cannot write. "
            f"Its log: {self.log_file}. Make room there"
        )


def broker_properties(port: int, controller_port: int, data: Path) -> dict[str, str]:
    """One node that is broker and controller, sized for one machine.

    The internal topics get few partitions and one replica: the defaults never become ready on one
    node. The commit metadata limit stays at its default, so that tests see production's.
    """
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "PLAINTEXT",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": str(data),
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "4",
        "offsets.retention.minutes": "43200",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "share.coordinator.state.topic.num.partitions": "1",
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "1000",
        "auto.create.topics.enable": "false",
        "default.replication.factor": "1",
        "min.insync.replicas": "1",
        "num.partitions": "4",
        # Passing a request from thread to thread costs more here than handling it.
        "num.network.threads": "1",
        "num.io.threads": "2",
        "log.cleaner.threads": "1",
        "log.cleaner.dedupe.buffer.size": "16777216",
        "message.max.bytes": "4194304",
        "transaction.max.timeout.ms": "900000",
        "broker.session.timeout.ms": "3000",
        "broker.heartbeat.interval.ms": "500",
    }


@contextlib.asynccontextmanager
async def local_broker(
    *,
    data_dir: Path | None = None,
    port: int | None = None,
    progress: Progress | None = None,
    heap_mb: int = 512,
    properties: Mapping[str, str] | None = None,
    advertised: str | None = None,
) -> AsyncIterator[LocalBroker]:
    """A broker for as long as the context is open; it ends with this process however that ends.

    Without `data_dir` its data is in a temporary folder that is deleted at the end; otherwise it is
    kept, and a second broker on the same folder is refused. Raises BrokerError.

    With `advertised`, the `HOST:PORT` of a proxy, clients that connect to `port` are sent on to
    that address. `bootstrap` then goes around the proxy, as the broker itself does.
    """
    report = progress or (lambda *_: None)
    java, jars = find_java(), await asyncio.to_thread(fetch_jars, progress)
    refuse_full_disk(data_dir or Path(tempfile.gettempdir()))
    async with data_folder(data_dir) as folder:
        outside, control, inside = free_ports(port)
        if advertised is None:
            inside = outside
        settings = broker_properties(inside, control, folder.logs)
        if advertised is not None:
            settings |= _sent_on(settings, outside, advertised)
        settings |= properties or {}
        config = folder.path / "server.properties"
        write_own(config, "".join(f"{name}={value}\n" for name, value in settings.items()))
        class_data = ClassData.find(java, jars, folder.path)
        jvm = [str(java), *_JVM, f"-Xmx{heap_mb}m", "-cp", class_data.classpath]
        report("starting Kafka", None)
        await format_folder(folder, jvm, config)
        command = [*jvm, *class_data.flags, "kafka.Kafka", str(config)]
        discard = folder.path if data_dir is None else None
        async with running(
            command, folder.log_file, discard=discard, keep_open=folder.lock
        ) as guard:
            bootstrap = f"127.0.0.1:{inside}"
            pid = await _wait_until_ready(guard, bootstrap, folder.log_file)
            async with class_data.being_made(folder.log_file):
                yield LocalBroker(bootstrap, folder.path, pid, folder.log_file, guard)


def _sent_on(settings: Mapping[str, str], port: int, advertised: str) -> dict[str, str]:
    """The settings for one more listener, which advertises another address than its own."""
    added = {
        "listeners": f"OUTSIDE://127.0.0.1:{port}",
        "advertised.listeners": f"OUTSIDE://{advertised}",
        "listener.security.protocol.map": "OUTSIDE:PLAINTEXT",
    }
    return {name: f"{settings[name]},{listener}" for name, listener in added.items()}


def free_ports(port: int | None = None) -> tuple[int, int, int]:
    """Three free ports, the requested one first.

    They are below the range from which the system takes ports for connections. Raises BrokerError
    when the requested `port` is in use.
    """
    if port is not None and not _is_free(port):
        msg = f"port {port} on 127.0.0.1 is in use. Stop what listens there, or give another --port"
        raise BrokerError(msg)
    ports = [] if port is None else [port]
    for candidate in random.SystemRandom().sample(range(19_000, 32_000), 400):
        if len(ports) == 3:
            break
        if candidate != port and _is_free(candidate):
            ports.append(candidate)
    if len(ports) < 3:
        msg = "there are no three free ports between 19000 and 32000 on 127.0.0.1"
        raise BrokerError(msg)
    return ports[0], ports[1], ports[2]


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As Kafka does: lingering connections of an earlier broker do no harm.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


async def _wait_until_ready(
    guard: asyncio.subprocess.Process, bootstrap: str, log_file: Path
) -> int:
    """The broker's process id, as soon as the broker describes its cluster."""
    give_up = time.monotonic() + _READY_SECONDS
    pid = await read_pid(guard)
    host, _, port = bootstrap.partition(":")
    while time.monotonic() < give_up:
        if guard.returncode is not None:
            raise BrokerError(with_tail("Kafka ended while it was starting", log_file))
        try:
            _, connection = await asyncio.open_connection(host, int(port))
            connection.close()
            admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=5_000)
            try:
                await admin.start()
                await admin.describe_cluster()
                return pid
            finally:
                await admin.close()
        except Exception:  # noqa: BLE001  not up yet, whatever the error is
            await asyncio.sleep(0.05)
    raise BrokerError(with_tail(f"Kafka was not ready after {_READY_SECONDS} s", log_file))
