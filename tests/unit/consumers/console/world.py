"""Dead letters, decisions and results as records, and a store to take them in."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import orjson

from consumers.console.projection import apply_audit_lines, apply_dead_letters, apply_results
from consumers.console.store import Case, Store
from router.review.audit import chained
from schemas.codec import dead_letter_headers
from schemas.dead_letter import DeadLetter, Pointer
from schemas.reasons import Reason
from schemas.review import AuditLine, Decision
from tests.builders import NOON, a_record, an_attempt, the_policy

__all__ = [
    "LEASE",
    "a_decision",
    "a_letter_record",
    "a_line_record",
    "a_result_record",
    "place",
    "take",
    "taken",
]

LEASE = timedelta(minutes=2)


def place(offset: int) -> str:
    """Where the dead letter with this offset lies."""
    return f"llm.dead-letters-1-{offset}"


def a_letter_record(
    offset: int = 0,
    value: bytes | None = b'{"input": "Where is my order?"}',
    headers: Sequence[tuple[str, bytes]] = (),
    **fields: Any,
) -> Any:
    """A dead letter of a request of its own."""
    plain = {
        "request_id": f"req-{offset}",
        "task": "support_answer",
        "reason": Reason.NO_TIER_LEFT,
        "detail": "no tier above balanced",
        "stage": "route",
        "source": Pointer(topic="llm.intake", partition=1, offset=offset),
        "failed_at": NOON,
        "path": ("balanced",),
        "attempts": (an_attempt(),),
    }
    letter = DeadLetter.model_validate({**plain, **fields})
    return a_record(
        value,
        topic="llm.dead-letters",
        offset=offset,
        headers=dead_letter_headers(letter, headers),
    )


def a_decision(of: int | Case, name: str = "d-1", **fields: Any) -> Decision:
    """A rejection of the case with this offset."""
    letter = of.letter if isinstance(of, Case) else _pointer(of)
    given = {
        "decision_id": name,
        "request_id": f"req-{letter.offset}",
        "generation": 1,
        "letter": letter,
        "action": "reject",
    }
    return Decision.model_validate({**given, **fields})


def a_line_record(
    offset: int,
    what: str = "decide",
    decision: Decision | None = None,
    *,
    undoes: str | None = None,
    at: datetime = NOON,
    who: str = "ann",
) -> Any:
    """A line of a chain of its own."""
    fields = {
        "writer": f"writer-{offset}",
        "no": 1,
        "at": at,
        "who": who,
        "what": what,
        "decision": decision,
        "undoes": undoes,
    }
    line = chained(AuditLine.model_validate(fields), None)
    return a_record(
        orjson.dumps(line.model_dump(mode="json", exclude_none=True)),
        topic="llm.review",
        offset=offset,
        timestamp=int(at.timestamp() * 1000),
    )


def a_result_record(request_id: str, generation: int = 1, **router: Any) -> Any:
    """As much of a result as says which request has ended."""
    fields = {"id": request_id, "router": {"final": True, "generation": generation, **router}}
    return a_record(orjson.dumps(fields), topic="llm.results")


async def take(store: Store, *records: Any) -> None:
    """Take records of any of the topics in, in their order."""
    async with store.database.writing() as connection:
        for record in records:
            if record.topic == "llm.dead-letters":
                await connection.run_sync(apply_dead_letters, [record], the_policy())
            elif record.topic == "llm.review":
                await connection.run_sync(apply_audit_lines, [record])
            else:
                await connection.run_sync(apply_results, [record])


async def taken(store: Store, offset: int, now: datetime = NOON) -> Case:
    """The case of the dead letter with this offset."""
    case = await store.case(place(offset), now)
    assert case is not None
    return case


def _pointer(offset: int) -> Pointer:
    return Pointer(topic="llm.dead-letters", partition=1, offset=offset)
