"""`tierline dead-letters requeue`: send requests through again, one by its name or many at once.

A requeue is a decision on `llm.review`, as a reviewer's is: the first one on a dead letter stands.
So a command that was broken off can be run again: what was sent already is left alone.
"""

import asyncio
import getpass
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from consumers.cli.common import UserError, progress
from consumers.cli.letters import decided_on, find_letter, letters_of
from consumers.runtime.records import Record, lies_at
from schemas.base import EARLIEST
from schemas.reasons import Reason

if TYPE_CHECKING:
    from consumers.settings import Settings
    from router.policy.table import Policy
    from schemas.base import Tier
    from schemas.dead_letter import DeadLetter
    from schemas.review import AuditLine

__all__ = ["Chosen", "Plan", "Wanted", "choose", "choose_one", "requeue_line", "send", "why_not"]

#: So many dead letters are looked up among the decisions in one reading.
_AT_ONCE = 5_000


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which dead letters are meant; None: whatever."""

    reason: str | None = None
    task: str | None = None
    tenant: str | None = None
    since: str | None = None

    def takes(self, letter: "DeadLetter") -> bool:
        """True for one that is meant; `since` is for whoever reads."""
        return (
            self.reason in (None, letter.reason.value)
            and self.task in (None, letter.task)
            and self.tenant in (None, letter.tenant)
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """How requests are to go through again."""

    #: From the moment at which one is sent.
    deadline: timedelta
    tier: "Tier | None" = None
    #: Also where an answer waits to be approved, and where an earlier requeue has failed.
    force: bool = False
    per_second: float = 10.0


@dataclass(slots=True)
class Chosen:
    """What would be sent, and why the rest would not."""

    found: list[tuple[Record, "DeadLetter"]] = field(default_factory=list)
    #: By why, in words.
    left_alone: dict[str, int] = field(default_factory=dict)
    #: What a call of each would cost at the tier where it begins, in micro-dollars.
    cost_micros: int = 0
    #: How many more there are than are taken at a time.
    more: int = 0

    def add(self, record: Record, letter: "DeadLetter", policy: "Policy", plan: Plan) -> None:
        """Choose one."""
        from router.review import price_at

        row = policy.tasks.get(letter.task or "")
        first = row.tier if row else next(iter(policy.tiers))
        self.found.append((record, letter))
        self.cost_micros += price_at(letter, plan.tier or first, policy)

    def skip(self, why: str) -> None:
        """Leave one alone."""
        self.left_alone[why] = self.left_alone.get(why, 0) + 1


async def choose(
    settings: "Settings", policy: "Policy", wanted: Wanted, plan: Plan, most: int
) -> Chosen:
    """The oldest dead letters that may go through again, `most` at most."""
    chosen = Chosen()
    group: list[tuple[Record, DeadLetter]] = []

    async def take() -> None:
        decided = await decided_on(settings, {lies_at(record) for record, _ in group})
        for record, letter in group:
            if lies_at(record) in decided:
                chosen.skip("it was decided on already")
            elif len(chosen.found) >= most:
                chosen.more += 1
            else:
                chosen.add(record, letter, policy, plan)
        group.clear()

    async for record, letter in letters_of(settings, wanted.since):
        if not wanted.takes(letter):
            continue
        if (why := why_not(record, letter, policy, plan)) is not None:
            chosen.skip(why)
        else:
            group.append((record, letter))
        if len(group) >= max(most, _AT_ONCE):
            await take()
    await take()
    return chosen


async def choose_one(
    settings: "Settings", policy: "Policy", where: str, tenant: str | None, plan: Plan
) -> Chosen:
    """The dead letter that is named. Raises UserError where it may not go through again."""
    record, letter = await find_letter(settings, where, tenant)
    # Who names one has seen what has become of it.
    named = replace(plan, force=plan.force or letter.reason is not Reason.APPROVAL_REQUIRED)
    if (why := why_not(record, letter, policy, named)) is not None:
        msg = f"{letter.request_id or where}: {why}"
        raise UserError(msg)
    line = (await decided_on(settings, {lies_at(record)})).get(lies_at(record))
    if line is not None and line.decision is not None:
        msg = (
            f"{letter.request_id} was decided on already: {line.decision.action} by {line.who} "
            f"at {line.at.isoformat(timespec='seconds')}"
        )
        raise UserError(msg)
    chosen = Chosen()
    chosen.add(record, letter, policy, plan)
    return chosen


def why_not(record: Record, letter: "DeadLetter", policy: "Policy", plan: Plan) -> str | None:
    """Why a request may not go through again, in words; None where it may."""
    from router.review import refusal_of

    if letter.reason is Reason.APPROVAL_REQUIRED and not plan.force:
        return (
            "it has its answer and waits for a person to approve it; sent through again it would "
            "be paid again and wait again (--force does so)"
        )
    if letter.generation > 1 and not plan.force:
        return "it was sent through again before and has failed again (--force sends it once more)"
    decision = requeue_line(record, letter, EARLIEST, plan, None).decision
    assert decision is not None  # noqa: S101  made so
    return refusal_of(decision, letter, policy)


async def send(
    settings: "Settings", found: Sequence[tuple[Record, "DeadLetter"]], plan: Plan
) -> int:
    """Write the decisions, not faster than planned; how many Kafka has acknowledged."""
    from consumers import clock
    from consumers.runtime.clients import Clients
    from consumers.runtime.reading import publisher
    from consumers.telemetry.setup import TRACES_ONLY, open_telemetry
    from schemas.codec import dump, passed_on

    topics = settings.kafka.topics
    before: AuditLine | None = None
    with open_telemetry(settings.telemetry, topics, TRACES_ONLY) as telemetry, progress() as bar:
        task = bar.add_task("sending", total=len(found))
        async with publisher(Clients(settings.kafka), telemetry.tracing) as out:
            for no, (record, letter) in enumerate(found):
                if no:
                    await asyncio.sleep(1 / plan.per_second)
                before = requeue_line(record, letter, clock.now(), plan, before)
                acknowledged = await out.publish(
                    topics.review,
                    dump(before.model_dump(mode="json", exclude_none=True)),
                    key=record.key,
                    headers=passed_on(record.headers, has_trace=True),
                    partition=record.partition,
                    request_id=letter.request_id,
                )
                _ = await acknowledged
                bar.update(task, completed=no + 1)
    return len(found)


def requeue_line(
    record: Record, letter: "DeadLetter", now: datetime, plan: Plan, before: "AuditLine | None"
) -> "AuditLine":
    """A requeue as the console would write it, in a chain of the command's own."""
    from router.audit import chained
    from schemas.dead_letter import Pointer
    from schemas.review import AuditLine, Decision

    place = Pointer(topic=record.topic, partition=record.partition, offset=record.offset)
    name = f"command-{secrets.token_hex(6)}"
    decision = Decision(
        decision_id=name,
        request_id=letter.request_id or str(place),
        tenant=letter.tenant,
        generation=letter.generation,
        letter=place,
        action="requeue" if plan.tier is None else "retry",
        tier=plan.tier,
        deadline=now + plan.deadline,
        undo_seconds=0.0,
    )
    line = AuditLine(
        writer=before.writer if before else name,
        no=1,
        at=now,
        who=_user(),
        what="decide",
        request_id=decision.request_id,
        tenant=decision.tenant,
        letter=place,
        decision=decision,
    )
    return chained(line, before)


def _user() -> str:
    try:
        who = getpass.getuser()
    except (KeyError, OSError, ImportError):  # a user without a name, as containers have
        who = "unknown"
    return "".join(one for one in who if one.isalnum() or one in "._-@") or "unknown"
