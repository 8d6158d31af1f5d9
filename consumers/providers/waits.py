"""How long a provider asks us to wait, wherever and however it says so.

| where | how | source (read in 2026-11) |
|---|---|---|
| `retry-after` | seconds, an HTTP date; by some an instant in Unix time | RFC 9110, 10.2.3 |
| `retry-after-ms` | milliseconds | openai-python `_base_client.py`, Azure OpenAI |
| `x-ratelimit-reset-requests`, `-tokens` | `1s`, `6m0s`, `120ms` | OpenAI's and Groq's docs |
| `anthropic-ratelimit-*-reset` | RFC 3339 | docs.anthropic.com/en/api/rate-limits |
| `x-ratelimit-reset`, `ratelimit-reset` | seconds, Unix time | Together, OpenRouter, IETF |
| `x-ratelimit-reset-tokens-minute` | seconds | inference-docs.cerebras.ai |
| `ratelimit` | `"default";r=0;t=30` | draft-ietf-httpapi-ratelimit-headers-10 |
| `error.details[].retryDelay` | `34s` | google.rpc.RetryInfo |
| `error.metadata.headers` | as headers | openrouter.ai/docs/api/reference/errors |
| `estimated_time` | seconds | Hugging Face, while a model loads |
| message | "try again in 6m0s", "retry after 33 seconds" | OpenAI, Groq, Gemini; Azure, LiteLLM |
"""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from consumers.providers.shapes import dict_of, dicts_of

__all__ = ["asked_wait", "wait_of"]

#: A longer wait counts as this: nobody waits so long, and the backup is asked instead.
LONGEST_WAIT = 3600.0

_NUMBER = re.compile(r"[0-9]{1,20}(?:\.[0-9]{1,20})?")
_UNITS = {
    **dict.fromkeys(("ns", "nanoseconds"), 1e-9),
    **dict.fromkeys(("us", "µs", "μs", "microseconds"), 1e-6),
    **dict.fromkeys(("ms", "millis", "msec", "millisecond", "milliseconds"), 1e-3),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86400.0),
}
_UNIT = "|".join(sorted(_UNITS, key=len, reverse=True))
_SPAN = rf"[0-9]{{1,20}}(?:\.[0-9]{{1,20}})? ?(?:{_UNIT})(?![a-z])"
_ONE_SPAN = re.compile(rf"([0-9.]+) ?({_UNIT})")
_SHORT_SPAN = rf"[0-9]{{1,20}}(?:\.[0-9]{{1,20}})?(?:{_UNIT})"
_DURATION = re.compile(rf"(?:{_SHORT_SPAN})+|{_SPAN}(?:,? (?:and )?{_SPAN}){{0,3}}")
_ISO = r"[0-9]{4}-[0-9]{2}-[0-9]{2}[t ][0-9:.]{5,15} ?(?:z|utc|gmt|[+-][0-9:]{4,5})?"
#: The words of a message that introduce a wait or an instant.
_IN_WORDS = re.compile(
    r"(?:try again|retry|retrying|wait|available|resets?|resetting)(?: your request)?"
    r"(?: again)?(?: in| after| at| for)?(?: about| approximately)?:? "
    rf"({_ISO}|(?:{_SHORT_SPAN})+|{_SPAN}(?:,? (?:and )?{_SPAN}){{0,3}}|[0-9]{{1,20}}(?:\.[0-9]+)?)"
)
#: Characters of a message that are searched: what it quotes of the call comes later.
_WORDS = 1000
_RESET = re.compile(r"rate-?limit.*reset|reset.*rate-?limit")
_LONGEST_NAME = 100
#: The structured field of the IETF draft, and its older form.
_FIELD = re.compile(r"(?:r|remaining)=0\s*[;,](?:[^,]*?[;,\s])?(?:t|reset)=([0-9]{1,12})")
#: Fields of a body that hold a wait, in lower case without hyphens and underscores, and their unit.
_FIELDS = {
    "retrydelay": 1.0,
    "retryafter": 1.0,
    "retryafterseconds": 1.0,
    "retryafterms": 1e-3,
    "estimatedtime": 1.0,
}
#: From which size on a number is an instant in Unix time, and how many of its units a second has.
_INSTANTS = ((1e18, 1e9), (1e15, 1e6), (1e12, 1e3), (1e9, 1.0))


