"""Which tier a request goes to, by which rule, and what a plan allows."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.route.routing import GiveUp, Route, route
from schemas.base import Tier
from schemas.escalation import Classification
from schemas.reasons import Reason
from tests.builders import NOON, a_request, policy_with, the_policy


def decide(**fields: Any) -> Route:
    decided = route(a_request(**fields), the_policy(), NOON)

    assert isinstance(decided, Route)
    return decided


@pytest.mark.parametrize(
    ("fields", "tier", "rule"),
    [
        pytest.param({}, Tier.BALANCED, "task support_answer", id="the task decides first"),
        pytest.param(
            {"task": "policy_question", "blast_radius": "high", "plan": "internal",
             "justification": "audit"},
            Tier.PREMIUM,
            "high_blast_radius",
            id="a costly mistake goes strong",
        ),
        pytest.param(
            {"task": "classification", "ambiguity": 0.29},
            Tier.LOW,
            "clear_small_job",
            id="classification below 0.3 ambiguity goes small",
        ),
        pytest.param(
            {"task": "summarization", "ambiguity": 0.49},
            Tier.BALANCED,
            "clear_text_job",
            id="a summary below 0.5 goes medium",
        ),
        pytest.param(
            {"task": "classification", "ambiguity": 0.8},
            Tier.BALANCED,
            "unclear_input",
            id="unclear input gets at least the balanced tier",
        ),
        pytest.param({"task": None}, Tier.LOW, "classify", id="no task: it is classified first"),
        pytest.param(
            {"task": "no_such_task"}, Tier.LOW, "classify", id="an unknown task is classified too"
        ),
        pytest.param(
            {"plan": "no_such_plan"},
            Tier.BALANCED,
            "task support_answer",
            id="an unknown plan counts as the default one",
        ),
    ],
)  # fmt: skip
def test_route(fields: dict[str, Any], tier: Tier, rule: str) -> None:
    decided = decide(**fields)

    assert (decided.tier, decided.rule) == (tier, rule)
    assert decided.policy_version == the_policy().version
    assert decided.reason


@settings(max_examples=200, deadline=None)
@given(
    task=st.sampled_from(sorted(the_policy().tasks)),
    plan=st.sampled_from(sorted(the_policy().plans)),
    ambiguity=st.none() | st.floats(0, 1),
    blast_radius=st.none() | st.sampled_from(["low", "medium", "high"]),
    complexity=st.none() | st.integers(1, 5),
    text=st.text(max_size=200).map("about {}".format),
)
def test_the_same_request_takes_the_same_route_within_its_plan(
    task: str, plan: str, text: str, **signals: Any
) -> None:
    """Deterministic, and a plan that does not pay for a tier never reaches it."""
    request = a_request(task=task, plan=plan, input=text, **signals)
    decided = route(request, the_policy(), NOON)

    assert decided == route(request, the_policy(), NOON)
    if isinstance(decided, Route):
        row = the_policy().plans[plan]
        assert decided.tier.rank <= row.start_at_most.rank
        assert row.justify_above is None or decided.tier.rank <= row.justify_above.rank


def test_premium_for_internal_work_needs_a_justification() -> None:
    asked = {"task": "complex_analysis", "plan": "internal"}

    assert decide(**asked).tier is Tier.BALANCED
    assert "needs a justification" in decide(**asked).reason
    assert decide(**asked, justification="board paper").tier is Tier.PREMIUM


def test_a_producers_deadline_may_only_shorten_the_policys() -> None:
    soon, late = NOON + timedelta(minutes=1), NOON + timedelta(days=9)

    assert decide(deadline=soon.isoformat()).deadline == soon
    assert decide(deadline=late.isoformat()).deadline == NOON + the_policy().limits.deadline


def test_a_request_past_its_deadline_goes_nowhere() -> None:
    decided = route(a_request(deadline=NOON.isoformat()), the_policy(), NOON)

    assert isinstance(decided, GiveUp)
    assert decided.reason is Reason.DEADLINE_PASSED


def test_context_over_the_plans_limit_is_refused_with_the_component() -> None:
    request = a_request(plan="free", context={"retrieved": "read before. " * 2_000})
    decided = route(request, the_policy(), NOON)

    assert isinstance(decided, GiveUp)
    assert decided.reason is Reason.CONTEXT_TOO_LONG
    assert "retrieved" in decided.detail


def test_a_request_too_long_for_the_small_models_starts_higher() -> None:
    decided = decide(task="extraction", input="Order 4711, line by line. " * 3_000)

    assert decided.tier is Tier.BALANCED
    assert "need room" in decided.reason


def test_what_the_producer_says_beats_what_the_classify_step_found() -> None:
    classification = Classification(task="classification", ambiguity=0.9)
    asked = route(a_request(task=None), the_policy(), NOON, classification=classification)
    stated = route(
        a_request(task=None, ambiguity=0.1), the_policy(), NOON, classification=classification
    )

    assert isinstance(asked, Route)
    assert isinstance(stated, Route)
    assert (asked.rule, stated.rule) == ("unclear_input", "clear_small_job")


@pytest.mark.parametrize("plan", ["free", "enterprise"])
def test_a_request_without_a_task_is_measured_before_anything_is_paid(plan: str) -> None:
    """Too long for the plan: refused. Too long for the classify step: the policy's own guess."""
    policy = the_policy()
    limits = dict(policy.plans[plan].context.given)
    room = policy.room_by_tier[Tier.LOW]
    tokens = room + 500 if plan == "enterprise" else limits["total"] + 500
    decided = route(a_request(input="word" * tokens, task=None, plan=plan), policy, NOON)

    assert not isinstance(decided, Route) or decided.step == "answer"
    if plan == "free":
        assert isinstance(decided, GiveUp)
        assert decided.reason is Reason.CONTEXT_TOO_LONG


