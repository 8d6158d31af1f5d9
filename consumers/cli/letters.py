"""Dead letters as commands read them: one, all in order of time, and the decisions on them."""

from collections import defaultdict
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass

from consumers.cli.common import UserError
from consumers.cli.records import readable, reading
from consumers.records import Record, record_ref
from consumers.settings import Settings
from router.review.standing import Decisions
from schemas.codec import read_dead_letter, read_model
from schemas.dead_letter import DeadLetter
from schemas.review import AuditLine

__all__ = ["LetterFilter", "decided_on", "find_letter", "letters_of", "lines_of"]


@dataclass(frozen=True, slots=True)
class LetterFilter:
    """Which dead letters to choose; None is any."""

    reason: str | None = None
    task: str | None = None
    tenant: str | None = None
    since: str | None = None

    def matches(self, letter: DeadLetter) -> bool:
        """True for a letter to choose; `since` is left to the reader of the topic."""
        return (
            self.reason in (None, letter.reason.value)
            and self.task in (None, letter.task)
            and self.tenant in (None, letter.tenant)
        )


async def decided_on(settings: Settings, places: Collection[str]) -> dict[str, AuditLine]:
    """The lines of the decisions that stand on these dead letters, by their places."""
    if not places:
        return {}
    decisions = defaultdict[int, Decisions](Decisions)
    lines: dict[str, AuditLine] = {}
    partitions: dict[str, int] = {}
    async for record, line in lines_of(settings):
        if line.decision is not None:
            if (place := str(line.decision.letter)) not in places:
                continue
            lines.setdefault(line.decision.decision_id, line)
            partitions[place] = record.partition
        elif line.undoes not in lines:
            continue
        decisions[record.partition].note(record.offset, record.timestamp / 1000, line)
    standing = {
        place: decisions[partition].standing(place) for place, partition in partitions.items()
    }
    return {
        place: lines[decision_id]
        for place, decision_id in standing.items()
        if decision_id is not None
    }


async def lines_of(settings: Settings) -> AsyncIterator[tuple[Record, AuditLine]]:
    """Every audit line, those of a partition in order."""
    async with reading(settings, [settings.kafka.topics.review]) as (reader, seen):
        async for record in reader.until_end(seen):
            line = readable(record, lambda line: read_model(AuditLine, line.value), "an audit line")
            if line is not None:
                yield record, line


async def letters_of(
    settings: Settings, since: str | None = None
) -> AsyncIterator[tuple[Record, DeadLetter]]:
    """Every dead letter, the oldest first."""
    async with reading(settings, [settings.kafka.topics.dead_letters], since) as (reader, seen):
        async for record in reader.in_order(seen):
            letter = readable(
                record, lambda letter: read_dead_letter(letter.headers), "a dead letter of ours"
            )
            if letter is not None:
                yield record, letter


async def find_letter(
    settings: Settings, where: str, tenant: str | None
) -> tuple[Record, DeadLetter]:
    """The dead letter at a place, or the newest one of a request. Raises UserError."""
    tenants, newest = set[str](), None
    async for record, letter in letters_of(settings):
        if where in (letter.request_id, record_ref(record)) and tenant in (None, letter.tenant):
            tenants.add(letter.tenant)
            if newest is None or letter.generation > newest[1].generation:
                newest = record, letter
    if len(tenants) > 1:
        names = ", ".join(sorted(tenants))
        msg = f"several tenants have a dead letter {where!r}: {names}; name one with --tenant"
        raise UserError(msg)
    if newest is None:
        msg = f"there is no dead letter {where!r}; `tierline dead-letters list` shows them all"
        raise UserError(msg)
    return newest
