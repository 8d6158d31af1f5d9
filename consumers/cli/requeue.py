"""`tierline dead-letters requeue`: send requests through again, one by its id or many at once.

A requeue is a decision on `llm.review`, like a reviewer's: the first one on a dead letter stands.
So an interrupted command can be run again: what it has sent already is skipped.
"""

import asyncio
import getpass
import heapq
import secrets
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from operator import attrgetter
from typing import NamedTuple

from consumers import clock
from consumers.buckets import Buckets
from consumers.cli.common import UserError
from consumers.cli.letters import LetterFilter, decided_on, find_letter, letters_of, lines_of
from consumers.cli.terminal import progress
from consumers.policies import active_policy
from consumers.records import Record, record_ref
from consumers.runtime.clients import Clients
from consumers.runtime.publisher import publisher
from consumers.settings import Settings
from consumers.telemetry.setup import TRACES_ONLY, open_telemetry
from router.policy.table import Policy
from router.review.audit import chained
from router.review.decisions import price_at, refusal_of
from router.review.standing import Decisions
from schemas.base import EARLIEST, Tier
from schemas.codec import Headers, dump, passed_on
from schemas.dead_letter import DeadLetter, Pointer
from schemas.reasons import Reason
from schemas.review import AuditLine, Decision

__all__ = [
    "Candidate",
    "Chosen",
    "Plan",
    "choose",
    "choose_one",
    "requeue_line",
    "send",
    "why_not",
]

_APPENDED = attrgetter("appended_at")


@dataclass(frozen=True, slots=True)
class Plan:
    """How to send requests through again."""

    #: Counted from when each is sent.
    deadline: timedelta
    tier: Tier | None = None
    #: Include answers that wait for approval, and requests whose requeue has failed.
    force: bool = False
    per_second: float = 10.0


class Candidate(NamedTuple):
    """The fields of a dead letter that it takes to send its request through again."""

    place: Pointer
    appended_at: int
    key: bytes | None
    headers: Headers
    request_id: str | None
    tenant: str
    generation: int
    #: The price of a call at the tier where it begins, in micro-dollars.
    cost_micros: int

    @classmethod
    def of(cls, record: Record, letter: DeadLetter, policy: Policy, plan: Plan) -> "Candidate":
        """The candidate of a dead letter, without its request and replies, which may be large."""
        return cls(
            Pointer(topic=record.topic, partition=record.partition, offset=record.offset),
            record.timestamp,
            record.key,
            passed_on(record.headers, has_trace=True),
            letter.request_id,
            letter.tenant,
            letter.generation,
            price_at(letter, plan.tier, policy),
        )

    def decision(self, now: datetime, plan: Plan, decision_id: str = "command") -> Decision:
        """The decision that a console would write."""
        return Decision(
            decision_id=decision_id,
            request_id=self.request_id or str(self.place),
            tenant=self.tenant,
            generation=self.generation,
            letter=self.place,
            action="requeue" if plan.tier is None else "retry",
            tier=plan.tier,
            deadline=now + plan.deadline,
            undo_seconds=0.0,
        )


@dataclass(slots=True)
class Chosen:
    """The candidates to send, and why others are skipped."""

    candidates: list[Candidate] = field(default_factory=list)
    #: How many are skipped, by the reason in words.
    left_alone: dict[str, int] = field(default_factory=dict)
    #: How many more there are than are sent at a time.
    more: int = 0

    @property
    def cost_micros(self) -> int:
        """The cost of one call for each, at the tier where it begins, in micro-dollars."""
        return sum(candidate.cost_micros for candidate in self.candidates)

    def skip(self, why: str, count: int = 1) -> None:
        self.left_alone[why] = self.left_alone.get(why, 0) + count


async def choose(settings: Settings, letter_filter: LetterFilter, plan: Plan, most: int) -> Chosen:
    """The oldest dead letters that may go through again, at most `most`."""
    policy, chosen, count = await active_policy(settings), Chosen(), 0
    # Both topics may have millions of records: only a share is in memory at a time.
    with Buckets[Candidate | tuple[int, int, float, AuditLine]]() as pieces:
        async for record, letter in letters_of(settings, letter_filter.since):
            if not letter_filter.matches(letter):
                continue
            candidate = Candidate.of(record, letter, policy, plan)
            if (why := why_not(candidate, letter, policy, plan)) is not None:
                chosen.skip(why)
            else:
                count += 1
                pieces.put(record_ref(record), candidate)
        if not count:
            return chosen
        async for record, line in lines_of(settings):
            if line.letter is not None:
                act = record.partition, record.offset, record.timestamp / 1000, line
                pieces.put(str(line.letter), act)
        left = 0
        for bucket in pieces.each():
            open_ = _open(bucket)
            left += len(open_)
            candidates = [*chosen.candidates, *open_]
            chosen.candidates = heapq.nsmallest(most, candidates, key=_APPENDED)
    if decided := count - left:
        chosen.skip("it was decided on already", decided)
    chosen.more = left - len(chosen.candidates)
    return chosen


