"""Outcomes: what a provider's status, error or silence means for the request."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import orjson

from router.reply import CallFailure
from schemas.reasons import Reason

__all__ = ["failed_status", "retry_after", "was_sent"]

#: A provider may ask for more; nobody waits so long, and the backup is asked instead.
LONGEST_WAIT = 3600.0

_OVERLOADED = (503, 529)
_OVERFLOWS = ("context_length_exceeded", "string_above_max_length", "request_too_large")
_OVERFLOW_WORDS = ("maximum context length", "context window", "prompt is too long")
#: A 429 that no waiting mends.
_EXHAUSTED = ("insufficient_quota", "billing_hard_limit_reached", "quota_exceeded")


def failed_status(
    status: int, headers: Mapping[str, str], raw: bytes, now: datetime
) -> CallFailure:
    """A reply that is not a 200, classed. The provider's prose stays out: it may quote the call."""
    code, message = _error_of(raw)
    detail = f"HTTP {status}" + (f" {code}" if code else "")
    wait = retry_after(headers.get("retry-after"), now)
    reason = Reason.PROVIDER_REJECTED
    if status == 429:
        reason = Reason.PROVIDER_REJECTED if code in _EXHAUSTED else Reason.THROTTLED
    elif status in _OVERLOADED and wait is not None:
        reason = Reason.THROTTLED
    elif status >= 500 or status == 408:
        reason = Reason.PROVIDER_ERROR
    elif status == 413 or code in _OVERFLOWS or any(w in message for w in _OVERFLOW_WORDS):
        reason = Reason.CONTEXT_OVERFLOW
    elif 300 <= status < 400:
        detail = f"{detail}: redirects are not followed"
    return CallFailure(
        reason, detail, http_status=status, retry_after=wait if reason is Reason.THROTTLED else None
    )


def retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds to wait, from a number or an HTTP date; None for nonsense. At most an hour."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            until = parsedate_to_datetime(value)
        except ValueError:
            return None
        until = until if until.tzinfo else until.replace(tzinfo=UTC)
        seconds = max(0.0, (until - now).total_seconds())
    if not math.isfinite(seconds) or seconds < 0:
        return None

    return min(seconds, LONGEST_WAIT)


def was_sent(error: BaseException) -> bool:
    """False only when the connection was never made, which is all that proves it.

    The transport raises a connect timeout also for a connection that closed after the request was
    written, so its own exception says nothing; only the cause beneath it does.
    """
    cause: BaseException | None = error
    for _ in range(16):
        if cause is None:
            break
        if isinstance(cause, aiohttp.ClientConnectorError):
            return False
        cause = cause.__cause__
    return True


def _error_of(raw: bytes) -> tuple[str, str]:
    """The error's code, when it is a plain word, and its message in lower case, for us alone."""
    try:
        data = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return "", ""

    error: Any = data.get("error") if isinstance(data, dict) else None
    if not isinstance(error, dict):
        return "", str(error or "").lower()[:2000]
    for name in ("code", "type", "status"):
        code = error.get(name)
        if isinstance(code, str) and len(code) <= 64 and code.replace("_", "").isalnum():
            return code.lower(), str(error.get("message", "")).lower()[:2000]
    return "", str(error.get("message", "")).lower()[:2000]
