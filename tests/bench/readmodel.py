"""The read model: how fast it catches up, and what views and `spend` cost over 30 days."""

import asyncio
import random
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from confluent_kafka import Producer
from sqlalchemy import Connection, String, Table, cast, insert, literal, select

from consumers import clock
from consumers.console.app import console_app
from consumers.console.auth import Authenticator
from consumers.console.bulk import Bulk
from consumers.console.dashboard import Figures
from consumers.console.review_service import ReviewService
from consumers.console.store import Store, open_store
from consumers.policies import Policies
from consumers.readmodel.model import ReadModel, opened
from consumers.readmodel.projection import DAY
from consumers.readmodel.tables import CALLS, LATENCIES, SUMS
from consumers.readmodel.tables import REQUESTS as ASKED
from consumers.rules import load_rules
from consumers.runtime.clients import Clients
from consumers.runtime.publisher import publisher
from consumers.settings import KafkaSettings, Settings
from schemas.base import EARLIEST, Tier
from schemas.reasons import Reason
from schemas.usage import Usage
from tests.bench.commands import run_command
from tests.bench.harness import PARTITIONS, Measured, settings_for, sized
from tests.builders import a_request, a_route, an_assignment
from tests.postgres import postgres
from tests.tables import record_of
from tests.unit.consumers.readmodel.test_projection import a_line, a_result, said

__all__ = ["measure_readmodel"]

#: Requests that are caught up with; each has about four records.
REQUESTS = sized(20_000, 40)
#: Calls of a day: a million in thirty days.
CALLS_A_DAY = sized(33_334, 40)
DAYS, HISTORY = 30, sized(360, 60)
VIEWS = sized(20, 2)
USERS = 5_000
_SPENT_BY = ("task,tier", "day", "workflow", "user", "user,task,day", "release,prompt")
_TASKS = ("support_answer", "extraction", "summarization", "triage", "classification")
_PLANS = ("free", "standard", "enterprise")


async def measure_readmodel(bootstrap: str) -> list[Measured]:
    """Records a second, and milliseconds for each view of the whole page."""
    settings = await settings_for(bootstrap, "readmodel.")
    count = await asyncio.to_thread(_fill, settings)
    found: list[Measured] = []
    with tempfile.TemporaryDirectory() as folder, postgres() as server:
        stores = {"SQLite": lambda name: f"sqlite:///{Path(folder) / name}.db"}
        if server is not None:
            stores["PostgreSQL"] = lambda _: server.database()
        for kind, url_of in stores.items():
            rates = []
            for no in range(3):
                async with opened(Clients(settings.kafka), url_of(f"caught-up-{no}")) as model:
                    began = time.perf_counter()
                    await model.catch_up()
                    rates.append(count / (time.perf_counter() - began))
            name = f"{kind}: records a second, catching up with {count}"
            found.append(Measured(name, rates, "/s", ">= 5000" if kind == "SQLite" else "-"))
            url = url_of("views")
            async with open_store(url) as store:
                found += [one async for one in _views(kind, store, settings, url)]
    return found


async def _views(kind: str, store: Store, settings: Settings, url: str) -> AsyncIterator[Measured]:
    """The page over 30 days, with those days in the store and with a year behind them."""
    clients, rules = Clients(settings.kafka), load_rules(settings)
    topics = settings.kafka.topics
    async with publisher(clients) as sending, asyncio.TaskGroup() as tasks:
        desk = ReviewService(store, sending, Policies(rules), topics, clock.now)
        figures = Figures(desk, clients)
        await figures.model.catch_up()
        keeping = tasks.create_task(figures.model.run())
        today = EARLIEST + (clock.now() - EARLIEST) // timedelta(days=1) * timedelta(days=1)
        records = list(_records(CALLS_A_DAY, today - timedelta(days=1), timedelta(days=1)))
        # Of topics of other names, so that nobody misses them where the figures are followed.
        others = ReadModel(store.database, Clients(KafkaSettings()))
        for first in range(0, len(records), 2_000):
            await others._take(records[first : first + 2_000])
        app = console_app(desk, Authenticator(store.sessions, clock.now), Bulk(desk), figures)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            done = 1
            for days in (DAYS, HISTORY):
                for day in range(done, days):
                    async with figures.model.database.writing() as connection:
                        copy = partial(_copy_day, day=day, with_calls=day < DAYS)
                        await connection.run_sync(copy)
                done = days
                for span in ("24h", "7d", "30d"):
                    times = [await _view(http, f"/dashboard?span={span}") for _ in range(VIEWS)]
                    name = f"{kind}: the dashboard, {span} of {days} days"
                    yield Measured(name, times, "ms", "<= 300")
                month = (clock.now() - timedelta(days=DAYS)).date()
                for outcome in ("called", "refused"):
                    path = f"/requests?outcome={outcome}&from={month}"
                    times = [await _view(http, path) for _ in range(VIEWS)]
                    name = f"{kind}: requests with the outcome {outcome}, of {days} days"
                    yield Measured(name, times, "ms", "<= 300")
        keeping.cancel()
    for by in _SPENT_BY:
        words = ("spend", "--since", f"{DAYS}d", "--by", by, "--store", url)
        seconds = [(await run_command(settings, words)).seconds for _ in range(3)]
        name = f"{kind}: the command spend --by {by} over {DAYS * CALLS_A_DAY} calls"
        yield Measured(name, seconds, "s", "<= 1")


