"""The audit chain: each line holds the hash of the one before, so that no change goes unseen."""

import hashlib
from collections.abc import Iterable

import orjson

from schemas.review import AuditLine

__all__ = ["broken", "chained", "hash_of"]


def hash_of(line: AuditLine) -> str:
    """SHA-256 of the whole line without its hash."""
    fields = line.model_dump(mode="json", exclude={"hash"}, exclude_none=True)
    written = orjson.dumps(fields, option=orjson.OPT_SORT_KEYS | orjson.OPT_UTC_Z)
    return hashlib.sha256(written).hexdigest()


def chained(line: AuditLine, after: AuditLine | None) -> AuditLine:
    """The line as the next one of its writer's chain; `after` is the last one so far."""
    no, previous = (after.no + 1, after.hash) if after else (1, "")
    linked = line.model_copy(update={"no": no, "previous": previous, "hash": ""})
    return linked.model_copy(update={"hash": hash_of(linked)})


def broken(lines: Iterable[AuditLine], *, has_gaps: bool = False) -> list[str]:
    """What is wrong with a writer's chain, in the order of its lines; empty where it is intact.

    `has_gaps`: lines may be missing, as on the topic, which has only those that Kafka acknowledged.
    Lines that are there must still be unchanged.
    """
    problems: list[str] = []
    before: AuditLine | None = None
    for line in lines:
        where = f"{line.writer} line {line.no}"
        if hash_of(line) != line.hash:
            problems.append(f"{where}: it is not as it was written")
        no, previous = (before.no + 1, before.hash) if before else (1, "")
        if line.no == no:
            if line.previous != previous:
                problems.append(f"{where}: it does not follow the line before")
        elif line.no < no or not has_gaps:
            problems.append(f"{where}: line {no} was expected")
        before = line
    return problems
