"""Reports: what the topics say of past requests, read from outside the flow."""

import contextlib
import json
import re
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from consumers.runtime.clients import Clients
from consumers.runtime.records import Record, record_ref
from consumers.runtime.topic_reader import Seen, topic_reader
from schemas.attempt import Attempt
from schemas.codec import read_dead_letter, read_envelope, read_model, text_headers
from schemas.errors import ContractError
from schemas.escalation import Escalation
from schemas.intake import read_request
from schemas.json_numbers import exact_json
from schemas.request import Request
from schemas.result import Result
from schemas.tenancy import RequestKey

if TYPE_CHECKING:
    from consumers.readmodel.queries import KeptAnswer

__all__ = [
    "read_examples",
    "read_requests",
    "read_said",
    "told_reply",
]


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
    clients: Clients, answers: "Mapping[str, KeptAnswer]", seen: Seen | None = None
) -> AsyncIterator[dict[str, Any]]:
    """Answers that a person stands for, by their dead letters, with what was asked.

    Those whose request cannot be read are left out.
    """
    if not answers:
        return
    async with topic_reader(clients, [clients.settings.topics.dead_letters]) as reader:
        async for record in reader.until_end(seen):
            if (answer := answers.get(record_ref(record))) is None:
                continue
            with contextlib.suppress(ContractError):
                headers, name = text_headers(record.headers), answer.request.id
                request = read_request(record.value, headers, fallback_id=name)
                yield {
                    "request_id": name,
                    "tenant": answer.request.tenant,
                    "task": answer.task,
                    "input": request.input.model_dump(mode="json", exclude_none=True),
                    "context": request.context.model_dump(mode="json", exclude_none=True),
                    "expected": answer.output,
                    "source": f"review: {answer.review}",
                }
