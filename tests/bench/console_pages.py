"""The console's pages over a million requests, and twenty reviewers at work on one queue."""

import asyncio
import random
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
from sqlalchemy import BigInteger, Connection, String, Table, cast, func, insert, literal, select

from consumers import clock
from consumers.console.app import console_app
from consumers.console.auth import Authenticator, Role
from consumers.console.bulk import Bulk
from consumers.console.dashboard import Figures
from consumers.console.review_service import ReviewService
from consumers.console.store import CaseFilter, Store
from consumers.policies import Policies
from consumers.readmodel.columns import millis
from consumers.readmodel.tables import RECORDS, REQUESTS
from consumers.rules import load_rules
from consumers.runtime.clients import Clients
from consumers.runtime.publisher import publisher
from consumers.settings import Settings
from tests.bench.harness import Measured, sized

__all__ = ["measure_pages"]

#: Doubled until there are a million.
_SEED, _DOUBLINGS = 1_000, sized(10, 1)
_MILLION = _SEED << _DOUBLINGS
_APART = timedelta(seconds=2)
_VIEWS = sized(60, 3)
_REVIEWERS, _CASES_EACH = sized(20, 3), sized(10, 2)
#: A reviewer needs at least so long for a case.
_THINKS = sized(1000, 10) / 1000
_HERE = "http://localhost"
_PAGES = {
    "the queue": "/cases",
    "the queue, by a task": "/cases?task=general",
    "cases with a rare word": "/cases?text=zebrafinch",
    "groups": "/groups",
    "a case": "/cases/{place}",
    "the newest requests": "/requests",
    "requests with a frequent word": "/requests?text=invoice",
    "requests with a rare word": "/requests?text=zebrafinch",
    "requests of a user": "/requests?user=user-7",
    "requests of a rare tenant": "/requests?tenant=rare",
    "a request": "/requests/req-7",
    "the dashboard": "/dashboard?span=30d",
}


async def measure_pages(name: str, store: Store, settings: Settings) -> list[Measured]:
    """Milliseconds for each page, and for what reviewers wait for while all of them work."""
    clients, rules = Clients(settings.kafka), load_rules(settings)
    topics = settings.kafka.topics
    async with publisher(clients) as sending, asyncio.TaskGroup() as tasks:
        reviews = ReviewService(store, sending, Policies(rules), topics, clock.now)
        figures = Figures(reviews, clients)
        await figures.model.catch_up()
        async with store.database.writing() as connection:
            await connection.run_sync(_fill)
        keeping = tasks.create_task(figures.model.run())
        guard = Authenticator(store.sessions, clock.now, has_oidc=True)
        app = console_app(reviews, guard, Bulk(reviews), figures)
        measured = [row async for row in _pages(name, app, guard, store)]
        measured += await _reviewers(name, app, guard)
        keeping.cancel()
    return measured


async def _pages(
    name: str, app: Any, guard: Authenticator, store: Store
) -> AsyncIterator[Measured]:
    [case] = await store.cases(CaseFilter(), clock.now(), 1)
    for tenants in (None, frozenset({"acme", "rare"})):
        async with await _browser(app, guard, "reader", tenants) as http:
            pages = _PAGES if tenants is None else {"requests, for two tenants": "/requests"}
            for page, path in pages.items():
                times = []
                for _ in range(_VIEWS):
                    began = time.perf_counter()
                    reply = await http.get(path.format(place=case.place))
                    times.append((time.perf_counter() - began) * 1000)
                    assert reply.status_code == 200, (path, reply.status_code)
                words = f"{name}: p95 of {page}, {_MILLION} requests"
                yield Measured(words, [_p95(times)], "ms", "<= 200")