@pytest.mark.parametrize("tokens", [10, the_policy().room_by_tier[Tier.LOW] + 500])
def test_only_a_request_without_a_task_is_given_one_where_the_policy_says_so(tokens: int) -> None:
    """Also where it is too long to be classified."""
    policy, text = policy_with(classify={"applies_to": "missing"}), "word" * tokens
    unknown = route(a_request(task="no_such", input=text), policy, NOON)
    missing = route(a_request(task=None, input=text), policy, NOON)

    assert unknown == GiveUp(Reason.UNKNOWN_TASK, "task 'no_such' is not in the policy")
    assert isinstance(missing, Route)


def _guessed(classified: str, text: str, **fields: object) -> Route:
    request = a_request(**{"task": None, "input": text, **fields})
    decided = route(request, the_policy(), NOON, classification=Classification(task=classified))
    assert isinstance(decided, Route)
    return decided


@pytest.mark.parametrize(
    ("classified", "text", "task", "needs_person"),
    [
        ("rewrite", "Order 991 never came", "rewrite", False),
        ("rewrite", "I was charged twice for order 991", "billing_dispute", False),
        ("critique", "I was charged twice for order 991", "billing_dispute", False),
        ("billing_dispute", "I was charged twice for order 991", "billing_dispute", False),
        ("general", "My lawyer will write to you", "policy_question", False),
        ("critique", "My lawyer will write to you", "policy_question", False),
        ("billing_dispute", "My lawyer will write to you", "billing_dispute", False),
        ("general", "Which dosage is safe for a child", "general", True),
        ("billing_dispute", "My account was hacked", "billing_dispute", False),
        ("general", "My account was hacked, I want a refund", "billing_dispute", False),
        ("general", "My doctor says that since your pills I have chest pain", "general", True),
        ("general", "My lawyer says your pills gave me chest pain", "policy_question", False),
        ("general", "Is it GDPR compliant that a hacker stole it?", "policy_question", False),
    ],
)
def test_a_guessed_task_must_be_as_careful_as_the_text_is_delicate(
    classified: str, text: str, task: str, needs_person: bool
) -> None:
    decided = _guessed(classified, text)
    assert (decided.task, decided.needs_person) == (task, needs_person)
    assert decided.reason.startswith(f"taken as {task}")


def test_the_producers_own_task_is_no_guess() -> None:
    decided = _guessed("general", "I was charged twice", task="rewrite")
    assert (decided.task, decided.needs_person) == ("rewrite", False)
    assert "taken as" not in decided.reason


_CALL = {"id": "c-1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
_PARTS = [{"type": "text", "text": "part"}]


@pytest.mark.parametrize("call_id", ["", None])
def test_a_conversation_whose_calls_have_no_id_is_taken(call_id: str | None) -> None:
    messages = [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "tool_calls": [{**_CALL, "id": call_id}]},
        {"role": "tool", "content": "it is", "tool_call_id": call_id},
    ]
    assert isinstance(route(a_request(input={"messages": messages}), the_policy(), NOON), Route)


@pytest.mark.parametrize(
    ("message", "where"),
    [
        ({"role": "user", "content": _PARTS * 10_001}, "content"),
        ({"role": "assistant", "content": None, "tool_calls": [_CALL] * 1_001}, "tool_calls"),
        ({"role": "assistant", "tool_calls": [{**_CALL, "id": "c" * 257}]}, "tool_calls.id"),
        ({"role": "assistant", "tool_calls": [_CALL, {"id": "c-2"}]}, "tool_calls"),
        ({"role": "assistant", "tool_calls": [{**_CALL, "type": "custom"}]}, "tool_calls.type"),
        ({"role": "tool", "content": "it is", "tool_call_id": "c" * 257}, "tool_call_id"),
        ({"role": "assistant", "content": "no", "refusal": ["no"]}, "refusal"),
    ],
)
def test_a_conversation_of_which_a_part_would_be_dropped_is_refused(
    message: dict[str, Any], where: str
) -> None:
    request = a_request(input={"messages": [{"role": "user", "content": "hello"}, message]})
    decided = route(request, the_policy(), NOON)

    assert isinstance(decided, GiveUp)
    assert decided.reason is Reason.INVALID_FIELD
    assert decided.detail.startswith(f"input.messages.1.{where}: ")


def test_fields_that_nobody_knows_do_not_refuse_a_conversation() -> None:
    message = {
        "role": "user",
        "content": [{**_PARTS[0], "cache_control": {}}] * 10_000,
        "name": "kim",
    }
    asked = {"role": "assistant", "content": "", "tool_calls": [{**_CALL, "index": 0}] * 1_000}
    request = a_request(input={"messages": [{**message, "tool_calls": []}, asked]})

    assert isinstance(route(request, the_policy(), NOON), Route)
