"""The processes of a run: a real Kafka behind a proxy, the provider, route and workers."""

import asyncio
import contextlib
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import orjson
from aiokafka.admin import NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from consumers.lab.broker import LocalBroker, local_broker
from consumers.lab.broker.local import free_ports
from consumers.runtime.clients import Clients, administering
from consumers.runtime.topics import ensure_topics
from consumers.settings import KafkaSettings, Settings
from schemas.topics import state_topic
from tests.nemesis.proxy import Proxy

__all__ = ["COUNTS", "Member", "World", "member_header", "refuse_results"]

_TIERLINE = str(Path(sys.executable).with_name("tierline"))
#: A copy of the checkout runs its own code, whatever is installed.
_CHECKOUT = Path(__file__).resolve().parents[2]
_PARTITIONS = 6
#: Where a stage that counts intake by key tells what it has counted.
COUNTS = "llm.counts"
_END_SECONDS = 40
_LOOK_SECONDS = 2.0
#: So much of the bill's end holds all calls that still run.
_LAST_CALLS_BYTES = 1 << 17


def member_header(name: str) -> str:
    """The header by which the provider's bill tells whose call it was."""
    return f"x-member-{name}"


@dataclass(slots=True, eq=False)
class Member:
    """One process of ours."""

    role: str
    process: asyncio.subprocess.Process
    log: Path
    #: It was asked to end, or was seen to have ended by itself.
    is_done: bool = False
    #: Where it dies, if it comes by.
    failpoint: str | None = None
    #: It did not end in time, and was killed.
    is_overdue: bool = False
    #: When it was frozen last, and until when.
    frozen: tuple[float, float] = (0.0, 0.0)

    @property
    def name(self) -> str:
        """Unique in a run."""
        return self.log.stem

    @property
    def died_at_point(self) -> bool:
        """True when its failpoint has killed it."""
        died = self.process.returncode == -signal.SIGKILL
        return self.failpoint is not None and died and not self.is_overdue

    def send(self, name: signal.Signals) -> None:
        """Send a signal, if it still lives."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(name)

    @property
    def is_alive(self) -> bool:
        """True until the process has ended."""
        return self.process.returncode is None


@dataclass(slots=True)
class World:
    """Everything that runs, and the means to break it."""

    folder: Path
    latency_scale: float
    proxy: Proxy
    port: int
    broker: LocalBroker | None = None
    provider_url: str = ""
    #: Where spans are sent.
    traces_url: str = ""
    members: list[Member] = field(default_factory=list)
    _broker: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)
    _count: int = 0

    @classmethod
    @contextlib.asynccontextmanager
    async def running(
        cls,
        folder: Path,
        *,
        workers: int,
        routes: int,
        latency_scale: float,
        traces_url: str = "",
    ) -> AsyncIterator["World"]:
        """The world for as long as the context is open."""
        port = free_ports()[0]
        async with Proxy("127.0.0.1", port) as proxy:
            world = cls(folder, latency_scale, proxy, port, traces_url=traces_url)
            try:
                await world.start_broker()
                await _create_topics(world.beside.kafka)
                await world._start_provider()
                for _ in range(routes):
                    await world.start("route")
                for _ in range(workers):
                    await world.start("work")
                for _ in range(2):
                    await world.start("counting")
                yield world
            finally:
                await world._end()

    @property
    def beside(self) -> Settings:
        """Settings of a client that goes past the proxy."""
        bootstrap = self.broker.bootstrap if self.broker else None
        return Settings(kafka=KafkaSettings(bootstrap=bootstrap, partitions=_PARTITIONS))

    @property
    def through(self) -> Settings:
        """Settings of a client that goes through the proxy, as ours do."""
        kafka = KafkaSettings(bootstrap=self.proxy.address, partitions=_PARTITIONS)
        return Settings(kafka=kafka)

    @property
    def bill_file(self) -> Path:
        """The provider's own bill."""
        return self.folder / "bill.jsonl"

    @property
    def has_killed(self) -> bool:
        """True when any process of ours ended otherwise than it should."""
        ours = [one for one in self.members if one.role != "provider"]
        return any(one.process.returncode not in (None, 0) for one in ours)

    def is_calling(self, member: Member) -> bool:
        """True while a call of a worker runs, as the provider sees it."""
        with contextlib.suppress(FileNotFoundError), self.bill_file.open("rb") as bill:
            bill.seek(max(self.bill_file.stat().st_size - _LAST_CALLS_BYTES, 0))
            calls = [orjson.loads(line) for line in bill.read().split(b"\n")[1:-1]]
            name, now = member_header(member.name), time.monotonic()
            return any(one["first_byte"] > now and name in one["header_names"] for one in calls)
        return False

    def living(self, role: str) -> list[Member]:
        """The members of a role that have not ended."""
        return [one for one in self.members if one.role == role and one.is_alive]

    async def start_broker(self) -> None:
        """Start Kafka on its old data, at its old address."""
        self.broker = await self._broker.enter_async_context(
            local_broker(
                data_dir=self.folder / "kafka", port=self.port, advertised=self.proxy.address
            )
        )

    async def stop_broker(self, name: signal.Signals) -> None:
        """End Kafka, by whatever signal."""
        assert self.broker is not None
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.broker.pid, name)
        await self._broker.aclose()

    async def start(self, role: str, failpoint: str | None = None) -> Member:
        """Start a process of a role; with a failpoint it dies there."""
        self._count += 1
        log = self.folder / f"{role}-{self._count}.log"
        environment = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(Path.home()),
            "PYTHONPATH": str(_CHECKOUT),
            "TIERLINE_KAFKA__BOOTSTRAP": self.proxy.address,
            "TIERLINE_KAFKA__PARTITIONS": str(_PARTITIONS),
            "TIERLINE_KAFKA__SESSION_TIMEOUT": "PT6S",
            "TIERLINE_KAFKA__HEARTBEAT_INTERVAL": "PT0.5S",
            "TIERLINE_WORKER__WIDTH": "100",
            "TIERLINE_PROVIDERS__SIMULATED__BASE_URL": self.provider_url,
            "TIERLINE_PROVIDERS__SIMULATED__ALLOW_PRIVATE": "true",
            "TIERLINE_PROVIDERS__SIMULATED__HEADERS": f'{{"{member_header(log.stem)}": "1"}}',
            # One machine: what a process could not book, the next one on it does.
            "TIERLINE_STATE_DIR": str(self.folder / "state"),
            # A model that fails is asked again soon: a run has minutes, not hours.
            "TIERLINE_PROVIDERS__SIMULATED__LIMITS": '{"*": {"first_break": "1s"}}',
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.traces_url,
            "OTEL_METRICS_EXPORTER": "none",
            # Settings of whoever runs the harness, to compare them.
            **{name: said for name, said in os.environ.items() if "_WORKER__" in name},
            **({"TIERLINE_FAILPOINT": failpoint} if failpoint else {}),
        }
        command = [_TIERLINE, "up", "--only", role]
        if role == "counting":
            module = ("-m", "tests.kafka.counting_stage")
            command = [sys.executable, *module, self.proxy.address, "", COUNTS]
        with log.open("wb") as said:
            process = await asyncio.create_subprocess_exec(
                *command, env=environment, stdout=said, stderr=said
            )
        member = Member(role, process, log, failpoint=failpoint)
        self.members.append(member)
        return member

    async def orchestrate(self, tell: Callable[[str], None]) -> None:
        """Start again what has ended by itself, as an orchestrator does, until cancelled."""
        while True:
            for member in list(self.members):
                code = member.process.returncode
                # A signal was ours; what died at a failpoint is started again by whoever set it.
                if code is not None and code > 0 and not member.is_done:
                    member.is_done = True
                    last = member.log.read_text(errors="replace").rstrip().rpartition("\n")[2]
                    tell(f"{member.log.name} ended by itself with {code}, started again: {last}")
                    await self.start(member.role)
            await asyncio.sleep(_LOOK_SECONDS)

    async def end(self, member: Member, limit: float = _END_SECONDS) -> int:
        """End a process as an orchestrator does, and wait for it; its exit code.

        One that does not end in time is killed and says -9.
        """
        member.is_done = True
        member.send(signal.SIGTERM)
        try:
            async with asyncio.timeout(limit):
                return await member.process.wait()
        except TimeoutError:
            member.is_overdue = True
            member.send(signal.SIGKILL)
            return await member.process.wait()

    async def _start_provider(self) -> None:
        command = ("simulate", "--port", "0", "--bill", str(self.bill_file), "--latency-scale")
        faults = (
            "http_429=0.005",
            "http_503=0.02",
            "reset=0.01",
            "cut=0.01",
            "malformed_json=0.01",
        )
        log = self.folder / "provider.log"
        with log.open("wb") as said:
            process = await asyncio.create_subprocess_exec(
                *(_TIERLINE, *command, str(self.latency_scale)),
                *(part for fault in faults for part in ("--fault", fault)),
                stdout=asyncio.subprocess.PIPE,
                stderr=said,
                env={"PATH": "/usr/bin:/bin", "PYTHONUNBUFFERED": "1", "HOME": str(Path.home())},
            )
        self.members.append(Member("provider", process, log))
        assert process.stdout is not None
        line = (await process.stdout.readline()).decode()
        found = re.search(r"http://\S+?/v1", line)
        assert found is not None, line
        self.provider_url = found[0]

    async def _end(self) -> None:
        for member in self.members:
            if member.is_alive:
                member.send(signal.SIGCONT)
                member.send(signal.SIGKILL)
                await member.process.wait()
        await self._broker.aclose()


async def _create_topics(kafka: KafkaSettings) -> None:
    """All of ours, and those of the stage that counts."""
    clients, state = Clients(kafka), state_topic("counting")
    assert await ensure_topics(clients) == []
    new = [
        NewTopic(state.name, kafka.partitions, 1, topic_configs=dict(state.config)),
        NewTopic(COUNTS, kafka.partitions, 1),
    ]
    async with administering(clients) as admin:
        await admin.create_topics(new)


async def refuse_results(kafka: KafkaSettings, *, refuses: bool) -> None:
    """Let the broker take no result, while it takes everything else; or mend that."""
    topics = kafka.topics
    [config] = [dict(spec.config) for name, spec in topics.all() if name == topics.results]
    if refuses:
        config["max.message.bytes"] = "100"
    async with administering(Clients(kafka)) as admin:
        resource = ConfigResource(ConfigResourceType.TOPIC, topics.results, config)
        await admin.alter_configs([resource])
