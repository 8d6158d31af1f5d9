"""The Anthropic format: bodies judged by the official client's own types, replies by ours."""

from typing import Any

import pytest
from anthropic.lib._parse._transform import transform_schema
from anthropic.types import Message
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming
from openai.types.chat import ChatCompletion
from pydantic import TypeAdapter

from consumers.providers.wire import UnreadableError
from consumers.providers.wire_anthropic import ANTHROPIC
from router.reply.reply import Oddity
from schemas.usage import Usage

ASKED = {"role": "user", "content": "Where is order 7?"}
BODY: dict[str, Any] = {"model": "claude-x", "max_tokens": 500, "messages": [ASKED]}
WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOL = {
    "type": "function",
    "function": {"name": "weather", "description": "The weather.", "parameters": WEATHER},
}
FORMAT = {
    "type": "object",
    "additionalProperties": False,
    "required": ["answer", "confidence"],
    "properties": {
        "answer": {"type": "string", "minLength": 1},
        "confidence": {"type": "number", "minimum": 0, "maximum": 1},
        "note": {"type": ["string", "null"]},
    },
}
_PARAMS: TypeAdapter[Any] = TypeAdapter(MessageCreateParamsNonStreaming)


def listed(value: Any) -> Any:
    """A validated value with its lazy iterables read to the end."""
    if isinstance(value, dict):
        return {name: listed(one) for name, one in value.items()}
    if isinstance(value, (str, bytes, int, float, bool)) or value is None:
        return value
    return [listed(one) for one in value]


def encoded(**fields: Any) -> dict[str, Any]:
    """The body that is sent, after the official types have found nothing wrong or unknown."""
    sent = dict(ANTHROPIC.encode({**BODY, **fields}))
    assert listed(_PARAMS.validate_python(sent)) == sent
    return sent


def a_message(*content: Any, stop: str = "end_turn", **fields: Any) -> dict[str, Any]:
    message = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-x-20260101",
        "content": list(content),
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": {"input_tokens": 20, "output_tokens": 6},
        **fields,
    }
    Message.model_validate(message)
    return message


