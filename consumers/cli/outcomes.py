"""What becomes of requests that were sent: their outcomes as they come, or as they came before."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from consumers import clock
from consumers.cli.common import FAILED, MOST_LISTED, OK
from consumers.cli.formats import counted, dollars
from consumers.cli.sent import Place, Sent, hash_of
from consumers.cli.terminal import console, print_json
from consumers.cli.terminal import progress as bar_of
from consumers.runtime.clients import Clients
from consumers.runtime.connection import KafkaUnreachableError
from consumers.runtime.records import Record, why_not_taken
from consumers.runtime.topic_reader import TopicReader, topic_reader
from consumers.settings import Settings
from schemas.codec import read_dead_letter, text_headers
from schemas.errors import ContractError
from schemas.json_numbers import as_json, read_ours
from schemas.reasons import Reason
from schemas.tenancy import DEFAULT_TENANT, RequestKey
from schemas.topics import Topics

__all__ = ["Ended", "Outcomes", "Progress", "await_outcomes"]

#: Without an outcome for so long it is asked whether requests had been sent before.
_QUIET_SECONDS = 1.0


@dataclass(slots=True)
class Outcomes:
    """What came of the requests; the counts add up to the outcomes that were to come."""

    #: Results by kind: `answer`, `tool_calls`, `clarification`, `refusal`, `safe_default`.
    results: Counter[str] = field(default_factory=Counter)
    #: Dead letters by reason.
    letters: Counter[str] = field(default_factory=Counter)
    missing: int = 0
    cost_micros: int = 0
    #: How many of the outcomes are from before, and what of the cost: their requests were repeats.
    before: int = 0
    before_micros: int = 0

    @property
    def to_approve(self) -> int:
        """Answers that wait for a person because their task's policy wants it: as planned."""
        return self.letters[Reason.APPROVAL_REQUIRED.value]

    @property
    def failed(self) -> int:
        """Dead letters that nobody planned."""
        return self.letters.total() - self.to_approve

    @property
    def is_well(self) -> bool:
        """True when every request ended as its task's policy plans."""
        return not self.missing and not self.failed

    def as_fields(self) -> Mapping[str, object]:
        """For machines."""
        failed = {name: count for name, count in self.letters.items() if count}
        failed.pop(Reason.APPROVAL_REQUIRED.value, None)
        return {
            "results": dict(self.results),
            "awaiting_approval": self.to_approve,
            "dead_letters": failed,
            "unfinished": self.missing,
            "already_done": self.before,
            "cost_micros": self.cost_micros,
            "already_spent_micros": self.before_micros,
        }

    def in_words(self) -> Sequence[str]:
        """Lines for people: one sum, and what the dead letters are."""
        parts = [
            (self.results["answer"], "answer", "answers"),
            (self.results["tool_calls"], "call for tools", "calls for tools"),
            (self.results["clarification"], "question back", "questions back"),
            (self.results["refusal"], "refusal", "refusals"),
            (self.results["safe_default"], "safe default", "safe defaults"),
            (self.to_approve, "answer to approve", "answers to approve"),
            (self.failed, "dead letter", "dead letters"),
            (self.missing, "unfinished", "unfinished"),
        ]
        whole = self.results.total() + self.letters.total() + self.missing
        listed = ", ".join(counted(*part) for part in parts if part[0])
        lines = [f"{counted(whole, 'outcome')}: {listed}"]
        if self.before:
            spent = dollars(self.before_micros)
            lines.append(f"  {self.before:,} of them already done before this run, for {spent}")
        for reason, count in self.letters.most_common():
            if reason != Reason.APPROVAL_REQUIRED.value and count:
                lines.append(f"  {count} {reason}: {_meaning(reason)}")
        return lines


def _meaning(reason: str) -> str:
    try:
        return Reason(reason).meaning
    except ValueError:
        return "a reason that this version does not know"


@dataclass(slots=True)
class Progress:
    """How far the requests that are waited for have come."""

    #: How many were to be sent.
    wanted: int
    sent: Sent = field(default_factory=Sent)
    is_published: bool = False
    #: Kafka does not answer any more, so that nothing is known of what is left.
    is_kafka_away: bool = False
    began: float = field(default_factory=time.monotonic)
    found: Outcomes = field(default_factory=Outcomes)
    #: The output of the last result.
    answer: Any = None

    def note(self, ended: "Ended") -> bool:
        """Count an outcome; False where nobody waits for it."""
        if not self.sent.end(ended.request, ended.place):
            return False
        if ended.reason is None:
            self.found.results[ended.kind] += 1
            self.answer = ended.answer
        else:
            self.found.letters[ended.reason] += 1
        self.found.cost_micros += ended.cost_micros
        return True

    def tell(self, *, as_json: bool = False) -> int:
        """Say how it ended; the exit code. Raises KafkaUnreachableError."""
        took = time.monotonic() - self.began
        if not self.is_published:
            msg = (
                f"Kafka acknowledged {self.sent.count:,} of {counted(self.wanted, 'request')} "
                f"within {took:.0f} s; others may have been published"
            )
            raise KafkaUnreachableError(msg, advice=self.sent.send_again)
        outcomes = self.found
        outcomes.missing = self.sent.left
        if as_json:
            sums = {"published": self.sent.count, **outcomes.as_fields()}
            answer = {"answer": self.answer} if self.wanted == 1 else {}
            print_json({**sums, "seconds": round(took, 3), **answer})
            return OK if outcomes.is_well else FAILED
        if self.answer is not None and self.wanted == 1:
            print_json(self.answer)
        spent = f"{dollars(outcomes.cost_micros - outcomes.before_micros)} spent in {took:.1f} s"
        for line in (*outcomes.in_words(), f"{spent}; next: {self._next()}"):
            console().print(line, soft_wrap=True)
        if outcomes.letters["id_reused"]:
            console().print(
                "id_reused: the id was used with other content before. Give each request an id of "
                "its own, and each Batch file a --batch NAME of its own."
            )
        return OK if outcomes.is_well else FAILED

    def _next(self) -> str:
        """The command that shows what is most worth seeing now."""
        outcomes, count = self.found, self.found.results.total()
        if outcomes.failed:
            last = min(outcomes.letters.total(), MOST_LISTED)
            return f"`tierline dead-letters list --last {last}`"
        if outcomes.missing and self.is_kafka_away:
            return "Kafka does not answer any more; `tierline doctor` looks why"
        if outcomes.missing:
            return "`tierline top` shows what is under way"
        if outcomes.to_approve:
            return "`tierline console` has what waits for approval"
        if count > 1:
            return f"`tierline results --last {min(count, MOST_LISTED)}`"
        return self.sent.explained


