"""How everything is joined: plain construction, top to bottom."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from consumers import clock
from consumers.providers import Providers, ProviderSettings
from consumers.providers.gate import Gate
from consumers.providers.settings import ModelLimits, ProviderSettingsError
from consumers.rules import Rules
from consumers.runtime.backlog import watch_backlogs
from consumers.runtime.clients import KAFKA_IS_AWAY, Clients
from consumers.runtime.connection import KafkaUnreachableError, cluster_of
from consumers.runtime.executor import SyncExecutor
from consumers.runtime.health import Health
from consumers.runtime.ledger import Ledger
from consumers.runtime.liveness import Watched, watched
from consumers.runtime.marks import usable_folder
from consumers.runtime.offset_lookup import Source
from consumers.runtime.poison import Guard, settings_to_hand
from consumers.runtime.shell import Shell
from consumers.runtime.stage import Stage
from consumers.runtime.status import following_status, reporting_status
from consumers.runtime.task_pool import TaskPool
from consumers.runtime.topics import TopicWatch
from consumers.runtime.watchdog import default_patience
from consumers.settings import BoundSettings, Settings
from consumers.stages.attempts import CallModels
from consumers.stages.refusing import Refusals
from consumers.stages.repeats import Repeats
from consumers.stages.review import SPEC as REVIEW
from consumers.stages.review import Reviewing
from consumers.stages.route import SPEC as ROUTE
from consumers.stages.route import Router
from consumers.stages.work import Worker, spec_of
from consumers.telemetry.observer import Observer
from consumers.telemetry.setup import Telemetry
from router.intake.admission import Admission, Proven
from router.intake.signatures import Key
from router.judge.reply import CallFailure, Reply
from router.limits.forecast import Forecast
from router.limits.shares import shares
from router.policy.table import Model, Policy
from router.prompts.chat_fields import ChatFields
from schemas.base import Tier

__all__ = [
    "admission_of",
    "running_stages",
    "state_folder",
    "watch_of",
]

#: Seconds for which calls of a lost partition may still end, so that their true cost is booked.
_LAST_GRACE = 3.0
#: Decisions that are carried out at a time; those in their window do not count.
_DECISIONS = 32


def state_folder(settings: Settings) -> Path:
    """Where a process keeps what has to outlast it: as set, else where the user's state belongs."""
    base = os.environ.get("XDG_STATE_HOME")
    home = Path(base) if base else Path("~/.local/state").expanduser()
    return settings.state_dir or home / "tierline"


@contextlib.asynccontextmanager
async def running_stages(  # noqa: PLR0913  a process has as many parts
    settings: Settings,
    rules: Rules,
    providers: Mapping[str, ProviderSettings],
    *,
    route: bool = True,
    tiers: Collection[Tier] = tuple(Tier),
    review: bool = True,
    on_stuck: Callable[[], None] = lambda: None,
    telemetry: Telemetry | None = None,
    stop: asyncio.Event | None = None,
) -> AsyncIterator[Sequence[Stage]]:
    """Run stages in this process until the context closes, then drain them.

    The context opens when every stage has its partitions, or when `stop` is set: a process that is
    told to end while Kafka is away would wait for partitions that nobody gives it. A stage that
    stands still ends it: `on_stuck` is called, then all are drained and StageError comes out of a
    group; so does UnbookedError, when Kafka has not taken what was paid.
    """
    clients = Clients(settings.kafka, rules.policy.limits.call_timeout)
    stages: list[Stage] = []
    patience = settings.health.patience or default_patience(rules.policy.limits.call_timeout)
    seen = telemetry or Telemetry()
    health = Health(patience, on_stuck=on_stuck, telemetry=seen)
    async with contextlib.AsyncExitStack() as stack:
        how = await watch_of(settings)
        mark = await stack.enter_async_context(watched(how, health.answers, health.loop))

        def guard(stage: str) -> Guard:
            return Guard(f"{settings.kafka.prefix}{stage}", mark, how.folder)

        told = clients.named("status")
        await stack.enter_async_context(reporting_status(told, health, rules.policy))
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        refusals = Refusals(rules.policy, clock.now)
        if route:
            forecast = stack.enter_context(_forecasting(clients, tasks))
            stages.append(_route_stage(rules, clients, settings, seen, forecast, guard(ROUTE.name)))
            health.watch(stages[-1])
        served = [tier for tier in tiers if tier in rules.policy.tiers]
        if served:
            caller = await stack.enter_async_context(Providers(providers))
            ledger = Ledger(clients.named("ledger"), state_folder(settings))
            await stack.enter_async_context(ledger.open())
            observer, gate = _observer(seen, providers), _gate(rules.policy, providers, stages)
            health.ask_models, health.refusals = gate.states, refusals
            await stack.enter_async_context(following_status(told, refusals))
            for tier in served:
                calls = _CountedCalls(caller, gate, refusals)
                worker = Worker(
                    tier,
                    rules.policy,
                    rules.prompts,
                    calls,
                    settings.kafka.topics,
                    clock.now,
                    ledger,
                    observer,
                    gate,
                    refusals,
                )
                marks = guard(worker.stage)
                stages.append(
                    await stack.enter_async_context(
                        _working(worker, gate, ledger, clients, settings, seen, marks)
                    )
                )
                health.watch(stages[-1], calls.moves)
        if review:
            stages.append(
                await stack.enter_async_context(
                    _reviewing(rules, clients, settings, seen, guard(REVIEW.name))
                )
            )
            health.watch(stages[-1])
        topics = TopicWatch(clients)
        health.ask_topics = lambda: topics.problems
        watching = [tasks.create_task(health.run()), tasks.create_task(topics.run())]
        async with _run_all(stages, tasks, stop or asyncio.Event()):
            try:
                yield stages
            finally:
                health.is_draining = True
                for task in watching:
                    task.cancel()


