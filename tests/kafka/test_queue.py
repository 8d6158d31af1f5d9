"""The queue on a real broker: a store is what its topics say, however often it is begun anew."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka import Producer
from sqlalchemy import insert

from consumers import clock
from consumers.console import review_service
from consumers.console.app import console_app
from consumers.console.audit import written
from consumers.console.auth import Authenticator
from consumers.console.bulk import Bulk
from consumers.console.dashboard import Figures
from consumers.console.queue import Queue
from consumers.console.review_service import ReviewService
from consumers.console.store import Case, CaseFilter, Store, open_store
from consumers.console.tables import FACTS
from consumers.policies import Policies
from consumers.readmodel.database import StoreAwayError
from consumers.readmodel.following import OtherTopicsError
from consumers.rules import load_rules
from consumers.runtime.clients import Clients, administering
from consumers.runtime.publisher import publisher
from consumers.runtime.topic_reader import topic_reader
from consumers.runtime.topics import ensure_topics
from consumers.settings import KafkaSettings, Settings
from router.review.audit import broken
from schemas.review import Decision
from tests.builders import NOON, policies_of
from tests.kafka.flow import Flow, Sent, flow, request
from tests.postgres import postgres
from tests.unit.consumers.console.world import LEASE, a_letter_record

pytestmark = [pytest.mark.kafka, pytest.mark.anyio]

ALL = CaseFilter(state=None)
_TEXT = "You charged me twice for order 7, I want a refund of 30.00"
_LIMIT = 60

#: What a console does, as far as the queue goes.
_READER = """
import asyncio, sys
from consumers import clock
from consumers.console.queue import Queue
from consumers.console.store import open_store
from consumers.runtime.clients import Clients
from consumers.settings import KafkaSettings
from tests.builders import policies_of

async def main(url, bootstrap, prefix):
    kafka = KafkaSettings(bootstrap=bootstrap, prefix=prefix)
    async with open_store(url) as store:
        await Queue(store, Clients(kafka), policies_of(), kafka.topics, clock.now).run()

asyncio.run(main(*sys.argv[1:]))
"""


def _queue(store: Store, settings: Settings) -> Queue:
    kafka = settings.kafka
    return Queue(store, Clients(kafka), policies_of(), kafka.topics, clock.now)


async def _facts(store: Store) -> dict[str, Any]:
    """What a store knows of its cases, without what only this one knows: claims and versions."""
    return {
        case.place: (
            *(case.state, case.request_id, case.generation, case.reason, case.risk, case.error),
            *(case.opened_at, case.due_at, case.decision_id, case.decided_by, case.action),
            *(case.closed_by, await store.content(case.place)),
        )
        for case in await store.cases(ALL, clock.now(), limit=10_000)
    }


async def _letters(settings: Settings, count: int) -> None:
    """Dead letters over all partitions, as stages write them."""
    assert await ensure_topics(Clients(settings.kafka)) == []
    producer = Producer({"bootstrap.servers": settings.kafka.bootstrap, "linger.ms": 5})
    for number in range(count):
        record = a_letter_record(number, failed_at=NOON)
        producer.produce(
            settings.kafka.topics.dead_letters,
            record.value,
            b"%d" % number,
            partition=number % settings.kafka.partitions,
            headers=list(record.headers),
        )
        producer.poll(0)
    assert await asyncio.to_thread(producer.flush, _LIMIT) == 0


@contextlib.asynccontextmanager
async def _running(queue: Queue) -> AsyncIterator[asyncio.Task[None]]:
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(queue.run())
        yield task
        task.cancel()


async def _come(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait for what another task or process brings about."""
    async with asyncio.timeout(_LIMIT):
        while not await holds():  # noqa: ASYNC110  the database has no event for it
            await asyncio.sleep(0.005)


async def _until(store: Store, wanted: CaseFilter, count: int) -> list[Case]:
    async def are_there() -> bool:
        return await store.count(wanted, clock.now()) >= count

    await _come(are_there)
    return await store.cases(wanted, clock.now(), limit=count + 1)