def said(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


class TestBody:
    def test_a_plain_question(self):
        assert encoded() == {
            "model": "claude-x",
            "stream": False,
            "max_tokens": 500,
            "messages": [{"role": "user", "content": [said("Where is order 7?")]}],
        }

    def test_the_systems_words_stand_apart(self):
        system = {"role": "system", "content": "Be short."}
        developer = {"role": "developer", "content": [said("Be kind.")]}

        sent = encoded(messages=[system, ASKED, developer])

        assert sent["system"] == [said("Be short."), said("Be kind.")]
        assert [message["role"] for message in sent["messages"]] == ["user"]

    def test_without_anybody_else_the_system_speaks_as_the_user(self):
        sent = encoded(messages=[{"role": "system", "content": "Say hello."}])

        assert sent["messages"] == [{"role": "user", "content": [said("Say hello.")]}]
        assert "system" not in sent

    def test_a_marked_prompt_is_cached(self):
        mark = {**said("Long."), "cache_control": {"type": "ephemeral"}}
        sent = encoded(messages=[{"role": "system", "content": [mark, said("New.")]}, ASKED])

        assert sent["system"] == [mark, said("New.")]

    def test_a_tools_round_trip(self):
        call = {
            "id": "t1",
            "type": "function",
            "function": {"name": "weather", "arguments": '{"city": "Oslo"}'},
        }
        sent = encoded(
            messages=[
                ASKED,
                {"role": "assistant", "content": None, "tool_calls": [call, {**call, "id": "t2"}]},
                {"role": "tool", "tool_call_id": "t1", "content": "cold"},
                {"role": "tool", "tool_call_id": "t2", "content": "wet"},
                {"role": "user", "content": "So?"},
            ],
            tools=[TOOL],
        )

        assert [message["role"] for message in sent["messages"]] == ["user", "assistant", "user"]
        used = {"type": "tool_use", "name": "weather", "input": {"city": "Oslo"}}
        assert sent["messages"][1]["content"] == [{**used, "id": "t1"}, {**used, "id": "t2"}]
        assert sent["messages"][2]["content"] == [
            {"type": "tool_result", "tool_use_id": "t1", "content": "cold"},
            {"type": "tool_result", "tool_use_id": "t2", "content": "wet"},
            said("So?"),
        ]
        assert sent["tools"] == [
            {"name": "weather", "description": "The weather.", "input_schema": WEATHER}
        ]

    @pytest.mark.parametrize(
        ("choice", "sent"),
        [
            (None, {"type": "auto"}),
            ("auto", {"type": "auto"}),
            ("none", {"type": "none"}),
            ("required", {"type": "any"}),
            (
                {"type": "function", "function": {"name": "weather"}},
                {"type": "tool", "name": "weather"},
            ),
        ],
    )
    def test_which_tool(self, choice, sent):
        assert encoded(tools=[TOOL], tool_choice=choice)["tool_choice"] == sent

    def test_one_tool_at_a_time(self):
        sent = encoded(tools=[TOOL], parallel_tool_calls=False)

        assert sent["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}

    @pytest.mark.parametrize(("stop", "sent"), [("END", ["END"]), (["A", "B"], ["A", "B"])])
    def test_stops(self, stop, sent):
        assert encoded(stop=stop)["stop_sequences"] == sent

    def test_a_schema_is_kept_to_while_writing(self):
        wanted = {"type": "json_schema", "json_schema": {"name": "a", "schema": FORMAT}}

        form = encoded(response_format=wanted)["output_config"]["format"]["schema"]

        assert form["required"] == ["answer", "confidence"]
        assert form["properties"]["confidence"] == {
            "type": "number",
            "description": "(minimum: 0, maximum: 1)",
        }
        # The official client would leave nothing else out of it.
        again = transform_schema(form)
        assert {**again, "title": None} == {**form, "title": None}

    @pytest.mark.parametrize(
        "wanted",
        [
            {"type": "json_object"},
            {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}},
        ],
    )
    def test_what_no_schema_can_hold_is_asked_in_words(self, wanted):
        sent = encoded(response_format=wanted)

        assert "JSON" in sent["system"][-1]["text"]
        assert "output_config" not in sent

    def test_what_it_has_no_field_for_is_left_out(self):
        given = {"seed": 1, "temperature": 0, "top_p": 1, "logprobs": True, "logit_bias": {"1": 1}}

        assert encoded(**given) == encoded()

    @pytest.mark.parametrize(
        "fields",
        [
            {"tools": "none"},
            {"tools": [None, {"function": 3}]},
            {"stop": 7},
            {"response_format": "json"},
            {"messages": [{"role": "assistant", "tool_calls": "x"}, ASKED]},
            {"messages": [{"role": "assistant", "tool_calls": [None, {"function": 1}]}, ASKED]},
            {"messages": [{"role": "tool", "content": None}]},
        ],
    )
    def test_nonsense_of_a_producer_does_not_stop_the_call(self, fields):
        assert ANTHROPIC.encode({**BODY, **fields})["messages"]


class TestReply:
    def test_text_and_usage(self):
        usage = {
            "input_tokens": 20,
            "cache_read_input_tokens": 1000,
            "cache_creation_input_tokens": 300,
            "output_tokens": 60,
            "output_tokens_details": {"thinking_tokens": 40},
        }
        data = a_message(
            {"type": "thinking", "thinking": "hm", "signature": "s"}, said("On "), said("it.")
        )
        reply = ANTHROPIC.decode({**data, "usage": usage}, BODY)

        assert (reply.text, reply.served_model) == ("On it.", "claude-x-20260101")
        assert reply.usage == Usage(
            input_tokens=20,
            cache_read_tokens=1000,
            cache_write_tokens=300,
            output_tokens=20,
            reasoning_tokens=40,
        )

    @pytest.mark.parametrize(
        ("stop", "finish"),
        [
            ("end_turn", "stop"),
            ("stop_sequence", "stop"),
            ("max_tokens", "length"),
            ("model_context_window_exceeded", "length"),
            ("tool_use", "tool_calls"),
            ("refusal", "content_filter"),
            ("pause_turn", "other"),
        ],
    )
    def test_finish_reasons_become_a_closed_set(self, stop, finish):
        reply = ANTHROPIC.decode(a_message(said("x"), stop=stop), BODY)

        assert reply.finish_reason == finish
        ChatCompletion.model_validate(reply.body, strict=True)

    @pytest.mark.parametrize("stop", [None, 7, "something_new", ["x"]])
    def test_an_unknown_finish_reason_is_other(self, stop):
        reply = ANTHROPIC.decode({**a_message(said("x")), "stop_reason": stop}, BODY)

        assert reply.finish_reason == "other"

    @pytest.mark.parametrize(
        ("content", "details", "words"),
        [
            ([said("I can't.")], None, "I can't."),
            ([], {"type": "refusal", "category": "cyber", "explanation": "No."}, "No."),
            ([], None, "refused"),
        ],
    )
    def test_a_refusal_is_one(self, content, details, words):
        data = a_message(*content, stop="refusal", stop_details=details)

        assert ANTHROPIC.decode(data, BODY).refusal == words

    def test_tool_calls_are_as_openai_has_them(self):
        use = {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Oslo"}}
        reply = ANTHROPIC.decode(a_message(use, stop="tool_use"), BODY)

        assert reply.tool_calls == [
            {
                "id": "t1",
                "type": "function",
                "function": {"name": "weather", "arguments": '{"city":"Oslo"}'},
            }
        ]
        assert reply.body["choices"][0]["message"]["content"] is None
        ChatCompletion.model_validate(reply.body, strict=True)

    def test_a_negative_part_does_not_hide_in_the_sum(self):
        usage = {"input_tokens": 20, "cache_read_input_tokens": -15, "output_tokens": 6}
        reply = ANTHROPIC.decode({**a_message(said("x")), "usage": usage}, BODY)

        assert reply.oddities == (Oddity.USAGE_INVALID,)
        assert reply.usage.input_side > 0

    @pytest.mark.parametrize(
        "data",
        [
            None,
            [],
            {},
            {"content": [{"type": "text", "text": 7}]},
            {"content": [{"type": "image", "source": {}}]},
        ],
    )
    def test_what_is_no_message(self, data):
        with pytest.raises(UnreadableError):
            ANTHROPIC.decode(data, BODY)
