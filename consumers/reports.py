"""Past requests and replies as the topics still have them, read for commands and the console."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from consumers.records import mentions, pattern_of, record_ref
from consumers.runtime.clients import Clients
from consumers.runtime.topic_reader import Seen, topic_reader
from schemas.attempt import Attempt
from schemas.codec import read_dead_letter, read_envelope, read_model
from schemas.errors import ContractError
from schemas.escalation import Escalation
from schemas.intake import read_raw_request
from schemas.json_numbers import exact_json
from schemas.request import Request
from schemas.result import Result
from schemas.tenancy import RequestKey

if TYPE_CHECKING:
    from consumers.readmodel.answers import KeptAnswer

__all__ = ["read_examples", "read_replies", "read_requests", "reply_text"]

#: Dead letters whose answers are looked up together.
_AT_ONCE = 1_000


async def read_requests(
    clients: Clients,
    keys: Collection[RequestKey],
    since: datetime | None = None,
    seen: Seen | None = None,
) -> dict[RequestKey, Request]:
    """These requests, as far as intake still has them."""
    requests: dict[RequestKey, Request] = {}
    by_id: dict[str, list[RequestKey]] = {}
    for key in keys:
        by_id.setdefault(key.id, []).append(key)
    if not keys:
        return requests
    named = pattern_of(tuple(by_id))
    async with topic_reader(clients, clients.settings.topics.all_intakes, since=since) as reader:
        async for record in reader.until_end(seen):
            ref = record_ref(record)
            # Parsing a request takes long, and hardly any record is one of these.
            if ref not in by_id and not mentions(record, named):
                continue
            try:
                request = read_raw_request(record.value, record.headers, fallback_id=ref)
            except ContractError:
                continue
            if (match := _matching(request, by_id.get(request.id, ()))) is not None:
                requests.setdefault(match, request)
    return requests


async def read_replies(
    clients: Clients,
    attempts: Collection[str],
    since: datetime | None = None,
    seen: Seen | None = None,
) -> dict[str, str]:
    """The replies of these attempts, by their ids, as far as a topic of the flow still has them.

    The ledger keeps no replies; a request on its way carries those of its attempts.
    """
    topics, replies = clients.settings.topics, dict[str, str]()
    if not attempts:
        return replies
    named = pattern_of(tuple(attempts))
    carriers = [topics.escalations, topics.results, topics.dead_letters]
    async with topic_reader(clients, carriers, since=since) as reader:
        async for record in reader.until_end(seen):
            if not mentions(record, named):
                continue
            with contextlib.suppress(ContractError):
                if record.topic == topics.results:
                    result = read_model(Result, record.value)
                    if result.response is not None:
                        output = exact_json(result.router.output, gap=" ")
                        replies.setdefault(result.response.request_id, output)
                    continue
                carried = (
                    read_envelope(Escalation, record.value)[0].attempts
                    if record.topic == topics.escalations
                    else read_dead_letter(record.headers).attempts
                )
                for attempt in carried:
                    if attempt.answered is not None:
                        replies[attempt.attempt_id] = reply_text(attempt)
    return {attempt_id: replies[attempt_id] for attempt_id in attempts if attempt_id in replies}


def reply_text(attempt: Attempt) -> str:
    """A model's reply as one text; a remark in brackets where the reply is empty."""
    reply = attempt.answered
    if reply is None:
        return ""
    is_plain = isinstance(reply, dict) and reply.keys() == {"answer"}
    text = reply["answer"] if isinstance(reply, dict) and is_plain else reply
    if isinstance(text, str) and not text.strip():
        thought = attempt.usage.reasoning_tokens
        return f"(a thought of {thought:,} tokens, nothing else)" if thought else "(nothing)"
    return reply if isinstance(reply, str) else exact_json(reply, gap=" ")


def _matching(request: Request, keys: Sequence[RequestKey]) -> RequestKey | None:
    """Which of the keys with its id is this request's.

    A request that names no tenant may have got one by its topic or its signature.
    """
    if request.key in keys:
        return request.key
    is_named = "tenant" in request.model_fields_set
    return keys[0] if len(keys) == 1 and not is_named else None


async def read_examples(
    clients: Clients,
    kept: "Callable[[Sequence[str]], Awaitable[Mapping[str, KeptAnswer]]]",
    seen: Seen | None = None,
) -> AsyncIterator[dict[str, Any]]:
    """Answers that a reviewer has approved or written, with their requests from the dead letters.

    `kept` gives the answers of dead letters by their places. Answers whose request cannot be read
    are left out.
    """
    async with topic_reader(clients, [clients.settings.topics.dead_letters]) as reader:
        async for records in reader.batches(await reader.ends(), _AT_ONCE, seen):
            answers = await kept([record_ref(record) for record in records])
            for record in records:
                if (answer := answers.get(record_ref(record))) is None:
                    continue
                with contextlib.suppress(ContractError):
                    request_id = answer.request.id
                    request = read_raw_request(record.value, record.headers, fallback_id=request_id)
                    yield {
                        "request_id": request_id,
                        "tenant": answer.request.tenant,
                        "task": answer.task,
                        "input": request.input.model_dump(mode="json", exclude_none=True),
                        "context": request.context.model_dump(mode="json", exclude_none=True),
                        "expected": answer.output,
                        "source": f"review: {answer.review}",
                    }