def _open(bucket: Iterable[Candidate | tuple[int, int, float, AuditLine]]) -> list[Candidate]:
    """The candidates of a bucket on which nobody has decided."""
    candidates, decisions = list[Candidate](), defaultdict[int, Decisions](Decisions)
    for piece in bucket:
        if isinstance(piece, Candidate):
            candidates.append(piece)
        else:
            partition, offset, at, line = piece
            decisions[partition].note(offset, at, line)
    return [
        candidate
        for candidate in candidates
        if decisions[candidate.place.partition].standing(str(candidate.place)) is None
    ]


async def choose_one(settings: Settings, where: str, tenant: str | None, plan: Plan) -> Chosen:
    """The dead letter that is named. Raises UserError where it may not go through again."""
    policy = await active_policy(settings)
    record, letter = await find_letter(settings, where, tenant)
    # Whoever names a dead letter has seen whether its requeue has failed.
    forced = replace(plan, force=plan.force or letter.reason is not Reason.APPROVAL_REQUIRED)
    candidate = Candidate.of(record, letter, policy, plan)
    if (why := why_not(candidate, letter, policy, forced)) is not None:
        msg = f"{letter.request_id or where}: {why}"
        raise UserError(msg)
    line = (await decided_on(settings, {record_ref(record)})).get(record_ref(record))
    if line is not None and line.decision is not None:
        msg = (
            f"{letter.request_id} was decided on already: {line.decision.action} by {line.who} "
            f"at {line.at.isoformat(timespec='seconds')}"
        )
        raise UserError(msg)
    return Chosen([candidate])


def why_not(candidate: Candidate, letter: DeadLetter, policy: Policy, plan: Plan) -> str | None:
    """Why a request may not go through again, in words; None where it may."""
    if letter.reason is Reason.APPROVAL_REQUIRED and not plan.force:
        return (
            "it has an answer that waits for approval; sending it through again would cost again "
            "and end the same way (--force does it)"
        )
    row = policy.tasks.get(letter.task or "")
    has_person_first = row is not None and row.approval == "person_first"
    if (letter.reason is Reason.PERSON_FIRST or has_person_first) and not plan.force:
        return "the policy wants a person to see it before any model (--force sends it to a model)"
    if letter.generation > 1 and not plan.force:
        return "it was sent through again before and failed again (--force sends it once more)"
    return refusal_of(candidate.decision(EARLIEST, plan), letter, policy)


async def send(settings: Settings, candidates: Sequence[Candidate], plan: Plan) -> int:
    """Write the decisions at the planned rate; return how many Kafka has acknowledged."""
    topics = settings.kafka.topics
    before: AuditLine | None = None
    with open_telemetry(settings.telemetry, topics, TRACES_ONLY) as telemetry, progress() as bar:
        task = bar.add_task("sending", total=len(candidates))
        async with publisher(Clients(settings.kafka), telemetry.tracing) as out:
            for no, candidate in enumerate(candidates):
                if no:
                    await asyncio.sleep(1 / plan.per_second)
                before = requeue_line(candidate, clock.now(), plan, before)
                acknowledged = await out.publish(
                    topics.review,
                    dump(before.model_dump(mode="json", exclude_none=True)),
                    key=candidate.key,
                    headers=candidate.headers,
                    partition=candidate.place.partition,
                    request_id=candidate.request_id,
                )
                _ = await acknowledged
                bar.update(task, completed=no + 1)
    return len(candidates)


def requeue_line(
    candidate: Candidate, now: datetime, plan: Plan, before: AuditLine | None
) -> AuditLine:
    """A requeue as the console would write it, in a chain of the command's own."""
    name = f"command-{secrets.token_hex(6)}"
    decision = candidate.decision(now, plan, name)
    line = AuditLine(
        writer=before.writer if before else name,
        no=1,
        at=now,
        who=_user(),
        what="decide",
        request_id=decision.request_id,
        tenant=decision.tenant,
        letter=candidate.place,
        decision=decision,
    )
    return chained(line, before)


def _user() -> str:
    try:
        who = getpass.getuser()
    except (KeyError, OSError, ImportError):  # a user without a name, as containers have
        who = "unknown"
    return (
        "".join(character for character in who if character.isalnum() or character in "._-@")
        or "unknown"
    )