@contextlib.contextmanager
def _forecasting(clients: Clients, tasks: asyncio.TaskGroup) -> Iterator[Forecast]:
    """A forecast that is told what Kafka holds."""
    forecast = Forecast()
    groups = {f"{clients.settings.prefix}work.{tier}": tier for tier in Tier}
    watching = tasks.create_task(watch_backlogs(clients, groups, forecast.noted))
    try:
        yield forecast
    finally:
        watching.cancel()


async def watch_of(settings: Settings, *, has_health: bool = True) -> Watched:
    """How this process is watched. Raises OSError."""
    health, kafka = settings.health, str(settings.kafka.bootstrap)
    with contextlib.suppress(KafkaUnreachableError, *KAFKA_IS_AWAY):
        # The address of a broker of our own is another one at each start.
        kafka = await cluster_of(Clients(settings.kafka)) or kafka
    return Watched(
        patience=health.loop_patience.total_seconds(),
        folder=usable_folder(state_folder(settings) / "marks"),
        kafka=kafka,
        handed=settings_to_hand(settings.kafka),
        listens=(health.host, health.port) if has_health and health.port else None,
    )


class _CountedCalls:
    """Calls of one stage, counted as they begin and end.

    A request may take several slow calls before it can be committed: that is no standstill.
    """

    def __init__(self, calls: CallModels, gate: Gate, refusals: Refusals) -> None:
        self._calls = calls
        self._gate = gate
        self._refusals = refusals
        self._moves = 0

    def moves(self) -> int:
        """How many calls have begun and have ended, and how often one was told to wait."""
        return self._moves + self._gate.waits + self._refusals.looks

    def chat_fields(self, provider: str) -> ChatFields:
        """What of a producer's chat body a provider is sent."""
        return self._calls.chat_fields(provider)

    async def call(
        self,
        provider: str,
        body: dict[str, Any],
        *,
        attempt_id: str,
        request_id: str,
        timeout: timedelta,  # noqa: ASYNC109  the whole call's, passed on
    ) -> Reply | CallFailure:
        """Call a model."""
        self._moves += 1
        try:
            return await self._calls.call(
                provider, body, attempt_id=attempt_id, request_id=request_id, timeout=timeout
            )
        finally:
            self._moves += 1


def _observer(telemetry: Telemetry, providers: Mapping[str, ProviderSettings]) -> Observer:
    return telemetry.calling({name: one.address for name, one in providers.items()})


def _gate(
    policy: Policy, providers: Mapping[str, ProviderSettings], stages: Sequence[Stage]
) -> Gate:
    """What stands in front of every call of this process. Raises ProviderSettingsError."""

    def limits(model: Model) -> ModelLimits:
        settings = providers.get(model.provider)
        return settings.limits_of(model.id) if settings else ModelLimits()

    given = {name: share for name, model in policy.models.items() if (share := limits(model).share)}
    parts = shares(policy, given)
    for (name, tier), part in parts.items():
        if not part:
            msg = f"limits of {name}: share leaves {tier} out, and the policy lets {tier} call it"
            raise ProviderSettingsError(msg)
    return Gate(policy.models, limits, parts, lambda: max(one.partition_count() for one in stages))


def admission_of(settings: Settings) -> Admission:
    """What tenants and plans are bound to."""
    intake, topics = settings.intake, settings.kafka.topics

    def proven(bound: BoundSettings) -> Proven:
        return Proven(bound.tenant, bound.plan)

    return Admission(
        {f"{topics.intake}.{name}": proven(one) for name, one in settings.kafka.intakes.items()},
        intake.principal_header or "",
        {name: proven(one) for name, one in intake.principals.items()},
        {
            name: Key(key.secret.get_secret_value().encode(), key.tenants, key.plans)
            for name, key in intake.keys.items()
        },
        intake.longest_signature,
        requires_proof=intake.requires_proof,
    )


