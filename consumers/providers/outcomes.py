"""What a provider's status, error or silence means for the request."""

import re
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Literal

import aiohttp
import orjson

from consumers.providers.shapes import dict_of
from consumers.providers.waits import asked_wait
from router.reply.reply import CallFailure
from schemas.reasons import Reason

__all__ = [
    "error_within",
    "failed_status",
    "failed_within",
    "was_sent",
    "what_failed",
]

#: Statuses of calls that were turned away before anything ran: too early, too many, no capacity
#: (Groq), overloaded, no origin behind Cloudflare, and Anthropic's overload.
_TURNED_AWAY = (425, 429, 498, 503, 521, 523, 529)
#: Error codes that mean the same, whatever the status is: OpenAI and those who follow it,
#: Anthropic, Google, AWS, Moonshot, Together, Mistral, DashScope, Hugging Face's servers.
_TURNED_AWAY_CODES = frozenset(
    (
        "rate_limit_error",
        "rate_limit_exceeded",
        "rate_limited",
        "rate_limit_reached_error",
        "too_many_requests",
        "toomanyrequests",
        "resource_exhausted",
        "ratelimitexceeded",
        "throttlingexception",
        "throttled",
        "throttling",
        "limitburstrate",
        "overloaded",
        "overloaded_error",
        "engine_overloaded",
        "engine_overloaded_error",
        "model_overloaded",
        "server_overloaded",
        "server_is_overloaded",
        "slow_down",
        "capacity_exceeded",
        "service_tier_capacity_exceeded",
        "no_capacity",
        "nocapacity",
        "modelnotreadyexception",
        "serviceunavailableexception",
    )
)
#: Words that mean the same beside a 5xx.
_TURNED_AWAY_WORDS = (
    "overloaded",
    "at capacity",
    "server busy",
    "server is busy",
    "too many requests",
    "currently loading",
    "loading model",
    "no healthy upstream",
)
#: A proxy's 503 for a call that it had passed on.
_PASSED_ON = "reset before headers"
#: The call alone is above the limit per minute, so waiting does not help.
_TOO_LARGE = "request too large"
#: A gateway gave up waiting; the call may still run behind it.
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
#: With a 400: our key is wrong or our credit is used up, so every call to the provider will fail.
#: A message may quote the request, so only its own beginning counts: one customer's words must not
#: take a provider out for all the others.
_REFUSED_OPENINGS = ("api key not valid", "your credit balance is too low")
#: `no_db_connection` is what LiteLLM's proxy says of a key that is not its master key.
_REFUSED_CODES = ("api_key_invalid", "no_db_connection", "invalid_api_key")
#: Characters of an error's message that are searched for words: what it quotes comes later.
_OPENING = 200
#: Every call to the provider is refused; a 403 may be about one model.
_REFUSED_ALL = (401, 402)
#: The model's address is wrong for good, or we may not use the model.
_REFUSED_HERE = (301, 308, 403, 405, 410)
_FILTERED = (
    "content_filter",
    "content_policy_violation",
    "invalid_prompt",
    "responsibleaipolicyviolation",
)
#: For gateways, which pass the provider's message on under a code of their own.
_FILTERED_WORDS = (
    "content management policy",
    "content_policy_violation",
    "contentpolicyviolationerror",
    "content filtering policy",
    "your input was flagged",
)
#: Our credit or quota is used up, so waiting does not help.
_EXHAUSTED = (
    "insufficient_quota",
    "billing_hard_limit_reached",
    "quota_exceeded",
    "billing_error",
    "exceeded_current_quota_error",
    "insufficient_balance",
    "insufficient_credits",
    "arrearage",
)
_EXHAUSTED_WORDS = ("insufficient balance",)
#: A code is one plain word: prose is not kept.
_CODE = re.compile(r"[A-Za-z0-9_]{1,64}")
#: The statuses that error codes stand for.
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


def failed_status(
    status: int, headers: Mapping[str, str], raw: bytes, now: datetime
) -> CallFailure | None:
    """What a status other than 2xx means; None where the provider's filter stopped the prompt.

    A filtered prompt is a kind of answer, not a failure. The provider's message is not kept, for it
    may quote the call.
    """
    return _classed(f"HTTP {status}", status, headers, _loaded(raw), now)


def error_within(data: Any) -> Any:
    """The error in the body of a reply with status 200; None for a real reply.

    Gateways send one when the provider behind them fails after they have begun to answer, beside
    what it had written until then.
    """
    match data:
        case {"error": error} | [{"error": error}, *_] if _says_something(error):
            return data
        case {"choices": [{"error": error, **choice}, *_]} if _says_something(error):
            return {"error": error, "choices": dict_of(choice.get("message")).get("content")}
        case {"choices": [{"finish_reason": "error"}, *_]}:
            return {"error": {}}
        case _:
            return None


