"""Every way a provider can behave, over real connections, and what we make of it."""

import asyncio
import gzip
import json
import socket
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from openai.types.chat import ChatCompletion
from pydantic import ValidationError

from consumers.providers.client import Providers
from consumers.providers.outcomes import failed_status
from consumers.providers.settings import ProviderSettings, ProviderSettingsError
from router.reply.reply import CallFailure, Oddity, Reply
from schemas.reasons import Reason
from schemas.usage import Usage
from tests.unit.consumers.servers import a_response, never, sending, serving

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
BODY = {"model": "m", "max_tokens": 64, "messages": [{"role": "user", "content": "hello there"}]}
SECOND = timedelta(seconds=1)


@pytest.fixture
def anyio_backend():
    return "asyncio"


def a_completion(content="hi", finish="stop", usage=None, **message) -> dict[str, Any]:
    return {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "m-2026",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": content, **message},
                "finish_reason": finish,
            }
        ],
        "usage": usage or {"prompt_tokens": 30, "completion_tokens": 8, "total_tokens": 38},
    }


def settings(url: str, **fields) -> ProviderSettings:
    return ProviderSettings(base_url=url, allow_private=True, **fields)


async def called(url: str, body=None, within=SECOND, **fields) -> Reply | CallFailure:
    async with Providers({"p": settings(url, **fields)}) as providers:
        return await providers.call(
            "p", body or BODY, attempt_id="r.1.1", request_id="r", timeout=within
        )


async def outcome_of(data: bytes, *, then="keep", within=SECOND, **fields) -> Reply | CallFailure:
    async with serving(sending(data, then=then)) as server:
        return await called(server.url, within=within, **fields)


async def a_failure(data: bytes, **how) -> CallFailure:
    outcome = await outcome_of(data, **how)
    assert isinstance(outcome, CallFailure)
    return outcome


async def a_reply(completion, **how) -> Reply:
    outcome = await outcome_of(a_response(json.dumps(completion).encode()), **how)
    assert isinstance(outcome, Reply)
    return outcome


@contextmanager
def held() -> Iterator[Callable[[], int]]:
    """The most bytes that Python objects made in the block held at once."""
    tracemalloc.start()
    try:
        yield lambda: peak[0]
    finally:
        peak = [tracemalloc.get_traced_memory()[1]]
        tracemalloc.stop()


