"""How a process is put together: plain construction, from top to bottom."""

import asyncio
import contextlib
import os
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from consumers import clock
from consumers.parties import STAGES
from consumers.policies import Policies, ReleaseError, followed
from consumers.providers.client import Providers
from consumers.providers.gate import Gate
from consumers.providers.settings import ModelLimits, ProviderSettings, variable_of
from consumers.runtime.backlog import watch_backlogs
from consumers.runtime.clients import KAFKA_IS_AWAY, Clients
from consumers.runtime.connection import KafkaUnreachableError, cluster_of
from consumers.runtime.health import Health
from consumers.runtime.ledger import Ledger
from consumers.runtime.limits import ended_tasks
from consumers.runtime.liveness import Watched, watched
from consumers.runtime.marks import usable_folder
from consumers.runtime.poison import Guard, settings_to_hand
from consumers.runtime.stage import Stage
from consumers.runtime.status import reporting_status
from consumers.runtime.topics import TopicWatch
from consumers.runtime.watchdog import default_patience
from consumers.settings import Settings
from consumers.stages.contract import Calling, Process, StageKind
from consumers.stages.refusing import Refusals
from consumers.supervisor import run_together
from consumers.telemetry.setup import Telemetry
from router.limits.forecast import Forecast
from router.policy.table import Model
from router.releases.bundle import Bundle
from schemas.base import Tier

__all__ = [
    "running_stages",
    "state_folder",
    "watch_of",
]

_T = TypeVar("_T")


def state_folder(settings: Settings) -> Path:
    """Where a process keeps what has to outlast it: as set, else the user's state folder."""
    base = os.environ.get("XDG_STATE_HOME")
    home = Path(base) if base else Path("~/.local/state").expanduser()
    return settings.state_dir or home / "tierline"


@contextlib.asynccontextmanager
async def running_stages(
    settings: Settings,
    rules: Bundle | Policies,
    providers: Mapping[str, ProviderSettings],
    *,
    kinds: Iterable[StageKind] = STAGES,
    on_stuck: Callable[[], None] = lambda: None,
    telemetry: Telemetry | None = None,
    stop: asyncio.Event | None = None,
    beside: Callable[[Guard], AbstractAsyncContextManager[None]] | None = None,
) -> AsyncIterator[Sequence[Stage]]:
    """Run stages in this process until the context closes, then drain them.

    `rules` are those of the files, whose releases are then followed, or releases that are followed
    already. The context opens when every stage has its partitions, or when `stop` is set: without
    Kafka a process that is told to end would wait for its partitions for ever. A stage that stands
    still ends it: `on_stuck` is called, all stages are drained, and StageError is raised in a
    group; so is UnbookedError where Kafka has not taken all ledger lines. `beside` opens what else
    runs until the stages have drained: the console, with the guard of the records that it reads.
    """
    stages: list[Stage] = []
    telemetry = telemetry or Telemetry()
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        policies = (
            rules
            if isinstance(rules, Policies)
            else await enter(followed(settings, rules, state_folder(settings)))
        )
        clients = Clients(settings.kafka, policies.longest_call)

        def patience() -> timedelta:
            return settings.health.patience or default_patience(policies.longest_call)

        health = Health(patience, policies, on_stuck=on_stuck, telemetry=telemetry)
        how = await watch_of(settings)
        mark = await enter(watched(how, health.answers, health.loop))
        await enter(reporting_status(clients.named("status"), health))
        tasks = await enter(asyncio.TaskGroup())

        def guard(stage: str) -> Guard:
            return Guard(f"{settings.kafka.prefix}{stage}", mark, how.folder)

        async def calling() -> Calling:
            gate = _gate(policies, providers, stages)
            refusals = Refusals(policies, clock.now)
            ledger = Ledger(clients.named("ledger"), state_folder(settings))
            opened = Calling(
                await enter(Providers(providers)),
                await enter(ledger.open()),
                gate,
                refusals,
                telemetry.calling({name: provider.address for name, provider in providers.items()}),
            )
            health.ask_models, health.refusals = gate.states, refusals
            return opened

        async def forecast() -> Forecast:
            return await enter(_forecasting(clients, tasks))

        process = Process(
            settings, policies, clients, telemetry, guard, _once(calling), _once(forecast)
        )
        for kind in kinds:
            stage = await enter(kind.open(process))
            stages.append(stage)
            health.watch(stage)
        topics = TopicWatch(clients)
        health.ask_topics = lambda: topics.problems
        if beside is not None:
            await enter(beside(guard("console")))
        watching = [tasks.create_task(health.run()), tasks.create_task(topics.run())]
        try:
            async with run_together(stages, tasks, stop or asyncio.Event()):
                try:
                    yield stages
                finally:
                    health.is_draining = True
                    for task in watching:
                        task.cancel()
        finally:
            await ended_tasks(*watching)


def _once(opening: Callable[[], Awaitable[_T]]) -> Callable[[], Awaitable[_T]]:
    """Open something the first time that it is asked for, and return the same from then on."""
    opened: list[_T] = []

    async def ask() -> _T:
        if not opened:
            opened.append(await opening())
        return opened[0]

    return ask


@contextlib.asynccontextmanager
async def _forecasting(clients: Clients, tasks: asyncio.TaskGroup) -> AsyncIterator[Forecast]:
    """A forecast that follows the backlog of each tier."""
    forecast = Forecast()
    tiers = {f"{clients.settings.prefix}work.{tier}": tier for tier in Tier}
    watching = tasks.create_task(watch_backlogs(clients, tiers, forecast.noted))
    try:
        yield forecast
    finally:
        await ended_tasks(watching)


async def watch_of(settings: Settings, *, has_health: bool = True) -> Watched:
    """How this process is watched. Raises OSError."""
    health, kafka = settings.health, str(settings.kafka.bootstrap)
    with contextlib.suppress(KafkaUnreachableError, *KAFKA_IS_AWAY):
        # A broker of our own has another address at each start.
        kafka = await cluster_of(Clients(settings.kafka)) or kafka
    return Watched(
        patience=health.loop_patience.total_seconds(),
        folder=usable_folder(state_folder(settings) / "marks"),
        kafka=kafka,
        handed=settings_to_hand(settings.kafka),
        listens=(health.host, health.port) if has_health and health.port else None,
    )


def _gate(
    policies: Policies, providers: Mapping[str, ProviderSettings], stages: Sequence[Stage]
) -> Gate:
    """The gate in front of every call of this process. Raises TierlineError.

    A release whose models it cannot call is not applied.
    """

    def limits(model: Model) -> ModelLimits:
        settings = providers.get(model.provider)
        return settings.limits_of(model.id) if settings else ModelLimits()

    gate = Gate(limits, lambda: max(stage.partition_count() for stage in stages))

    def check(bundle: Bundle) -> None:
        for name, model in bundle.policy.models.items():
            if model.provider not in providers:
                msg = (
                    f"its model {name} is called at the provider {model.provider}, which is not "
                    f"set up: set {variable_of(model.provider)}__BASE_URL, then start again"
                )
                raise ReleaseError(msg)
        gate.check(bundle.policy)

    policies.require(check, gate.serve)
    return gate
