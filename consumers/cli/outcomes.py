"""What becomes of requests that were sent: their outcomes as they come, or as they came before."""

import contextlib
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from consumers.cli.common import FAILED, OK, console, counted, print_json
from schemas.reasons import Reason

if TYPE_CHECKING:
    from consumers.runtime.clients import Clients
    from consumers.runtime.reading import TopicReader
    from consumers.runtime.records import Record
    from consumers.settings import Settings
    from schemas.tenancy import RequestKey
    from schemas.topics import Topics

__all__ = ["Ended", "Outcomes", "Progress", "Sent", "await_outcomes"]

#: Without an outcome for so long it is asked whether requests had been sent before.
_QUIET_SECONDS = 1.0


@dataclass(slots=True)
class Sent:
    """What was published."""

    #: How many requests were sent.
    count: int = 0
    #: The requests by what their outcomes may call them: tenant and id, or the request's place
    #: where nobody could read them, or they are not allowed.
    names: dict["RequestKey | str", "RequestKey"] = field(default_factory=dict)
    #: Every body that came under an id: each has one outcome.
    bodies: set[tuple["RequestKey", bytes]] = field(default_factory=set)

    @property
    def keys(self) -> set["RequestKey"]:
        """The requests."""
        return {known for known, _ in self.bodies}


@dataclass(slots=True)
class Outcomes:
    """What came of the requests; the counts add up to the outcomes that were to come."""

    #: Results by kind: `answer`, `tool_calls`, `clarification`, `refusal`, `safe_default`.
    results: Counter[str] = field(default_factory=Counter)
    #: Dead letters by reason.
    letters: Counter[str] = field(default_factory=Counter)
    missing: int = 0
    cost_micros: int = 0
    #: How many of the outcomes are from before: their requests were repeats.
    before: int = 0

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
        }

    def in_words(self) -> Sequence[str]:
        """Lines for people: one sum, and what the dead letters are."""
        parts = [_many(self.results["answer"], "answer", "answers")]
        kinds = {
            "tool_calls": ("call for tools", "calls for tools"),
            "clarification": ("question back", "questions back"),
            "refusal": ("refusal", "refusals"),
            "safe_default": ("safe default", "safe defaults"),
        }
        parts += [_many(self.results[kind], *words) for kind, words in kinds.items()]
        parts.append(_many(self.to_approve, "answer to approve", "answers to approve"))
        parts.append(_many(self.failed, "dead letter", "dead letters"))
        parts.append(_many(self.missing, "unfinished", "unfinished"))
        whole = self.results.total() + self.letters.total() + self.missing
        told = [one for one in parts if not one.startswith("0 ")]
        lines = [f"{_many(whole, 'outcome', 'outcomes')}: {', '.join(told)}"]
        if self.before:
            lines.append(f"  {self.before:,} of them already done before this run")
        for reason, count in self.letters.most_common():
            if reason != Reason.APPROVAL_REQUIRED.value and count:
                lines.append(f"  {count} {reason}: {_meaning(reason)}")
        return lines


def _many(count: int, one: str, more: str) -> str:
    return f"{count:,} {one if count == 1 else more}"


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
    began: float = field(default_factory=time.monotonic)
    #: How many outcomes each request still has to come.
    left: Counter["RequestKey"] = field(default_factory=Counter)
    left_count: int = 0
    found: Outcomes = field(default_factory=Outcomes)
    #: What the last result says.
    answer: Any = None

    def begin(self, sent: Sent) -> None:
        """Everything is published."""
        self.sent, self.is_published, self.left_count = sent, True, len(sent.bodies)
        self.left.update(known for known, _ in sent.bodies)

    def note(self, ended: "Ended") -> bool:
        """Count an outcome; False where nobody waits for it."""
        names = self.sent.names
        meant = {names[name] for name in ended.names if name in names}
        ours = [known for known in meant if self.left[known] > 0]
        for known in ours:
            self.left[known] -= 1
        self.left_count -= len(ours)
        if ours and ended.reason is None:
            self.found.results[ended.kind] += 1
            self.answer = ended.answer
        elif ours and ended.reason is not None:
            self.found.letters[ended.reason] += 1
        if ours:
            self.found.cost_micros += ended.cost_micros
        return bool(ours)

    def tell(self, *, as_json: bool = False) -> int:
        """Say how it ended; the exit code. Raises KafkaUnreachableError."""
        from consumers.cli.journey import dollars
        from consumers.runtime.reading import KafkaUnreachableError

        took = time.monotonic() - self.began
        if not self.is_published:
            msg = (
                f"Kafka did not acknowledge {counted(self.wanted, 'request')} within {took:.0f} s; "
                "some may have been published"
            )
            next_try = "send the same lines again, what was published already is not done twice"
            raise KafkaUnreachableError(msg, advice=next_try)
        found = self.found
        found.missing = self.left_count
        if as_json:
            sums = {"published": self.sent.count, **found.as_fields()}
            answer = {"answer": self.answer} if self.wanted == 1 else {}
            print_json({**sums, "seconds": round(took, 3), **answer})
            return OK if found.is_well else FAILED
        if self.answer is not None and self.wanted == 1:
            print_json(self.answer)
        spent = f"{dollars(found.cost_micros)} spent in {took:.1f} s"
        for line in (*found.in_words(), f"{spent}; next: {self._next()}"):
            console().print(line, soft_wrap=True)
        if found.letters["id_reused"]:
            console().print(
                "id_reused: the id was used with other content before. Give each request an id of "
                "its own, and each Batch file a --batch NAME of its own."
            )
        return OK if found.is_well else FAILED

    def _next(self) -> str:
        """The command that shows what is most worth seeing now."""
        found, count = self.found, self.found.results.total()
        if found.failed:
            return f"`tierline dead-letters list --last {found.letters.total()}`"
        if found.missing:
            return "`tierline top` shows what is under way"
        if found.to_approve:
            return "`tierline console` has what waits for approval"
        if count > 1:
            return f"`tierline results --last {count}`"
        return f"`tierline explain {next(iter(self.sent.keys)).id}`"


