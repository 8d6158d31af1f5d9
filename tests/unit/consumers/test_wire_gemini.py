"""The Gemini format, against what its reference documents."""

import json
from typing import Any

import pytest
from openai.types.chat import ChatCompletion

from consumers.providers.wire import UnreadableError
from consumers.providers.wire_gemini import GEMINI
from router.reply.reply import Oddity
from schemas.usage import Usage

ASKED = {"role": "user", "content": "Where is order 7?"}
BODY: dict[str, Any] = {"model": "gemini-x", "max_tokens": 500, "messages": [ASKED]}
WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL = {
    "type": "function",
    "function": {"name": "weather", "description": "The weather.", "parameters": WEATHER},
}
COUNTS = {"promptTokenCount": 20, "candidatesTokenCount": 6, "totalTokenCount": 26}


def encoded(**fields: Any) -> dict[str, Any]:
    return dict(GEMINI.encode({**BODY, **fields}))


def generated(*parts: Any, finish: Any = "STOP", **fields: Any) -> dict[str, Any]:
    candidate = {"content": {"role": "model", "parts": list(parts)}, "finishReason": finish}
    return {
        "candidates": [{**candidate, "index": 0}],
        "usageMetadata": COUNTS,
        "modelVersion": "gemini-x-001",
        "responseId": "r-1",
        **fields,
    }


class TestBody:
    def test_a_plain_question(self):
        assert encoded() == {
            "contents": [{"role": "user", "parts": [{"text": "Where is order 7?"}]}],
            "generationConfig": {"maxOutputTokens": 500},
        }

    def test_the_systems_words_stand_apart_and_the_assistant_is_the_model(self):
        sent = encoded(
            messages=[
                {"role": "system", "content": "Be short."},
                ASKED,
                {"role": "assistant", "content": "Which one?"},
                {"role": "user", "content": "Mine."},
            ]
        )

        assert sent["systemInstruction"] == {"parts": [{"text": "Be short."}]}
        assert [content["role"] for content in sent["contents"]] == ["user", "model", "user"]

    def test_settings_have_names_of_their_own(self):
        given = {"temperature": 0, "top_p": 0.9, "seed": 7, "stop": "END", "frequency_penalty": 1}

        assert encoded(**given, logprobs=True, top_logprobs=2)["generationConfig"] == {
            "maxOutputTokens": 500,
            "temperature": 0,
            "topP": 0.9,
            "seed": 7,
            "stopSequences": ["END"],
            "frequencyPenalty": 1,
            "responseLogprobs": True,
            "logprobs": 2,
        }

    def test_a_format(self):
        wanted = {"type": "json_schema", "json_schema": {"name": "a", "schema": WEATHER}}
        config = encoded(response_format=wanted)["generationConfig"]

        assert config["responseMimeType"] == "application/json"
        assert config["responseJsonSchema"] == WEATHER
        config = encoded(response_format={"type": "json_object"})["generationConfig"]
        assert "responseJsonSchema" not in config

    def test_a_tools_round_trip_keeps_the_models_signature(self):
        call = {"name": "weather", "args": {"city": "Oslo"}}
        reply = GEMINI.decode(generated({"functionCall": call, "thoughtSignature": "s1"}), BODY)
        answered = {"role": "tool", "tool_call_id": reply.tool_calls[0]["id"], "content": "cold"}

        sent = encoded(
            messages=[ASKED, reply.body["choices"][0]["message"], answered], tools=[TOOL]
        )

        no = reply.tool_calls[0]["id"]
        assert sent["contents"][1:] == [
            {
                "role": "model",
                "parts": [{"functionCall": {"id": no, **call}, "thoughtSignature": "s1"}],
            },
            {
                "role": "user",
                "parts": [
                    {
                        "functionResponse": {
                            "id": no,
                            "name": "weather",
                            "response": {"result": "cold"},
                        }
                    }
                ],
            },
        ]
        declared = {"name": "weather", "description": "The weather."}
        assert sent["tools"] == [
            {"functionDeclarations": [{**declared, "parametersJsonSchema": WEATHER}]}
        ]

    @pytest.mark.parametrize(
        ("choice", "sent"),
        [
            (None, {"mode": "AUTO"}),
            ("none", {"mode": "NONE"}),
            ("required", {"mode": "ANY"}),
            (
                {"type": "function", "function": {"name": "weather"}},
                {"mode": "ANY", "allowedFunctionNames": ["weather"]},
            ),
        ],
    )
    def test_which_tool(self, choice, sent):
        config = encoded(tools=[TOOL], tool_choice=choice)["toolConfig"]

        assert config == {"functionCallingConfig": sent}


