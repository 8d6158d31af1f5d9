"""What was paid for and missed its transaction is booked all the same, once and soon."""

from collections import Counter
from datetime import timedelta

import pytest

from consumers import clock
from consumers.runtime.clients import Clients
from consumers.runtime.ledger import Ledger
from consumers.runtime.reading import topic_reader
from consumers.runtime.topics import ensure_topics
from consumers.settings import Settings
from router.answering import ledger_lines
from schemas.attempt import LedgerEntry
from schemas.codec import Outgoing, dump, read_model
from tests.builders import a_request, an_assignment, an_attempt

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
