"""Answers in the read model: a sample of them, and those that reviewers have approved."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from operator import itemgetter
from typing import Any, NamedTuple

import sqlalchemy as sa

from consumers.readmodel.columns import millis
from consumers.readmodel.projection import pieces
from consumers.readmodel.tables import OUTCOMES, RECORDS, REVIEWS
from router.reports.samples import Draw
from schemas.json_numbers import read_exact
from schemas.tenancy import RequestKey

__all__ = ["Answered", "KeptAnswer", "answered", "kept_answers"]


class Answered(NamedTuple):
    """A request and its answer."""

    request: RequestKey
    task: str
    model: str
    output: Mapping[str, Any]


def answered(
    connection: sa.Connection,
    week: str,
    count: int,
    since: datetime,
    until: datetime,
    release: str | None = None,
) -> tuple[list[Answered], int]:
    """A sample of the requests that were answered in a span, and how many there were.

    `release`: only requests that this one decided.
    """
    draw = Draw(week, count)
    is_then = OUTCOMES.c.ended_at.between(millis(since), millis(until) - 1)
    key, last = (OUTCOMES.c.tenant, OUTCOMES.c.request_id), OUTCOMES.c.ended_at
    ended = sa.select(*key, OUTCOMES.c.task).where(OUTCOMES.c.is_result, is_then).order_by(last)
    if release is not None:
        decided = sa.select(RECORDS.c.tenant, RECORDS.c.request_id).where(
            RECORDS.c.release == release
        )
        ended = ended.where(sa.tuple_(*key).in_(decided))
    # A week may be more than fits into memory.
    for tenant, request_id, task in connection.execute(ended.execution_options(yield_per=1_000)):
        draw.offer(RequestKey(tenant, request_id), task, None)
    drawn = [request for request, _ in draw.drawn()]
    query = sa.select(OUTCOMES).where(OUTCOMES.c.is_result, is_then, sa.tuple_(*key).in_(drawn))
    results = connection.execute(query.order_by(last)).mappings()
    rows = {RequestKey(row["tenant"], row["request_id"]): row for row in results}
    sample = [
        Answered(request, row["task"], row["model"], read_exact(row["output"]))
        for request in drawn
        for row in (rows[request],)
    ]
    return sample, draw.offered


class KeptAnswer(NamedTuple):
    """An answer that a person has approved or edited."""

    request: RequestKey
    task: str
    review: str
    output: Mapping[str, Any]


def kept_answers(
    connection: sa.Connection, letters: Sequence[str], *, every: bool
) -> dict[str, KeptAnswer]:
    """Approved and edited answers by their dead letter's place: kept examples, or `every` one.

    Only those of these dead letters, for all may not fit into memory. Of a request that was decided
    on more than once, the last decision with a result counts.
    """
    decided = sa.select(REVIEWS.c.letter).where(REVIEWS.c.letter == OUTCOMES.c.letter)
    kept = decided if every else decided.where(REVIEWS.c.is_example)
    is_kept = sa.and_(OUTCOMES.c.review.in_(("approve", "edit")), kept.exists())
    rows: list[sa.RowMapping] = []
    for piece in pieces(letters):
        query = sa.select(OUTCOMES).where(
            OUTCOMES.c.is_result, OUTCOMES.c.letter.in_(piece), is_kept
        )
        rows += connection.execute(query).mappings()
    return {
        row["letter"]: KeptAnswer(
            RequestKey(row["tenant"], row["request_id"]),
            row["task"],
            row["review"],
            read_exact(row["output"]),
        )
        for row in sorted(rows, key=itemgetter("ended_at"))
    }
