"""What was paid for and missed its transaction is booked all the same, once and soon."""

from collections import Counter
from datetime import timedelta
from pathlib import Path

import orjson
import pytest
from aiokafka import TopicPartition

from consumers import clock
from consumers.policies import Policies
from consumers.providers.client import Providers
from consumers.rules import load_rules
from consumers.runtime.clients import Clients
from consumers.runtime.connection import cluster_of
from consumers.runtime.ledger import Ledger
from consumers.runtime.publisher import publisher
from consumers.runtime.spool import Kept, Spool
from consumers.runtime.topic_reader import topic_reader
from consumers.runtime.topics import ensure_topics
from consumers.settings import Settings
from consumers.stages.route import Router
from router.attempt.answering import ledger_lines
from schemas.attempt import LedgerEntry
from schemas.base import Tier
from schemas.codec import Outgoing, dump, read_model
from schemas.usage import Usage
from tests.builders import (
    Restless,
    a_record,
    a_request,
    a_worker,
    an_assignment,
    an_attempt,
    decided,
    handled,
)

pytestmark = pytest.mark.kafka

_COUNT = 2_000


def _line(settings: Settings, number: int) -> Outgoing:
    started_at = clock.now() - timedelta(seconds=60) + timedelta(milliseconds=number)
    attempt = an_attempt(attempt_id=f"late-{number}.1.1", started_at=started_at)
    [line] = ledger_lines(an_assignment(id=f"late-{number}"), a_request(), [attempt])
    return Outgoing(settings.kafka.topics.attempts, b"late", dump(line), ())


async def test_a_loss_of_many_calls_is_booked_at_once_and_no_line_twice(settings: Settings) -> None:
    """A process that is killed a moment later has written down what it had paid."""
    clients = Clients(settings.kafka)
    assert await ensure_topics(clients) == []
    lines = [_line(settings, number) for number in range(_COUNT)]
    async with Ledger(clients).open() as ledger:
        # Their transaction was committed after all.
        for line in lines[:5]:
            assert await ledger.note(0, line)
        source = (settings.kafka.topics.intake, 0)
        ledger.book(source, lines[:-1], in_doubt=True)
        ledger.book(source, lines[-1:])  # in no transaction ever: written without a look
        # Closing gives late lines 20 seconds: far too little for one look at the topic each.

    async with topic_reader(clients, [settings.kafka.topics.attempts]) as topic:
        booked = Counter(
            [read_model(LedgerEntry, one.value).request_id async for one in topic.until_end()]
        )

    assert booked == Counter({f"late-{number}": 1 for number in range(_COUNT)})


async def test_what_a_process_could_not_book_is_booked_by_the_next_start_once(
    settings: Settings, tmp_path: Path
) -> None:
    """Also where it was written after all, and where nobody can read what else lies there."""
    clients = Clients(settings.kafka)
    assert await ensure_topics(clients) == []
    topic = settings.kafka.topics.attempts
    lines = [_line(settings, number) for number in range(10)]
    dead = Spool(tmp_path / "ledger", await cluster_of(clients), topic)
    dead.keep([Kept(0, line) for line in lines])
    dead.keep([Kept(0, lines[0]), Kept(0, Outgoing(topic, b"late", b"{}", ()))])
    dead.close(is_done=False)

    async with Ledger(clients).open() as ledger:
        assert await ledger.note(0, lines[3])
    for _ in range(2):
        async with Ledger(clients, tmp_path).open():
            pass

    async with topic_reader(clients, [topic]) as reader:
        booked = Counter(
            [read_model(LedgerEntry, one.value).request_id async for one in reader.until_end()]
        )
    assert booked == Counter({f"late-{number}": 1 for number in range(10)})
    assert list((tmp_path / "ledger").iterdir()) == []


async def test_every_call_that_a_dead_owner_had_started_is_booked_and_none_is_made(
    settings: Settings,
) -> None:
    """Of a task that parks: the second call may have run although only the first is looked at."""
    clients, topics, rules = Clients(settings.kafka), settings.kafka.topics, load_rules(settings)
    assert await ensure_topics(clients) == []
    body = {"id": "r-1", "task": "billing_dispute", "plan": "enterprise", "input": "Charged twice"}
    now_ms = int(clock.now().timestamp() * 1000)
    router = Router(Policies(rules), topics, clock.now)
    asked = a_record(orjson.dumps(body), topic=topics.intake, timestamp=now_ms)
    [assigned] = decided(router, asked)
    models = rules.policy.models_of(Tier.BALANCED)
    async with publisher(clients) as out, Ledger(clients).open() as ledger:
        _ = await (await out.publish(assigned.topic, assigned.value, key=b"r-1", partition=0))
        for no in (1, 2):
            attempt = an_attempt(
                attempt_id=f"r-1.1.{no}",
                attempt_no=no,
                outcome="started",
                reason=None,
                model=models[no - 1],
                started_at=clock.now(),
                reserve_micros=70 + no,
                is_estimated=True,
                usage=Usage(estimated=True),
            )
            [line] = ledger_lines(an_assignment(id="r-1"), a_request(), [attempt])
            assert await ledger.note(0, Outgoing(topics.attempts, b"r-1", dump(line), ()))
        await ledger.prepare(TopicPartition(assigned.topic, 0), 0)
        async with Providers({}) as providers:
            worker = a_worker(
                *(Tier.BALANCED, Policies(rules), providers, clock.now),
                topics=topics,
                ledger=ledger,
            )
            place = {"topic": assigned.topic, "partition": 0, "timestamp": now_ms}
            record = a_record(assigned.value, **place)
            *lines, end = await handled(worker, record, Restless())

    booked = [read_model(LedgerEntry, line.value).attempt for line in lines]
    assert [(one.attempt_id, one.model, one.cost_micros) for one in booked] == [
        ("r-1.1.1", models[0], 71),
        ("r-1.1.2", models[1], 72),
    ]
    assert all(one.is_estimated for one in booked)
    assert end.topic == topics.dead_letters
