"""What a model's row in the policy does to the bodies it is sent, and to what it answers."""

from typing import Any

import pytest
from pydantic import ValidationError

from router.attempt.model_quirks import adapt_body, oddities_of, price_of, takes
from router.policy.table import Model
from router.reply.reply import Oddity, Reply
from schemas.usage import Usage
from tests.builders import a_request, the_policy

PRICE = {"input": 1, "output": 2, "source": "a test", "as_of": "2026-01-01"}
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
WANTED = {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}


def a_model(**fields: Any) -> Model:
    return Model.model_validate(
        {"provider": "p", "id": "gpt-x", "price": PRICE, "context_tokens": 8000, **fields}
    )


def a_body(**fields: Any) -> dict[str, Any]:
    messages = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Hi"}]
    return {"model": "gpt-x", "max_tokens": 9, "messages": messages, **fields}


def a_reply(served: str | None) -> Reply:
    return Reply("hi", "stop", Usage(), {}, served_model=served)


@pytest.mark.parametrize(
    ("given", "refuses", "word"),
    [
        ({"tools": [{"type": "function"}]}, ["tools"], "tools"),
        ({"logprobs": True}, ["tools", "logprobs"], "logprobs"),
        ({"messages": [{"role": "tool", "content": "x", "tool_call_id": "1"}]}, ["tools"], "tool"),
        ({"tools": []}, ["tools"], None),
        ({"logprobs": False}, ["logprobs"], None),
        ({"tools": [{"type": "function"}]}, [], None),
    ],
)
def test_a_model_is_asked_only_for_what_it_takes(given, refuses, word):
    body = {"messages": [{"role": "user", "content": "Hello there 1"}], **given}
    body["messages"] = [{"role": "user", "content": "Hello 1"}, *given.get("messages", [])]
    why = takes(a_model(refuses=refuses), a_request(input=body))

    assert (why is None) if word is None else (why is not None and why.startswith(word))


def test_a_plain_row_changes_nothing():
    assert adapt_body(a_body(response_format=WANTED), a_model()) == a_body(response_format=WANTED)


def test_what_a_model_does_without_is_left_out():
    assert adapt_body(a_body(seed=1, top_p=1), a_model(drops=["seed", "top_p"])) == a_body()


@pytest.mark.parametrize("given", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("wanted", ["max_tokens", "max_completion_tokens"])
def test_the_output_limit_has_the_name_that_the_provider_knows(given, wanted):
    body = {**a_body(), given: 9}
    if given != "max_tokens":
        del body["max_tokens"]

    sent = adapt_body(body, a_model(limit=wanted))
    assert {name: sent[name] for name in sent if name.startswith("max_")} == {wanted: 9}


def test_no_row_can_drop_the_chat_itself():
    with pytest.raises(ValidationError, match="its model and messages"):
        a_model(drops=["messages"])


@pytest.mark.parametrize(
    ("structured", "left"), [("json_object", {"type": "json_object"}), ("prompt", None)]
)
def test_a_schema_that_the_model_cannot_take_is_asked_for_in_words(structured, left):
    sent = adapt_body(a_body(response_format=WANTED), a_model(structured=structured))

    assert sent.get("response_format") == left
    first = sent["messages"][0]["content"]
    assert first.startswith("Be short.\n\n")
    assert '{"type":"object","properties":{"a":{"type":"string"}}}' in first


def test_a_schema_that_stands_in_the_prompt_is_not_said_twice():
    text = 'Schema: {"type":"object","properties":{"a":{"type":"string"}}}'
    messages = [{"role": "system", "content": text}]
    sent = adapt_body(
        a_body(response_format=WANTED, messages=messages), a_model(structured="prompt")
    )

    assert sent["messages"] == messages


@pytest.mark.parametrize(("stable", "is_marked"), [(5000, True), (100, False), (0, False)])
def test_only_the_long_part_that_never_changes_is_kept_by_the_provider(stable, is_marked):
    text = "x" * 5000 + " and what is new"
    body = a_body(messages=[{"role": "system", "content": text}, {"role": "user", "content": "q"}])

    content = adapt_body(body, a_model(cache_prompt=True), stable=stable)["messages"][0]["content"]
    if is_marked:
        assert "".join(part["text"] for part in content) == text
        assert [part["text"] for part in content if "cache_control" in part] == ["x" * 5000]
    else:
        assert content == text


@pytest.mark.parametrize(
    ("served", "is_same"),
    [
        ("gpt-x", True),
        ("GPT-X", True),
        ("gpt-x-2026-01-31", True),
        ("gpt-x-20260131", True),
        ("gpt-x-001", True),
        ("models/gpt-x", True),
        ("gpt-x-mini", False),
        ("gpt-x-2", False),
        ("gpt", False),
        ("other", False),
        ("deployed", True),
        ("deployed-2026-01-31", True),
        (None, True),
    ],
)
def test_another_model_is_one_that_the_policy_does_not_name(served, is_same):
    odd = oddities_of(a_reply(served), a_model(answers_as=["deployed"]))

    assert odd == (() if is_same else (Oddity.OTHER_MODEL,))


def test_a_reply_costs_what_the_model_that_answered_costs():
    policy = the_policy()
    small, large = policy.models["sim-small"], policy.models["sim-large"]

    assert price_of(a_reply("sim-small"), small, policy) == small.price
    assert price_of(a_reply("sim-large"), small, policy) == large.price
    assert price_of(a_reply("unheard-of"), small, policy) == small.price