def failed_within(data: Any, headers: Mapping[str, str], now: datetime) -> CallFailure | None:
    """What an error under HTTP 200 means, by the status it stands for; None for a filter's.

    Unless it turns the call away, nobody knows what ran: the status says that something did.
    """
    failure = _classed("an error under HTTP 200", _status_of(data), headers, data, now)
    reply = dict_of(data)
    counts = dict_of(reply.get("usage")).values()
    has_begun = any(reply.get(name) for name in ("choices", "content", "candidates")) or any(
        isinstance(count, int) and count > 0 for count in counts
    )
    may_have_run = failure is not None and (
        failure.reason is Reason.PROVIDER_ERROR
        or (failure.reason is Reason.THROTTLED and has_begun)
    )
    if failure is None or not may_have_run:
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
    reason, refuses = Reason.PROVIDER_REJECTED, _refuses(status, code, message, details)
    if status in (400, 403, 429) and (code in _EXHAUSTED or _opens_with(message, _EXHAUSTED_WORDS)):
        refuses = "provider"
    elif status == 429 and "perday" in details:
        refuses = "model"
    elif status in (413, 429) and message.startswith(_TOO_LARGE):
        reason = Reason.CONTEXT_OVERFLOW
    elif _is_turned_away(status, code, message):
        reason, refuses = Reason.THROTTLED, None
    elif status in _TIMED_OUT:
        reason = Reason.OUTCOME_UNKNOWN
    elif status >= 500 or status == 408:
        reason = Reason.PROVIDER_ERROR
    elif status == 413 or code in _OVERFLOWS or _opens_with(message, _OVERFLOW_WORDS):
        reason = Reason.CONTEXT_OVERFLOW
    elif 300 <= status < 400:
        detail = f"{detail}: redirects are not followed"
    throttled = reason is Reason.THROTTLED
    return CallFailure(
        reason,
        detail,
        http_status=status,
        retry_after=asked_wait(headers, data, message, now) if throttled else None,
        provider_words=headers.get("location", "") if 300 <= status < 400 else message,
        refuses=refuses,
    )


def _is_turned_away(status: int, code: str, message: str) -> bool:
    """True when the provider says that it has not run the call but may run it later."""
    if status >= 500 and _PASSED_ON in message:
        return False
    if status in _TURNED_AWAY:
        return True
    if status in _TIMED_OUT or status in _REFUSED_ALL:
        return False
    is_in_words = status >= 500 and _opens_with(message, _TURNED_AWAY_WORDS)
    return code in _TURNED_AWAY_CODES or is_in_words


def _is_filtered(code: str, message: str) -> bool:
    return code in _FILTERED or _opens_with(message, _FILTERED_WORDS)


def _opens_with(message: str, words: Sequence[str]) -> bool:
    return any(word in message[:_OPENING] for word in words)


def _status_of(data: Any) -> int:
    """The status that an error under a 200 stands for; 500 where it does not say."""
    data = data[0] if isinstance(data, list) else data
    error = dict_of(data["error"])
    for name in ("code", "status", "status_code"):
        value = error.get(name)
        status = int(value) if isinstance(value, str) and value.isdecimal() else value
        if type(status) is int and 400 <= status < 600:
            return status
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


def was_sent(error: BaseException) -> bool:
    """False only when no connection was made or tried: nothing else proves it.

    The transport also raises a connect timeout for a connection that closed after the request was
    written, so its own exception says nothing; only the cause beneath it does.
    """
    return not any(
        isinstance(
            cause,
            (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL),
        )
        for cause in _causes(error)
    )


#: What an exception of the HTTP client means, by the beginning of its name.
_MEANINGS = (
    ("ClientConnectorDNS", "DNS has no address for the host"),
    ("ClientConnectorCertificate", "Certificate not accepted"),
    ("ClientConnectorSSL", "SSL handshake failed"),
    ("ServerDisconnected", "the server closed the connection"),
    ("ConnectionReset", "the connection was reset"),
    ("ConnectionRefused", "the connection was refused"),
    ("ClientConnector", "the connection was refused or timed out"),
)


def what_failed(error: BaseException) -> str:
    """The kind of a failed connection, with what is wrong about a certificate."""
    *_, what = (type(cause).__name__ for cause in _causes(error)[:2])
    what = next((words for name, words in _MEANINGS if what.startswith(name)), what)
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
    """The error's code, when it is a plain word, its message and its details, in lower case."""
    # Gemini puts the error into a list when it streams, and some gateways always do.
    fields = dict_of(data[0] if isinstance(data, list) and data else data)
    error: Any = fields.get("error")
    if not isinstance(error, dict):
        # Some compatible servers leave out the object around the error's fields.
        if "message" not in fields:
            kind = fields.get("error_type")  # Hugging Face's servers
            code = kind.lower() if isinstance(kind, str) and _CODE.fullmatch(kind) else ""
            return code, str(error or fields.get("detail") or "").lower()[:2000], ""
        error = fields
    message = str(error.get("message", "")).lower()[:2000]
    details = str(error.get("details", "")).lower()[:8000]
    for code in (
        *(error.get(name) for name in ("code", "type", "status")),
        dict_of(error.get("innererror")).get("code"),
        error.get("__type"),  # AWS
    ):
        # Some servers repeat the status as the code.
        if isinstance(code, str) and not code.isdecimal() and _CODE.fullmatch(code):
            return code.lower(), message, details
    return "", message, details
