"""Whatever a conversation was before, each format gets one that its publisher's rules allow."""

import copy
import json
import re
import time
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.providers.conversations import RULES
from consumers.providers.gemini_schemas import subset
from consumers.providers.wires import WIRES
from router.prompts.chat_fields import CHAT_FIELDS

IDS = ("call_1", "functions.look_up:0", "functions.look_up:1", "x" * 300, "x" * 301, "", "a b", "é")
NAMES = ("look_up", "functions.look_up", "1st", "n" * 200, "", "naïve", "a/b")
SAID: tuple[Any, ...] = (
    None,
    "",
    " ",
    "\n\t",
    "Where is order 17?",
    [{"type": "text", "text": " "}],
    [{"type": "text", "text": "Hello"}, {"type": "text", "text": ""}],
    [],
)
TOOL = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}
JSON = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}


def call(call_id: str, name: str = "look_up") -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": "{}"}}


def result(call_id: str, content: Any = "shipped") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def asks(*calls: dict[str, Any], content: Any = None) -> dict[str, Any]:
    return {"role": "assistant", "content": content, "tool_calls": list(calls)}


def user(content: Any = "And now?") -> dict[str, Any]:
    return {"role": "user", "content": content}


def encoded(wire: str, *messages: dict[str, Any], **more: Any) -> dict[str, Any]:
    body = {"model": "m", "max_tokens": 9, "messages": list(messages), **more}
    before = copy.deepcopy(body)
    sent = dict(WIRES[wire].encode(body))
    assert body == before  # the producer's own is left alone
    return sent


def text_of(content: Any) -> str:
    parts = content if isinstance(content, list) else []
    return content if isinstance(content, str) else "".join(one["text"] for one in parts)


def openai_allows(sent: Mapping[str, Any]) -> None:
    messages = list(sent["messages"])
    while messages:
        message = messages.pop(0)
        assert message["role"] != "tool"
        calls = message.get("tool_calls") or []
        assert calls or isinstance(message["content"], (str, list))
        assert message["content"] != []
        ids = [one["id"] for one in calls]
        assert len(set(ids)) == len(ids)
        for one in calls:
            assert 0 < len(one["id"]) <= 40
            assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", one["function"]["name"])
            answer = messages.pop(0)
            assert (answer["role"], answer["tool_call_id"]) == ("tool", one["id"])


def anthropic_allows(sent: Mapping[str, Any]) -> None:
    turns = sent["messages"]
    roles = [turn["role"] for turn in turns]
    assert roles[0] == roles[-1] == "user"
    assert all(one != other for one, other in pairwise(roles))
    seen: list[str] = []
    open_ids: list[str] = []
    for turn in turns:
        assert turn["content"]
        kinds = [block["type"] for block in turn["content"]]
        results = [one["tool_use_id"] for one in turn["content"] if one["type"] == "tool_result"]
        assert results == open_ids
        assert kinds[: len(results)] == ["tool_result"] * len(results)
        uses = [one for one in turn["content"] if one["type"] == "tool_use"]
        open_ids = [one["id"] for one in uses]
        seen += open_ids
        for one in uses:
            assert re.fullmatch(r"[a-zA-Z0-9_-]+", one["id"])
            assert re.fullmatch(r"[a-zA-Z0-9_-]{1,128}", one["name"])
        for block in [*turn["content"], *sent.get("system", [])]:
            assert block["type"] != "text" or block["text"].strip()
    assert len(set(seen)) == len(seen)
    assert open_ids == []


def gemini_allows(sent: Mapping[str, Any]) -> None:
    turns = sent["contents"]
    roles = [turn["role"] for turn in turns]
    assert roles[0] == roles[-1] == "user"
    assert all(one != other for one, other in pairwise(roles))
    asked: list[str] = []
    for turn in turns:
        assert turn["parts"]
        answers = [one["functionResponse"] for one in turn["parts"] if "functionResponse" in one]
        assert [one["name"] for one in answers] == asked
        asked = [one["functionCall"]["name"] for one in turn["parts"] if "functionCall" in one]
        for name in asked:
            assert re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.:-]{0,63}", name)
        for part in turn["parts"]:
            assert "text" not in part or part["text"].strip()
    assert asked == []


ALLOWS: Mapping[str, Callable[[Mapping[str, Any]], None]] = {
    "openai": openai_allows,
    "anthropic": anthropic_allows,
    "gemini": gemini_allows,
}
_CALLS = st.lists(st.builds(call, st.sampled_from(IDS), st.sampled_from(NAMES)), max_size=3)
_MESSAGES = st.lists(
    st.one_of(
        st.builds(user, st.sampled_from(SAID)),
        st.builds(lambda said: {"role": "system", "content": said}, st.sampled_from(SAID)),
        st.builds(lambda calls, said: asks(*calls, content=said), _CALLS, st.sampled_from(SAID)),
        st.builds(result, st.sampled_from(IDS), st.sampled_from(SAID)),
    ),
    max_size=9,
)


