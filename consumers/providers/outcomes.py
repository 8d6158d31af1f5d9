"""Outcomes: what a provider's status, error or silence means for the request."""

import re
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal

import aiohttp
import orjson

from router.reply import CallFailure
from schemas.reasons import Reason

__all__ = [
    "error_within",
    "failed_status",
    "failed_within",
    "retry_after",
    "was_sent",
    "what_failed",
]

#: A provider may ask for more; nobody waits so long, and the backup is asked instead.
LONGEST_WAIT = 3600.0

_OVERLOADED = (503, 529)
#: A gateway that gave up waiting for what runs on behind it.
_TIMED_OUT = (504, 524)
_OVERFLOWS = ("context_length_exceeded", "string_above_max_length", "request_too_large")
_OVERFLOW_WORDS = (
    "maximum context length",
    "context window",
    "prompt is too long",
    "exceeds the maximum number of tokens",
    "exceed context limit",
    "context size",
    "input is too long",
    "tokens must be <=",
)
#: With a 400: our key is wrong or our credit used up, which no other call to the provider mends.
#: A message may quote the request, so only its own beginning counts: one customer's words must not
#: take a provider from all the others.
_REFUSED_OPENINGS = ("api key not valid", "your credit balance is too low")
#: `no_db_connection`: LiteLLM's proxy, of a key that is not its master key.
_REFUSED_CODES = ("api_key_invalid", "no_db_connection", "invalid_api_key")
#: How far the words of an error are looked for: what it quotes comes later.
_OPENING = 200
#: The provider's, whatever is asked of it; 403 may be about one model.
_REFUSED_ALL = (401, 402)
#: The address is wrong for good.
_REFUSED_HERE = (301, 308, 403, 405, 410)
_FILTERED = (
    "content_filter",
    "content_policy_violation",
    "invalid_prompt",
    "responsibleaipolicyviolation",
)
#: A gateway passes the provider's prose on and makes a code of its own.
_FILTERED_WORDS = (
    "content management policy",
    "content_policy_violation",
    "contentpolicyviolationerror",
    "content filtering policy",
    "your input was flagged",
)
#: A 429 that no waiting mends.
_EXHAUSTED = ("insufficient_quota", "billing_hard_limit_reached", "quota_exceeded", "billing_error")
#: Gemini asks to wait in the body: `"retryDelay": "34s"`.
_RETRY_DELAY = re.compile(r"'retrydelay': '([0-9.]{1,12})s'")
#: What the codes of errors stand for.
_STATUSES = {
    "content_filter": 400,
    "content_policy_violation": 400,
    "invalid_prompt": 400,
    "billing_error": 402,
    "timeout_error": 504,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "resource_exhausted": 429,
    "overloaded_error": 529,
    "unavailable": 503,
    "invalid_request_error": 400,
    "invalid_argument": 400,
    "context_length_exceeded": 400,
    "authentication_error": 401,
    "unauthenticated": 401,
    "permission_error": 403,
    "permission_denied": 403,
    "not_found_error": 404,
    "not_found": 404,
    "request_too_large": 413,
}
#: Headers with what is left of a limit, and when it is full again.
_LIMITS = (
    ("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
    ("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
    ("anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-requests-reset"),
    ("anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset"),
    ("anthropic-ratelimit-input-tokens-remaining", "anthropic-ratelimit-input-tokens-reset"),
    ("anthropic-ratelimit-output-tokens-remaining", "anthropic-ratelimit-output-tokens-reset"),
    ("ratelimit-remaining", "ratelimit-reset"),
)
_NUMBER = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,12})?")
_SPANS = re.compile(r"([0-9.]+)(ms|s|m|h)")
_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:ms|s|m|h))+")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def failed_status(
    status: int, headers: Mapping[str, str], raw: bytes, now: datetime
) -> CallFailure | None:
    """A reply that is not a 200, classed; None where the provider's filter stopped the prompt.

    That is an answer of a kind, and no failure. The provider's prose stays out of what is kept: it
    may quote the call.
    """
    return _classed(f"HTTP {status}", status, headers, _loaded(raw), now)


