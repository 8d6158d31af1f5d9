"""What a model said is read in every shape of every format, and nothing that it thought."""

import json
from typing import Any

import pytest

from consumers.providers.bodies import parsed_body
from consumers.providers.chat import arguments_of
from consumers.providers.parts import arguments_text
from consumers.providers.wire import UnreadableError
from consumers.providers.wires import WIRES
from router.reply.reply import Reply

BODY: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
ANSWER = '{"answer": "ok", "n": 1}'
LONG = "184467440737095516170001"


def reply_in(wire: str, content: Any, calls: str | None = None) -> Reply:
    """The reply that says this in a format; `calls` is the JSON of a tool call's arguments."""
    said = json.dumps(content)
    if wire == "openai":
        called = f',"tool_calls":[{{"function":{{"name":"f"{calls}}}}}]' if calls else ""
        message = f'{{"content":{said}{called}}}'
        raw = f'{{"choices":[{{"message":{message},"finish_reason":"stop"}}]}}'
    elif wire == "anthropic":
        said = f'[{{"type":"tool_use","name":"f"{calls}}}]' if calls else said
        raw = f'{{"content":{said},"stop_reason":"end_turn"}}'
    else:
        said = f'[{{"functionCall":{{"name":"f"{calls}}}}}]' if calls else said
        raw = f'{{"candidates":[{{"content":{{"parts":{said}}},"finishReason":"STOP"}}]}}'
    return WIRES[wire].decode(parsed_body(raw.encode(), wire=wire), BODY)


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize(
    "content",
    [
        pytest.param(ANSWER, id="text"),
        pytest.param([ANSWER], id="a list of texts"),
        pytest.param([ANSWER[:7], ANSWER[7:]], id="a text in pieces"),
        pytest.param([{"type": "text", "text": ANSWER}], id="a part"),
        pytest.param({"type": "text", "text": ANSWER}, id="one part alone"),
        pytest.param([{"type": "output_text", "text": ANSWER}], id="another name"),
        pytest.param([{"type": "text", "text": {"value": ANSWER}}], id="a text with annotations"),
        pytest.param([{"text": ANSWER}], id="a part without a type"),
        pytest.param(
            [{"type": "thinking", "text": "{}"}, {"type": "text", "text": ANSWER}],
            id="a thought as text",
        ),
        pytest.param(
            [
                {"type": "thinking", "thinking": [{"type": "text", "text": "{}"}]},
                {"type": "text", "text": ANSWER},
            ],
            id="a thought in parts",
        ),
        pytest.param(
            [
                {"type": "redacted_thinking", "data": "e30="},
                {"type": "reasoning", "summary": [{"type": "summary_text", "text": "{}"}]},
                {"type": "text", "text": ANSWER},
            ],
            id="a hidden thought and a summary",
        ),
        pytest.param([{"text": "{}", "thought": True}, {"text": ANSWER}], id="a marked thought"),
        pytest.param(
            [
                {"type": "text", "text": "<thi"},
                {"type": "text", "text": f"nk>{{}}</think>{ANSWER}"},
            ],
            id="a tag in two parts",
        ),
        pytest.param(f"<think>{{}}</think>{ANSWER}", id="a thought in the text"),
    ],
)
def test_what_is_said_is_found_and_what_is_thought_is_not(wire, content):
    reply = reply_in(wire, content)

    assert json.loads(reply.text) == json.loads(ANSWER)
    assert reply.body["choices"][0]["message"]["content"] == reply.text


@pytest.mark.parametrize("wire", ["openai", "anthropic"])
@pytest.mark.parametrize(
    "part",
    [
        {"type": "json", "json": {"order": int(LONG)}},
        {"type": "output_json", "value": f'{{"order":{LONG}}}'},
        {"type": "application/json", "data": {"order": int(LONG)}},
        {"type": "json", "text": f'{{"order":{LONG}}}'},
    ],
)
def test_a_part_that_is_json_is_the_answer(wire, part):
    assert reply_in(wire, [part]).text == f'{{"order":{LONG}}}'