class TestReply:
    async def test_a_completion_is_mapped(self):
        reply = await a_reply(a_completion())

        assert (reply.text, reply.finish_reason, reply.served_model) == ("hi", "stop", "m-2026")
        assert reply.usage == Usage(input_tokens=30, output_tokens=8)
        assert reply.body["choices"][0] == {
            "index": 0,
            "message": {"role": "assistant", "content": "hi", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }

    @pytest.mark.parametrize(
        ("said", "finish"),
        [
            ("stop", "stop"),
            ("length", "length"),
            ("content_filter", "content_filter"),
            ("tool_calls", "tool_calls"),
            ("function_call", "tool_calls"),
            ("something_new", "other"),
            ("Stop", "stop"),
            (None, "stop"),
            (7, "other"),
        ],
    )
    async def test_finish_reasons_become_a_closed_set(self, said, finish):
        assert (await a_reply(a_completion(finish=said))).finish_reason == finish

    async def test_a_refusal_is_kept_apart(self):
        reply = await a_reply(a_completion(None, refusal="No."))

        assert (reply.text, reply.refusal) == ("", "No.")

    async def test_tool_calls_are_kept(self):
        calls = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]

        reply = await a_reply(a_completion(None, "tool_calls", tool_calls=calls))

        assert reply.tool_calls == calls

    @pytest.mark.parametrize(
        "spoil",
        [
            pytest.param({"id": None, "created": "1", "model": 7, "object": "x"}, id="wrong types"),
            pytest.param({"id": ..., "created": ..., "model": ..., "object": ...}, id="left out"),
            pytest.param({"usage": "many"}, id="usage of no counts"),
            pytest.param({"usage": {"prompt_tokens": -3, "completion_tokens": "8"}}, id="counts"),
            pytest.param({"usage": None}, id="no usage"),
            pytest.param({"more": "x" * 900_000, "system_fingerprint": 5}, id="foreign fields"),
            pytest.param({"choice": {"index": ..., "finish_reason": None}}, id="a bare choice"),
            pytest.param({"choice": {"finish_reason": "eos", "stop_reason": 3}}, id="its own end"),
            pytest.param({"choice": {"logprobs": 5}}, id="logprobs of no list"),
            pytest.param(
                {"choice": {"logprobs": {"content": [{"token": "a"}]}}}, id="half of them"
            ),
            pytest.param({"message": {"role": "user"}}, id="another role"),
            pytest.param({"message": {"role": ..., "refusal": 4}}, id="no role"),
            pytest.param({"message": {"content": [{"type": "text", "text": "hi"}]}}, id="parts"),
            pytest.param({"message": {"tool_calls": "x"}}, id="calls of no list"),
            pytest.param({"message": {"tool_calls": [7, {}]}}, id="calls that are none"),
            pytest.param({"message": {"annotations": 3, "audio": "x"}}, id="foreign in a message"),
        ],
    )
    async def test_what_is_published_is_a_chat_completion_whatever_the_server_wrote(self, spoil):
        completion = a_completion()
        choice = completion["choices"][0]
        completion["choices"].append({"message": 5})
        for name, value in spoil.items():
            inner = {"choice": choice, "message": choice["message"]}.get(name)
            for key, one in (value if inner is not None else {name: value}).items():
                target = completion if inner is None else inner
                target[key] = one
                if one is ...:
                    del target[key]

        reply = await a_reply(completion)

        ChatCompletion.model_validate(reply.body, strict=True)
        assert reply.text == "hi"
        assert len(json.dumps(reply.body)) < 2_000

    async def test_probabilities_are_kept_whatever_else_a_server_leaves_out(self):
        completion = a_completion()
        tokens = [
            {"token": "hi", "logprob": -0.1, "top_logprobs": [{"token": "no", "logprob": -3}]}
        ]
        completion["choices"][0]["logprobs"] = {"content": tokens}

        reply = await a_reply(completion)

        parsed = ChatCompletion.model_validate(reply.body, strict=True)
        logprobs = parsed.choices[0].logprobs
        assert logprobs is not None
        assert logprobs.content is not None
        assert [(one.token, one.logprob) for one in logprobs.content] == [("hi", -0.1)]

    async def test_arguments_sent_as_an_object_become_text(self):
        calls = [{"function": {"name": "f", "arguments": {"a": 1}}}]

        reply = await a_reply(a_completion(None, "tool_calls", tool_calls=calls))

        assert reply.tool_calls[0]["function"] == {"name": "f", "arguments": '{"a":1}'}

    @pytest.mark.parametrize(
        "spoil",
        [
            pytest.param(lambda raw: raw + b"\ndata: [DONE]", id="a stream's end"),
            pytest.param(lambda raw: raw.replace(b"hi", b"h\ni"), id="a line break in a text"),
            pytest.param(lambda raw: raw.replace(b"hi", b"h\xffi"), id="no UTF-8"),
            pytest.param(
                lambda raw: raw.replace(b'"created": 1', b'"x": -Infinity'), id="infinity"
            ),
            pytest.param(
                lambda raw: raw.replace(b'"hi"', b'{"type": "text", "text": "hi"}'), id="one part"
            ),
        ],
    )
    async def test_a_paid_answer_is_read_where_it_can_be(self, spoil):
        outcome = await outcome_of(a_response(spoil(json.dumps(a_completion()).encode())))

        assert isinstance(outcome, Reply)
        assert outcome.text[0] + outcome.text[-1] == "hi"

    async def test_two_answers_in_one_are_none(self):
        raw = json.dumps(a_completion()).encode()

        assert (await a_failure(a_response(raw + raw))).reason is Reason.UNREADABLE_REPLY

    async def test_a_refusal_in_parts_is_one(self):
        parts = [{"type": "refusal", "refusal": "No."}]

        assert (await a_reply(a_completion(parts))).refusal == "No."

    async def test_a_call_as_older_servers_say_it(self):
        call = {"name": "f", "arguments": "{}"}

        reply = await a_reply(a_completion(None, "function_call", function_call=call))

        assert [one["function"] for one in reply.tool_calls] == [call]

    async def test_half_a_character_is_replaced(self):
        body = json.dumps(a_completion("a\ud83d b \ud83d\ude00 \\ud83d"))

        outcome = await outcome_of(a_response(body.encode()))

        assert isinstance(outcome, Reply)
        assert outcome.text == "a\ufffd b \U0001f600 \\ud83d"

    async def test_content_in_parts_is_joined(self):
        parts = [{"type": "text", "text": "a"}, {"type": "other"}, {"type": "text", "text": "b"}]

        assert (await a_reply(a_completion(parts))).text == "ab"

    @pytest.mark.parametrize(
        ("packing", "pack"),
        [
            pytest.param("gzip", gzip.compress, id="gzip"),
            pytest.param("deflate", zlib.compress, id="deflate"),
            pytest.param("deflate", lambda raw: zlib.compress(raw, wbits=-15), id="bare deflate"),
            pytest.param(
                "gzip", lambda raw: gzip.compress(raw[:9]) + gzip.compress(raw[9:]), id="members"
            ),
            pytest.param("gzip", lambda raw: gzip.compress(raw)[:-8], id="no trailer"),
            pytest.param("identity", lambda raw: b"\xef\xbb\xbf" + raw, id="a byte order mark"),
        ],
    )
    async def test_a_packed_reply_is_unpacked(self, packing, pack):
        raw = json.dumps(a_completion()).encode()

        outcome = await outcome_of(a_response(pack(raw), content_encoding=packing))

        assert isinstance(outcome, Reply)
        assert outcome.text == "hi"


