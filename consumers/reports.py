"""Reports: what the topics say of past requests, read from outside the flow."""

import contextlib
import json
import re
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple, TypeAlias

import structlog

from consumers.buckets import Buckets
from consumers.runtime.clients import Clients
from consumers.runtime.records import Record, record_ref, why_not_taken
from consumers.runtime.topic_reader import Seen, topic_reader
from router.reports.quality import Event, Quality, event_of
from schemas.attempt import Attempt, LedgerEntry
from schemas.codec import Headers, read_dead_letter, read_envelope, read_model, text_headers
from schemas.errors import ContractError
from schemas.escalation import Escalation
from schemas.feedback import Feedback
from schemas.intake import read_request
from schemas.json_numbers import exact_json
from schemas.request import Request
from schemas.result import Result
from schemas.review import AuditLine
from schemas.tenancy import RequestKey

__all__ = [
    "quality_parts",
    "read_examples",
    "read_quality",
    "read_requests",
    "read_said",
    "told_reply",
]

_log = structlog.get_logger(__name__)


async def read_quality(clients: Clients, since: datetime | None = None) -> Quality:
    """The fold of everything written since an instant. Raises KafkaUnreachableError."""
    quality = Quality()
    async for event in _events(clients, since):
        quality.tell(event)
    return quality


async def quality_parts(
    clients: Clients, since: datetime | None = None, *, seen: Seen | None = None
) -> AsyncIterator[Quality]:
    """The same fold in parts, each of which has all there is of its requests.

    One part is in memory at a time. Raises KafkaUnreachableError.
    """
    with Buckets[Event]() as buckets:
        async for event in _events(clients, since, seen=seen):
            buckets.put(event.request, event)
        for events in buckets.each():
            part = Quality()
            for event in events:
                part.tell(event)
            yield part


async def _events(
    clients: Clients, since: datetime | None, *, seen: Seen | None = None
) -> AsyncIterator[Event]:
    topics = clients.settings.topics
    read: dict[str, Callable[[Record], Event | None]] = {
        topics.attempts: lambda r: event_of(read_model(LedgerEntry, r.value)),
        topics.results: lambda r: event_of(read_model(Result, r.value)),
        topics.feedback: lambda r: event_of(read_model(Feedback, r.value)),
        topics.dead_letters: lambda r: event_of(read_dead_letter(r.headers)),
    }
    found: list[Event] = []

    def take(record: Record) -> None:
        if (event := read[record.topic](record)) is not None:
            found.append(event)

    async with topic_reader(clients, list(read), since=since) as reader:
        async for record in reader.until_end(seen):
            if (why := why_not_taken(take, record)) is not None:
                _log.warning("not read", place=record_ref(record), detail=why)
            while found:
                yield found.pop()


async def read_requests(
    clients: Clients,
    keys: Collection[RequestKey],
    since: datetime | None = None,
    seen: Seen | None = None,
) -> dict[RequestKey, Request]:
    """These requests, as far as intake still has them."""
    found: dict[RequestKey, Request] = {}
    by_id: dict[str, list[RequestKey]] = {}
    for key in keys:
        by_id.setdefault(key.id, []).append(key)
    if not keys:
        return found
    needles = _needles(by_id)
    async with topic_reader(clients, clients.settings.topics.all_intakes, since=since) as reader:
        async for record in reader.until_end(seen):
            place = record_ref(record)
            # Reading a request whole takes long, and hardly any is meant.
            if place not in by_id and not _mentions(record, needles):
                continue
            try:
                headers = text_headers(record.headers)
                request = read_request(record.value, headers, fallback_id=place)
            except ContractError:
                continue
            if (one := _meant(request, by_id.get(request.id, ()))) is not None:
                found.setdefault(one, request)
    return found


async def read_said(
    clients: Clients,
    attempts: Collection[str],
    since: datetime | None = None,
    seen: Seen | None = None,
) -> dict[str, str]:
    """What these attempts answered, by their ids, as far as a topic of the flow still has it.

    The ledger keeps no answers; a request on its way has those of its attempts with it.
    """
    topics, said = clients.settings.topics, dict[str, str]()
    if not attempts:
        return said
    needles = _needles(attempts)
    wanted = [topics.escalations, topics.results, topics.dead_letters]
    async with topic_reader(clients, wanted, since=since) as reader:
        async for record in reader.until_end(seen):
            if not _mentions(record, needles):
                continue
            with contextlib.suppress(ContractError):
                if record.topic == topics.results:
                    result = read_model(Result, record.value)
                    if result.response is not None:
                        said.setdefault(result.response.request_id, _words(result.router.output))
                    continue
                tried = (
                    read_envelope(Escalation, record.value)[0].attempts
                    if record.topic == topics.escalations
                    else read_dead_letter(record.headers).attempts
                )
                for one in tried:
                    if one.answered is not None:
                        said[one.attempt_id] = told_reply(one)
    return {name: said[name] for name in attempts if name in said}


