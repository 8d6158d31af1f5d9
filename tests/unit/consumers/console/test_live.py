"""Streams of events over real connections: who may follow what, what is told, and when they end."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import httpx
import orjson
import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from sqlalchemy import select

from consumers import clock
from consumers.console.attempts import Attempts
from consumers.console.auth import Authenticator, Role, Visitor
from consumers.console.entrance import Entrance
from consumers.console.live import Live, Pace, add_live
from consumers.console.pages import Pages
from consumers.console.refusals import Refusals
from consumers.console.review_service import ReviewService
from consumers.console.routes import Routes
from consumers.console.serving import serve
from consumers.console.store import Store
from consumers.console.tables import SESSIONS, Job
from consumers.readmodel.model import ReadModel
from consumers.readmodel.tables import make_tables
from consumers.runtime.clients import Clients
from consumers.settings import KafkaSettings
from consumers.sign_in_settings import TokenSettings
from schemas.topics import Topics
from tests.builders import policies_of
from tests.unit.consumers.console.world import LEASE, a_letter_record, place, take

pytestmark = pytest.mark.anyio

_QUICK = Pace(look=0.02, beat=0.05)


class _World:
    """A console with nothing but its streams, and somebody of each role."""

    def __init__(self, store: Store, guard: Authenticator, live: Live, url: str) -> None:
        self.store, self.guard, self.live, self.url = store, guard, live, url

    @contextlib.asynccontextmanager
    async def browser(
        self, role: Role = Role.VIEWER, tenants: frozenset[str] | None = None, who: str = "ann"
    ) -> AsyncIterator[tuple[httpx.AsyncClient, Visitor]]:
        visitor = await self.guard.begin(who, role, tenants)
        cookies = {self.guard.cookie: visitor.cookie or ""}
        limits = httpx.Timeout(20)
        async with httpx.AsyncClient(
            base_url=self.url, cookies=cookies, trust_env=False, timeout=limits
        ) as client:
            yield client, visitor


@contextlib.asynccontextmanager
async def _world(store: Store, pace: Pace = _QUICK) -> AsyncIterator[_World]:
    async with store.database.writing() as connection:
        await connection.run_sync(make_tables)
    token = TokenSettings(secret=SecretStr("x" * 40), role="operator")
    guard = Authenticator(store.sessions, clock.now, token=token, has_oidc=True)
    sending: Any = None  # nothing is sent here
    reviews = ReviewService(store, sending, policies_of(), Topics(), clock.now)
    live = Live(guard, reviews, ReadModel(store.database, Clients(KafkaSettings())), pace)
    app, routes, refusals = FastAPI(), Routes(), Refusals(Pages(clock.now))
    add_live(routes, live)
    app.include_router(routes.pages)
    refusals.add_to(app)

    async def noted(_client: str, _words: str) -> None:
        return None

    app.add_middleware(
        Entrance,
        authenticator=guard,
        attempts=Attempts(clock.now),
        note_failure=noted,
        say=refusals.say,
        sign_in_first=refusals.sign_in_first,
    )
    with contextlib.closing(socket.socket()) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        host, port = listening.getsockname()
        async with asyncio.TaskGroup() as tasks:
            stop = asyncio.Event()
            tasks.create_task(serve(app, listening, stop=stop))
            yield _World(store, guard, live, f"http://{host}:{port}")
            stop.set()


async def _events(reply: httpx.Response) -> AsyncIterator[tuple[str, list[str]]]:
    """The id of each event, and what it says has changed."""
    id_ = ""
    async for line in reply.aiter_lines():
        name, _, value = line.partition(": ")
        if name == "id":
            id_ = value
        elif name == "data":
            yield id_, orjson.loads(value)


async def _letters(store: Store, *offsets: int, tenant: str = "acme") -> None:
    await take(store, *(a_letter_record(offset, tenant=tenant) for offset in offsets))


async def test_a_page_is_told_of_every_change_of_the_queue(store: Store) -> None:
    async with _world(store) as world, world.browser() as (client, _):
        await _letters(store, 1)
        changes: list[Callable[[], Awaitable[object]]] = [
            lambda: _letters(store, 2),
            lambda: store.claim(place(1), "bob", clock.now(), LEASE),
            lambda: store.release(place(1), "bob", clock.now()),
        ]
        async with client.stream("GET", "/events?follow=cases") as reply:
            assert reply.headers["content-type"].startswith("text/event-stream")
            assert reply.headers["x-accel-buffering"] == "no"
            events = _events(reply)
            ids = {(await anext(events))[0]}
            for change in changes:
                await change()
                id_, changed = await anext(events)
                assert changed == ["cases"]
                ids.add(id_)
        assert len(ids) == 4


async def test_whoever_comes_back_hears_what_they_missed_and_nothing_twice(store: Store) -> None:
    """The store alone decides, so it holds after a restart and at another console."""
    follow = {"follow": ["cases", "job none"]}
    async with _world(store) as world, world.browser(Role.OPERATOR) as (client, _):
        await store.jobs.start(Job("none", "reject", "ann", "running", clock.now(), None, {}), [])
        async with client.stream("GET", "/events", params=follow) as reply:
            last, changed = await anext(_events(reply))
            assert changed == follow["follow"]
    await _letters(store, 7)
    async with _world(store) as world, world.browser(Role.OPERATOR) as (client, _):
        heads = {"last-event-id": last}
        async with client.stream("GET", "/events", params=follow, headers=heads) as reply:
            last, changed = await anext(_events(reply))
            assert changed == ["cases"]
        async with client.stream("GET", "/events", params={**follow, "seen": last}) as reply:
            events = _events(reply)
            await store.jobs.end("none", "done", clock.now())
            assert (await anext(events))[1] == ["job none"]


@pytest.mark.parametrize(
    ("follow", "role", "status"),
    [
        ("job job-1", Role.VIEWER, 403),
        ("job job-1", Role.OPERATOR, 404),
        ("job", Role.OPERATOR, 422),
        ("request globex r-1", Role.ADMIN, 404),
        ("request r-1", Role.ADMIN, 422),
        ("cases x", Role.ADMIN, 422),
        ("everything", Role.ADMIN, 422),
        ("", Role.ADMIN, 422),
    ],
)
async def test_nobody_follows_what_they_may_not_see(
    store: Store, follow: str, role: Role, status: int
) -> None:
    async with _world(store) as world, world.browser(role, frozenset({"acme"})) as (client, _):
        await store.jobs.start(Job("job-1", "reject", "bob", "running", clock.now(), None, {}), [])
        reply = await client.get("/events", params={"follow": follow})
        assert reply.status_code == status
        many = await client.get("/events", params={"follow": ["cases"] * 9})
        assert many.status_code == 422


async def test_another_tenant_s_cases_wake_nobody(store: Store) -> None:
    async with (
        _world(store) as world,
        world.browser(tenants=frozenset({"acme"})) as (client, _),
        client.stream("GET", "/events?follow=cases") as reply,
    ):
        events = _events(reply)
        before, _ = await anext(events)
        await _letters(store, 1, tenant="globex")
        await _letters(store, 2)
        after, _ = await anext(events)
        await _letters(store, 3, tenant="globex")
        assert before != after
        visitor = await world.guard.begin("eve", Role.VIEWER, frozenset({"acme"}))
        assert await world.live.mark(visitor, "cases") == after


async def test_there_are_so_many_streams_and_no_more(store: Store) -> None:
    pace = _QUICK._replace(most=3, most_each=2)
    async with (
        _world(store, pace) as world,
        world.browser() as (ann, _),
        world.browser(who="bob") as (bob, _),
        contextlib.AsyncExitStack() as streams,
    ):

        async def status(client: httpx.AsyncClient) -> int:
            stream = client.stream("GET", "/events?follow=cases")
            return (await streams.enter_async_context(stream)).status_code

        assert [await status(browser) for browser in (ann, ann, ann)] == [200, 200, 429]
        assert [await status(browser) for browser in (bob, bob)] == [200, 429]
        await streams.aclose()
        async with asyncio.timeout(20):
            while await status(ann) != 200:
                await streams.aclose()


async def test_a_stream_ends_with_its_session_and_keeps_none_alive(store: Store) -> None:
    async with _world(store) as world, world.browser() as (client, visitor):
        ago = (clock.now() - timedelta(minutes=10)).replace(microsecond=0)
        await store.database.write(SESSIONS.update().values(created_at=ago, seen_at=ago))
        async with client.stream("GET", "/events?follow=cases") as reply:
            lines = reply.aiter_lines()
            while await anext(lines) != ":":
                pass
            assert await store.database.value(select(SESSIONS.c.seen_at)) == ago
            for by_itself in ({"x-live": "1"}, {"hx-request": "true"}):
                await client.get("/nowhere", headers=by_itself)
            assert await store.database.value(select(SESSIONS.c.seen_at)) == ago
            await client.get("/nowhere")
            assert await store.database.value(select(SESSIONS.c.seen_at)) > ago
            await store.sessions.end(visitor.session.id_hash)
            async for _ in lines:
                pass
        assert (await client.get("/events?follow=cases")).status_code == 303


async def test_the_end_of_the_process_ends_streams_at_once(store: Store) -> None:
    """Not only once the server no longer waits for replies, which takes five seconds."""
    async with contextlib.AsyncExitStack() as console:
        world = await console.enter_async_context(_world(store, Pace(look=3600.0)))
        async with (
            world.browser() as (client, _),
            client.stream("GET", "/events?follow=cases") as reply,
        ):
            events = _events(reply)
            await anext(events)
            async with asyncio.timeout(4):
                await console.aclose()
