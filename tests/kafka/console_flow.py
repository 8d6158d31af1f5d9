"""A console over a running flow, and a browser as far as HTTP goes."""

import asyncio
import contextlib
import html
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterable
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI
from pydantic import SecretStr

from consumers import clock
from consumers.console.app import console_app
from consumers.console.auth import Authenticator, Role
from consumers.console.bulk import Bulk
from consumers.console.dashboard import Figures
from consumers.console.queue import Queue
from consumers.console.review_service import ReviewService
from consumers.console.store import CaseFilter, Store, open_store
from consumers.parties import STAGES
from consumers.policies import Policies
from consumers.runtime.clients import Clients
from consumers.runtime.processes import Processes
from consumers.runtime.publisher import publisher
from consumers.settings import Settings
from consumers.sign_in_settings import TokenSettings
from tests.kafka.flow import Flow, flow, request

__all__ = ["HERE", "SECRET", "TEXT", "Bearer", "Browser", "Console", "console", "looks", "until"]

TEXT = "You charged me twice for order 7, I want a refund of 30.00"
HERE = "http://localhost"
SECRET = "correct-horse-battery-staple-0123456789"


class Bearer(httpx.Auth):
    """The console's token with each call."""

    def __init__(self, secret: str = SECRET) -> None:
        self._secret = secret

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers["authorization"] = f"Bearer {self._secret}"
        yield request


class Browser:
    """What a browser does: cookies, redirects, forms with their tokens, and where it comes from."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
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
        sent = {**{name: html.unescape(text) for name, text in hidden.items()}, **fields}
        reply = await self.http.post(path, data=sent, headers={"origin": HERE})
        self.page = reply.text
        return reply

    async def come_in(self, role: str, tenants: Iterable[str] | None = None) -> None:
        """As somebody of this role whom an issuer has identified: they are named like it."""
        guard: Authenticator = self._app.state.guard
        seen = frozenset(tenants) if tenants is not None else None
        visitor = await guard.begin(role, Role(role), seen)
        self.http.cookies.set(guard.cookie, visitor.cookie or "", domain="localhost.local")
        await self.get("/cases")

    async def sign_in(self, token: str = SECRET) -> httpx.Response:
        """By the console's token."""
        await self.get("/sign-in")
        reply = await self.post("/sign-in", token=token)
        await self.get("/cases")
        return reply


class Console:
    """A console over a running flow."""

    def __init__(
        self, running: Flow, store: Store, desk: ReviewService, queue: Queue, app: FastAPI
    ) -> None:
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
    *,
    has_sign_in: bool = False,
    is_working: bool = True,
    **simulated: Any,
) -> AsyncIterator[Console]:
    """With `has_sign_in` by the token, as an operator, or by an issuer; else nobody has to.

    Without `is_working` jobs are not worked on. `simulated` are the provider's settings.
    """
    token = TokenSettings(secret=SecretStr(SECRET), role="operator") if has_sign_in else None
    async with (
        flow(settings, **simulated) as running,
        open_store(f"sqlite:///{tmp_path / 'console.db'}") as store,
        publisher(Clients(settings.kafka)) as sending,
        asyncio.TaskGroup() as tasks,
    ):
        policies, topics = Policies(running.rules), running.topics
        queue = Queue(store, Clients(settings.kafka), policies, topics, clock.now)
        desk = ReviewService(store, sending, policies, topics, clock.now, brief_task="brief")
        bulk = Bulk(desk)
        guard = Authenticator(store.sessions, clock.now, token=token, has_oidc=has_sign_in)
        app = console_app(
            desk,
            guard,
            bulk,
            Figures(desk, Clients(settings.kafka)),
            processes=Processes([kind.spec.name for kind in STAGES]),
        )
        app.state.guard = guard
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
    """A page, again and again. Raises TimeoutError where nobody finds there what they look for."""
    time = asyncio.get_running_loop().time
    give_up = time() + 90
    while time() < give_up:
        yield (await browser.get(path)).text
        await asyncio.sleep(0.1)
    raise TimeoutError(path)