class TestUsage:
    async def test_parts_leave_their_totals(self):
        usage = {
            "prompt_tokens": 100,
            "prompt_tokens_details": {"cached_tokens": 60},
            "completion_tokens": 50,
            "completion_tokens_details": {"reasoning_tokens": 20},
        }

        reply = await a_reply(a_completion(usage=usage))

        assert reply.usage == Usage(
            input_tokens=40, cache_read_tokens=60, output_tokens=30, reasoning_tokens=20
        )

    @pytest.mark.parametrize(
        ("usage", "oddity", "tokens"),
        [
            pytest.param("none", "usage_missing", (15, 1), id="no object"),
            pytest.param({"completion_tokens": 8}, "usage_missing", (15, 8), id="no input"),
            pytest.param({"prompt_tokens": 30}, "usage_missing", (30, 1), id="no output"),
            pytest.param(
                {"prompt_tokens": -5, "completion_tokens": 8},
                "usage_invalid",
                (15, 8),
                id="negative",
            ),
            pytest.param(
                {"prompt_tokens": "30", "completion_tokens": 8}, "usage_invalid", (30, 8), id="text"
            ),
            pytest.param(
                {"prompt_tokens": True, "completion_tokens": 8},
                "usage_invalid",
                (15, 8),
                id="a truth value",
            ),
            pytest.param(
                {"prompt_tokens": 10**12, "completion_tokens": 8},
                "usage_huge",
                (15, 8),
                id="huge",
            ),
            pytest.param(
                {"prompt_tokens": 30, "completion_tokens": 10**12},
                "over_limit",
                (30, 64),
                id="a huge output",
            ),
            pytest.param(
                {"prompt_tokens": 30, "completion_tokens": 65},
                "over_limit",
                (30, 64),
                id="more output than was allowed",
            ),
            pytest.param(
                {"prompt_tokens": 30, "completion_tokens": 0},
                "usage_zero",
                (30, 1),
                id="no output, yet text",
            ),
            pytest.param(
                {"prompt_tokens": 0, "completion_tokens": 8},
                "usage_zero",
                (15, 8),
                id="no input, yet a prompt",
            ),
            pytest.param(
                {
                    "prompt_tokens": 30,
                    "completion_tokens": 8,
                    "prompt_tokens_details": {"cached_tokens": 31},
                },
                "usage_contradicts",
                (31, 8),
                id="more cached than sent",
            ),
            pytest.param(
                {
                    "prompt_tokens": 30,
                    "completion_tokens": 8,
                    "completion_tokens_details": {"reasoning_tokens": -9},
                },
                "usage_invalid",
                (30, 8),
                id="a negative part",
            ),
        ],
    )
    async def test_an_odd_count_is_flagged_and_never_booked_below_our_estimate(
        self, usage, oddity, tokens
    ):
        reply = await a_reply(a_completion(usage=usage))

        assert reply.oddities == (Oddity(oddity),)
        assert reply.usage.estimated
        assert (reply.usage.input_side, reply.usage.output_side) == tokens

    @pytest.mark.parametrize(
        ("prompt", "tokens", "expected"),
        [
            ("x" * 6400, 99, ((Oddity.USAGE_SMALL,), 1612)),
            ("x" * 6400, 100, ((), 100)),
            ([{"type": "image_url", "image_url": {"url": "x" * 9000}}], 85, ((), 85)),
        ],
    )
    async def test_a_count_no_text_fits_into_is_booked_at_our_estimate(
        self, prompt, tokens, expected
    ):
        usage = {"prompt_tokens": tokens, "completion_tokens": 8}
        body = {"model": "m", "messages": [{"role": "user", "content": prompt}]}
        data = a_response(json.dumps(a_completion(usage=usage)).encode())

        async with serving(sending(data)) as server:
            reply = await called(server.url, body)

        assert isinstance(reply, Reply)
        assert (reply.oddities, reply.usage.input_tokens) == expected

    @pytest.mark.parametrize(
        ("usage", "expected"),
        [
            ({"completion_tokens": 5, "reasoning": 40}, (30, 40)),
            ({"completion_tokens": None, "reasoning": 40}, (30, 40)),
            ({"completion_tokens": 5.0}, (30, 5)),
        ],
    )
    async def test_of_counts_that_contradict_the_larger_is_booked(self, usage, expected):
        said = {
            "prompt_tokens": usage.get("prompt_tokens", 30),
            "completion_tokens": usage["completion_tokens"],
            "prompt_tokens_details": {"cached_tokens": usage.get("cached")},
            "completion_tokens_details": {"reasoning_tokens": usage.get("reasoning")},
        }
        reply = await a_reply(a_completion(usage=said))

        assert (reply.usage.input_side, reply.usage.output_side) == expected

    async def test_thoughts_count_where_nothing_is_counted(self):
        completion = a_completion(reasoning_content="x" * 400)
        del completion["usage"]

        assert (await a_reply(completion)).usage.output_side > 100 // 2

    async def test_reasoning_that_is_counted_beside_the_completion_is_added_to_it(self):
        usage = {
            "prompt_tokens": 30,
            "completion_tokens": 8,
            "total_tokens": 58,
            "completion_tokens_details": {"reasoning_tokens": 20},
        }

        reply = await a_reply(a_completion(usage=usage))

        assert reply.usage == Usage(input_tokens=30, output_tokens=8, reasoning_tokens=20)

    async def test_details_may_be_null(self):
        usage = {
            "prompt_tokens": 3,
            "completion_tokens": 2,
            "prompt_tokens_details": None,
            "completion_tokens_details": {"reasoning_tokens": None},
        }

        reply = await a_reply(a_completion(usage=usage))

        assert (reply.usage, reply.oddities) == (Usage(input_tokens=3, output_tokens=2), ())


