"""Reports: what the topics say of past requests, read from outside the flow."""

from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from typing import Any

import structlog

from consumers.runtime.clients import Clients
from consumers.runtime.reading import topic_reader
from consumers.runtime.records import Record, lies_at, why_not_taken
from router.quality import Quality
from schemas.attempt import LedgerEntry
from schemas.codec import read_dead_letter, read_model, text_headers
from schemas.errors import ContractError
from schemas.feedback import Feedback
from schemas.intake import read_request
from schemas.request import Request
from schemas.result import Result
from schemas.review import AuditLine
from schemas.tenancy import RequestKey

__all__ = ["read_examples", "read_quality", "read_requests"]

_log = structlog.get_logger(__name__)


async def read_quality(
    clients: Clients,
    since: datetime | None = None,
    also: Callable[[Record], None] = lambda _: None,
) -> Quality:
    """The fold of everything written since an instant. Raises KafkaUnreachableError.

    `also` sees each record too.
    """
    topics, quality = clients.settings.topics, Quality()
    take: dict[str, Callable[[Record], None]] = {
        topics.attempts: lambda r: quality.attempt(read_model(LedgerEntry, r.value)),
        topics.results: lambda r: quality.result(read_model(Result, r.value)),
        topics.feedback: lambda r: quality.feedback(read_model(Feedback, r.value)),
        topics.dead_letters: lambda r: quality.letter(read_dead_letter(r.headers)),
    }
    async with topic_reader(clients, list(take), since=since) as reader:
        async for record in reader.until_end():
            if (why := why_not_taken(take[record.topic], record)) is not None:
                _log.warning("not read", place=lies_at(record), detail=why)
            also(record)
    return quality


async def read_requests(
    clients: Clients, keys: set[RequestKey], since: datetime | None = None
) -> dict[RequestKey, Request]:
    """These requests, as far as intake still has them."""
    found: dict[RequestKey, Request] = {}
    by_id: dict[str, list[RequestKey]] = {}
    for key in keys:
        by_id.setdefault(key.id, []).append(key)
    async with topic_reader(clients, clients.settings.topics.all_intakes, since=since) as reader:
        async for record in reader.until_end():
            place = lies_at(record)
            try:
                headers = text_headers(record.headers)
                request = read_request(record.value, headers, fallback_id=place)
            except ContractError:
                continue
            if (one := _meant(request, by_id.get(request.id, ()))) is not None:
                found.setdefault(one, request)
    return found


def _meant(request: Request, keys: Sequence[RequestKey]) -> RequestKey | None:
    """Which of the requests with its id a record on intake is.

    One that names no tenant may have got one by its topic or its signature.
    """
    if request.key in keys:
        return request.key
    is_named = "tenant" in request.model_fields_set
    return keys[0] if len(keys) == 1 and not is_named else None


async def read_examples(clients: Clients, *, every: bool) -> AsyncIterator[dict[str, Any]]:
    """Answers that a person stands for: approved or edited ones, kept as examples or `every` one.

    Of a request that was decided on more than once, the last decision that is a result counts.
    """
    topics = clients.settings.topics
    kept: set[str] = set()
    answers: dict[str, Result] = {}
    async with topic_reader(clients, [topics.review]) as reader:
        async for record in reader.until_end():
            try:
                line = read_model(AuditLine, record.value)
            except ContractError:
                continue
            if line.decision is not None and (every or line.decision.is_example):
                kept.add(str(line.decision.letter))
    async with topic_reader(clients, [topics.results]) as reader:
        async for record in reader.until_end():
            try:
                result = read_model(Result, record.value)
            except ContractError:
                continue
            if result.router.review in ("approve", "edit") and result.router.resolves in kept:
                answers[str(result.router.resolves)] = result
    async with topic_reader(clients, [topics.dead_letters]) as reader:
        async for record in reader.until_end():
            place = lies_at(record)
            if (answer := answers.get(place)) is None:
                continue
            headers = text_headers(record.headers)
            try:
                request = read_request(record.value, headers, fallback_id=answer.id)
            except ContractError:
                continue
            yield {
                "request_id": answer.id,
                "tenant": answer.router.tenant,
                "task": answer.router.task,
                "input": request.input.model_dump(mode="json", exclude_none=True),
                "context": request.context.model_dump(mode="json", exclude_none=True),
                "expected": answer.router.output,
                "source": f"review: {answer.router.review}",
            }