def error_within(data: Any) -> Any:
    """The error that a reply with status 200 tells of in its body; None for a real reply.

    Gateways send one when the provider behind them fails after they have begun to answer, beside
    what it had said until then.
    """
    match data:
        case {"error": said} | [{"error": said}, *_] if _says_something(said):
            return data
        case {"choices": [{"error": said}, *_]} if _says_something(said):
            return {"error": said}
        case {"choices": [{"finish_reason": "error"}, *_]}:
            return {"error": {}}
        case _:
            return None


def failed_within(found: Any, headers: Mapping[str, str], now: datetime) -> CallFailure | None:
    """An error under a 200, classed like the status it stands for; None for a filter's.

    Unless it turns the call away nobody knows what ran: the status says that something did.
    """
    failure = _classed("an error under HTTP 200", _status_of(found), headers, found, now)
    if failure is None or failure.reason is not Reason.PROVIDER_ERROR:
        return failure
    return replace(failure, reason=Reason.OUTCOME_UNKNOWN, http_status=200)


def _says_something(error: Any) -> bool:
    return any(error.values()) if isinstance(error, dict) else bool(error)


def _classed(
    what: str, status: int, headers: Mapping[str, str], data: Any, now: datetime
) -> CallFailure | None:
    code, message, details = _error_of(data)
    if status in (400, 403) and _is_filtered(code, message):
        return None

    detail = what + (f" {code}" if code else "")
    wait = _wait(headers, details, now)
    reason, refuses = Reason.PROVIDER_REJECTED, _refuses(status, code, message, details)
    if status == 429:
        is_out = code in _EXHAUSTED or "perday" in details
        reason = Reason.PROVIDER_REJECTED if is_out else Reason.THROTTLED
        refuses = ("provider" if code in _EXHAUSTED else "model") if is_out else None
    elif status in _OVERLOADED and wait is not None:
        reason = Reason.THROTTLED
    elif status in _TIMED_OUT:
        reason = Reason.OUTCOME_UNKNOWN
    elif status >= 500 or status == 408:
        reason = Reason.PROVIDER_ERROR
    elif status == 413 or code in _OVERFLOWS or _opens_with(message, _OVERFLOW_WORDS):
        reason = Reason.CONTEXT_OVERFLOW
    elif 300 <= status < 400:
        detail = f"{detail}: redirects are not followed"
    return CallFailure(
        reason,
        detail,
        http_status=status,
        retry_after=wait if reason is Reason.THROTTLED else None,
        said=headers.get("location", "") if 300 <= status < 400 else message,
        refuses=refuses,
    )


def _is_filtered(code: str, message: str) -> bool:
    return code in _FILTERED or _opens_with(message, _FILTERED_WORDS)


def _opens_with(message: str, words: Sequence[str]) -> bool:
    return any(word in message[:_OPENING] for word in words)


def _status_of(data: Any) -> int:
    """The status that an error without one stands for; 500 where nothing tells."""
    data = data[0] if isinstance(data, list) else data
    error = data["error"] if isinstance(data["error"], dict) else {}
    for name in ("code", "status", "status_code"):
        said = error.get(name)
        number = int(said) if isinstance(said, str) and said.isdecimal() else said
        if type(number) is int and 400 <= number < 600:
            return number
    return _STATUSES.get(_error_of(data)[0], 500)


def _refuses(
    status: int, code: str, message: str, details: str
) -> Literal["provider", "model"] | None:
    if status in _REFUSED_ALL:
        return "provider"
    # In Gemini's details the reason is a field of its own.
    is_key = code in _REFUSED_CODES or "'reason': 'api_key_invalid'" in details
    if status == 400 and (is_key or message.startswith(_REFUSED_OPENINGS)):
        return "provider"
    return "model" if status in _REFUSED_HERE else None


def retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds to wait, from a number or an HTTP date; None for nonsense. At most an hour."""
    if value is None:
        return None
    # Two headers of that name arrive as one; whichever is longer was meant too.
    numbers = [one.strip() for one in value.split(",")]
    if all(_NUMBER.fullmatch(one) for one in numbers):
        return min(max(map(float, numbers)), LONGEST_WAIT)
    try:
        until = parsedate_to_datetime(value)
        until = until if until.tzinfo else until.replace(tzinfo=UTC)
        return min(max((until - now).total_seconds(), 0.0), LONGEST_WAIT)
    except (ValueError, OverflowError):
        return None


def _wait(headers: Mapping[str, str], details: str, now: datetime) -> float | None:
    """Seconds to wait, wherever the provider says it; the most exact place first."""
    if (wait := _until_reset(f"{_said(headers, 'retry-after-ms')}ms", now)) is not None:
        return wait
    if (wait := retry_after(_said(headers, "retry-after"), now)) is not None:
        return wait
    if found := _RETRY_DELAY.search(details):
        return retry_after(found[1], now)

    # What is used up says when it is full again.
    waits = [
        _until_reset(_said(headers, reset), now)
        for left, reset in _LIMITS
        if _said(headers, left) == "0"
    ]
    return max((wait for wait in waits if wait is not None), default=None)


def _said(headers: Mapping[str, str], name: str) -> str | None:
    """A header of the provider's, or of one behind LiteLLM's proxy, which puts a name before it."""
    return headers.get(name) or headers.get(f"llm_provider-{name}")


def _until_reset(value: str | None, now: datetime) -> float | None:
    """Seconds until an instant in ISO 8601, a number of them, or a duration such as `6m0s`."""
    if value is None or len(value) > 40:
        return None
    if _NUMBER.fullmatch(value):
        return min(float(value), LONGEST_WAIT)
    if found := _SPANS.findall(value) if _DURATION.fullmatch(value) else None:
        return min(sum(float(number) * _UNITS[unit] for number, unit in found), LONGEST_WAIT)
    try:
        until = datetime.fromisoformat(value)
        until = until if until.tzinfo else until.replace(tzinfo=UTC)
        return min(max((until - now).total_seconds(), 0.0), LONGEST_WAIT)
    except (ValueError, OverflowError):
        return None


def was_sent(error: BaseException) -> bool:
    """False only when no connection was made, or none was tried, which is all that proves it.

    The transport raises a connect timeout also for a connection that closed after the request was
    written, so its own exception says nothing; only the cause beneath it does.
    """
    return not any(
        isinstance(
            cause,
            (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL),
        )
        for cause in _causes(error)
    )


def what_failed(error: BaseException) -> str:
    """The kind of a failed connection, with what is wrong about a certificate."""
    *_, what = (type(cause).__name__ for cause in _causes(error)[:2])
    for cause in _causes(error):
        inner = getattr(cause, "certificate_error", cause)
        if isinstance(inner, ssl.SSLCertVerificationError):
            return f"{what}: {inner.verify_message}"
    return what


def _causes(error: BaseException) -> list[BaseException]:
    causes: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and len(causes) < 16:
        causes.append(cause)
        cause = cause.__cause__
    return causes


def _loaded(raw: bytes) -> Any:
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None


def _error_of(data: Any) -> tuple[str, str, str]:
    """The error's code, when it is a plain word; its message and details in lower case, for us."""
    # Gemini puts it into a list where it streams, and gateways do so elsewhere.
    data = data[0] if isinstance(data, list) and data else data
    error: Any = data.get("error") if isinstance(data, dict) else None
    if not isinstance(error, dict):
        # Some compatible servers leave the object around it out.
        if not isinstance(data, dict) or "message" not in data:
            said = error or (data.get("detail") if isinstance(data, dict) else None)
            return "", str(said or "").lower()[:2000], ""
        error = data
    message = str(error.get("message", "")).lower()[:2000]
    details = str(error.get("details", "")).lower()[:8000]
    inner = error.get("innererror")
    inner = inner.get("code") if isinstance(inner, dict) else None
    for code in (error.get("code"), error.get("type"), error.get("status"), inner):
        if not isinstance(code, str) or len(code) > 64 or code.isdecimal():
            continue  # some servers repeat the status there
        if code.replace("_", "").isalnum():
            return code.lower(), message, details
    return "", message, details
