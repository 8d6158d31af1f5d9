"""How long a provider asks us to stay away is read wherever it is said."""

import json
from datetime import UTC, datetime

import pytest

from consumers.providers.outcomes import failed_status
from consumers.providers.waits import wait_of
from schemas.reasons import Reason

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
NOON_UNIX = int(NOON.timestamp())


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param("5", 5.0, id="seconds"),
        pytest.param("0.25", 0.25, id="a part of a second"),
        pytest.param("0", 0.0, id="at once"),
        pytest.param("Sat, 31 Jan 2026 12:00:07 GMT", 7.0, id="a date"),
        pytest.param("Sat, 31 Jan 2026 11:00:00 GMT", 0.0, id="a date in the past"),
        pytest.param("999999999", 3600.0, id="thirty years"),
        pytest.param("5, 20", 20.0, id="two headers of the name"),
        pytest.param("1_000", None, id="a number to Python alone"),
        pytest.param("Mon, 01 Jan 99999999999999999999 00:00:00 GMT", None, id="no such year"),
        pytest.param("Sat, 31 Jan 2026 12:00:07 +999999999999999", None, id="no such zone"),
        pytest.param("Fri, 31 Dec 9999 23:59:59 GMT", 3600.0, id="the end of time"),
        pytest.param(str(NOON_UNIX + 20), 20.0, id="an instant in Unix time"),
        pytest.param(f"{NOON_UNIX + 20}.5", 20.5, id="and a part of a second"),
        pytest.param(str((NOON_UNIX + 20) * 1000), 20.0, id="in milliseconds"),
        pytest.param(str((NOON_UNIX + 20) * 10**9), 20.0, id="in nanoseconds"),
        pytest.param(str(NOON_UNIX - 20), 0.0, id="an instant that has passed"),
        pytest.param("2026-01-31T12:00:09Z", 9.0, id="RFC 3339"),
        pytest.param("2026-01-31T14:00:09+02:00", 9.0, id="in another zone"),
        pytest.param("2026-01-31 12:00:09 UTC", 9.0, id="as Python prints it"),
        pytest.param("20s", 20.0, id="with a unit"),
        pytest.param("120ms", 0.12, id="milliseconds"),
        pytest.param("6m0s", 360.0, id="minutes"),
        pytest.param("1h2m3.5s", 3600.0, id="hours are too long"),
        pytest.param("35 seconds", 35.0, id="words"),
        pytest.param("1 minute and 5 seconds", 65.0, id="more words"),
        pytest.param("-1", None, id="negative"),
        pytest.param("nan", None, id="NaN"),
        pytest.param("inf", None, id="infinity"),
        pytest.param("soon", None, id="a word"),
        pytest.param("", None, id="nothing"),
        pytest.param(None, None, id="absent"),
    ],
)
def test_retry_after(value, expected):
    assert wait_of(value, NOON) == expected


