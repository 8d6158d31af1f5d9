"""What a run has left behind: topics, the provider's bill, and who does not get on."""

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from consumers.records import Record, Source
from consumers.runtime.clients import KAFKA_IS_AWAY, Clients, administering
from consumers.runtime.offset_lookup import records_since
from consumers.runtime.topic_reader import topic_reader
from consumers.settings import Settings
from router.attempt.pauses import LONGEST_WAIT
from schemas.attempt import LedgerEntry
from schemas.base import Tier
from schemas.codec import read_dead_letter, read_envelope, read_model
from schemas.dead_letter import DeadLetter
from schemas.escalation import Assignment
from schemas.result import Result
from schemas.topics import Topics
from tests.nemesis.checker import ID_REUSED, RESULT, BillCall, Facts, LedgerLine, Terminal
from tests.nemesis.faults import Cut
from tests.nemesis.further import Arrival, Counted
from tests.nemesis.traces import Carried
from tests.nemesis.traffic import Traffic, digest
from tests.nemesis.world import COUNTS

__all__ = ["Found", "cut_off", "find", "standing"]

_POLL_SECONDS = 0.5
#: Seconds that a request waits at most before it is called for again.
_LONGEST_WAIT = LONGEST_WAIT.total_seconds()


class Found(NamedTuple):
    """What the judge looks at, and what the further checks need beside it."""

    facts: Facts
    results: Sequence[Result]
    letters: Sequence[DeadLetter]
    bill: Sequence[dict[str, Any]]
    carried: Sequence[Carried]
    arrivals: Sequence[Arrival]
    counted: Sequence[Counted]


async def find(settings: Settings, traffic: Traffic, bill: Path, cuts: Sequence[Cut]) -> Found:
    """Read everything, once it has come to rest."""
    topics = settings.kafka.topics
    places = await standing(settings)
    results: list[Result] = []
    letters: list[DeadLetter] = []
    terminals, ledger, carried = [], [], []
    wanted = [topics.results, topics.dead_letters, topics.attempts]
    async with topic_reader(Clients(settings.kafka), wanted) as reader:
        async for record in reader.until_end():
            if record.topic == topics.results:
                results.append(read_model(Result, record.value))
                terminals.append(_answer(record, results[-1]))
            elif record.topic == topics.dead_letters:
                letters.append(read_dead_letter(record.headers))
                terminals.append(_letter(record, letters[-1], traffic))
            else:
                ledger.append(LedgerLine.of(read_model(LedgerEntry, record.value)))
            name = ledger[-1].request_id if record.topic == topics.attempts else terminals[-1].id
            parents = [value for header, value in record.headers if header == "traceparent"]
            carried.append(Carried(name, f"{record.topic}-{record.partition}", parents))
    written = await asyncio.to_thread(bill.read_bytes)
    lines = [orjson.loads(line) for line in written.splitlines()]
    calls = [BillCall(x["attempt_id"], x["request_id"], x["cost_micros"]) for x in lines]
    facts = Facts(
        published=traffic.published,
        terminals=terminals,
        ledger=ledger,
        bill=calls,
        in_flight_at_cuts=cut_off(lines, cuts),
        standing=places,
    )
    arrivals, counted = await _arrivals(settings), await _counted(settings)
    return Found(facts, results, letters, lines, carried, arrivals, counted)


async def _arrivals(settings: Settings) -> list[Arrival]:
    """The first assignment of every request that was routed to a tier."""
    topics, found = settings.kafka.topics, []
    tiers = [topics.tier(tier) for tier in Tier]
    async with topic_reader(Clients(settings.kafka), tiers) as reader:
        async for record in reader.until_end():
            assignment, _ = read_envelope(Assignment, record.value)
            if assignment.generation == 1 and len(assignment.routes) == 1:
                place = f"{record.topic}-{record.partition}"
                origin = assignment.origin.offset
                found.append(Arrival(record.key or b"", place, record.offset, origin))
    return found


