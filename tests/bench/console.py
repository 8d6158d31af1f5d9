"""The review console with 10,000 cases that wait: what a reviewer waits for."""

import asyncio
import contextlib
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path

from confluent_kafka import Producer

from consumers import clock
from consumers.console.queue import Queue
from consumers.console.store import Case, CaseFilter, Store, open_store
from consumers.runtime.clients import Clients
from consumers.settings import Settings
from schemas.reasons import Reason
from tests.bench.console_pages import measure_pages
from tests.bench.harness import PARTITIONS, Measured, settings_for, sized
from tests.builders import an_attempt, policies_of
from tests.postgres import postgres
from tests.unit.consumers.console.world import LEASE, a_letter_record

__all__ = ["measure_console"]

COUNT = sized(10_000, 60)
CALLS = sized(200, 6)
CLAIMERS = sized(50, 3)
CLAIMED = sized(200, 5)
TASKS = ("support_answer", "general", "billing_dispute", "classification")
REASONS = (Reason.NO_TIER_LEFT, Reason.ATTEMPTS_EXHAUSTED, Reason.PROVIDER_UNAVAILABLE)


async def measure_console(bootstrap: str) -> list[Measured]:
    """Milliseconds per act, and how long a lost store takes to be made again."""
    settings = await settings_for(bootstrap, "console.")
    await asyncio.to_thread(_fill, settings)
    found: list[Measured] = []
    with tempfile.TemporaryDirectory() as folder, postgres() as server:
        stores = {"SQLite": f"sqlite:///{Path(folder) / 'cases.db'}"}
        if server is not None:
            stores["PostgreSQL"] = server.database()
        for name, url in stores.items():
            async with open_store(url) as store:
                found += await _measured(name, store, settings)
    return found


async def _measured(name: str, store: Store, settings: Settings) -> list[Measured]:
    began = time.perf_counter()
    topics = settings.kafka.topics
    await Queue(store, Clients(settings.kafka), policies_of(), topics, clock.now).catch_up()
    rebuilt = time.perf_counter() - began
    waiting = CaseFilter()
    # The reviewers of the store before this one have decided on some of them.
    assert await store.count(CaseFilter(state=None), clock.now()) == COUNT

    async def following() -> object:
        return await store.next_case("ann", waiting, clock.now())

    async def claimed() -> object:
        case = await store.next_case("ann", waiting, clock.now())
        assert case is not None
        return await store.claim(case.place, "ann", clock.now(), LEASE)

    async def page() -> object:
        return await store.cases(CaseFilter(task="general"), clock.now())

    async def groups() -> object:
        return await store.groups(waiting, clock.now())

    async def search() -> object:
        return await store.cases(CaseFilter(text="no such words"), clock.now())

    limits = "< 200 ms"
    rows = [
        Measured(f"{name}: {COUNT} cases made from the topics", [rebuilt], "s", "-"),
        await _p95(f"{name}: p95 of the next case, {COUNT} waiting", following, limits),
        await _p95(f"{name}: p95 of the next case and its claim", claimed, limits),
        await _p95(f"{name}: p95 of a page of a filter", page, "-"),
        await _p95(f"{name}: p95 of the groups", groups, "-"),
        await _p95(f"{name}: p95 of a search", search, "-"),
    ]
    async with _writer(store):
        rows.append(
            await _p95(f"{name}: p95 of the next case while others decide", following, limits)
        )
    rows.append(await _claims(name, store))
    return [*rows, *await measure_pages(name, store, settings)]


async def _p95(name: str, act: Callable[[], Awaitable[object]], goal: str) -> Measured:
    runs = []
    for _ in range(3):
        times = []
        for _ in range(CALLS // 3):
            began = time.perf_counter()
            await act()
            times.append((time.perf_counter() - began) * 1000)
        runs.append(statistics.quantiles(times, n=20)[-1])
    return Measured(name, runs, "ms", goal)


@contextlib.asynccontextmanager
async def _writer(store: Store) -> AsyncIterator[None]:
    """Somebody who claims and releases as fast as the store takes it."""
    places = [case.place for case in await store.cases(CaseFilter(), clock.now(), limit=CLAIMED)]

    async def write() -> None:
        while True:
            for place in places:
                await store.claim(place, "bob", clock.now(), LEASE)
                await store.release(place, "bob", clock.now())

    writing = asyncio.ensure_future(write())
    try:
        yield
    finally:
        writing.cancel()
        await asyncio.wait({writing})


async def _claims(name: str, store: Store) -> Measured:
    """Everybody wants the same case; winners per case, which has to be one."""
    later = clock.now() + timedelta(days=1)
    winners = []
    for case in await store.cases(CaseFilter(), later, limit=CLAIMED):
        claims = (store.claim(case.place, f"p-{who}", later, LEASE) for who in range(CLAIMERS))
        won = [one for one in await asyncio.gather(*claims) if isinstance(one, Case)]
        winners.append(float(len(won)))
    return Measured(f"{name}: winners of {CLAIMERS} claims, {CLAIMED} cases", winners, "each", "1")


def _fill(settings: Settings) -> None:
    producer = Producer({"bootstrap.servers": settings.kafka.bootstrap, "linger.ms": 5})
    reply = "We have changed the address. " * 40
    for number in range(COUNT):
        record = a_letter_record(
            number,
            b'{"input": "%b"}' % (b"Where is my order? " * 50),
            failed_at=clock.now() - timedelta(seconds=number),
            task=TASKS[number % len(TASKS)],
            reason=REASONS[number % len(REASONS)],
            attempts=[an_attempt(attempt_no=no, reply=reply) for no in (1, 2, 3)],
        )
        producer.produce(
            settings.kafka.topics.dead_letters,
            record.value,
            partition=number % PARTITIONS,
            headers=list(record.headers),
        )
        producer.poll(0)
    producer.flush(60)