@pytest.mark.parametrize(
    ("headers", "error", "expected"),
    [
        pytest.param({"retry-after": "5"}, {}, 5.0, id="the header"),
        pytest.param({"llm_provider-retry-after": "5"}, {}, 5.0, id="through LiteLLM's proxy"),
        pytest.param({"retry-after-ms": "5500", "retry-after": "6"}, {}, 5.5, id="milliseconds"),
        pytest.param(
            {}, {"details": [{"retryDelay": "34.5s"}], "status": "X"}, 34.5, id="in Gemini's body"
        ),
        pytest.param(
            {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0.5s"},
            {},
            360.5,
            id="a limit that is used up",
        ),
        pytest.param(
            {"x-ratelimit-remaining-tokens": "9", "x-ratelimit-reset-tokens": "6m0s"},
            {},
            None,
            id="a limit that is not",
        ),
        pytest.param(
            {
                "anthropic-ratelimit-tokens-remaining": "0",
                "anthropic-ratelimit-tokens-reset": "2026-01-31T12:00:09Z",
            },
            {},
            9.0,
            id="until an instant",
        ),
        pytest.param(
            {"ratelimit-remaining": "0", "ratelimit-reset": "12"}, {}, 12.0, id="bare seconds"
        ),
        pytest.param(
            {"x-ratelimit-reset-requests": "1s", "x-ratelimit-reset-tokens": "6m0s"},
            {},
            1.0,
            id="two limits, and nobody says which is used up",
        ),
        pytest.param({"x-ratelimit-reset": str(NOON_UNIX + 8)}, {}, 8.0, id="Unix time"),
        pytest.param({"x-ratelimit-reset": "8"}, {}, 8.0, id="seconds"),
        pytest.param({"X-RateLimit-Reset": "8"}, {}, 8.0, id="capitals"),
        pytest.param(
            {"anthropic-ratelimit-unified-reset": str(NOON_UNIX + 8)}, {}, 8.0, id="a plan's limit"
        ),
        pytest.param(
            {"x-ratelimit-remaining-tokens-minute": "0", "x-ratelimit-reset-tokens-minute": "3.25"},
            {},
            3.25,
            id="a minute's tokens",
        ),
        pytest.param({"ratelimit": '"default";r=0;t=30'}, {}, 30.0, id="the draft's field"),
        pytest.param({"ratelimit": "limit=9, remaining=0, reset=30"}, {}, 30.0, id="an older one"),
        pytest.param({"ratelimit": '"default";r=5;t=30'}, {}, None, id="with something left"),
        pytest.param(
            {},
            {"metadata": {"headers": {"X-RateLimit-Reset": str((NOON_UNIX + 8) * 1000)}}},
            8.0,
            id="through OpenRouter",
        ),
        pytest.param({}, {"retry_after": 12}, 12.0, id="a number in the body"),
        pytest.param({}, {"metadata": {"retry_after_seconds": 12.5}}, 12.5, id="deeper in it"),
        *(
            pytest.param({}, {"message": message}, seconds, id=message[-40:])
            for message, seconds in (
                ("Rate limit reached for m: Limit 3, Used 3. Please try again in 20s.", 20.0),
                ("Limit 3 / day. Please try again in 6m0s. Contact us", 360.0),
                ("on tokens per min. Please try again in 120ms. Visit us", 0.12),
                ("Please try again in 1m26.4s.", 86.4),
                ("Rate limit exceeded. Try again in 35 seconds.", 35.0),
                ("have exceeded token rate limit. Please retry after 33 seconds. Please go", 33.0),
                ("You exceeded your quota.\nPlease retry in 34.074824224s.", 34.074824224),
                ("No deployments available for selected model, Try again in 60 seconds", 60.0),
                ("Too many requests, please wait 2 minutes and go on", 120.0),
                ("Limit resets at: 2026-01-31 12:00:09 UTC", 9.0),
                ("Too many requests, please try again later", None),
                ("Try again in a moment: you sent 20 messages", None),
            )
        ),
        pytest.param({"retry-after-ms": "soon"}, {}, None, id="a word"),
        pytest.param({}, {"details": [{"retryDelay": "9" * 12 + "s"}]}, 3600.0, id="for ever"),
    ],
)
def test_how_long_to_wait_is_read_wherever_it_is_said(headers, error, expected):
    failure = failed_status(429, headers, json.dumps({"error": error}).encode(), NOON)

    assert failure is not None
    assert (failure.reason, failure.retry_after) == (Reason.THROTTLED, expected)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        pytest.param(503, {}, id="busy"),
        pytest.param(529, {"error": {"type": "overloaded_error"}}, id="Anthropic's overload"),
        pytest.param(498, {}, id="Groq's capacity"),
        pytest.param(500, {"error": {"message": "The model is overloaded."}}, id="in words"),
        pytest.param(500, {"error": {"code": "engine_overloaded"}}, id="in a code"),
        pytest.param(400, {"__type": "ThrottlingException", "message": "Rate"}, id="AWS"),
        pytest.param(403, {"error": {"status": "RESOURCE_EXHAUSTED"}}, id="as a prohibition"),
        pytest.param(424, {"error": "busy", "error_type": "overloaded"}, id="Hugging Face"),
        pytest.param(503, {"error": {"message": "Loading model", "code": 503}}, id="llama.cpp"),
    ],
)
def test_a_call_that_was_turned_away_has_not_run(status, body):
    failure = failed_status(status, {}, json.dumps(body).encode(), NOON)

    assert failure is not None
    assert (failure.reason, failure.is_unsent) == (Reason.THROTTLED, True)
    assert failure.refuses is None


@pytest.mark.parametrize(
    ("status", "error", "reason"),
    [
        pytest.param(
            503,
            {"message": "upstream connect error or disconnect/reset before headers"},
            Reason.PROVIDER_ERROR,
            id="a proxy that had passed it on",
        ),
        pytest.param(504, {"message": "overloaded"}, Reason.OUTCOME_UNKNOWN, id="gave up waiting"),
        pytest.param(500, {"message": "internal error"}, Reason.PROVIDER_ERROR, id="failed"),
        pytest.param(
            429,
            {"code": "rate_limit_exceeded", "message": "Request too large for gpt-4 on TPM"},
            Reason.CONTEXT_OVERFLOW,
            id="more than a minute allows",
        ),
        pytest.param(
            429,
            {"code": "1113", "message": "Insufficient balance or no resource package."},
            Reason.PROVIDER_REJECTED,
            id="nothing is left to pay with",
        ),
    ],
)
def test_no_waiting_mends_what_was_not_turned_away(status, error, reason):
    failure = failed_status(status, {}, json.dumps({"error": error}).encode(), NOON)

    assert failure is not None
    assert failure.reason is reason