@pytest.mark.parametrize("wire", sorted(RULES))
@settings(max_examples=150, deadline=None)
@given(messages=_MESSAGES)
def test_every_conversation_is_one_that_the_format_allows(
    wire: str, messages: list[dict[str, Any]]
) -> None:
    ALLOWS[wire](encoded(wire, user("Hello"), *messages))


@pytest.mark.parametrize("arguments", ["", "null", None, " ", "[]"])
def test_a_call_without_arguments_or_id_gets_both_from_openai(arguments: str | None) -> None:
    function = {"name": "look_up", "arguments": arguments}
    asked = asks({"id": "", "type": "function", "function": function})
    _, turn, answer = encoded("openai", user(), asked, result(""))["messages"]

    [sent] = turn["tool_calls"]
    assert sent["function"]["arguments"] == "{}"
    assert sent["id"]
    assert answer["tool_call_id"] == sent["id"]


def test_every_format_has_its_rules_with_sources() -> None:
    assert RULES.keys() == WIRES.keys() == ALLOWS.keys()
    assert all(source.startswith("https://") for one in RULES.values() for source in one.sources)


@pytest.mark.parametrize("wire", sorted(RULES))
def test_a_tables_row_is_what_is_sent(wire: str) -> None:
    """Each rule of the table, at its bound and beyond it."""
    rules = RULES[wire]
    fits = "a" * rules.id_length
    for given_id in (fits, f"{fits}a", "functions.look_up:0"):
        names = ("n" * rules.name_length, "n" * (rules.name_length + 1))
        for name in names:
            sent = encoded(wire, user(), asks(call(given_id, name)), result(given_id), user())
            ALLOWS[wire](sent)
            is_kept = name == names[0]
            assert (f'"{name}"' in str(sent).replace("'", '"')) == is_kept
    sent = encoded(wire, user(), asks(call(fits)), result(fits), user())
    assert fits in str(sent)  # what fits is left alone


def test_ids_of_other_formats_are_replaced_alike_and_stay_different() -> None:
    calls = [call("functions.look_up:0"), call("functions.look_up:1"), call("functions_look_up_0")]
    turn = (asks(*calls), *(result(one["id"], one["id"]) for one in calls))
    first = encoded("anthropic", user(), *turn, user())
    again = encoded("anthropic", user(), *turn, user("Something else"))

    [one, two] = (
        [block["id"] for block in sent["messages"][1]["content"]] for sent in (first, again)
    )
    assert one == two
    assert len(set(one)) == 3
    said = [block["content"] for block in first["messages"][2]["content"][:3]]
    assert said == [one["id"] for one in calls]  # each result is behind its own call


def test_blank_text_beside_a_call_is_left_out() -> None:
    sent = encoded("anthropic", user(), asks(call("call_1"), content=" "), result("call_1"), user())

    assert sent["messages"][1]["content"] == [
        {"type": "tool_use", "id": "call_1", "name": "look_up", "input": {}}
    ]


def test_a_blank_answer_leaves_one_turn_of_the_user() -> None:
    sent = encoded("anthropic", user("One"), {"role": "assistant", "content": "\n"}, user("Two"))

    [turn] = sent["messages"]
    assert [block["text"] for block in turn["content"]] == ["One", "Two"]


def test_a_stop_of_white_space_is_none_for_anthropic() -> None:
    assert encoded("anthropic", user(), stop=["\n\n", "END"])["stop_sequences"] == ["END"]


@pytest.mark.parametrize(
    ("model", "takes_both"),
    [("gemini-2.5-pro", False), ("m-gem", False), ("gemini-3-pro-preview", True),
     ("models/gemini-3.1-flash", True)],
)  # fmt: skip
def test_tools_beside_a_format_are_for_gemini_from_3_on(model: str, takes_both: bool) -> None:
    sent = encoded("gemini", user(), model=model, tools=[TOOL], response_format=JSON)
    config = sent["generationConfig"]

    assert ("responseMimeType" in config, "responseJsonSchema" in config) == (takes_both,) * 2
    asked = "JSON Schema" in str(sent.get("systemInstruction"))
    assert asked is not takes_both
    without = encoded("gemini", user(), model=model, response_format=JSON)["generationConfig"]
    assert without["responseMimeType"] == "application/json"


def test_gemini_gets_the_keywords_that_it_takes() -> None:
    found = subset(
        {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": {
                "pattern": {"type": "string", "pattern": "^a", "minLength": 1},
                "kind": {"const": "a"},
                "next": {"$ref": "#/definitions/n", "description": "beside it"},
            },
            "definitions": {"n": {"type": ["integer", "null"], "multipleOf": 2, "minimum": 1}},
            "additionalProperties": False,
            "allOf": [{}],
        }
    )

    assert found == {
        "type": "object",
        "properties": {
            "pattern": {"type": "string"},
            "kind": {"enum": ["a"]},
            "next": {"$ref": "#/$defs/n"},
        },
        "$defs": {"n": {"type": ["integer", "null"], "minimum": 1}},
        "additionalProperties": False,
    }