def test_an_object_in_place_of_a_text_is_the_answer():
    for content in (json.loads(ANSWER), [json.loads(ANSWER)], {"text": "a", "confidence": 1}):
        said = content[0] if isinstance(content, list) else content

        assert json.loads(reply_in("openai", content).text) == said


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("content", [7, [{"type": "text", "text": 7}], ["a", True]])
def test_what_is_no_text_is_no_empty_answer(wire, content):
    with pytest.raises(UnreadableError):
        reply_in(wire, content)


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize(
    "said",
    ["", "null", '""', '" \\n"', '"null"', '"{}"', '" {} "', "{}", "[]", '"[]"', '"\\"{}\\""'],
)
def test_no_arguments_are_an_empty_object_however_they_are_spelled(wire, said):
    name = {"openai": "arguments", "anthropic": "input", "gemini": "args"}[wire]
    reply = reply_in(wire, None, f',"{name}":{said}' if said else " ")

    assert [call["function"]["arguments"] for call in reply.tool_calls] == ["{}"]


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize(
    "number",
    [LONG, f"-{LONG}", "1e400", "0.1234567890123456789", "-0", "1E-400", "NaN", "9" * 999],
)
def test_every_digit_of_an_argument_is_kept(wire, number):
    name = {"openai": "arguments", "anthropic": "input", "gemini": "args"}[wire]
    given = f'{{"order":{{"no":[{number}]}},"name":"é"}}'

    [call] = reply_in(wire, None, f',"{name}":{given}').tool_calls

    assert call["function"]["arguments"] == given


def test_every_digit_of_an_answer_given_as_an_object_is_kept():
    raw = f'{{"choices":[{{"message":{{"content":{{"n":{LONG}}}}},"finish_reason":"stop"}}]}}'

    assert WIRES["openai"].decode(parsed_body(raw.encode()), BODY).text == f'{{"n":{LONG}}}'


def test_a_custom_tool_is_given_its_object_as_json():
    called = [{"id": "c", "type": "custom", "custom": {"name": "f", "input": {"a": [1, None]}}}]
    data = {"choices": [{"message": {"tool_calls": called}, "finish_reason": "tool_calls"}]}

    [call] = WIRES["openai"].decode(data, BODY).tool_calls

    assert call["custom"]["input"] == '{"a":[1,null]}'


def test_arguments_written_as_json_twice_are_read_once():
    assert arguments_text(json.dumps('{"a": 1}')) == '{"a":1}'
    assert arguments_text('"just text"') == '"just text"'


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ("```json\n{}\n```", "{}"),
        ("``` {} ```", "{}"),
        (' ```json\n{"order": "```17```"}\n```\n', '{"order":"```17```"}'),
        (f'```\n{{"order": {LONG}}}\n```', f'{{"order":{LONG}}}'),
        ("```json\nnothing\n```", "```json\nnothing\n```"),
    ],
)
def test_arguments_in_a_fence_are_what_stands_in_it(said, text):
    assert arguments_text(said) == text


def test_another_format_is_sent_every_digit_of_an_earlier_call():
    sent = arguments_of(f'{{"order": {LONG}}}')

    assert arguments_text(sent) == f'{{"order":{LONG}}}'
    assert arguments_of(None) == arguments_of("") == arguments_of("null") == {}


def test_tokens_of_a_thought_are_not_published():
    tokens = [
        {"token": t, "logprob": -0.1} for t in ("<think>", "no", "</think>", "\n", "Yes", ".")
    ]
    message = {"content": "<think>no</think>\nYes."}
    choice = {"message": message, "finish_reason": "stop", "logprobs": {"content": tokens}}

    reply = WIRES["openai"].decode({"choices": [choice]}, BODY)

    kept = reply.body["choices"][0]["logprobs"]["content"]
    assert [token["token"] for token in kept] == ["Yes", "."]
