"""A long history in the topics, written as fast as a producer takes it: one text, other ids."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from aiokafka.producer.message_accumulator import BatchBuilder

from consumers import clock
from consumers.runtime.clients import Clients
from consumers.settings import Settings
from router.attempt.answering import composed_result
from schemas.attempt import LedgerEntry
from schemas.base import Tier
from schemas.codec import Headers, dead_letter_headers, dump
from schemas.dead_letter import DeadLetter, Pointer
from schemas.reasons import Reason
from schemas.review import AuditLine, Decision
from schemas.topics import Topics
from tests.bench.harness import a_request
from tests.builders import a_request as request_of
from tests.builders import an_assignment, an_attempt

__all__ = ["FIRST_ID", "write_history"]

#: What stands in the texts for a request's id and for the offset of its dead letter.
_ID, _OFFSET = "r987654321", 876543219
FIRST_ID = "r000000000"
_REQUEST_BYTES = 300


class _Text(NamedTuple):
    """A record of a request, but for its id and its dead letter's offset."""

    topic: str
    value: bytes
    headers: Headers = ()


async def write_history(settings: Settings, count: int) -> None:
    """Requests as they came in, their calls, and their results.

    Each tenth is a dead letter, which somebody has approved in every second case.
    """
    topics, partitions = settings.kafka.topics, settings.kafka.partitions
    good, bad, approved = (
        [_texts(topics, no, kind) for no in range(partitions)] for kind in range(3)
    )
    letters: defaultdict[int, int] = defaultdict(int)

    def records() -> Iterator[tuple[int, _Text, bytes, bytes]]:
        for no in range(count):
            partition = no % partitions
            kind = good if no % 10 else approved if no % 20 else bad
            id_, offset = b"r%09d" % no, b"%d" % letters[partition]
            letters[partition] += no % 10 == 0
            for text in kind[partition]:
                yield partition, text, id_, offset

    producer = Clients(settings.kafka).producer()
    await producer.start()
    batches: dict[tuple[str, int], BatchBuilder] = {}
    try:
        for partition, text, id_, offset in records():
            fields: dict[str, Any] = {
                "timestamp": None,
                "key": id_,
                "value": _filled(text.value, id_, offset),
                "headers": [(name, _filled(value, id_, offset)) for name, value in text.headers],
            }
            place = text.topic, partition
            batch = batches.get(place) or batches.setdefault(place, producer.create_batch())
            if batch.append(**fields) is None:
                _ = await producer.send_batch(batch, text.topic, partition=partition)
                batches[place] = producer.create_batch()
                _ = batches[place].append(**fields)
        for (topic, partition), batch in batches.items():
            _ = await (await producer.send_batch(batch, topic, partition=partition))
    finally:
        await producer.stop()


def _filled(text: bytes, id_: bytes, offset: bytes) -> bytes:
    return text.replace(_ID.encode(), id_).replace(b"%d" % _OFFSET, offset)


def _texts(topics: Topics, partition: int, kind: int) -> Sequence[_Text]:
    """What the topics say of a request: of one that was answered, given up, or approved later."""
    is_good, is_approved = kind == 0, kind == 2
    outcome: dict[str, Any] = {"outcome": "accepted", "reason": None}
    if not is_good:
        outcome = {"outcome": "rejected", "reason": Reason.LOW_CONFIDENCE}
    now = clock.now()
    attempt = an_attempt(Tier.LOW, **outcome, attempt_id=f"{_ID}.1.1", started_at=now)
    entry = LedgerEntry(
        request_id=_ID, generation=1, task="triage", tenant="default", attempt=attempt
    )
    made = composed_result(
        an_assignment(id=_ID), request_of(id=_ID), [attempt], "answer", "x",
        {"answer": "x" * 200}, now=now,
    )  # fmt: skip
    asked = a_request(_ID, size=_REQUEST_BYTES)
    found = [_Text(topics.intake, asked), _Text(topics.attempts, _dumped(entry))]
    if is_good:
        return [*found, _Text(topics.results, dump(made))]
    letter = DeadLetter(
        request_id=_ID,
        task="triage",
        reason=Reason.NO_TIER_LEFT,
        detail="",
        stage="route",
        source=Pointer(topic=topics.intake, partition=partition, offset=_OFFSET),
        failed_at=now,
        attempts=[attempt],
    )
    found.append(_Text(topics.dead_letters, asked, dead_letter_headers(letter, ())))
    if is_approved:
        place = Pointer(topic=topics.dead_letters, partition=partition, offset=_OFFSET)
        decision = Decision(
            decision_id=f"d-{_ID}",
            request_id=_ID,
            generation=1,
            letter=place,
            action="approve",
            is_example=True,
        )
        line = AuditLine(
            writer="c1", no=1, at=now, who="ann", what="decide", request_id=_ID, letter=place,
            decision=decision,
        )  # fmt: skip
        made["router"] |= {"resolves": str(place), "review": "approve"}
        found += [_Text(topics.review, _dumped(line)), _Text(topics.results, dump(made))]
    return found


def _dumped(what: LedgerEntry | AuditLine) -> bytes:
    return dump(what.model_dump(mode="json", exclude_none=True))
