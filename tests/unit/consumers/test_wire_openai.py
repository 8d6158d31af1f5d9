"""The OpenAI format as official types and compatible servers want it."""

import json
from datetime import timedelta
from typing import Any

import pytest
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from pydantic import SecretStr, TypeAdapter

from consumers.providers.client import Providers
from consumers.providers.settings import ProviderSettings
from consumers.providers.wire_openai import OPENAI
from router.reply.reply import CallFailure, Reply
from schemas.reasons import Reason
from tests.builders import the_policy
from tests.unit.consumers.servers import Server, a_response, sending, serving

BODY: dict[str, Any] = {
    "model": "gpt-x",
    "max_tokens": 50,
    "messages": [{"role": "user", "content": "Where is order 7?"}],
}
BARE = {
    "choices": [{"message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10},
}
_PARAMS: TypeAdapter[Any] = TypeAdapter(CompletionCreateParamsNonStreaming)


@pytest.fixture
def anyio_backend():
    return "asyncio"


def formatted(schema: Any, **fields: Any) -> dict[str, Any]:
    wanted = {"name": "a", "schema": schema, **fields}
    return {**BODY, "response_format": {"type": "json_schema", "json_schema": wanted}}


async def sent_to(
    base: str = "/v1", reply: dict[str, str] | None = None, **fields: Any
) -> tuple[Server, Reply | CallFailure]:
    """What a server with these settings was sent, and what came of its reply."""
    answer = a_response(json.dumps(BARE).encode(), **(reply or {}))
    async with serving(sending(answer)) as server:
        url = server.url.removesuffix("/v1") + base
        settings = ProviderSettings(base_url=url, allow_private=True, **fields)
        async with Providers({"p": settings}) as providers:
            outcome = await providers.call(
                "p", BODY, attempt_id="r.1.1", request_id="r", timeout=timedelta(seconds=2)
            )
    return server, outcome


class TestBody:
    @pytest.mark.parametrize("name", sorted(the_policy().formats))
    def test_every_shipped_format_is_kept_to_while_writing(self, name):
        sent = OPENAI.encode(formatted(the_policy().formats[name]))

        assert sent["response_format"]["json_schema"]["strict"] is True
        _PARAMS.validate_python(sent)

    @pytest.mark.parametrize(
        "body",
        [
            pytest.param(BODY, id="no format"),
            pytest.param(
                {
                    **BODY,
                    "messages": [{"role": "user", "content": "In JSON: where is order 7?"}],
                    "response_format": {"type": "json_object"},
                },
                id="any JSON",
            ),
            pytest.param(formatted({"type": "object"}), id="an open object"),
            pytest.param(formatted({"type": "object"}, strict=False), id="the producer's own word"),
        ],
    )
    def test_else_the_body_goes_as_it_is_and_asks_for_no_stream(self, body):
        assert OPENAI.encode(body) == {**body, "stream": False}


class TestCompatibleServers:
    async def test_azure_has_a_path_a_version_and_a_header_of_its_own(self, monkeypatch):
        monkeypatch.setenv("A_KEY", "secret")
        server, outcome = await sent_to(
            "/openai",
            path="/deployments/{model}/chat/completions",
            query={"api-version": "2026-01-01"},
            api_key_env="A_KEY",
            key_header="api-key",
        )

        assert isinstance(outcome, Reply)
        head = server.heads[0]
        wanted = "/openai/deployments/gpt-x/chat/completions?api-version=2026-01-01"
        assert head.startswith(f"POST {wanted} HTTP/1.1")
        assert "\r\napi-key: secret\r\n" in head
        assert "authorization" not in head.lower()

    async def test_a_gateway_wants_to_know_who_calls(self):
        server, _ = await sent_to("/api/v1", headers={"HTTP-Referer": SecretStr("tierline")})

        assert "\r\nhttp-referer: tierline\r\n" in server.heads[0].lower()

    async def test_a_models_id_cannot_leave_its_place_in_the_path(self):
        answer = a_response(json.dumps(BARE).encode())
        async with serving(sending(answer)) as server:
            settings = ProviderSettings(
                base_url=server.url, allow_private=True, path="/m/{model}/c"
            )
            async with Providers({"p": settings}) as providers:
                await providers.call(
                    "p",
                    {**BODY, "model": "../../admin?x#"},
                    attempt_id="r.1.1",
                    request_id="r",
                    timeout=timedelta(seconds=2),
                )

        assert server.heads[0].startswith("POST /v1/m/..%2F..%2Fadmin%3Fx%23/c HTTP/1.1")

    @pytest.mark.parametrize(
        ("reply", "fields", "is_ours"),
        [
            pytest.param({"x_request_id": "r"}, {"echoes_request_id": True}, True, id="our id"),
            pytest.param({"x_request_id": "q"}, {"echoes_request_id": True}, False, id="another"),
            pytest.param({"x_request_id": "q"}, {}, True, id="the server's own id"),
            pytest.param({"x_tierline_attempt": "q.1.1"}, {}, False, id="another attempt's"),
        ],
    )
    async def test_the_reply_to_another_call_is_refused(self, reply, fields, is_ours):
        _, outcome = await sent_to(reply=reply, **fields)

        assert isinstance(outcome, Reply) is is_ours
        if isinstance(outcome, CallFailure):
            assert outcome.reason is Reason.UNREADABLE_REPLY


def test_a_bare_reply_becomes_a_whole_completion():
    reply = OPENAI.decode(json.loads(json.dumps(BARE)), BODY)

    assert (reply.body["model"], reply.body["object"]) == ("gpt-x", "chat.completion")
    assert reply.served_model is None