def test_anthropic_gets_an_object_for_a_tools_input() -> None:
    function = {"name": "a", "parameters": {"anyOf": [{}], "properties": {"x": {}}}}
    sent = encoded("anthropic", user(), tools=[{"type": "function", "function": function}])

    assert sent["tools"][0]["input_schema"] == {"properties": {"x": {}}, "type": "object"}


def test_openai_is_asked_for_json_by_its_name() -> None:
    wanted = {"type": "json_object"}
    assert "JSON" in encoded("openai", user(), response_format=wanted)["messages"][0]["content"]
    schema = {"type": "json_schema", "json_schema": {"schema": {"type": "string"}}}
    sent = encoded("openai", user(), response_format=schema, tool_choice="any", tools=[TOOL])

    assert sent["response_format"]["json_schema"]["name"] == "answer"
    assert sent["tool_choice"] == "required"


def offered(wire: str, sent: Mapping[str, Any]) -> tuple[list[str], Any, str]:
    """The names of the tools, of the chosen one, and of the call that was made before."""
    if wire == "openai":
        [before] = [one for one in sent["messages"] if one.get("tool_calls")]
        names = [one["function"]["name"] for one in sent["tools"]]
        chosen = sent["tool_choice"]["function"]["name"]
        return names, chosen, before["tool_calls"][0]["function"]["name"]
    if wire == "anthropic":
        blocks = [one for turn in sent["messages"] for one in turn["content"]]
        [before] = [one for one in blocks if one["type"] == "tool_use"]
        names = [one["name"] for one in sent["tools"]]
        return names, sent["tool_choice"]["name"], before["name"]
    parts = [one for turn in sent["contents"] for one in turn["parts"]]
    [before] = [one["functionCall"] for one in parts if "functionCall" in one]
    names = [one["name"] for one in sent["tools"][0]["functionDeclarations"]]
    [chosen] = sent["toolConfig"]["functionCallingConfig"]["allowedFunctionNames"]
    return names, chosen, before["name"]


def calling(wire: str, name: str) -> dict[str, Any]:
    """A reply that calls a tool."""
    if wire == "openai":
        message = {"role": "assistant", "content": None, "tool_calls": [call("c", name)]}
        return {"choices": [{"message": message, "finish_reason": "tool_calls"}]}
    if wire == "anthropic":
        block = {"type": "tool_use", "id": "c", "name": name, "input": {}}
        return {"content": [block], "stop_reason": "tool_use"}
    part = {"functionCall": {"name": name, "args": {}}}
    return {"candidates": [{"content": {"parts": [part]}, "finishReason": "STOP"}]}


@pytest.mark.parametrize("wire", sorted(WIRES))
@pytest.mark.parametrize("name", [one for one in NAMES if one])
def test_a_tool_of_any_name_is_offered_and_called_by_its_own(wire: str, name: str) -> None:
    rules = RULES[wire]
    # A name in a schema is none of a tool.
    schema = {"type": "object", "properties": {"name": {"type": "string", "name": name}}}
    tools = [{"type": "function", "function": {"name": name, "parameters": schema}}, TOOL]
    chosen = {"type": "function", "function": {"name": name}}
    body = {"tools": tools, "tool_choice": chosen}
    kept, left_out = CHAT_FIELDS[wire].kept({**body, "messages": [user()]})
    assert (kept["tools"], left_out) == (tools, [])
    sent = encoded(wire, user(), asks(call("c", name)), result("c"), **body)

    names, choice, before = offered(wire, sent)
    assert choice == before == names[0]
    assert len(names[0]) <= rules.name_length
    assert re.fullmatch(f"(?:{rules.name_characters})+", names[0])
    assert rules.name_begins_anyhow or re.match("[A-Za-z_]", names[0])
    for said, own in ((names[0], name), ("look_up", "look_up"), ("other", "other")):
        [made] = WIRES[wire].decode(calling(wire, said), body).tool_calls
        assert made["function"]["name"] == own


@pytest.mark.parametrize("wire", sorted(WIRES))
def test_calls_with_one_id_cost_no_more_than_others(wire: str) -> None:
    """Each gets an id of its own, in time that grows with their number alone."""

    def seconds(count: int, *ids: str) -> float:
        calls = [call(ids[no % len(ids)], "look_up") for no in range(count)]
        best, sent = float("inf"), None
        for _ in range(3):
            began = time.thread_time()
            sent = encoded(wire, user(), asks(*calls), user())
            best = min(best, time.thread_time() - began)
        made = re.findall(r'"(?:tool_call_id|tool_use_id)": ?"([^"]*)"', json.dumps(sent))
        assert len(set(made)) == len(made)
        return best

    for ids in (("c",), ("c", "c_2", "c_3"), ("\N{SNOWMAN}" * 300,)):
        assert seconds(2_000, *ids) < 8 * seconds(500, *ids) + 0.01
