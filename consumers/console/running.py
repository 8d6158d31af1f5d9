"""A console as a process runs it: its tables, its own work and its server."""

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass

from consumers import clock
from consumers.admissions import admission_of
from consumers.console.app import console_app
from consumers.console.auth import Authenticator
from consumers.console.bulk import Bulk
from consumers.console.dashboard import Figures
from consumers.console.queue import Queue
from consumers.console.review_service import ReviewService
from consumers.console.serving import serve
from consumers.console.store import open_store
from consumers.parties import stages_of
from consumers.policies import Policies
from consumers.rollout_guard import RolloutGuard
from consumers.runtime.backlog import watch_backlogs
from consumers.runtime.clients import Clients
from consumers.runtime.metrics import tell_review
from consumers.runtime.poison import Guard
from consumers.runtime.processes import Processes
from consumers.runtime.publisher import publisher
from consumers.runtime.status import following_status
from consumers.settings import Settings
from consumers.telemetry.setup import Telemetry
from schemas.errors import TierlineError

__all__ = ["ConsoleAt", "run_console"]


@dataclass(frozen=True, slots=True)
class ConsoleAt:
    """Where a console listens, and where it keeps its tables."""

    listening: socket.socket
    store: str
    #: Browsers reach it by https.
    is_secure: bool = False


async def run_console(
    settings: Settings,
    policies: Policies,
    at: ConsoleAt,
    stop: asyncio.Event,
    *,
    telemetry: Telemetry,
    guard: Guard | None = None,
    tell: Callable[[str], None],
) -> None:
    """Serve the console until `stop` is set, and tell people where it is.

    Raises TierlineError, alone or in a group, for what keeps it from opening or going on: a store
    of another cluster, for example.
    """
    topics, policy = settings.kafka.topics, policies.active.policy
    if (brief := settings.console.brief_task) is not None and brief not in policy.tasks:
        msg = f"TIERLINE_CONSOLE__BRIEF_TASK={brief}: the policy has no such task"
        raise TierlineError(msg)
    clients = Clients(settings.kafka).named("console")
    kinds = stages_of(tiers=list(policy.tiers))
    # Without caps nothing is to be admitted.
    needed = [kind.spec.name for kind in kinds if policy.caps or kind.role != "admit"]
    processes = Processes(needed)
    async with (
        open_store(at.store) as store,
        publisher(clients, telemetry.tracing) as sending,
        following_status(clients, processes, since=Processes.gone_after),
        asyncio.TaskGroup() as tasks,
    ):
        queue = Queue(store, clients, policies, topics, clock.now, guard)
        reviews = ReviewService(
            store,
            sending,
            policies,
            topics,
            clock.now,
            brief_task=brief,
            trace_url=settings.console.trace_url,
        )
        authenticator = Authenticator(
            store.sessions,
            clock.now,
            token=settings.console.token,
            has_oidc=settings.console.oidc is not None,
            is_secure=at.is_secure,
        )
        bulk, keep, admission = Bulk(reviews), settings.store.keep, admission_of(settings)
        figures = Figures(reviews, clients, keep, admission, guard)
        for tables in (queue, figures.model):
            await tables.check()
        tell_review(telemetry.meter, lambda: queue.standing)
        groups = {f"{settings.kafka.prefix}{name}": name for name in processes.needed}
        works = (
            *(queue.run(), queue.look(), figures.model.run(), reviews.resend(), bulk.run()),
            _tell_caught_up(queue.caught_up, tell),
            watch_backlogs(clients, groups, processes.note_backlog),
            RolloutGuard(settings, policy, figures.model).run(policies),
        )
        running = [tasks.create_task(work) for work in works]
        host, number = at.listening.getsockname()[:2]
        tell(f"the console is at http://{f'[{host}]' if ':' in host else host}:{number}")
        app = console_app(
            reviews, authenticator, bulk, figures, settings.console.oidc, processes=processes
        )
        await serve(app, at.listening, proxies=settings.console.proxies, stop=stop)
        for task in running:
            task.cancel()


async def _tell_caught_up(caught_up: asyncio.Event, tell: Callable[[str], None]) -> None:
    await caught_up.wait()
    tell("all dead letters have been read")