class TestReply:
    def test_text_without_thoughts_and_usage(self):
        counts = {
            "promptTokenCount": 1020,
            "cachedContentTokenCount": 1000,
            "toolUsePromptTokenCount": 5,
            "candidatesTokenCount": 20,
            "thoughtsTokenCount": 40,
            "totalTokenCount": 1085,
        }
        parts = ({"text": "hm", "thought": True}, {"text": "On "}, {"text": "it."})
        reply = GEMINI.decode(generated(*parts, usageMetadata=counts), BODY)

        assert (reply.text, reply.served_model) == ("On it.", "gemini-x-001")
        assert reply.usage == Usage(
            input_tokens=25, cache_read_tokens=1000, output_tokens=20, reasoning_tokens=40
        )
        ChatCompletion.model_validate(reply.body, strict=True)

    @pytest.mark.parametrize(
        ("said", "finish"),
        [
            ("STOP", "stop"),
            ("MAX_TOKENS", "length"),
            ("SAFETY", "content_filter"),
            ("RECITATION", "content_filter"),
            ("PROHIBITED_CONTENT", "content_filter"),
            ("MALFORMED_FUNCTION_CALL", "other"),
            ("SOMETHING_NEW", "other"),
            (None, "other"),
            (3, "other"),
        ],
    )
    def test_finish_reasons_become_a_closed_set(self, said, finish):
        reply = GEMINI.decode(generated({"text": "x"}, finish=said), BODY)

        assert reply.finish_reason == finish
        ChatCompletion.model_validate(reply.body, strict=True)

    def test_a_blocked_prompt_is_a_filtered_refusal(self):
        counts = {"promptTokenCount": 20, "totalTokenCount": 20}
        data = {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": counts}
        reply = GEMINI.decode(data, BODY)

        assert (reply.text, reply.finish_reason) == ("", "content_filter")
        assert reply.refusal == "blocked: PROHIBITED_CONTENT"
        assert (reply.usage, reply.oddities) == (Usage(input_tokens=20), ())

    def test_a_candidate_that_was_stopped_before_its_first_word(self):
        data = {"candidates": [{"finishReason": "SAFETY"}], "usageMetadata": COUNTS}

        assert GEMINI.decode(data, BODY).finish_reason == "content_filter"

    def test_calls_are_as_openai_has_them(self):
        parts = ({"functionCall": {"name": "a"}}, {"functionCall": {"name": "b", "args": {"x": 1}}})
        reply = GEMINI.decode(generated(*parts), BODY)

        assert reply.finish_reason == "tool_calls"
        assert len({call["id"] for call in reply.tool_calls}) == 2
        assert [json.loads(call["function"]["arguments"]) for call in reply.tool_calls] == [
            {},
            {"x": 1},
        ]

    def test_token_probabilities_are_as_openai_has_them(self):
        chosen = {"chosenCandidates": [{"token": "B", "logProbability": -0.1}]}
        data = generated({"text": "B"})
        data["candidates"][0]["logprobsResult"] = chosen
        reply = GEMINI.decode(data, BODY)

        [token] = reply.body["choices"][0]["logprobs"]["content"]
        assert (token["token"], token["logprob"]) == ("B", -0.1)
        ChatCompletion.model_validate(reply.body, strict=True)

    def test_a_negative_part_does_not_hide_in_the_sum(self):
        counts = {**COUNTS, "thoughtsTokenCount": -5}
        reply = GEMINI.decode(generated({"text": "x"}, usageMetadata=counts), BODY)

        assert reply.oddities == (Oddity.USAGE_INVALID,)

    @pytest.mark.parametrize(
        "data",
        [
            None,
            [],
            {},
            {"candidates": []},
            {"candidates": [7]},
            {"candidates": [{"content": 7}]},
            {"candidates": [{"content": {"parts": 7}}]},
            {"candidates": [{"content": {"parts": [{"text": 7}]}}]},
            {"candidates": [{"content": {"parts": [{"functionCall": "f"}]}}]},
            {"promptFeedback": {"blockReason": None}},
        ],
    )
    def test_what_is_no_reply(self, data):
        with pytest.raises(UnreadableError):
            GEMINI.decode(data, BODY)
