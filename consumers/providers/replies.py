"""A provider's HTTP response, read as a reply or a failure, with what the call is booked at."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import aiohttp
import httpx

from consumers import clock
from consumers.providers.bodies import parsed_body
from consumers.providers.chat import reply_of
from consumers.providers.outcomes import error_within, failed_status, failed_within
from consumers.providers.settings import ProviderSettings
from consumers.providers.unpacking import unpacked
from consumers.providers.usage import Counts, booked, reserve, stated_micros
from consumers.providers.wire import UnreadableError, Wire
from router.reply.reply import CallFailure, Reply
from schemas.reasons import Reason

__all__ = ["ATTEMPT_HEADER", "ReplyReader"]

ATTEMPT_HEADER = "x-tierline-attempt"
#: The most that is read of an error's body; its code is near the beginning.
_ERROR_BYTES = 64 * 1024
_ERROR_SECONDS = 2.0
#: What servers answer at a wrong path.
_WRONG_PATH = (404, 405)


@dataclass(frozen=True, slots=True)
class ReplyReader:
    """Reads the responses of one provider."""

    settings: ProviderSettings
    wire: Wire
    #: Masks our keys in what the server sends.
    masked: Callable[[bytes], bytes]

    async def read(
        self,
        response: httpx.Response,
        ids: Mapping[str, str],
        body: Mapping[str, Any],
        deadline: float,
    ) -> Reply | CallFailure:
        """The reply to `body`, or what went wrong; whatever a server sends is an outcome.

        `ids` are the id headers that the call was sent with, `deadline` is its end by the event
        loop's clock.
        """
        max_bytes = self.settings.max_reply_bytes
        try:
            if not 200 <= response.status_code < 300:
                return _booked(await self._failed(response, deadline), body)
            raw, is_whole = await _read(response, max_bytes)
        finally:
            await response.aclose()
        if not is_whole:
            return _unreadable(f"the reply is longer than {max_bytes} bytes", response, body)
        data: Any = None
        try:
            _check_ids(response.headers, ids, echoes=self.settings.echoes_request_id)
            content_type = response.headers.get("content-type", "")
            data = parsed_body(raw, content_type, self.wire.name, self.masked)
            if (error_body := error_within(data)) is not None:
                return _booked(failed_within(error_body, response.headers, clock.now()), body)
            stated = stated_micros(data, response.headers)
            return _dated(replace(self.wire.decode(data, body), stated_micros=stated))
        except UnreadableError as error:
            return _unreadable(str(error), response, body, self.wire.counts(data))
        except Exception as error:  # noqa: BLE001  whatever a provider writes is no fault of ours
            what = f"the reply's format: {type(error).__name__}"
            return _unreadable(what, response, body, self.wire.counts(data))

    async def _failed(self, response: httpx.Response, deadline: float) -> CallFailure | None:
        """What a status other than 2xx means; None where a filter stopped the prompt."""
        raw = self.masked(await _read_error(response, deadline))
        status = response.status_code
        failure = failed_status(status, response.headers, raw, clock.now())
        if failure is not None and status in _WRONG_PATH and self.settings.is_bare:
            detail = f"{failure.detail}: base_url has no path; is /v1 missing?"
            failure = replace(failure, detail=detail)
        return failure


async def _read_error(response: httpx.Response, deadline: float) -> bytes:
    """The body of an error, as far as it arrives: the status says what happened without it too."""
    now = asyncio.get_running_loop().time()
    # Ends before the call does: a timeout here would turn a known status into an unknown outcome.
    soon = min(now + _ERROR_SECONDS, now + (deadline - now) / 2)
    try:
        async with asyncio.timeout_at(soon):
            raw, _ = await _read(response, _ERROR_BYTES)
    except (TimeoutError, httpx.HTTPError, aiohttp.ClientError, OSError):
        return b""
    return raw


async def _read(response: httpx.Response, max_bytes: int) -> tuple[bytes, bool]:
    """The unpacked body, at most so many bytes, and whether that is all of it."""
    # `Response.aiter_raw` around the stream costs as much as reading it.
    assert isinstance(response.stream, httpx.AsyncByteStream)  # noqa: S101  the transport's
    packed = bytearray()
    async for chunk in response.stream:
        packed += chunk
        if len(packed) > max_bytes:
            return bytes(packed[:max_bytes]), False
    encoding = response.headers.get("content-encoding", "")
    whole = unpacked(bytes(packed), encoding, max_bytes)
    return (b"", False) if whole is None else (whole, True)


def _check_ids(headers: Mapping[str, str], ids: Mapping[str, str], *, echoes: bool) -> None:
    """Refuse the reply to another call. Raises UnreadableError.

    Most servers send an `x-request-id` of their own; our attempt header nobody else has.
    """
    for name, value in ids.items():
        if (echoes or name == ATTEMPT_HEADER) and headers.get(name, value) != value:
            what = f"{name}: the reply is to another call"
            raise UnreadableError(what)


def _booked(failure: CallFailure | None, body: Mapping[str, Any]) -> Reply | CallFailure:
    """A failure with what it may have cost; None, a filtered prompt, becomes a refusal."""
    if failure is None:
        return _dated(_filtered(body))
    may_have_run = failure.reason is Reason.OUTCOME_UNKNOWN
    return replace(failure, usage=reserve(body)) if may_have_run else failure


def _filtered(body: Mapping[str, Any]) -> Reply:
    """The reply to a prompt that was filtered before any model read it."""
    return reply_of(
        body,
        reply_id="",
        served=None,
        text="",
        finish="content_filter",
        counts=None,
        refusal="the provider's filter stopped the prompt",
    )


def _dated(reply: Reply) -> Reply:
    """The reply with a time, which a completion has to have and not every format gives."""
    if not reply.body.get("created"):
        reply.body["created"] = int(clock.now().timestamp())
    return reply


def _unreadable(
    detail: str, response: httpx.Response, body: Mapping[str, Any], counts: Counts | None = None
) -> CallFailure:
    """A reply that was paid for but holds no answer, booked at the usage that it states.

    Where that cannot be read, or cannot be true, it is booked at the most the call can have cost.
    """
    usage, oddities = booked(body, "?", counts)  # something was written, whatever it is
    content_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type and content_type != "application/json":
        detail = f"{detail} ({content_type[:80]})"
    return CallFailure(
        Reason.UNREADABLE_REPLY,
        detail,
        http_status=response.status_code,
        usage=reserve(body) if oddities else usage,
    )