class TestRequest:
    async def test_what_is_sent(self, monkeypatch):
        monkeypatch.setenv("A_KEY", " secret\n")
        async with serving(sending(a_response(json.dumps(a_completion()).encode()))) as server:
            await called(server.url, api_key_env="A_KEY", headers={"x-team": "blue"})

        head = server.heads[0].lower()
        assert head.startswith("post /v1/chat/completions http/1.1")
        assert json.loads(server.bodies[0]) == {**BODY, "stream": False}
        for line in (
            "authorization: bearer secret",
            "x-team: blue",
            "x-request-id: r",
            "x-tierline-attempt: r.1.1",
            "content-type: application/json",
        ):
            assert f"\r\n{line}\r\n" in head
        for absent in ("traceparent", "tracestate", "baggage", "cookie"):
            assert absent not in head

    async def test_half_a_character_is_sent_as_an_escape(self):
        body = {**BODY, "messages": [{"role": "user", "content": "half \ud800"}]}
        async with serving(sending(a_response(json.dumps(a_completion()).encode()))) as server:
            outcome = await called(server.url, body)

        assert isinstance(outcome, Reply)
        assert b"\\ud800" in server.bodies[0]

    async def test_a_cookie_of_one_call_does_not_travel_with_the_next(self):
        answer = a_response(json.dumps(a_completion()).encode(), set_cookie="who=kim; Path=/")
        async with (
            serving(sending(answer)) as server,
            Providers({"p": settings(server.url)}) as providers,
        ):
            for _ in range(2):
                await providers.call("p", BODY, attempt_id="r.1.1", request_id="r", timeout=SECOND)

        assert len(server.heads) == 2
        assert "cookie" not in "".join(server.heads).lower()

    async def test_nothing_leaves_once_the_partition_may_be_anothers(self):
        """A process may be frozen while it connects, and wake when others have made its calls."""
        answer = a_response(json.dumps(a_completion()).encode())
        call: dict[str, Any] = {"attempt_id": "r.1.1", "request_id": "r", "timeout": SECOND}
        async with (
            serving(sending(answer)) as server,
            Providers({"p": settings(server.url)}) as providers,
        ):
            for count in (1, 2):  # by a new connection, and by one that is kept
                outcome = await providers.call("p", BODY, **call, may_leave=lambda: False)
                assert isinstance(outcome, CallFailure)
                assert outcome.reason is Reason.NOT_SENT
                assert isinstance(await providers.call("p", BODY, **call), Reply)
                assert len(server.heads) == count

    @pytest.mark.parametrize(
        ("header", "key", "sent"),
        [
            pytest.param(None, "r.1.1", None, id="nobody takes one"),
            pytest.param("Idempotency-Key", None, "r.1.2", id="a call of its own"),
            pytest.param("Idempotency-Key", "r.1.1", "r.1.1", id="a call that is repeated"),
        ],
    )
    async def test_an_idempotency_key_goes_to_providers_that_take_one(self, header, key, sent):
        call: dict[str, Any] = {"attempt_id": "r.1.2", "request_id": "r", "timeout": SECOND}
        answer = a_response(json.dumps(a_completion()).encode())
        async with (
            serving(sending(answer)) as server,
            Providers({"p": settings(server.url, idempotency_header=header)}) as providers,
        ):
            assert isinstance(await providers.call("p", BODY, **call, idempotency_key=key), Reply)

        [head] = server.heads
        assert (f"idempotency-key: {sent}" in head.lower()) is (sent is not None)

    async def test_a_proxy_of_the_environment_is_not_used(self, monkeypatch):
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, "http://127.0.0.1:1")

        await a_reply(a_completion())

    async def test_a_redirect_is_not_followed(self):
        async with serving(sending(a_response(json.dumps(a_completion()).encode()))) as other:
            answer = a_response(b"", "307 Temporary Redirect", location=other.url)
            failure = await a_failure(answer)

        assert failure.reason is Reason.PROVIDER_REJECTED
        assert other.heads == []

    async def test_a_thousand_calls_run_at_once(self):
        """The pool must not be what limits a worker."""
        arrived, all_here = 0, asyncio.Event()
        answer = a_response(json.dumps(a_completion()).encode())

        async def respond(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal arrived
            arrived += 1
            if arrived == 1000:
                all_here.set()
            await all_here.wait()
            writer.write(answer)

        outcomes = []
        async with (
            serving(respond) as server,
            Providers({"p": settings(server.url)}) as providers,
            asyncio.TaskGroup() as tasks,
        ):

            async def call() -> None:
                outcomes.append(
                    await providers.call(
                        "p", BODY, attempt_id="r.1.1", request_id="r", timeout=60 * SECOND
                    )
                )

            for _ in range(1000):
                tasks.create_task(call())
            async with asyncio.timeout(60):
                await all_here.wait()

        assert all(isinstance(outcome, Reply) for outcome in outcomes)


class TestStatus:
    @pytest.mark.parametrize(
        ("status", "headers", "error", "reason"),
        [
            pytest.param("429 Slow", {"retry_after": "5"}, {}, Reason.THROTTLED, id="throttled"),
            pytest.param("429 Slow", {}, {}, Reason.THROTTLED, id="throttled without a time"),
            pytest.param(
                "429 Slow",
                {},
                {"code": "insufficient_quota"},
                Reason.PROVIDER_REJECTED,
                id="no credit",
            ),
            pytest.param(
                "503 Busy", {"retry_after": "1"}, {}, Reason.THROTTLED, id="busy, come back"
            ),
            pytest.param("529 Busy", {"retry_after": "1"}, {}, Reason.THROTTLED, id="overloaded"),
            pytest.param("503 Busy", {}, {}, Reason.THROTTLED, id="busy, no word when"),
            pytest.param("529 Busy", {}, {}, Reason.THROTTLED, id="overloaded, no word when"),
            pytest.param("500 Oops", {}, {}, Reason.PROVIDER_ERROR, id="a server error"),
            pytest.param("502 Oops", {}, {}, Reason.PROVIDER_ERROR, id="a gateway's error"),
            pytest.param("408 Late", {}, {}, Reason.PROVIDER_ERROR, id="the server lost patience"),
            pytest.param("400 Bad", {}, {}, Reason.PROVIDER_REJECTED, id="a bad request"),
            pytest.param("401 Who", {}, {}, Reason.PROVIDER_REJECTED, id="a wrong key"),
            pytest.param("404 None", {}, {}, Reason.PROVIDER_REJECTED, id="an unknown model"),
            pytest.param(
                "400 Bad",
                {},
                {"code": "context_length_exceeded"},
                Reason.CONTEXT_OVERFLOW,
                id="too long, by code",
            ),
            pytest.param(
                "400 Bad",
                {},
                {"message": "This model's maximum context length is 8192 tokens"},
                Reason.CONTEXT_OVERFLOW,
                id="too long, in words",
            ),
            pytest.param("413 Large", {}, {}, Reason.CONTEXT_OVERFLOW, id="too large"),
        ],
    )
    async def test_reasons(self, status, headers, error, reason):
        failure = await a_failure(
            a_response(json.dumps({"error": error}).encode(), status, **headers)
        )

        assert failure.reason is reason
        assert failure.http_status == int(status[:3])
        assert failure.usage == Usage()
        assert (failure.retry_after is not None) == bool(headers)

    @pytest.mark.parametrize(
        "body",
        [
            pytest.param(b'{"error": {"message": "Incorrect key sk-secret"}}', id="a message"),
            pytest.param(b'{"error": {"code": "sk-secret is wrong"}}', id="prose as a code"),
            pytest.param(b'{"error": "sk-secret"}', id="text"),
            pytest.param(b"<html>sk-secret</html>", id="HTML"),
            pytest.param(b'["sk-secret"]', id="a list"),
            pytest.param(b"", id="nothing"),
        ],
    )
    async def test_the_providers_prose_stays_out(self, body):
        failure = await a_failure(a_response(body, "401 Who"))

        assert failure.detail == "HTTP 401"


def classed(status: int, body: Any, headers: Any = None) -> CallFailure:
    failure = failed_status(status, headers or {}, json.dumps(body).encode(), NOON)
    assert failure is not None
    return failure


@pytest.mark.parametrize("status", [504, 524])
async def test_a_gateway_that_gave_up_leaves_an_unknown_outcome_booked_at_the_reserve(status):
    failure = await a_failure(a_response(b"{}", f"{status} Timeout"))

    assert failure.reason is Reason.OUTCOME_UNKNOWN
    assert failure.usage.output_tokens == BODY["max_tokens"]


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        pytest.param(401, {}, "provider", id="no such key"),
        pytest.param(402, {}, "provider", id="nothing is paid"),
        pytest.param(429, {"error": {"code": "insufficient_quota"}}, "provider", id="no credit"),
        pytest.param(
            400, {"error": {"message": "API key not valid."}}, "provider", id="Gemini's wrong key"
        ),
        pytest.param(
            400,
            {"error": {"message": "Your credit balance is too low to access the API."}},
            "provider",
            id="Anthropic's used up credit",
        ),
        pytest.param(403, {}, "model", id="forbidden"),
        pytest.param(405, {}, "model", id="a wrong address"),
        pytest.param(301, {}, "model", id="a moved address"),
        pytest.param(400, {"error": {"message": "bad field"}}, None, id="a call it does not take"),
        pytest.param(429, {"error": {"code": "slow_down"}}, None, id="too fast"),
    ],
)
def test_who_takes_no_call_any_more_is_told_from_one_call(status, body, expected):
    assert classed(status, body).refuses == expected


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "input length and `max_tokens` exceed context limit: 9 + 9 > 9"}},
        {"object": "error", "message": "This model's maximum context length is 4096 tokens."},
        {"error": {"message": "`inputs` tokens must be <= 1024", "type": "validation"}},
    ],
)
def test_an_overflow_is_known_however_it_is_said(body):
    assert classed(400, body).reason is Reason.CONTEXT_OVERFLOW


