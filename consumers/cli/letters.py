"""Dead letters as commands read them: one, many in the order of time, and what was decided."""

from collections import defaultdict
from collections.abc import AsyncIterator, Collection
from typing import TYPE_CHECKING

from consumers.cli.common import UserError, reading_bar, span_of
from consumers.cli.texts import say
from consumers.runtime.records import Record, record_ref, why_not_taken

if TYPE_CHECKING:
    from consumers.settings import Settings
    from schemas.dead_letter import DeadLetter
    from schemas.review import AuditLine

__all__ = ["decided_on", "find_letter", "letters_of", "lines_of"]


async def decided_on(settings: "Settings", wanted: Collection[str]) -> "dict[str, AuditLine]":
    """The decision that stands, by the place of its dead letter; of these dead letters alone."""
    from router.review.decisions import Decisions

    decisions = defaultdict[int, Decisions](Decisions)
    lines: dict[str, AuditLine] = {}
    places: dict[str, int] = {}
    if not wanted:
        return {}

    async for found, line in lines_of(settings):
        if line.decision is not None:
            if (place := str(line.decision.letter)) not in wanted:
                continue
            lines.setdefault(line.decision.decision_id, line)
            places[place] = found.partition
        elif line.undoes not in lines:
            continue
        decisions[found.partition].note(found.offset, found.timestamp / 1000, line)
    standing = {at: decisions[partition].standing(at) for at, partition in places.items()}
    return {at: lines[named] for at, named in standing.items() if named is not None}


async def lines_of(settings: "Settings") -> "AsyncIterator[tuple[Record, AuditLine]]":
    """Every audit line, those of a partition in order."""
    from consumers.runtime.clients import Clients
    from consumers.runtime.topic_reader import topic_reader
    from schemas.codec import read_model
    from schemas.review import AuditLine

    found: list[AuditLine] = []

    def take(record: Record) -> None:
        found.append(read_model(AuditLine, record.value))

    async with topic_reader(Clients(settings.kafka), [settings.kafka.topics.review]) as reader:
        with reading_bar() as seen:
            async for record in reader.until_end(seen):
                _say(record, "audit line", why_not_taken(take, record))
                while found:
                    yield record, found.pop()


async def letters_of(
    settings: "Settings", since: str | None = None
) -> "AsyncIterator[tuple[Record, DeadLetter]]":
    """Every dead letter, the oldest first."""
    from consumers import clock
    from consumers.runtime.clients import Clients
    from consumers.runtime.topic_reader import topic_reader
    from schemas.codec import read_dead_letter

    begin = None if since is None else clock.now() - span_of(since, "--since")
    topics = [settings.kafka.topics.dead_letters]
    found: list[DeadLetter] = []

    def take(record: Record) -> None:
        found.append(read_dead_letter(record.headers))

    async with topic_reader(Clients(settings.kafka), topics, since=begin) as reader:
        with reading_bar() as seen:
            async for record in reader.in_order(seen):
                _say(record, "dead letter of ours", why_not_taken(take, record))
                while found:
                    yield record, found.pop()


def _say(record: Record, what: str, why: str | None) -> None:
    if why is not None:
        say(f"tierline: {record_ref(record)} is no {what}: {why}", is_error=True)


async def find_letter(
    settings: "Settings", where: str, tenant: str | None
) -> "tuple[Record, DeadLetter]":
    """The dead letter at a place, or the newest one of a request. Raises UserError."""
    names, found = set[str](), None
    async for record, letter in letters_of(settings):
        if where in (letter.request_id, record_ref(record)) and tenant in (None, letter.tenant):
            names.add(letter.tenant)
            if found is None or letter.generation > found[1].generation:
                found = record, letter
    if len(names) > 1:
        told = ", ".join(sorted(names))
        msg = f"several tenants have a dead letter {where!r}: {told}; name one with --tenant"
        raise UserError(msg)
    if found is None:
        msg = f"there is no dead letter {where!r}; `tierline dead-letters list` shows them all"
        raise UserError(msg)
    return found
