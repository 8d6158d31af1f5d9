"""A console over a running flow, and a browser as far as HTTP goes."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from consumers import clock
from consumers.console.app import console_app
from consumers.console.bulk import Bulk
from consumers.console.dashboard import Figures
from consumers.console.deciding import Desk
from consumers.console.queue import Queue
from consumers.console.rows import CaseFilter
from consumers.console.security import Guard, Role, hash_password, read_users
from consumers.console.store import Store, open_store
from consumers.runtime.clients import Clients
from consumers.runtime.reading import publisher
from consumers.settings import Settings
from tests.kafka.flow import Flow, flow, request

__all__ = ["HASH", "HERE", "PASSWORD", "TEXT", "Browser", "Console", "console", "looks", "until"]

TEXT = "You charged me twice for order 7, I want a refund of 30.00"
HERE = "http://localhost"
PASSWORD = "correct horse"
HASH = hash_password(PASSWORD)


class Browser:
    """What a browser does: cookies, redirects, forms with their tokens, and where it comes from."""

    def __init__(self, app: FastAPI) -> None:
        transport = httpx.ASGITransport(app)
        self.http = httpx.AsyncClient(transport=transport, base_url=HERE, follow_redirects=True)
        self.page = ""

    async def get(self, path: str) -> httpx.Response:
        reply = await self.http.get(path)
        self.page = reply.text
        return reply

    async def post(self, path: str, **fields: Any) -> httpx.Response:
        """Send a form of the page we are on, its hidden fields included."""
        hidden = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', self.page))
        sent = {**hidden, **fields}
        reply = await self.http.post(path, data=sent, headers={"origin": HERE})
        self.page = reply.text
        return reply

    async def sign_in(self, name: str, password: str = PASSWORD) -> httpx.Response:
        await self.get("/sign-in")
        reply = await self.post("/sign-in", name=name, password=password)
        await self.get("/cases")
        return reply


class Console:
    """A console over a running flow."""

    def __init__(self, running: Flow, store: Store, desk: Desk, queue: Queue, app: FastAPI) -> None:
        self.running, self.store, self.desk, self.queue, self.app = running, store, desk, queue, app

    async def cases(self, count: int, **wanted: Any) -> list[str]:
        """The places of so many cases, once they are there."""
        async with asyncio.timeout(60):
            while True:
                found = await self.store.cases(CaseFilter(**wanted), clock.now())
                if len(found) >= count:
                    return [one.place for one in found]
                await asyncio.sleep(0.05)

    async def disputes(self, count: int) -> list[str]:
        """Cases of answers that wait for approval."""
        sent = (request(f"dispute-{no}", TEXT, task="billing_dispute") for no in range(count))
        await self.running.publish(*sent)
        return await self.cases(count)


@contextlib.asynccontextmanager
async def console(
    settings: Settings,
    tmp_path: Path,
    roles: Sequence[Role] = (),
    *,
    people: Sequence[str] = (),
    is_working: bool = True,
) -> AsyncIterator[Console]:
    """With `roles`, a user of each role's name may sign in; else nobody has to.

    `people` are further lines of the users file. Without `is_working` jobs are not worked on.
    """
    users = None
    if lines := [*(f"{role}:{role}:{HASH}" for role in roles), *people]:
        file = tmp_path / "users"
        file.write_text("\n".join(lines))
        users = read_users(file)
    async with (
        flow(settings) as running,
        open_store(f"sqlite:///{tmp_path / 'console.db'}") as store,
        publisher(Clients(settings.kafka)) as sending,
        asyncio.TaskGroup() as tasks,
    ):
        rules, topics = running.rules, running.topics
        queue = Queue(store, Clients(settings.kafka), rules.policy, topics, clock.now)
        desk = Desk(
            store, sending, rules.policy, rules.prompts, topics, clock.now, brief_task="brief"
        )
        bulk = Bulk(desk)
        app = console_app(
            desk,
            Guard(store.sessions, users, clock.now),
            bulk,
            Figures(desk, Clients(settings.kafka)),
        )
        work = [
            tasks.create_task(one)
            for one in (queue.run(), desk.resend(), *([bulk.run()] if is_working else []))
        ]
        yield Console(running, store, desk, queue, app)
        for one in work:
            one.cancel()


async def until(is_so: Callable[[], Awaitable[bool]]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(120):
        while not await is_so():  # noqa: ASYNC110  the store sends no events
            await asyncio.sleep(0.05)


async def looks(browser: Browser, path: str) -> AsyncIterator[str]:
    """A page, again and again."""
    while True:
        yield (await browser.get(path)).text
        await asyncio.sleep(0.1)