class TestErrorUnderA200:
    @pytest.mark.parametrize(
        ("body", "reason"),
        [
            ({"error": {"code": 429, "message": "slow down"}}, Reason.THROTTLED),
            ({"error": {"code": "429"}, "user_id": "u"}, Reason.THROTTLED),
            ({"error": {"code": 502, "message": "upstream"}}, Reason.OUTCOME_UNKNOWN),
            ({"error": {"message": "no"}}, Reason.OUTCOME_UNKNOWN),
            ({"error": "no"}, Reason.OUTCOME_UNKNOWN),
            ({**a_completion("half an"), "error": {"code": 502}}, Reason.OUTCOME_UNKNOWN),
            ({**a_completion("half", finish=None), "error": "gone"}, Reason.OUTCOME_UNKNOWN),
            ({"error": {"code": "insufficient_quota"}}, Reason.PROVIDER_REJECTED),
            ({"error": {"code": "context_length_exceeded"}}, Reason.CONTEXT_OVERFLOW),
            ([{"error": {"code": 503, "status": "UNAVAILABLE"}}], Reason.THROTTLED),
            ([{"error": {"status": "RESOURCE_EXHAUSTED"}}], Reason.THROTTLED),
            ({"type": "error", "error": {"type": "rate_limit_error"}}, Reason.THROTTLED),
            ({"type": "error", "error": {"type": "overloaded_error"}}, Reason.THROTTLED),
            ({**a_completion("half an"), "error": {"code": 429}}, Reason.OUTCOME_UNKNOWN),
            ({"choices": [{"error": {"code": 429}, "message": {}}]}, Reason.THROTTLED),
            (a_completion("so far", finish="error"), Reason.OUTCOME_UNKNOWN),
        ],
    )
    async def test_it_is_classed_like_its_status(self, body, reason):
        failure = await a_failure(a_response(json.dumps(body).encode()))

        assert failure.reason is reason
        assert "under HTTP 200" in failure.detail
        assert (failure.usage.total_tokens > 0) == (reason is Reason.OUTCOME_UNKNOWN)

    @pytest.mark.parametrize(
        "error",
        [
            {"code": "content_filter"},
            {"code": 400, "message": "the prompt triggers our content management policy"},
        ],
    )
    async def test_a_filters_is_a_refusal(self, error):
        outcome = await outcome_of(a_response(json.dumps({"error": error}).encode()))

        assert isinstance(outcome, Reply)
        assert outcome.finish_reason == "content_filter"

    async def test_a_null_error_beside_an_answer_is_none(self):
        assert (await a_reply({**a_completion(), "error": None})).text == "hi"