async def _counted(settings: Settings) -> list[Counted]:
    """What intake holds by key, and what the stage that counts has made of it."""
    intake = settings.kafka.topics.intake
    found: dict[tuple[int, bytes], Counted] = {}
    async with topic_reader(Clients(settings.kafka), [intake, COUNTS]) as reader:
        async for record in reader.until_end():
            key = record.key or b""
            one = found.setdefault((record.partition, key), Counted(key, [], []))
            if record.topic == intake:
                one.offsets.append(record.offset)
            else:
                number, _, offset = (record.value or b"").partition(b" ")
                one.counts.append((int(number), int(offset)))
    return list(found.values())


async def standing(settings: Settings, limit: float = 120.0) -> dict[str, int]:
    """Records that no group gets on with, by place; empty as soon as there are none."""
    give_up, places = time.monotonic() + limit, {"anywhere, as Kafka does not answer": 1}
    while places and time.monotonic() < give_up:
        with contextlib.suppress(*KAFKA_IS_AWAY):  # it has just been started again
            places = await _unread(settings)
        await asyncio.sleep(_POLL_SECONDS)
    return places


async def _unread(settings: Settings) -> dict[str, int]:
    clients, places = Clients(settings.kafka), dict[str, int]()
    for group, topics in _groups(settings.kafka.topics).items():
        async with administering(clients) as admin:
            offsets = await admin.list_consumer_group_offsets(group)
        for tp in (Source(topic, n) for topic in topics for n in range(settings.kafka.partitions)):
            since = max(offsets[tp].offset, 0) if tp in offsets else 0
            # Offsets of markers are no records, so what is left is read and counted.
            if left := [record async for record in records_since(clients, tp, since)]:
                places[f"{group} {tp.topic}-{tp.partition}"] = len(left)
    return places


def _groups(topics: Topics) -> dict[str, list[str]]:
    return {
        "route": [topics.intake, topics.escalations],
        **{f"work.{tier}": [topics.tier(tier)] for tier in Tier},
        "counting": [topics.intake],
    }


def _answer(record: Record, result: Result) -> Terminal:
    return Terminal(result.id, RESULT, record.partition, record.offset)


def _letter(record: Record, letter: DeadLetter, traffic: Traffic) -> Terminal:
    name = letter.request_id
    if name is None:
        name = traffic.nameless.get((letter.source.partition, letter.source.offset), "")
    kind = ID_REUSED if letter.reason == ID_REUSED else "dead_letter"
    return Terminal(name, kind, record.partition, record.offset, digest(record.value))


def cut_off(lines: Iterable[dict[str, Any]], cuts: Sequence[Cut]) -> list[dict[str, int]]:
    """For every instant the calls whose outcome it may have cost, by request.

    Those open then or answered a moment before (longer, where Kafka had been away), and all earlier
    ones of the same request that were waiting with it for its end. So does a request whose last
    call has failed, until it is called for again.
    """
    by_request: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in lines:
        by_request[line["request_id"]].append(line)
    return [
        {
            id_: len(lost)
            for id_, calls in by_request.items()
            if (lost := _paid(_lost_at(cut, calls, _LONGEST_WAIT)))
        }
        for cut in cuts
    ]


def _paid(lines: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [line for line in lines if line["cost_micros"]]


def _lost_at(
    cut: Cut, calls: Sequence[dict[str, Any]], wait: float = 0.0
) -> Sequence[dict[str, Any]]:
    """The calls of a request that a cut may have cost; who has failed may `wait` before it."""
    begun = [line for line in calls if line["received"] <= cut.at]
    if not begun:
        return ()
    last = max(begun, key=_answered_at)
    since = cut.since - wait if last["fault"] else cut.since
    return begun if _answered_at(last) >= since else ()


def _answered_at(line: dict[str, Any]) -> float:
    return float(line["first_byte"] or line["received"])
