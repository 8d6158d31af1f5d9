"""The read model on a real broker: its tables are what the topics say, whatever happens to it."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from confluent_kafka import Producer
from sqlalchemy import Connection, func, select

from consumers.readmodel.database import open_database
from consumers.readmodel.following import IncompleteError, OtherTopicsError
from consumers.readmodel.model import ReadModel, opened
from consumers.readmodel.tables import CALLS, FACTS, make_tables
from consumers.records import Source
from consumers.runtime.clients import Clients
from consumers.runtime.topic_reader import topic_reader
from consumers.runtime.topics import ensure_topics
from consumers.settings import Settings
from schemas.attempt import LedgerEntry
from schemas.base import Tier
from schemas.errors import TierlineError
from schemas.reasons import Reason
from tests.builders import NOON
from tests.kafka.conftest import BreakableKafka, settings_for
from tests.tables import everything_in, record_of, tables, take_in
from tests.unit.consumers.readmodel.test_projection import a_letter, a_line, a_result, said

pytestmark = [pytest.mark.kafka, pytest.mark.anyio]

_LIMIT = 60
_REQUESTS = 1_500

#: What a console does, as far as figures go.
_KEEPER = """
import asyncio, sys
from consumers.readmodel.model import opened
from consumers.runtime.clients import Clients
from consumers.settings import KafkaSettings

async def main(url, bootstrap, prefix):
    async with opened(Clients(KafkaSettings(bootstrap=bootstrap, prefix=prefix)), url) as model:
        await model.run()

asyncio.run(main(*sys.argv[1:]))
"""


def _told(number: int) -> Iterator[Any]:
    """What the topics say of a request: accepted, climbed, given up, minded."""
    name, at = f"r-{number}", NOON + number * timedelta(minutes=3)
    if number % 3 == 0:
        yield a_line(1, name, started_at=at, outcome="rejected", reason=Reason.SCHEMA_FAILED)
        yield a_line(2, name, started_at=at, tier=Tier.BALANCED)
        yield a_result(2, name)
    elif number % 3 == 1:
        yield a_line(1, name, started_at=at)
        yield a_letter(name)
    else:
        yield a_line(1, name, "acme", started_at=at)
        yield a_result(1, name, "acme")
        yield said("edited", name, "acme")


async def _fill(settings: Settings, requests: range) -> int:
    """Write what is said of these; how many records that is."""
    assert await ensure_topics(Clients(settings.kafka)) == []
    producer = Producer({"bootstrap.servers": settings.kafka.bootstrap, "linger.ms": 5})
    count = 0
    for number in requests:
        for what in _told(number):
            record = record_of(what)
            topic, partition = f"{settings.kafka.prefix}{record.topic}", number % 3
            headers = list(record.headers)
            producer.produce(topic, record.value, b"k", partition=partition, headers=headers)
            count += 1
        producer.poll(0)
    assert await asyncio.to_thread(producer.flush, _LIMIT) == 0
    return count


async def _expected(settings: Settings) -> dict[str, list[Any]]:
    """The tables that the topics make in one go."""
    names = settings.kafka.topics
    every = [names.attempts, names.results, names.dead_letters, names.feedback, names.review]
    async with topic_reader(Clients(settings.kafka), every) as reader:
        records = [record async for record in reader.until_end()]
    with tables() as connection:
        take_in(connection, records, prefix=settings.kafka.prefix)
        return _facts(connection)


def _facts(connection: Connection) -> dict[str, list[Any]]:
    return {name: rows for name, rows in everything_in(connection).items() if name != FACTS.name}


async def _count(model: ReadModel) -> int:
    asked = select(func.count()).select_from(CALLS)
    return await model.ask(lambda found: found.scalar(asked) or 0)


async def test_a_reader_that_is_killed_again_and_again_misses_and_doubles_nothing(
    settings: Settings, urls: list[str]
) -> None:
    """And a store that is lost is made again from the topics."""
    clients = Clients(settings.kafka)
    await _fill(settings, range(10))
    async with opened(clients, urls[0]) as model:
        await model.catch_up()
        await _fill(settings, range(10, _REQUESTS))
        expected = await _expected(settings)
        count, kills = len(expected[CALLS.name]), 0
        while (read := await _count(model)) < count:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", _KEEPER, urls[0]),
                *(str(settings.kafka.bootstrap), settings.kafka.prefix),
                env={**os.environ, "PYTHONPATH": "."},
            )
            try:
                async with asyncio.timeout(_LIMIT):
                    while await _count(model) <= min(read, count - 1):  # noqa: ASYNC110
                        await asyncio.sleep(0.001)
            finally:
                process.send_signal(signal.SIGKILL)
                await process.wait()
                kills += 1
        assert kills > 1
        await model.catch_up()
        assert await model.ask(_facts) == expected

    async with opened(clients, urls[1]) as again:
        await again.catch_up()
        assert await again.ask(_facts) == expected


async def test_several_that_share_a_store_take_turns(settings: Settings, urls: list[str]) -> None:
    await _fill(settings, range(300))
    clients = Clients(settings.kafka)
    async with opened(clients, urls[0]) as one, opened(clients, urls[0]) as other:
        await asyncio.gather(one.catch_up(), other.catch_up())
        assert await one.ask(_facts) == await _expected(settings)


async def test_a_store_of_other_topics_is_refused(settings: Settings, tmp_path: Path) -> None:
    await _fill(settings, range(3))
    url = f"sqlite:///{tmp_path}/figures.db"
    async with open_database(url, make_tables) as database:
        model = ReadModel(database, Clients(settings.kafka))
        await model.catch_up()
        async with database.writing() as connection:
            moved = FACTS.update().where(FACTS.c.name == "cluster").values(value="elsewhere")
            await connection.execute(moved)
        with pytest.raises(OtherTopicsError, match="another cluster"):
            await ReadModel(database, Clients(settings.kafka)).catch_up()


async def test_commands_read_a_store_on_and_say_how_to_keep_one(
    settings: Settings, tmp_path: Path
) -> None:
    await _fill(settings, range(30))
    url = f"sqlite:///{tmp_path}/figures.db"
    asked = ("quality", "--since", "365d", "--json")
    alone, hint = await run_command(settings, *asked)
    assert "--store" in hint
    assert '"calls": 40' in alone
    kept, hint = await run_command(settings, *asked, "--store", url)
    assert (kept.splitlines()[2:], hint) == (alone.splitlines()[2:], "")
    await _fill(settings, range(30, 60))
    more, _ = await run_command(settings, *asked, TIERLINE_STORE__URL=url)
    assert '"calls": 80' in more
    ids, _ = await run_command(settings, *asked[:3], "--ids", "by person")
    assert len(ids.splitlines()) == 20
    # They are older than single requests are kept there.
    ids, _ = await run_command(settings, *asked[:3], "--ids", "by person", "--store", url)
    assert ids == ""
    advised, _ = await run_command(
        settings, "policy", "advise", "--json", *asked[1:3], "--store", url
    )
    assert "one model is probably enough" in advised
    assert "right: {low: 0." in advised
    page = tmp_path / "report.html"
    await run_command(settings, "report", *asked[1:3], "--html", str(page), "--store", url)
    written = page.read_text("utf-8")
    assert "uPlot" in written
    assert written.count('<figure class="card plot"') >= 4
    assert re.findall(r"""(?:src|href)=["'](?!#)""", written) == []
    worksheet, _ = await run_command(
        settings, "report", *asked[1:3], "--section", "worksheet", "--csv", "--store", url
    )
    assert worksheet.startswith('"workflow","task","first tier"')