def told_reply(attempt: Attempt) -> str:
    """What a model replied in one text: a remark where it answered with nothing."""
    said = attempt.answered
    if said is None:
        return ""
    is_plain = isinstance(said, dict) and said.keys() == {"answer"}
    text = said["answer"] if isinstance(said, dict) and is_plain else said
    if isinstance(text, str) and not text.strip():
        thought = attempt.usage.reasoning_tokens
        return f"(a thought of {thought:,} tokens, nothing else)" if thought else "(nothing)"
    return said if isinstance(said, str) else _words(said)


def _words(output: Mapping[str, Any]) -> str:
    return exact_json(output, gap=" ")


def _needles(ids: Collection[str]) -> re.Pattern[bytes]:
    """Finds any of these ids, as it stands or as a JSON string has it."""
    forms = {form for one in ids for form in (one, json.dumps(one)[1:-1])}
    return re.compile(b"|".join(re.escape(one.encode()) for one in sorted(forms)))


def _mentions(record: Record, needles: re.Pattern[bytes]) -> bool:
    if record.value is not None and needles.search(record.value):
        return True
    return any(needles.search(value) for _, value in record.headers if value)


def _meant(request: Request, keys: Sequence[RequestKey]) -> RequestKey | None:
    """Which of the requests with its id a record on intake is.

    One that names no tenant may have got one by its topic or its signature.
    """
    if request.key in keys:
        return request.key
    is_named = "tenant" in request.model_fields_set
    return keys[0] if len(keys) == 1 and not is_named else None


async def read_examples(
    clients: Clients, *, every: bool, seen: Seen | None = None
) -> AsyncIterator[dict[str, Any]]:
    """Answers that a person stands for: approved or edited ones, kept as examples or `every` one.

    Of a request that was decided on more than once, the last decision that is a result counts.
    """
    with Buckets[_Piece]() as buckets:
        async for place, piece in _pieces(clients, every=every, seen=seen):
            buckets.put(place, (place, *piece))
        for pieces in buckets.each():
            kept: set[str] = set()
            answers: dict[str, _Answered] = {}
            letters: dict[str, tuple[bytes | None, Headers]] = {}
            for place, what, value in pieces:
                if what == "kept":
                    kept.add(place)
                elif what == "answer":
                    answers[place] = value
                else:
                    letters[place] = value
            for place, answer in answers.items():
                if place in kept and place in letters:
                    example = _example(answer, *letters[place])
                    if example is not None:
                        yield example


class _Answered(NamedTuple):
    """What an example takes from a result."""

    request: RequestKey
    task: str
    review: str
    output: dict[str, Any]


#: A dead letter's place; whether it was kept, answered, or is the letter itself; and what it holds.
_Piece: TypeAlias = tuple[str, Literal["kept", "answer", "letter"], Any]


async def _pieces(
    clients: Clients, *, every: bool, seen: Seen | None
) -> AsyncIterator[tuple[str, tuple[Literal["kept", "answer", "letter"], Any]]]:
    topics = clients.settings.topics
    wanted = [topics.review, topics.results, topics.dead_letters]
    async with topic_reader(clients, wanted) as reader:
        async for record in reader.until_end(seen):
            try:
                if record.topic == topics.review:
                    line = read_model(AuditLine, record.value)
                    if line.decision is not None and (every or line.decision.is_example):
                        yield str(line.decision.letter), ("kept", None)
                elif record.topic == topics.results:
                    result = read_model(Result, record.value)
                    info = result.router
                    if info.review in ("approve", "edit"):
                        answer = _Answered(result.key, info.task, info.review, info.output)
                        yield str(info.resolves), ("answer", answer)
                else:
                    headers = tuple(record.headers)
                    yield record_ref(record), ("letter", (record.value, headers))
            except ContractError:
                continue


def _example(answer: _Answered, value: bytes | None, headers: Headers) -> dict[str, Any] | None:
    """An example; None where its request cannot be read."""
    try:
        request = read_request(value, text_headers(headers), fallback_id=answer.request.id)
    except ContractError:
        return None
    return {
        "request_id": answer.request.id,
        "tenant": answer.request.tenant,
        "task": answer.task,
        "input": request.input.model_dump(mode="json", exclude_none=True),
        "context": request.context.model_dump(mode="json", exclude_none=True),
        "expected": answer.output,
        "source": f"review: {answer.review}",
    }