async def _decide(store: Store, running: Flow, case: Case, action: str, *, undo: bool) -> None:
    """As the console does: into the store, then onto the topic."""
    held = await store.claim(case.place, "ann", clock.now(), LEASE)
    assert isinstance(held, Case)
    decision = Decision.model_validate(
        {
            "decision_id": f"{action}-{case.request_id}",
            "request_id": case.request_id,
            "generation": case.generation,
            "letter": case.letter,
            "action": action,
            "undo_seconds": 5.0 if undo else 0.5,
        }
    )
    _, line = await store.decide(case.place, "ann", held.version, clock.now(), decision)
    lines = [line]
    if undo:
        lines.append((await store.undo(case.place, "ann", clock.now()))[1])
    for one in lines:
        sent = Sent(written(one), b"key", partition=case.letter.partition)
        await running.publish(sent, topic=running.topics.review)
        await store.trail.sent(one)


async def test_a_store_that_is_lost_is_made_again_from_the_topics(
    settings: Settings, urls: Sequence[str]
) -> None:
    """With what was decided, undone, sent through again, discarded, and not touched yet."""
    async with flow(settings) as running, open_store(urls[0]) as store:
        disputes = (request(f"dispute-{no}", _TEXT, task="billing_dispute") for no in range(5))
        await running.publish(*disputes, Sent(b"{ no json", b"broken"))
        queue = _queue(store, settings)
        async with _running(queue):
            found = await _until(store, CaseFilter(reason="approval_required"), 5)
            await _until(store, CaseFilter(reason="not_json"), 1)
            found.sort(key=lambda case: str(case.request_id))
            for case, action in zip(
                found, ("reject", "requeue", "discard", "reject"), strict=False
            ):
                await _decide(store, running, case, action, undo=case is found[3])
            # The requeued one comes back; the rejected, the discarded and the older one are over.
            closed = await _until(store, CaseFilter(state="closed"), 3)
            assert {case.place for case in closed} == {case.place for case in found[:3]}
            again = await _until(store, CaseFilter(text="dispute-1"), 1)
            assert [case.requeues for case in again] == [1]
            await _until(store, CaseFilter(), 4)
        before = await _facts(store)
        lines = await store.trail.lines()
        assert len(before) == 7
        assert await store.trail.unsent(clock.now() + LEASE) == []

        async with open_store(urls[1]) as other:
            await _queue(other, settings).catch_up()
            assert await _facts(other) == before
            assert await other.trail.lines() == lines
            assert broken(await other.trail.chain(store.trail.writer)) == []
            await _queue(other, settings).catch_up()
            assert await _facts(other) == before


async def test_a_reader_that_is_killed_again_and_again_misses_and_doubles_nothing(
    settings: Settings, urls: Sequence[str]
) -> None:
    count = 3_000
    await _letters(settings, count)
    arguments = (urls[0], str(settings.kafka.bootstrap), settings.kafka.prefix)
    kills = 0
    async with open_store(urls[0]) as store:
        read = 0
        while read < count:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", _READER, *arguments), env={**os.environ, "PYTHONPATH": "."}
            )
            try:
                await _until(store, ALL, min(read + 400, count))
            finally:
                process.send_signal(signal.SIGKILL)
                await process.wait()
                kills += 1
            read = await store.count(ALL, NOON)
        assert kills > 1
        found = await store.cases(ALL, NOON, limit=count + 1)

    assert sorted(int(str(case.request_id)[4:]) for case in found) == list(range(count))


async def test_consoles_that_share_a_store_take_turns(settings: Settings, server: Any) -> None:
    url, count = server.database(), 2_000
    await _letters(settings, count)
    async with open_store(url) as one, open_store(url) as other:
        await asyncio.gather(*(_queue(store, settings).catch_up() for store in (one, other)))
        assert await one.count(ALL, NOON) == count