class TestUnreadable:
    """The model ran and is billed, so these cost what we estimate, and are never asked again."""

    @pytest.mark.parametrize(
        "body",
        [
            pytest.param(b"", id="nothing"),
            pytest.param(b"<html><body>Welcome</body></html>", id="HTML"),
            pytest.param(b'{"choices": [{"message": {"content": "hi"', id="truncated"),
            pytest.param(b'{"choices": []}', id="no choices"),
            pytest.param(b'{"choices": [null]}', id="a choice of nothing"),
            pytest.param(b'{"choices": {}}', id="choices that are no list"),
            pytest.param(b'{"choices": [{}]}', id="no message"),
            pytest.param(b'{"choices": [{"message": {"content": 7}}]}', id="content of no text"),
            pytest.param(b"[]", id="a list"),
            pytest.param(b"null", id="null"),
            pytest.param(b'{"a": NaN}', id="NaN"),
            pytest.param(b'{"choices": "\xff"}', id="bytes that are no text"),
            pytest.param(b"[" * 100_000, id="brackets without end"),
            pytest.param(b"[" * 500 + b"]" * 500, id="nested too deeply"),
        ],
    )
    async def test_what_is_no_completion(self, body):
        failure = await a_failure(a_response(body))

        assert failure.reason is Reason.UNREADABLE_REPLY
        assert failure.usage.estimated
        assert failure.usage.input_tokens > 0
        assert not failure.is_unsent

    async def test_a_page_of_html_is_named_as_such(self):
        failure = await a_failure(a_response(b"<html>", content_type="text/html; charset=utf-8"))

        assert "text/html" in failure.detail

    async def test_a_reply_over_the_limit_is_given_up(self):
        failure = await a_failure(a_response(b" " * 5000), max_reply_bytes=4096)

        assert failure.reason is Reason.UNREADABLE_REPLY
        assert "4096" in failure.detail

    async def test_an_endless_reply_is_read_no_further_than_the_limit(self):
        sent = 0

        async def respond(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal sent
            writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            while True:
                writer.write(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
                await writer.drain()
                sent += 0x10000

        async with serving(respond) as server:
            with held() as most:
                outcome = await called(server.url, within=10 * SECOND)

        assert isinstance(outcome, CallFailure)
        assert outcome.reason is Reason.UNREADABLE_REPLY
        assert sent < 16 << 20
        assert most() < 8 << 20

    async def test_a_packed_bomb_counts_by_what_it_unpacks_to(self):
        bomb = gzip.compress(b" " * (64 << 20))
        began = time.perf_counter()

        with held() as most:
            failure = await a_failure(a_response(bomb, content_encoding="gzip"), within=10 * SECOND)

        assert failure.reason is Reason.UNREADABLE_REPLY
        assert "longer" in failure.detail
        assert most() < 8 << 20
        assert time.perf_counter() - began < 2

    async def test_a_packing_nobody_asked_for(self):
        failure = await a_failure(a_response(b"\x0b\x02\x80{}\x03", content_encoding="br"))

        assert failure.reason is Reason.UNREADABLE_REPLY

    async def test_packed_bytes_that_do_not_unpack(self):
        failure = await a_failure(a_response(b"not gzip", content_encoding="gzip"))

        assert failure.reason is Reason.UNREADABLE_REPLY


class TestConnection:
    async def test_a_refused_connection_was_never_sent(self):
        with socket.socket() as held:
            held.bind(("127.0.0.1", 0))
            outcome = await called(f"http://127.0.0.1:{held.getsockname()[1]}/v1")

        assert isinstance(outcome, CallFailure)
        assert outcome.reason is Reason.NOT_SENT
        assert outcome.is_unsent
        assert outcome.usage == Usage()

    async def test_a_tls_handshake_that_hangs_was_never_sent(self):
        """Whichever ends first: the time for connecting or for the whole call."""
        async with serving(never) as server:
            url = server.url.replace("http:", "https:")
            for within, connect in ((0.5, 5.0), (30.0, 0.5)):
                outcome = await called(
                    url, within=within * SECOND, connect_timeout=timedelta(seconds=connect)
                )

                assert isinstance(outcome, CallFailure)
                assert (outcome.reason, outcome.usage) == (Reason.NOT_SENT, Usage())

    async def test_a_call_that_was_written_has_an_unknown_outcome_on_the_same_connection(self):
        async with serving(never) as server, Providers({"p": settings(server.url)}) as providers:
            for _ in range(2):
                outcome = await providers.call(
                    "p", BODY, attempt_id="r.1.1", request_id="r", timeout=SECOND / 2
                )
                assert isinstance(outcome, CallFailure)
                assert outcome.reason is Reason.OUTCOME_UNKNOWN

    async def test_a_wrong_address_is_told_in_words(self):
        async with serving(sending(a_response(b"{}", "404 None"))) as server:
            outcome = await called(server.url.removesuffix("/v1"))

        assert isinstance(outcome, CallFailure)
        assert outcome.detail == "HTTP 404: base_url has no path; is /v1 missing?"

    async def test_an_unknown_host_was_never_sent(self):
        outcome = await called("http://nowhere.invalid/v1", within=20 * SECOND)

        assert isinstance(outcome, CallFailure)
        assert outcome.reason is Reason.NOT_SENT

    @pytest.mark.parametrize(
        ("data", "then"),
        [
            pytest.param(b"", "close", id="closed before the first byte"),
            pytest.param(b"", "reset", id="reset before the first byte"),
            pytest.param(b"HTTP/1.1 200 OK\r\ncontent-le", "close", id="closed within the head"),
            pytest.param(a_response(b"{" * 50)[:-20], "close", id="closed within the body"),
            pytest.param(a_response(b"{" * 50)[:-20], "reset", id="reset within the body"),
            pytest.param(b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "keep", id="another protocol"),
            pytest.param(
                b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000 + b"\r\n\r\n",
                "keep",
                id="an endless header",
            ),
        ],
    )
    async def test_after_sending_nobody_knows(self, data, then):
        """The provider may have run the call and will bill it; asking again is for the policy."""
        failure = await a_failure(data, then=then)

        assert failure.reason is Reason.OUTCOME_UNKNOWN
        assert not failure.is_unsent
        assert failure.usage.estimated
        assert failure.usage.output_tokens == BODY["max_tokens"]

    async def test_silence_ends_at_the_timeout(self):
        async with serving(never) as server:
            outcome = await called(server.url, within=timedelta(milliseconds=200))

        assert isinstance(outcome, CallFailure)
        assert outcome.reason is Reason.OUTCOME_UNKNOWN

    async def test_a_drip_ends_at_the_timeout_although_bytes_keep_coming(self):
        async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
            while True:
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.02)

        began = time.perf_counter()
        async with serving(drip) as server:
            outcome = await called(server.url, within=timedelta(milliseconds=300))

        assert isinstance(outcome, CallFailure)
        assert outcome.reason is Reason.OUTCOME_UNKNOWN
        assert time.perf_counter() - began < 1.3

    async def test_a_status_that_was_read_counts_although_the_time_is_up(self):
        head = b"HTTP/1.1 429 Slow\r\ncontent-length: 500\r\nretry-after: 7\r\n\r\n{"
        within = timedelta(seconds=0.4)

        failure = await a_failure(head, within=within)

        assert (failure.reason, failure.retry_after) == (Reason.THROTTLED, 7.0)

    async def test_without_time_nothing_is_sent(self):
        async with serving(never) as server:
            outcome = await called(server.url, within=timedelta(0))

        assert isinstance(outcome, CallFailure)
        assert outcome.reason is Reason.NOT_SENT
        assert server.heads == []

    @pytest.mark.parametrize("is_stream", [False, True])
    async def test_what_is_charged_is_read_in_a_reply_and_in_a_stream(self, is_stream):
        usage = {"prompt_tokens": 3, "completion_tokens": 2, "cost": 0.25}
        part = {"message": {"content": "yes"}, "delta": {"content": "yes"}, "finish_reason": "stop"}
        said = json.dumps({"choices": [part], "usage": usage}).encode()
        body = b"data: " + said + b"\n\ndata: [DONE]\n\n" if is_stream else said
        async with serving(sending(a_response(body))) as server:
            reply = await called(server.url)

        assert isinstance(reply, Reply), reply
        assert reply.stated_micros == 250_000

    async def test_a_cancelled_call_closes_its_connection(self):
        gone = asyncio.Event()

        async def respond(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
            cancelling.set()
            await reader.read()
            gone.set()

        cancelling = asyncio.Event()
        async with serving(respond) as server, asyncio.TaskGroup() as tasks:
            call = tasks.create_task(called(server.url, within=60 * SECOND))
            await cancelling.wait()
            call.cancel()
            async with asyncio.timeout(5):
                await gone.wait()


class TestSettings:
    @pytest.mark.parametrize(
        "url",
        [
            "https://api.example.com/v1",
            "https://api.example.com/v1/",
            "https://8.8.8.8/v1",
        ],
    )
    def test_public_https_is_fine(self, url):
        assert ProviderSettings(base_url=url).base_url == url.rstrip("/")

    @pytest.mark.parametrize(
        "url",
        [
            "http://api.example.com/v1",
            "https://localhost/v1",
            "https://127.0.0.1/v1",
            "https://10.0.0.7/v1",
            "https://[::1]/v1",
            "https://[::ffff:10.0.0.7]/v1",
            "https://0.0.0.0/v1",
        ],
    )
    def test_all_else_must_be_allowed(self, url):
        with pytest.raises(ValidationError):
            ProviderSettings(base_url=url)

        assert ProviderSettings(base_url=url, allow_private=True).base_url == url

    @pytest.mark.parametrize(
        "url",
        [
            "http://169.254.169.254/v1",
            "http://[::ffff:169.254.169.254]/v1",
            "http://[fd00:ec2::254]/v1",
            "http://100.100.100.200/v1",
            "http://metadata.google.internal/v1",
            "http://metadata.google.internal./v1",
            "ftp://example.com",
            "https://",
            "api.example.com/v1",
            "https://kim:pass@example.com/v1",
            "https://example.com/v1?key=1",
        ],
    )
    def test_some_are_never_allowed(self, url):
        with pytest.raises(ValidationError):
            ProviderSettings(base_url=url, allow_private=True)

    @pytest.mark.parametrize(
        ("fields", "words"),
        [
            pytest.param({"wire": "telex"}, "'telex' is not one of openai", id="an unknown format"),
            pytest.param({"api_key_env": "NO_KEY"}, "NO_KEY holds no usable key", id="no variable"),
            pytest.param({"api_key_file": "/no/key"}, "/no/key holds no usable key", id="no file"),
        ],
    )
    async def test_what_stops_the_start(self, fields, words, monkeypatch):
        monkeypatch.delenv("NO_KEY", raising=False)
        with pytest.raises(ProviderSettingsError, match=words):
            await Providers({"p": settings("http://127.0.0.1/v1", **fields)}).__aenter__()

    async def test_a_key_file_is_read(self, tmp_path):
        file = tmp_path / "key"
        file.write_text("secret\n", encoding="utf-8")
        async with serving(sending(a_response(b"{}"))) as server:
            await called(server.url, api_key_file=file)

        assert "Bearer secret" in server.heads[0]

    def test_secrets_are_not_shown(self):
        shown = repr(settings("http://127.0.0.1/v1", headers={"api-key": "secret"}))

        assert "secret" not in shown

    async def test_a_provider_nobody_set_up_is_a_failure_not_a_crash(self):
        async with Providers({}) as providers:
            outcome = await providers.call(
                "p", BODY, attempt_id="r.1.1", request_id="r", timeout=SECOND
            )

        assert isinstance(outcome, CallFailure)
        assert outcome.reason is Reason.PROVIDER_REJECTED