async def test_an_invoice_is_compared_with_the_ledger(settings: Settings, tmp_path: Path) -> None:
    await _fill(settings, range(6))
    bill = tmp_path / "bill.jsonl"
    lines = [(call.attempt.attempt_id, call.attempt.cost_micros) for call in _booked(range(6))]
    told = [*lines[1:-1], (lines[-1][0], lines[-1][1] + 2), ("r-9.1.1", 5)]
    bill.write_text(
        "".join(f'{{"attempt_id": "{id_}", "cost_micros": {cost}}}\n' for id_, cost in told)
    )
    words = ("bill", "check", str(bill), "--json")
    out, _ = await run_command(settings, *words, code=1)
    statuses = {row["call"]: row["status"] for row in orjson.loads(out)["rows"]}
    assert statuses == {
        lines[0][0]: "only the ledger",
        lines[-1][0]: "differs",
        "r-9.1.1": "only the invoice",
    }
    day, cost = f"{NOON:%Y-%m-%d}", sum(cost for _, cost in lines)
    bill.write_text(f"When,Model,USD\n{day},sim-small,{cost / 1e6:f}\n")
    out, _ = await run_command(
        settings, *words, "--map", "day=When,model=Model,dollars=USD", "--all", code=1
    )
    statuses = {row["model"]: row["status"] for row in orjson.loads(out)["rows"]}
    assert statuses == {"sim-small": "differs", "sim-medium": "only the ledger"}


def _booked(requests: range) -> list[LedgerEntry]:
    """The ledger of these requests."""
    written = [what for number in requests for what in _told(number)]
    return [what for what in written if isinstance(what, LedgerEntry)]


async def run_command(
    settings: Settings, *words: str, code: int = 0, **variables: str
) -> tuple[str, str]:
    """What a command prints, and what it says on standard error."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "consumers.cli.main", *words),
        env={
            **os.environ,
            "PYTHONPATH": ".",
            "TIERLINE_KAFKA__BOOTSTRAP": str(settings.kafka.bootstrap),
            "TIERLINE_KAFKA__PREFIX": settings.kafka.prefix,
            **variables,
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(_LIMIT):
        out, said = await process.communicate()
    assert process.returncode == code, said.decode()
    return out.decode(), said.decode()


async def test_figures_go_on_after_kafka_was_away(kafka: BreakableKafka, tmp_path: Path) -> None:
    """Longer than any request waits: the console that shows them must not end with it."""
    settings = settings_for(await kafka.start(), "away.")
    await _fill(settings, range(30))
    url, clients = f"sqlite:///{tmp_path}/figures.db", Clients(settings.kafka)
    async with opened(clients, url) as model, asyncio.timeout(90), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(model.run())
        await asyncio.sleep(0)
        await model.refresh()
        before = await _count(model)

        async def look() -> None:
            while True:
                await model.refresh()
                await asyncio.sleep(0.1)

        with kafka.asleep(), pytest.raises(TierlineError):
            await look()
        await _fill(settings, range(30, 60))
        while await _count(model) == before:  # noqa: ASYNC110  the database has no event for it
            await asyncio.sleep(0.1)
        running.cancel()


def test_what_others_made_anew_meanwhile_is_read_from_its_beginning() -> None:
    """Else all that lies before what is at hand would be missing for ever."""
    records = [record_of(what, 0, no) for no, what in enumerate(_told(0))]
    source = Source(records[0].topic, 0)
    with tables() as connection, pytest.raises(IncompleteError, match="rebuilt in the meantime"):
        take_in(connection, records[2:], {source: 2})
