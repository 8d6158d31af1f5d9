"""What every stage declares, and what a process gives it to be built from."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from consumers.policies import Policies
from consumers.providers.gate import Gate
from consumers.runtime.clients import Clients
from consumers.runtime.ledger import Ledger
from consumers.runtime.poison import Guard
from consumers.runtime.spec import StageSpec
from consumers.runtime.stage import Stage
from consumers.settings import Settings
from consumers.stages.ports import CallModels
from consumers.stages.refusing import Refusals
from consumers.telemetry.observer import Observer
from consumers.telemetry.setup import Telemetry
from router.limits.forecast import Forecast
from schemas.base import Tier

__all__ = ["Calling", "Process", "StageKind"]


@dataclass(frozen=True, slots=True)
class Calling:
    """What the stages of a process share that call models."""

    providers: CallModels
    ledger: Ledger
    gate: Gate
    refusals: Refusals
    observer: Observer


@dataclass(frozen=True, slots=True)
class Process:
    """What a process has for its stages."""

    settings: Settings
    policies: Policies
    clients: Clients
    telemetry: Telemetry
    #: Marks the records of a stage while they are handled.
    guard: Callable[[str], Guard]
    #: Opened with the first stage that asks, and closed with the process.
    calling: Callable[[], Awaitable[Calling]]
    forecast: Callable[[], Awaitable[Forecast]]

    @property
    def drain_for(self) -> float:
        """Seconds that the end of a stage may take."""
        return self.settings.worker.drain_for.total_seconds()


@dataclass(frozen=True, slots=True)
class StageKind:
    """A stage as its file declares it: what it reads and writes, and how it is opened."""

    spec: StageSpec
    #: The context owns the stage's tasks.
    open: Callable[[Process], AbstractAsyncContextManager[Stage]]
    #: The name for it in `up --only`.
    role: str
    #: The tier that it serves, where it serves one.
    tier: Tier | None = None