def _route_stage(
    rules: Rules,
    clients: Clients,
    settings: Settings,
    telemetry: Telemetry,
    forecast: Forecast,
    guard: Guard,
) -> Stage:
    topics = settings.kafka.topics
    admission = admission_of(settings)
    repeats = Repeats(clients.named(ROUTE.name), settings.repeats, rules.policy, admission, guard)
    router = Router(
        rules.policy,
        topics,
        clock.now,
        repeats,
        telemetry.observer,
        rules.prompts,
        forecast,
        admission,
    )
    shell = Shell(router.dead_letters)
    return Stage(
        ROUTE,
        clients,
        SyncExecutor(router.decide, shell, guard, telemetry.tracing),
        shell,
        guard,
        prepare=repeats.prepare,
        drain_for=settings.worker.drain_for.total_seconds(),
    )


@contextlib.asynccontextmanager
async def _working(
    worker: Worker,
    gate: Gate,
    ledger: Ledger,
    clients: Clients,
    settings: Settings,
    telemetry: Telemetry,
    guard: Guard,
) -> AsyncIterator[Stage]:
    tier, models = worker.tier, worker.policy.models_of(worker.tier)
    shell = Shell(worker.dead_letters)
    pool = TaskPool(
        worker.handle,
        shell,
        guard,
        width=settings.worker.width,
        # What no model could take yet is better left in Kafka.
        most=lambda: gate.most_calls(models),
        on_lost=lambda tp: gate.forget((tier, tp.partition)),
        book=ledger.book,
        last_grace=_LAST_GRACE,
        telemetry=telemetry,
    )
    is_parking = any(row.unknown_outcome == "park" for row in worker.policy.tasks.values())

    async def learn_started(tp: Source, position: int) -> None:
        await ledger.prepare(tp, position, guard)

    prepare = learn_started if is_parking else None
    async with pool.open():
        yield Stage(
            spec_of(tier),
            clients,
            pool,
            shell,
            guard,
            prepare=prepare,
            returned=prepare,
            revoke_grace=settings.worker.revoke_grace.total_seconds(),
            drain_for=settings.worker.drain_for.total_seconds(),
        )


@contextlib.asynccontextmanager
async def _reviewing(
    rules: Rules, clients: Clients, settings: Settings, telemetry: Telemetry, guard: Guard
) -> AsyncIterator[Stage]:
    reviewing = Reviewing(
        clients.named(REVIEW.name),
        rules.policy,
        rules.prompts,
        clock.now,
        telemetry.observer,
        guard,
    )
    shell = Shell(reviewing)
    pool = TaskPool(
        reviewing.handle,
        shell,
        guard,
        width=_DECISIONS,
        book=lambda *_: None,  # another owner carries it out
        last_grace=0.0,
        telemetry=telemetry,
    )
    async with pool.open():
        yield Stage(
            REVIEW,
            clients,
            pool,
            shell,
            guard,
            prepare=reviewing.prepare,
            drain_for=settings.worker.drain_for.total_seconds(),
        )


@contextlib.asynccontextmanager
async def _run_all(
    stages: Sequence[Stage], tasks: asyncio.TaskGroup, no_wait: asyncio.Event
) -> AsyncIterator[None]:
    """Run stages from when all are ready until the context closes, and drain them."""
    stop, ends = asyncio.Event(), [asyncio.Event() for _ in stages]
    running = [
        tasks.create_task(_run(stage, stop, end, ends))
        for stage, end in zip(stages, ends, strict=True)
    ]
    ready = tasks.create_task(_all_ready(stages))
    told = tasks.create_task(no_wait.wait())
    # A stage that fails before it is ready must not leave us waiting for it.
    await asyncio.wait([ready, told, *running], return_when=asyncio.FIRST_COMPLETED)
    try:
        yield
    finally:
        ready.cancel()
        told.cancel()
        stop.set()
        await asyncio.wait(running)


async def _run(
    stage: Stage, stop: asyncio.Event, end: asyncio.Event, ends: Sequence[asyncio.Event]
) -> None:
    """Run a stage. Whose failure ends the others lets them drain first, and is told afterwards."""
    try:
        await stage.run(stop)
    except Exception:  # told afterwards
        stop.set()
        end.set()
        for other in ends:
            await other.wait()
        raise
    finally:
        end.set()


async def _all_ready(stages: Sequence[Stage]) -> None:
    for stage in stages:
        await stage.ready.wait()