def asked_wait(headers: Mapping[str, str], data: Any, message: str, now: datetime) -> float | None:
    """Seconds to wait, by the most exact place that says it; None where none does.

    `data` is the body's JSON, `message` the error's words in lower case. At most an hour.
    """
    by_name = {name.lower().removeprefix("llm_provider-"): headers[name] for name in headers}
    by_name |= {name.lower(): headers[name] for name in headers}
    if (wait := _of_headers(by_name, now)) is not None:
        return wait
    for fields in _objects(data):
        for name, value in fields.items():
            unit = _FIELDS.get(str(name).lower().replace("_", "").replace("-", ""))
            if unit is not None and (wait := wait_of(_plain(value), now, unit)) is not None:
                return wait
        if isinstance(inner := fields.get("headers"), dict):
            quoted = {str(name).lower(): str(value) for name, value in inner.items()}
            if (wait := _of_headers(quoted, now) or _until_reset(quoted, now)) is not None:
                return wait
    if match := _IN_WORDS.search(message[:_WORDS]):
        return wait_of(match[1], now)
    return _until_reset(by_name, now)


def wait_of(value: str | None, now: datetime, unit: float = 1.0) -> float | None:
    """Seconds to wait by a number, a duration, a date or an instant; None for nonsense.

    `unit`: seconds that a bare number stands for. An instant that has passed is no wait at all.
    """
    if value is None or len(value) > 100:
        return None
    # Two headers of the same name arrive as one; the longer wait satisfies both.
    numbers = [number.strip() for number in value.split(",")]
    if all(_NUMBER.fullmatch(number) for number in numbers):
        return max(_of_number(float(number), now, unit) for number in numbers)
    text = value.strip().lower()
    if _DURATION.fullmatch(text):
        spans = _ONE_SPAN.findall(text)
        return min(sum(float(number) * _UNITS[name] for number, name in spans), LONGEST_WAIT)
    return _of_instant(value.strip(), now)


def _of_number(number: float, now: datetime, unit: float) -> float:
    for least, per_second in _INSTANTS:
        if number >= least:
            return min(max(number / per_second - now.timestamp(), 0.0), LONGEST_WAIT)
    return min(number * unit, LONGEST_WAIT)


def _of_instant(value: str, now: datetime) -> float | None:
    try:
        if re.fullmatch(_ISO, value.lower()):
            iso = value.upper().replace("UTC", "Z").replace("GMT", "Z").replace(" Z", "Z")
            until = datetime.fromisoformat(iso)
        else:
            until = parsedate_to_datetime(value)
        until = until if until.tzinfo else until.replace(tzinfo=UTC)
        return min(max((until - now).total_seconds(), 0.0), LONGEST_WAIT)
    except (ValueError, OverflowError):
        return None


def _of_headers(headers: Mapping[str, str], now: datetime) -> float | None:
    for name, unit in (("retry-after-ms", 1e-3), ("x-ms-retry-after-ms", 1e-3), ("retry-after", 1)):
        if (wait := wait_of(headers.get(name), now, unit)) is not None:
            return wait
    return None


def _until_reset(headers: Mapping[str, str], now: datetime) -> float | None:
    """Until all used-up limits are reset; until the first reset if no limit says it is used up."""
    used_up, unknown = [], []
    for name, value in headers.items():
        if len(name) > _LONGEST_NAME:
            continue
        if match := _FIELD.search(value[:200]) if name.endswith("ratelimit") else None:
            used_up.append(min(float(match[1]), LONGEST_WAIT))
        if not _RESET.search(name):
            continue
        wait = wait_of(value, now, 1e-3 if name.endswith("-ms") else 1.0)
        left = headers.get(name.replace("reset", "remaining"))
        if wait is not None and left is None:
            unknown.append(wait)
        elif wait is not None and left in ("0", "0.0"):
            used_up.append(wait)
    return max(used_up) if used_up else min(unknown, default=None)


def _objects(data: Any) -> Iterator[dict[str, Any]]:
    """The objects of an error's body that may hold a wait."""
    body = dict_of(data[0] if isinstance(data, list) and data else data)
    error = dict_of(body.get("error"))
    details = error.get("details")
    yield from dicts_of(details)[:32]
    yield from dicts_of([details, error.get("metadata"), error, body])


def _plain(value: Any) -> str | None:
    if isinstance(value, dict):  # a protobuf duration
        value = value.get("seconds")
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    return str(value)