class Ended(NamedTuple):
    """The outcome of a request, as a record tells it."""

    names: "set[RequestKey | str]"
    #: Why it is a dead letter; None for a result.
    reason: str | None = None
    answer: Any = None
    kind: str = "answer"
    cost_micros: int = 0

    @classmethod
    def of(cls, record: "Record", topics: "Topics") -> "Ended | None":
        """None for what is no outcome yet: a person has the request."""
        import orjson

        from schemas.codec import read_dead_letter, text_headers
        from schemas.errors import ContractError
        from schemas.tenancy import DEFAULT_TENANT, RequestKey

        if record.topic == topics.results:
            answer = orjson.loads(record.value or b"null")
            said = answer.get("router", {})
            if said.get("final") is False:
                return None
            name = RequestKey(said.get("tenant", DEFAULT_TENANT), str(answer.get("id")))
            kind, cost = said.get("kind", "answer"), said.get("cost_micros", 0)
            return cls({name}, None, said.get("output"), kind, cost)
        headers = text_headers(record.headers)
        place = (headers.get(f"tierline-{name}") for name in ("topic", "partition", "offset"))
        whose = headers.get("tierline-tenant", DEFAULT_TENANT)
        name = RequestKey(whose, headers.get("tierline-request-id", ""))
        cost = 0
        with contextlib.suppress(ContractError):  # its attempts may be unreadable
            cost = read_dead_letter(record.headers).cost_micros
        reason = headers.get("tierline-reason", "?")
        return cls({name, "-".join(map(str, place))}, reason, cost_micros=cost)


async def await_outcomes(
    outcomes: "TopicReader",
    clients: "Clients",
    settings: "Settings",
    intake: str,
    progress: Progress,
) -> None:
    """Note outcomes until each request has ended."""
    import asyncio

    from consumers.cli.common import progress as bar_of

    async with asyncio.TaskGroup() as tasks:
        looking = tasks.create_task(_look_back(clients, settings, intake, progress))
        with bar_of() as bar:
            total = progress.left_count
            done = bar.add_task("waiting for outcomes", total=total)
            async for records in outcomes.follow_batches():
                for record in records:
                    if (ended := Ended.of(record, settings.kafka.topics)) is not None:
                        progress.note(ended)
                bar.update(done, completed=total - progress.left_count)
                if not progress.left_count:
                    break
        looking.cancel()


async def _look_back(
    clients: "Clients", settings: "Settings", intake: str, progress: Progress
) -> None:
    """Find the outcomes of requests that had been sent before: no others will come.

    Looked for once, and only when nothing has come for a moment: it reads what is remembered of
    intake, and, where repeats are found, the outcomes of as long a time.
    """
    import asyncio

    from consumers import clock
    from consumers.runtime.reading import topic_reader

    sent, left = progress.sent, -1
    while left != progress.left_count:
        left = progress.left_count
        await asyncio.sleep(_QUIET_SECONDS)
    if not left:
        return
    waiting = {value: known for known, value in sent.bodies if progress.left[known] > 0}
    since = clock.now() - settings.repeats.window
    repeated: set[RequestKey] = set()
    async with topic_reader(clients, [intake], since=since) as reader:
        async for record in reader.until_end():
            known = waiting.get(record.value or b"")
            if (
                known is not None
                and f"{intake}-{record.partition}-{record.offset}" not in sent.names
            ):
                repeated.add(known)
    if not repeated:
        return
    topics = settings.kafka.topics
    last: dict[RequestKey, Ended] = {}
    async with topic_reader(clients, [topics.results, topics.dead_letters], since=since) as reader:
        async for record in reader.until_end():
            ended = Ended.of(record, topics)
            for name in ended.names if ended else ():
                known = sent.names.get(name)
                # Each time that other content comes under an id, that is a new dead letter.
                if ended is None or known not in repeated or ended.reason == "id_reused":
                    continue
                # What a person decided stands in for the dead letter.
                if known not in last or ended.reason is None:
                    last[known] = ended
    progress.found.before += sum(progress.note(ended) for ended in last.values())