async def _view(http: httpx.AsyncClient, path: str) -> float:
    began = time.perf_counter()
    reply = await http.get(path)
    assert reply.status_code == 200
    return (time.perf_counter() - began) * 1000


def _copy_day(connection: Connection, day: int, *, with_calls: bool) -> None:
    """The first day once more, so many days earlier."""
    earlier = day * DAY
    last = connection.scalar(
        select(SUMS.c.at).where(SUMS.c.grain == DAY).order_by(SUMS.c.at.desc())
    )
    assert last is not None
    for table, at in ((SUMS, SUMS.c.at), (LATENCIES, LATENCIES.c.at)):
        _copy(connection, table, at.between(last, last + DAY - 1), {"at": at - earlier})
    if with_calls:
        at = CALLS.c.started_at
        changed = {
            "started_at": at - earlier,
            "spent_at": CALLS.c.spent_at - earlier,
            "attempt_id": cast(CALLS.c.attempt_id, String) + literal(f".{day}"),
            "request_id": cast(CALLS.c.request_id, String) + literal(f".{day}"),
        }
        _copy(connection, CALLS, at.between(last, last + DAY - 1), changed)
        appended = ASKED.c.appended_at
        changed = {
            "appended_at": appended - earlier,
            "request_id": cast(ASKED.c.request_id, String) + literal(f".{day}"),
        }
        _copy(connection, ASKED, appended.between(last, last + DAY - 1), changed)


def _copy(connection: Connection, table: Table, which: Any, changed: dict[str, Any]) -> None:
    columns = [changed.get(column.name, column).label(column.name) for column in table.c]
    rows = select(*columns).where(which)
    connection.execute(insert(table).from_select(list(table.c.keys()), rows))


def _records(calls: int, begin: datetime, span: timedelta) -> Iterator[Any]:
    """What the topics say of requests, spread over a span: a fifth of them climb."""
    dice, count, number = random.Random(1), 0, 0
    offsets: dict[tuple[str, int], int] = {}
    while count < calls:
        number += 1
        who: dict[str, Any] = {
            "request_id": f"r-{number}",
            "tenant": f"tenant-{min(int(dice.expovariate(0.7)), 5)}",
        }
        task, plan = dice.choice(_TASKS), dice.choice(_PLANS)
        at = begin + span * (count / calls)
        climbs = dice.random() < 0.2
        used = Usage(input_tokens=dice.randrange(2_000), output_tokens=dice.randrange(500))
        call: dict[str, Any] = {"started_at": at, "usage": used, "prompt_version": f"{task}@1"}
        asked = {"id": who["request_id"], "tenant": who["tenant"]}
        way = [a_request(**asked), an_assignment(**asked, routes=[a_route()])]
        told: list[Any] = [a_line(1, **who, **call)]
        if climbs:
            reason = dice.choice([Reason.SCHEMA_FAILED, Reason.LOW_CONFIDENCE, Reason.REFUSED])
            rejected: dict[str, Any] = {"outcome": "rejected", "reason": reason}
            told = [
                a_line(1, **who, **call, **rejected),
                a_line(2, **who, **call, tier=Tier.BALANCED),
            ]
        count += len(told)
        whom = {"plan": plan, "user": f"user-{dice.randrange(USERS)}", "workflow": f"flow-{plan}"}
        told = [one.model_copy(update={"task": task, **whom}) for one in told]
        latency = {"intake_ms": 1.0, "queue_ms": 1.0, "model_ms": 1.0, "own_ms": 1.0}
        latency["total_ms"] = round(dice.lognormvariate(7.5, 0.8), 1)
        told.append(a_result(1 + climbs, **who, latency=latency))
        if dice.random() < 0.05:
            told.append(said("edited", **who))
        for what in (*way, *told):
            record = record_of(
                what, partition=number % PARTITIONS, timestamp=int(at.timestamp() * 1000)
            )
            place = record.topic, record.partition
            record.offset = offsets[place] = offsets.get(place, -1) + 1
            yield record


def _fill(settings: Settings) -> int:
    producer = Producer({"bootstrap.servers": settings.kafka.bootstrap, "linger.ms": 5})
    count, days = 0, timedelta(days=DAYS)
    for record in _records(REQUESTS, clock.now() - 3 * days, days):
        topic = f"{settings.kafka.prefix}{record.topic}"
        producer.produce(topic, record.value, b"k", partition=record.partition)
        producer.poll(0)
        count += 1
    producer.flush(60)
    return count
