"""The outcomes of requests that were sent: new ones as they come, and earlier ones of repeats."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from consumers import clock
from consumers.amounts import counted, dollars
from consumers.cli.common import FAILED, MOST_LISTED, OK
from consumers.cli.sent import Place, Sent, hash_of
from consumers.cli.terminal import console, print_json
from consumers.cli.terminal import progress as bar_of
from consumers.records import Record, why_not_taken
from consumers.runtime.clients import Clients
from consumers.runtime.connection import KafkaUnreachableError
from consumers.runtime.topic_reader import TopicReader, topic_reader
from consumers.settings import Settings
from schemas.codec import read_dead_letter, text_headers
from schemas.errors import ContractError
from schemas.json_numbers import as_json, read_ours
from schemas.reasons import Reason
from schemas.tenancy import DEFAULT_TENANT, RequestKey
from schemas.topics import Topics

__all__ = ["Ended", "Outcomes", "Progress", "await_outcomes"]

#: After so long without an outcome, those of requests that had been sent before are looked up.
_QUIET_SECONDS = 1.0
#: The dead letters that are no failures.
_BY_POLICY = frozenset(reason.value for reason in Reason if reason.wants_person)


@dataclass(slots=True)
class Outcomes:
    """The outcomes of the requests; the counts add up to the number of outcomes expected."""

    #: Results by kind: `answer`, `tool_calls`, `clarification`, `refusal`, `safe_default`.
    results: Counter[str] = field(default_factory=Counter)
    #: Dead letters by reason.
    letters: Counter[str] = field(default_factory=Counter)
    missing: int = 0
    cost_micros: int = 0
    #: The outcomes, and the part of the cost, from before this run: their requests were repeats.
    before: int = 0
    before_micros: int = 0

    @property
    def to_approve(self) -> int:
        """Answers that wait for a person because their task's policy requires it."""
        return self.letters[Reason.APPROVAL_REQUIRED.value]

    @property
    def for_person(self) -> int:
        """Requests that a person has before any model, as the policy wants."""
        return self.letters[Reason.PERSON_FIRST.value]

    @property
    def failed(self) -> int:
        """Dead letters that the policy did not plan."""
        return self.letters.total() - self.to_approve - self.for_person

    @property
    def is_well(self) -> bool:
        """True when every request ended as its task's policy plans."""
        return not self.missing and not self.failed

    def as_fields(self) -> Mapping[str, object]:
        failed = {
            name: count for name, count in self.letters.items() if count and name not in _BY_POLICY
        }
        return {
            "results": dict(self.results),
            "awaiting_approval": self.to_approve,
            "for_person": self.for_person,
            "dead_letters": failed,
            "unfinished": self.missing,
            "already_done": self.before,
            "cost_micros": self.cost_micros,
            "already_spent_micros": self.before_micros,
        }

    def in_words(self) -> Sequence[str]:
        """Lines for people: a summary, and the dead letters by reason."""
        parts = [
            (self.results["answer"], "answer", "answers"),
            (self.results["tool_calls"], "call for tools", "calls for tools"),
            (self.results["clarification"], "question back", "questions back"),
            (self.results["refusal"], "refusal", "refusals"),
            (self.results["safe_default"], "safe default", "safe defaults"),
            (self.to_approve, "answer to approve", "answers to approve"),
            (self.for_person, "request for a person", "requests for a person"),
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
            if reason not in _BY_POLICY and count:
                lines.append(f"  {count} {reason}: {_meaning(reason)}")
        return lines


def _meaning(reason: str) -> str:
    try:
        return Reason(reason).meaning
    except ValueError:
        return "a reason that this version does not know"


@dataclass(slots=True)
class Progress:
    """The state of the requests that are waited for."""

    #: How many were to be sent.
    total: int
    sent: Sent = field(default_factory=Sent)
    is_published: bool = False
    #: Kafka no longer answers, so nothing is known of the requests that are left.
    is_kafka_away: bool = False
    began: float = field(default_factory=time.monotonic)
    outcomes: Outcomes = field(default_factory=Outcomes)
    #: The output of the last result.
    answer: Any = None

    def note(self, ended: "Ended") -> bool:
        """Count an outcome; False where it is not waited for."""
        if not self.sent.end(ended.request, ended.place):
            return False
        if ended.reason is None:
            self.outcomes.results[ended.kind] += 1
            self.answer = ended.answer
        else:
            self.outcomes.letters[ended.reason] += 1
        self.outcomes.cost_micros += ended.cost_micros
        return True

    def tell(self, *, as_json: bool = False) -> int:
        """Print how it ended, and return the exit code. Raises KafkaUnreachableError."""
        took = time.monotonic() - self.began
        if not self.is_published:
            msg = (
                f"Kafka acknowledged {self.sent.count:,} of {counted(self.total, 'request')} "
                f"within {took:.0f} s; others may have been published"
            )
            raise KafkaUnreachableError(msg, advice=self.sent.send_again)
        outcomes = self.outcomes
        outcomes.missing = self.sent.left
        if as_json:
            sums = {"published": self.sent.count, **outcomes.as_fields()}
            answer = {"answer": self.answer} if self.total == 1 else {}
            print_json({**sums, "seconds": round(took, 3), **answer})
            return OK if outcomes.is_well else FAILED
        if self.answer is not None and self.total == 1:
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
        outcomes, count = self.outcomes, self.outcomes.results.total()
        if outcomes.failed:
            last = min(outcomes.letters.total(), MOST_LISTED)
            return f"`tierline dead-letters list --last {last}`"
        if outcomes.missing and self.is_kafka_away:
            return "Kafka no longer answers; `tierline doctor` looks for the cause"
        if outcomes.missing:
            return "`tierline top` shows what is in progress"
        if outcomes.to_approve:
            return "`tierline console` shows what waits for approval"
        if count > 1:
            return f"`tierline results --last {min(count, MOST_LISTED)}`"
        return self.sent.explain_command


class Ended(NamedTuple):
    """The outcome of a request, from a record."""

    #: The hash of the request's key.
    request: bytes
    #: The request's place on intake, where the record has it.
    place: Place | None = None
    #: Why it is a dead letter; None for a result.
    reason: str | None = None
    kind: str = "answer"
    cost_micros: int = 0
    answer: Any = None

    @classmethod
    def of(cls, record: Record, topics: Topics, intake: str) -> "Ended | None":
        """The outcome that a record is; None where a person still has the request."""
        if record.topic == topics.results:
            result = read_ours(record.value or b"null")
            info, id_ = result.get("router", {}), str(result.get("id"))
            if info.get("final") is False:
                return None
            key = hash_of(RequestKey(info.get("tenant", DEFAULT_TENANT), id_))
            kind, cost = info.get("kind", "answer"), info.get("cost_micros", 0)
            # A request that was sent without an id goes by its place.
            return cls(key, _place(id_, intake), None, kind, cost, info.get("output"))
        headers = text_headers(record.headers)
        where = (headers.get(f"tierline-{name}") for name in ("topic", "partition", "offset"))
        tenant = headers.get("tierline-tenant", DEFAULT_TENANT)
        key = hash_of(RequestKey(tenant, headers.get("tierline-request-id", "")))
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
    """Find the outcomes of requests that had been sent before: they will get no others.

    It happens once, and only when no outcome has come for a moment: it reads intake as far back as
    repeats are recognised, and, where it finds some, the outcomes of the same time.
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
        # A reused id gets a new dead letter each time.
        if ended is not None and ended.reason != Reason.ID_REUSED.value:
            outcome = as_json(ended[2:] if progress.total == 1 else ended[2:-1])
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
    for request, outcome in sent.earlier():
        ended = Ended(request, None, *read_ours(outcome))
        if progress.note(ended):
            progress.outcomes.before += 1
            progress.outcomes.before_micros += ended.cost_micros