async def _reviewers(name: str, app: Any, guard: Authenticator) -> list[Measured]:
    """All take the next case, look at it, claim it and reject it, again and again."""
    times: dict[str, list[float]] = {"the next case": [], "a claim": [], "a decision": []}
    claims: Counter[str] = Counter()
    lost = 0

    async def works(number: int) -> None:
        nonlocal lost
        async with await _browser(app, guard, f"reviewer-{number}") as http:
            for _ in range(_CASES_EACH):
                await asyncio.sleep(_THINKS * random.uniform(0.5, 1.5))
                while True:
                    offered = await _timed(times["the next case"], http, "GET", "/next")
                    place = offered.headers["location"].removeprefix("/cases/").split("?")[0]
                    await http.get(f"/cases/{place}")
                    path = f"/api/cases/{place}"
                    claim = await _timed(times["a claim"], http, "POST", f"{path}/claim")
                    if claim.status_code == 200:
                        break
                    lost += 1
                claims[place] += 1
                decision = {"action": "reject", "undo_seconds": 0}
                decided = await _timed(
                    times["a decision"], http, "POST", f"{path}/decision", json=decision
                )
                assert decided.status_code == 200, decided.text

    async with asyncio.TaskGroup() as tasks:
        for number in range(_REVIEWERS):
            tasks.create_task(works(number))
    crowd = f"{_REVIEWERS} reviewers"
    goals = {"the next case": "<= 100"}
    return [
        *(
            Measured(f"{name}: p95 of {words}, {crowd}", [_p95(each)], "ms", goals.get(words, "-"))
            for words, each in times.items()
        ),
        Measured(f"{name}: claims per case, {crowd}", [float(max(claims.values()))], "most", "1"),
        Measured(f"{name}: claims that came second, {crowd}", [float(lost)], "in all", "-"),
    ]


async def _timed(
    times: list[float], http: httpx.AsyncClient, method: str, path: str, **fields: Any
) -> httpx.Response:
    began = time.perf_counter()
    reply = await http.request(method, path, **fields)
    times.append((time.perf_counter() - began) * 1000)
    return reply


async def _browser(
    app: Any, guard: Authenticator, who: str, tenants: frozenset[str] | None = None
) -> httpx.AsyncClient:
    """A browser of a reviewer who has signed in."""
    visitor = await guard.begin(who, Role.REVIEWER, tenants)
    heads = {"origin": _HERE, "x-csrf-token": visitor.csrf}
    heads["cookie"] = f"{guard.cookie}={visitor.cookie}"
    transport = httpx.ASGITransport(app)
    return httpx.AsyncClient(transport=transport, base_url=_HERE, headers=heads)


def _p95(times: list[float]) -> float:
    return statistics.quantiles(times, n=20)[-1]


def _fill(connection: Connection) -> None:
    """A thousand requests of several users and tenants, doubled with the time before them."""
    dice, now = random.Random(1), millis(clock.now())
    step = _APART // timedelta(milliseconds=1)
    words = [f"word{number}" for number in range(400)] + ["invoice"] * 40
    requests = [
        {
            "request_id": f"asked-{no}",
            "tenant": "rare" if no == 3 else dice.choice(("default", "default", "acme")),
            "appended_at": now - no * step,
            "topic": "llm.intake",
            "partition": no % 8,
            "offset": no,
            "task": "support_answer",
            "plan": "standard",
            "user": f"user-{dice.randrange(300)}",
            "conversation_id": f"talk-{dice.randrange(500)}",
            "words": " ".join(dice.choices(words, k=45))[:300],
            "unit": no,
        }
        for no in range(_SEED)
    ]
    connection.execute(insert(REQUESTS), requests)
    records = [
        {**{name: row[name] for name in row if name in RECORDS.c}, "at": row["appended_at"]}
        for row in requests
    ]
    connection.execute(insert(RECORDS), records)
    for doubling in range(_DOUBLINGS):
        for table, at in ((REQUESTS, REQUESTS.c.appended_at), (RECORDS, RECORDS.c.at)):
            earlier = (_SEED << doubling) * step
            changed = {
                at.name: at - literal(earlier, BigInteger),
                "request_id": cast(table.c.request_id, String) + literal(f".{doubling}"),
            }
            _copy(connection, table, changed)
    oldest = select(func.min(REQUESTS.c.appended_at)).scalar_subquery()
    rare = REQUESTS.update().where(REQUESTS.c.appended_at == oldest)
    connection.execute(rare.values(words="a zebrafinch"))
    if connection.dialect.name == "postgresql":  # which does so by itself, in a minute or so
        for table in (REQUESTS, RECORDS):
            connection.exec_driver_sql(f"ANALYZE {table.name}")


def _copy(connection: Connection, table: Table, changed: dict[str, Any]) -> None:
    columns = [changed.get(column.name, column).label(column.name) for column in table.c]
    ours = table.c.request_id.like("asked-%")
    connection.execute(
        insert(table).from_select(list(table.c.keys()), select(*columns).where(ours))
    )
