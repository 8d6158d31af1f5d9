"""Starts, readies and stops a single-node Kafka on loopback."""

import asyncio
import base64
import contextlib
import fcntl
import os
import random
import shutil
import socket
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient

from consumers.broker.errors import BrokerError
from consumers.broker.jars import KAFKA_VERSION, Progress, cache_dir, fetch_jars
from consumers.broker.java import find_java

__all__ = ["LocalBroker", "broker_properties", "local_broker"]

_READY_SECONDS = 60
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
        "num.network.threads": "2",
        "num.io.threads": "4",
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
) -> AsyncIterator[LocalBroker]:
    """A broker for as long as the context is open; it ends with this process however that ends.

    Without `data_dir` its data lives in a temporary folder and is deleted at the end; with one it
    is kept, and a second broker on the same folder is refused. Raises BrokerError.
    """
    tell = progress or (lambda *_: None)
    java, jars = find_java(), await asyncio.to_thread(fetch_jars, progress)
    with _data_folder(data_dir) as folder:
        ports = free_ports(port)
        log_file = folder / "broker.log"
        settings = {**broker_properties(*ports, folder / "log"), **(properties or {})}
        config = folder / "server.properties"
        config.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        classpath = os.pathsep.join(str(jar) for jar in jars)
        command = [str(java), *_JVM, f"-Xmx{heap_mb}m", *_class_data(java), "-cp", classpath]
        if not (folder / "log" / "meta.properties").exists():
            tell("preparing Kafka's data folder", None)
            await _format(command, config, log_file)
        tell("starting Kafka", None)
        mode = "discard" if data_dir is None else "keep"
        async with _running([*command, "kafka.Kafka", str(config)], mode, log_file) as process:
            bootstrap = f"127.0.0.1:{ports[0]}"
            pid = await _wait_until_ready(process, bootstrap, log_file)
            yield LocalBroker(bootstrap, folder, pid, log_file)


def free_ports(port: int | None = None) -> tuple[int, int]:
    """Two free ports, below the range from which the system takes ports for connections."""
    found: list[int] = [] if port is None else [port]
    for candidate in random.SystemRandom().sample(range(19_000, 32_000), 400):
        if len(found) == 2:
            break
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", candidate))
            found.append(candidate)
    if len(found) < 2:
        msg = "no free port between 19000 and 32000 on 127.0.0.1"
        raise BrokerError(msg)
    return found[0], found[1]


@contextlib.contextmanager
def _data_folder(kept: Path | None) -> Iterator[Path]:
    if kept is None:
        folder = Path(tempfile.mkdtemp(prefix="tierline-kafka-"))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return

    kept.mkdir(parents=True, exist_ok=True)
    with (kept / "owner.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            owner = lock.read().strip() or "another process"
            msg = f"{kept}: in use by a broker of {owner}. Stop that one, or give --data-dir"
            raise BrokerError(msg) from None
        lock.truncate(0)
        lock.write(f"process {os.getpid()}")
        lock.flush()
        yield kept


def _class_data(java: Path) -> list[str]:
    """Keep the loaded classes in the cache where the JVM can: the next start is faster."""
    release = java.resolve().parent.parent / "release"
    with contextlib.suppress(OSError):
        version = release.read_text().partition('JAVA_VERSION="')[2].split(".")[0].split('"')[0]
        if version.isdigit() and int(version) >= 19:
            archive = cache_dir() / f"kafka-{KAFKA_VERSION}-java{version}.jsa"
            return ["-XX:+AutoCreateSharedArchive", f"-XX:SharedArchiveFile={archive}"]

    return []


async def _format(command: list[str], config: Path, log_file: Path) -> None:
    cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    arguments = ["format", "-t", cluster_id, "-c", str(config), "--ignore-formatted"]
    with log_file.open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *command, "kafka.tools.StorageTool", *arguments, stdout=log, stderr=log
        )
        if await process.wait() != 0:
            raise BrokerError(_with_tail("Kafka's data folder could not be prepared", log_file))


@contextlib.asynccontextmanager
async def _running(
    command: list[str], mode: str, log_file: Path
) -> AsyncIterator[asyncio.subprocess.Process]:
    with log_file.open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            str(Path(__file__).with_name("guard.py")),
            mode,
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.stdin is not None:
            process.stdin.close()
        await asyncio.shield(process.wait())


async def _wait_until_ready(
    process: asyncio.subprocess.Process, bootstrap: str, log_file: Path
) -> int:
    """Ready when the port answers and the broker counts itself among the living."""
    give_up = time.monotonic() + _READY_SECONDS
    line = await process.stdout.readline() if process.stdout else b""
    host, _, port = bootstrap.partition(":")
    while time.monotonic() < give_up:
        if process.returncode is not None:
            raise BrokerError(_with_tail("Kafka ended at its start", log_file))
        try:
            _, connection = await asyncio.open_connection(host, int(port))
            connection.close()
            admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=5_000)
            try:
                await admin.start()
                await admin.describe_cluster()
                return int(line.split()[-1])
            finally:
                await admin.close()
        except Exception:  # noqa: BLE001  not up yet, in whichever way
            await asyncio.sleep(0.05)
    raise BrokerError(_with_tail(f"Kafka was not ready after {_READY_SECONDS} s", log_file))


def _with_tail(what: str, log_file: Path) -> str:
    lines = log_file.read_text(errors="replace").splitlines()[-15:]
    return "\n".join([f"{what}. The end of its log ({log_file}):", *lines])