async def test_a_database_that_was_away_is_caught_up_with(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the console ends by it, and a page says what is the matter."""
    monkeypatch.setattr(review_service, "_RESEND_SECONDS", 0.01)
    with postgres() as server:
        if server is None:
            pytest.skip("no PostgreSQL")
        await _letters(settings, 30)
        clients, rules = Clients(settings.kafka), load_rules(settings)
        topics = settings.kafka.topics
        async with open_store(server.database()) as store, publisher(clients) as sending:
            queue = _queue(store, settings)
            desk = ReviewService(store, sending, Policies(rules), topics, clock.now)
            bulk = Bulk(desk)
            app = console_app(
                desk, Authenticator(store.sessions, clock.now), bulk, Figures(desk, clients)
            )
            http = httpx.AsyncClient(
                transport=httpx.ASGITransport(app), base_url="http://localhost"
            )

            async def is_in_trouble() -> bool:
                return queue.trouble is not None

            async def is_well() -> bool:
                return queue.trouble is None

            async with _running(queue), http, asyncio.TaskGroup() as tasks:
                others = [tasks.create_task(one) for one in (desk.resend(), bulk.run())]
                await _until(store, ALL, 30)
                assert (await http.get("/cases")).status_code == 200
                await asyncio.to_thread(server.stop)
                await _letters(settings, 60)
                await _come(is_in_trouble)
                assert "does not answer" in str(queue.trouble)
                with pytest.raises(StoreAwayError):
                    await store.count(ALL, NOON)
                reply = await http.get("/cases")
                assert (reply.status_code, "does not answer" in reply.text) == (503, True)
                await asyncio.to_thread(server.start)
                assert len(await _until(store, ALL, 90)) == 90
                await _come(is_well)
                assert (await http.get("/cases")).status_code == 200
                for task in others:
                    assert not task.done()
                    task.cancel()


async def test_a_store_of_other_topics_is_refused(
    settings: Settings, broker: str, tmp_path: Path
) -> None:
    """Rather than mixed with what lies at the same places now."""
    await _letters(settings, 30)
    async with open_store(f"sqlite:///{tmp_path}/cases.db") as store:
        await _queue(store, settings).catch_up()
        async with administering(Clients(settings.kafka)) as admin:
            await admin.delete_topics([settings.kafka.topics.dead_letters])

        async def is_made_again() -> bool:
            return await ensure_topics(Clients(settings.kafka)) == []

        await _come(is_made_again)
        with pytest.raises(OtherTopicsError, match="built from other topics"):
            await _queue(store, settings).catch_up()


async def test_a_store_of_another_cluster_is_refused(settings: Settings, tmp_path: Path) -> None:
    """Whose topics have the same names, and may well be as long."""
    await _letters(settings, 3)
    async with open_store(f"sqlite:///{tmp_path}/cases.db") as store:
        async with store.database.writing() as connection:
            await connection.execute(insert(FACTS).values(name="cluster", value="elsewhere"))
        with pytest.raises(
            OtherTopicsError,
            match=r"cases.db was built from .* of another cluster; name another one with --store",
        ):
            await _queue(store, settings).catch_up()
        assert await store.count(ALL, NOON) == 0

    prefix = {"TIERLINE_KAFKA__PREFIX": settings.kafka.prefix, "PYTHONPATH": "."}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "consumers.cli.main", "console", "--port", "0"),
        *("--kafka", str(settings.kafka.bootstrap), "--store", f"sqlite:///{tmp_path}/cases.db"),
        env={**os.environ, **prefix},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(_LIMIT):
        out, said = await process.communicate()
    assert process.returncode == 1
    [line] = said.decode().splitlines()
    assert line.startswith(f"tierline: the store sqlite:///{tmp_path}/cases.db was built")
    assert b"the console is at" not in out


async def test_what_is_written_after_the_end_was_asked_for_is_left_for_later(
    settings: Settings,
) -> None:
    """A decision is never taken in before the dead letter that it is about."""
    await _letters(settings, 30)
    letters = settings.kafka.topics.dead_letters
    async with topic_reader(Clients(settings.kafka), [letters]) as reader:
        ends = await reader.ends()
        await _letters(settings, 60)
        for upto, count in ((ends, 30), (await reader.ends(), 60), (ends, 0)):
            read = [record async for batch in reader.batches(upto, 7) for record in batch]
            assert len({(record.partition, record.offset) for record in read}) == count


async def test_without_kafka_the_queue_says_so_and_goes_on_trying(tmp_path: Path) -> None:
    nowhere = Settings(kafka=KafkaSettings(bootstrap="127.0.0.1:1"))
    async with open_store(f"sqlite:///{tmp_path}/cases.db") as store:
        queue = _queue(store, nowhere)

        async def is_in_trouble() -> bool:
            return queue.trouble is not None

        async with _running(queue) as task:
            await _come(is_in_trouble)
            assert "no Kafka at 127.0.0.1:1" in str(queue.trouble)
            assert not queue.caught_up.is_set()
            assert not task.done()
