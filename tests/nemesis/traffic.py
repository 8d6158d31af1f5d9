"""What producers send during a run: requests of every kind, and what came of publishing them."""

import asyncio
import hashlib
import json
import random
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from consumers import clock
from consumers.runtime.clients import Clients
from consumers.runtime.publisher import Publisher, publisher
from consumers.settings import Settings
from tests.nemesis.checker import Published

__all__ = ["Traffic", "context_of", "digest"]

_KINDS = (
    ("triage", "I cannot log in since Monday, account {0}, please help"),
    ("extraction", "Order AB-{0} for Jane Doe arrived on 2026-03-01 in Leeds"),
    ("support_answer", "How do I export report {0} to a spreadsheet?"),
    ("summarization", "Summarise: train {0} was late, then cancelled, 40 waited"),
    ("classification", "This is unacceptable!! something broke again, ticket {0}"),
    ("policy_question", "Does contract {0} allow us to share data under GDPR?"),
    ("billing_dispute", "You charged me twice for order {0}, I want a refund"),
    (None, "Hello, I have a question about my last order {0}"),
)
_PLANS = ("free", "standard", "enterprise", "internal")


def digest(value: bytes | None) -> str:
    """What two equal bodies have in common."""
    return hashlib.sha256(value or b"").hexdigest()[:16]


def context_of(name: str) -> tuple[str, str]:
    """Trace and span id under which a producer sends a request: a producer that traces itself."""
    ids = hashlib.sha256(f"trace of {name}".encode()).hexdigest()
    return ids[:32], ids[32:48]


@dataclass(slots=True)
class Traffic:
    """A stream of requests at a rate, from one seed."""

    settings: Settings
    seed: int
    rate: float
    published: list[Published] = field(default_factory=list)
    #: Deadlines that producers set, by request id, as Unix seconds.
    deadlines: dict[str, float] = field(default_factory=dict)
    #: Ids of requests whose calls are never repeated when their outcome is unknown.
    parking: set[str] = field(default_factory=set)
    #: When requests were sent first, by id and the monotonic clock.
    sent_at: dict[str, float] = field(default_factory=dict)
    #: Ids of records that bring none, by partition and offset.
    nameless: dict[tuple[int, int], str] = field(default_factory=dict)

    async def run(self, seconds: float) -> None:
        """Publish for so long, and wait until the fate of every record is known."""
        loop = asyncio.get_running_loop()
        async with publisher(Clients(self.settings.kafka)) as topic, asyncio.TaskGroup() as tasks:
            began = loop.time()
            async for number in self._paced(began, seconds):
                for name, key, value in self._records(number):
                    tasks.create_task(self._publish(topic, name, key, value))

    async def _paced(self, began: float, seconds: float) -> AsyncIterator[int]:
        loop, number = asyncio.get_running_loop(), 0
        while (due := began + number / self.rate) < began + seconds:
            await asyncio.sleep(max(due - loop.time(), 0))
            yield number
            number += 1

    def _records(self, number: int) -> Sequence[tuple[str, bytes, bytes]]:
        """One request; now and then sent twice, or not a request at all."""
        rolled = random.Random(f"{self.seed}-{number}")
        name, key = f"s{self.seed}-{number}", f"customer-{rolled.randrange(40)}".encode()
        if rolled.random() < 0.02:
            return [(f"?{name}", key, b"no JSON: " + name.encode())]
        task, text = rolled.choice(_KINDS)
        body = {
            "id": name,
            "task": task,
            "plan": rolled.choice(_PLANS),
            "input": text.format(number),
        }
        if rolled.random() < 0.03:
            deadline = clock.now() + timedelta(seconds=rolled.uniform(1, 6))
            body["deadline"] = deadline.isoformat()
            self.deadlines[name] = deadline.timestamp()
        if task == "billing_dispute":
            self.parking.add(name)
        given = {field: part for field, part in body.items() if part is not None}
        # With blanks, as not every writer leaves them out.
        value = json.dumps(given).encode()
        if rolled.random() < 0.03:
            return [(name, key, value), (name, key, value)]
        if rolled.random() < 0.01:
            return [(name, key, value), (name, key, value.replace(b"}", b', "workflow": "w"}'))]
        return [(name, key, value)]

    async def _publish(self, topic: Publisher, name: str, key: bytes, value: bytes) -> None:
        is_acknowledged = False
        self.sent_at.setdefault(name, time.monotonic())
        try:
            trace_id, span_id = context_of(name)
            headers = [("traceparent", f"00-{trace_id}-{span_id}-01".encode())]
            intake = self.settings.kafka.topics.intake
            queued = await topic.publish(intake, value, key=key, headers=headers)
            found = await queued
            is_acknowledged = True
            if name.startswith("?"):
                self.nameless[found.partition, found.offset] = name  # type: ignore[attr-defined]
        except Exception:  # noqa: BLE001  whatever it is, the record's fate is unknown
            pass
        one = Published(name, key.decode(), digest(value), is_acknowledged)
        self.published.append(one)