class Ended(NamedTuple):
    """The outcome of a request, as a record tells it."""

    #: The hash of the request's key.
    request: bytes
    #: Where the request lies on intake, where the record says so.
    place: Place | None = None
    #: Why it is a dead letter; None for a result.
    reason: str | None = None
    kind: str = "answer"
    cost_micros: int = 0
    answer: Any = None

    @classmethod
    def of(cls, record: Record, topics: Topics, intake: str) -> "Ended | None":
        """None for what is no outcome yet: a person has the request."""
        if record.topic == topics.results:
            result = read_ours(record.value or b"null")
            info, id_ = result.get("router", {}), str(result.get("id"))
            if info.get("final") is False:
                return None
            key = hash_of(RequestKey(info.get("tenant", DEFAULT_TENANT), id_))
            kind, cost = info.get("kind", "answer"), info.get("cost_micros", 0)
            # A request that brings no id is called by its place.
            return cls(key, _place(id_, intake), None, kind, cost, info.get("output"))
        headers = text_headers(record.headers)
        where = (headers.get(f"tierline-{name}") for name in ("topic", "partition", "offset"))
        whose = headers.get("tierline-tenant", DEFAULT_TENANT)
        key = hash_of(RequestKey(whose, headers.get("tierline-request-id", "")))
        cost = 0
        with contextlib.suppress(ContractError):  # its attempts may be unreadable
            cost = read_dead_letter(record.headers).cost_micros
        reason = headers.get("tierline-reason", "?")
        return cls(key, _place("-".join(map(str, where)), intake), reason, cost_micros=cost)


def _place(request_id: str, intake: str) -> Place | None:
    match request_id.rsplit("-", 2):
        case [topic, partition, offset] if topic == intake and (partition + offset).isdecimal():
            return Place(int(partition), int(offset))
        case _:
            return None


async def await_outcomes(
    outcomes: TopicReader, clients: Clients, settings: Settings, intake: str, progress: Progress
) -> None:
    """Note outcomes until each request has ended."""
    topics = settings.kafka.topics

    def take(record: Record) -> None:
        if (ended := Ended.of(record, topics, intake)) is not None:
            progress.note(ended)

    async with asyncio.TaskGroup() as tasks:
        looking = tasks.create_task(_look_back(clients, settings, intake, progress))
        with bar_of() as bar:
            total = progress.sent.left
            done = bar.add_task("waiting for outcomes", total=total)
            async for records in outcomes.follow_batches():
                for record in records:
                    _ = why_not_taken(take, record)
                bar.update(done, completed=total - progress.sent.left)
                if not progress.sent.left:
                    break
        looking.cancel()


async def _look_back(clients: Clients, settings: Settings, intake: str, progress: Progress) -> None:
    """Find the outcomes of requests that had been sent before: no others will come.

    Looked for once, and only when nothing has come for a moment: it reads what is remembered of
    intake, and, where repeats are found, the outcomes of as long a time.
    """
    sent, left = progress.sent, -1
    while left != sent.left:
        left = sent.left
        await asyncio.sleep(_QUIET_SECONDS)
    if not left:
        return
    sent.look_back()
    since, topics, has_repeats = clock.now() - settings.repeats.window, settings.kafka.topics, False

    def take(record: Record) -> None:
        ended = Ended.of(record, topics, intake)
        # Each time that other content comes under an id, that is a new dead letter.
        if ended is not None and ended.reason != Reason.ID_REUSED.value:
            outcome = as_json(ended[2:] if progress.wanted == 1 else ended[2:-1])
            sent.note_earlier(ended.request, outcome, is_result=ended.reason is None)

    async with topic_reader(clients, [intake], since=since) as reader:
        async for record in reader.until_end():
            place = Place(record.partition, record.offset)
            has_repeats |= sent.is_repeat(record.value or b"", place)
    if not has_repeats:
        return
    async with topic_reader(clients, [topics.results, topics.dead_letters], since=since) as reader:
        async for record in reader.until_end():
            _ = why_not_taken(take, record)
    for request, told in sent.earlier():
        ended = Ended(request, None, *read_ours(told))
        if progress.note(ended):
            progress.found.before += 1
            progress.found.before_micros += ended.cost_micros
