"""A context over its budget loses its oldest part, and never what the request is about."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.policy.table import ContextLimits, Policy
from router.request.signals import context_tokens
from router.request.trimming import trimmed
from router.route.routing import GiveUp, Route, route
from schemas.base import Tier
from schemas.reasons import Reason
from schemas.request import Message, Request
from tests.builders import NOON, a_request, the_policy


def tokens_of(request: Request) -> Mapping[str, int]:
    tokens = context_tokens(request, request.text)
    return {**tokens, "total": sum(tokens.values())}


def turn(no: int) -> list[dict[str, Any]]:
    """A question, a tool call with its result, and the answer."""
    function = {"name": "look", "arguments": "{}"}
    return [
        {"role": "user", "content": f"question {no}"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": f"call-{no}", "type": "function", "function": function}],
        },
        {"role": "tool", "tool_call_id": f"call-{no}", "content": f"result {no} " * 20},
        {"role": "assistant", "content": f"answer {no} " * 20},
    ]


def a_conversation(turns: int, *more: dict[str, Any]) -> Request:
    told = [{"role": "system", "content": "Be brief."}]
    for no in range(turns):
        told += turn(no)
    return a_request(input=[*told, {"role": "user", "content": "And now?"}, *more])


def texts(request: Request) -> list[str]:
    return [message.text for message in request.messages]


def whole_pairs(messages: list[Message]) -> bool:
    """Whether every call has its result, and every result its call."""
    calls = [
        call["id"]
        for message in messages
        for call in (message.model_extra or {}).get("tool_calls") or ()
    ]
    results = [(m.model_extra or {})["tool_call_id"] for m in messages if m.role == "tool"]
    return sorted(calls) == sorted(results)


def test_the_oldest_turns_go_and_a_call_goes_with_its_result() -> None:
    request = a_conversation(10)
    kept = trimmed(request, {"history": 300})

    assert tokens_of(kept)["history"] <= 300
    assert texts(kept)[0] == "Be brief."
    assert texts(kept)[-1] == "And now?"
    assert "answer 9" in texts(kept)[-2]
    assert "question 0" not in texts(kept)
    assert whole_pairs(list(kept.messages))


def test_a_call_that_the_model_is_to_go_on_from_stays_whole() -> None:
    call, result = turn(77)[1:3]
    request = a_conversation(3, call, result)
    kept = trimmed(request, {"history": 1})

    assert [m.role for m in kept.messages] == ["system", "user", "assistant", "tool"]
    assert whole_pairs(list(kept.messages))


def test_a_text_of_history_goes_before_the_conversation_does() -> None:
    request = a_conversation(1).model_copy(
        update={"context": a_request(context={"history": "line of old\n" * 300}).context}
    )
    kept = trimmed(request, {"history": 300})

    assert len(kept.messages) == len(request.messages)
    assert kept.context.history.endswith("line of old\n")
    assert kept.context.history.startswith("line")


def test_retrieved_text_keeps_its_beginning() -> None:
    lines = "more\n" * 2_000
    request = a_request(context={"retrieved": f"first\n{lines}last"})
    kept = trimmed(request, {"retrieved": 100}).context.retrieved

    assert kept.startswith("first\nmore")
    assert "last" not in kept


@settings(max_examples=150, deadline=None)
@given(
    roles=st.lists(st.sampled_from(["system", "user", "assistant", "call", "tool"]), max_size=25),
    sizes=st.lists(st.integers(0, 60), min_size=26, max_size=26),
    word=st.sampled_from(["word ", "größer ", "日本語"]),
    context=st.fixed_dictionaries(
        {}, optional={name: st.text(max_size=300) for name in ("history", "retrieved", "tools")}
    ),
    most=st.dictionaries(
        st.sampled_from(["history", "retrieved", "tools", "total"]), st.integers(1, 400), min_size=1
    ),
)
def test_trimming_keeps_the_budget_the_last_question_and_whole_pairs(
    roles: list[str],
    sizes: list[int],
    word: str,
    context: dict[str, str],
    most: dict[str, int],
) -> None:
    messages: list[dict[str, Any]] = []
    calls = 0
    for role, size in zip(roles, sizes, strict=False):
        content = word * size
        if role == "call":
            messages += turn(calls)[1:3]
            calls += 1
        elif role != "tool":
            messages.append({"role": role, "content": content})
    messages.append({"role": "user", "content": f"last {word * sizes[-1]}"})
    request = a_request(input=messages, context=context)

    kept = trimmed(request, most)
    before, after = tokens_of(request), tokens_of(kept)

    assert kept == trimmed(request, most)
    assert kept.messages[-1] == request.messages[-1]
    assert [m for m in kept.messages if m.role == "system"] == [
        m for m in request.messages if m.role == "system"
    ]
    assert whole_pairs(list(kept.messages))
    assert all(after.get(name, 0) <= count for name, count in before.items())
    for name in {"history", "retrieved", "tools"} & most.keys():
        assert after.get(name, 0) <= most[name]
    if "total" in most and after["total"] > most["total"]:
        # Nothing is left that may go.
        assert not {"history", "retrieved", "tools"} & {n for n, count in after.items() if count}


def with_context(limits: ContextLimits, plan: str = "free", **fields: Any) -> Policy:
    policy = the_policy()
    row = policy.plans[plan].model_copy(update={"context": limits, **fields})
    return policy.model_copy(update={"plans": {**policy.plans, plan: row}})


def test_a_free_user_with_a_long_history_gets_a_shorter_context() -> None:
    request = a_request(plan="free", context={"history": "said before. " * 2_000})
    decided = route(request, the_policy(), NOON)

    assert isinstance(decided, Route)
    assert decided.trim is not None
    assert decided.trim.most == {"history": 2000, "total": 6000}
    assert decided.trim.left_out["history"] == pytest.approx(4_500, abs=10)
    assert "tokens of history are left out" in decided.reason
    assert decided == route(request, the_policy(), NOON)


def test_what_cannot_be_trimmed_is_refused_with_its_component() -> None:
    """The question alone is longer than the plan allows."""
    decided = route(a_request(plan="free", input="word " * 9_000), the_policy(), NOON)

    assert isinstance(decided, GiveUp)
    assert decided.reason is Reason.CONTEXT_TOO_LONG
    assert "even when trimmed: total" in decided.detail


def test_a_larger_window_is_the_next_tiers_as_far_as_the_plan_reaches() -> None:
    over: Any = {"total": "larger_window"}
    request = a_request(task="extraction", plan="enterprise", input="order 4711 " * 2_000)
    short = a_request(task="extraction", plan="enterprise", input="order 4711")
    policy = with_context(ContextLimits(total=2_000, over=over), "enterprise")
    decided, usual = route(request, policy, NOON), route(short, policy, NOON)

    assert isinstance(decided, Route)
    assert isinstance(usual, Route)
    assert (usual.tier, decided.tier) == (Tier.LOW, Tier.BALANCED)
    over_limit = "larger window is asked for tokens over the plan's limit: total "
    assert f"raised to balanced because a {over_limit}" in decided.reason
    assert "need room" not in decided.reason

    capped = with_context(ContextLimits(total=2_000, over=over), "free")
    refused = route(request.model_copy(update={"plan": "free"}), capped, NOON)
    assert isinstance(refused, GiveUp)
    assert refused.reason is Reason.CONTEXT_TOO_LONG
    assert refused.detail.endswith(" of 2000, and the plan allows no larger window than low has")


def test_a_limit_refuses_where_nothing_else_is_said() -> None:
    policy = with_context(ContextLimits(history=100))
    request = a_request(plan="free", context={"history": "said before. " * 200})
    decided = route(request, policy, NOON)

    assert isinstance(decided, GiveUp)
    assert "history" in decided.detail
