"""What models and producers write that once deceived a check, and what once alarmed one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.checks import DEFAULT_CHECKS, Asked, Judged, named
from router.checks.refusals import opens_like_a_refusal
from router.checks.words import is_mentioned
from router.reply.changes import changes_between
from router.reply.normalise import comparable
from router.reply.reply import Reply
from schemas.usage import Usage
from tests.builders import a_request

LOOK_UP = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}
OTHER = {"type": "function", "function": {"name": "other"}}


def judged(text="Sure.", *, finish="stop", calls=(), retrieved=None, **body) -> Judged:
    messages = [{"role": "user", "content": "Where is it?"}]
    context = {"retrieved": retrieved} if retrieved else {}
    return Judged(
        reply=Reply(text, finish, Usage(), {"choices": [{"message": {"tool_calls": list(calls)}}]}),
        output={"answer": text},
        validator=None,
        confidence=None,
        accept=None,
        asked=Asked(a_request(input={"messages": messages, **body}, context=context)),
        calls_tools=bool(calls),
    )


def run(name, case, **parameters) -> str | None:
    [check] = named({name: parameters})
    return check.check.run(case, check.parameters)


def a_call(name="look_up", arguments="{}"):
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


@pytest.mark.parametrize(
    "text",
    [
        "I'm really sorry, but I can't help with that.",
        "I'm very sorry, but I can't help with that.",
        "I'm so sorry, but I can't assist.",
        "I'm afraid I can't help with that.",
        "I can't do this.",
        "I cannot share that information.",
        "I cannot give legal advice.",
        "We're sorry, but we cannot help with that.",
        "Hello! I'm sorry, but I can't help with that.",
        "I can't provide medical advice, but you can consult a doctor.",
        "Es tut mir leid, aber ich kann Ihnen dabei nicht helfen.",
        "Leider kann ich nicht helfen. Ich kann diese Frage nicht beantworten.",
        "Es tut mir leid, aber ich kann keine Rechtsberatung geben.",
        "Lo siento, no puedo ayudarte con eso.",
        "Lo siento, no puedo.",
        "Lo siento, pero no puedo proporcionar esa información.",
        "Je suis désolé, je ne peux pas répondre à cette demande.",
        "Je suis désolée, mais je ne peux pas vous aider.",
        "Désolé, je ne peux pas.",
    ],
)
def test_a_refusal_is_seen(text):
    assert opens_like_a_refusal(text)


@pytest.mark.parametrize(
    "text",
    [
        "Sorry, I cannot provide a refund after 30 days, but you can sell your ticket.",
        "I can't create an invoice copy for you, but you can download it.",
        "We cannot refund after 30 days.",
        "We're sorry, but we cannot refund after 30 days.",
        "I can't help but notice the typo.",
        "Hello! Open Settings and choose Billing.",
        "Ich kann bestätigen, dass die Lieferung nicht geteilt wurde.",
        "Ich kann Ihnen keine Kopie erstellen, aber Sie können sie herunterladen.",
        "No puedo confirmar la fecha.",
        "Je ne peux pas confirmer la date.",
    ],
)
def test_an_answer_is_no_refusal(text):
    assert not opens_like_a_refusal(text)


ALLOWED = {
    "type": "allowed_tools",
    "allowed_tools": {"mode": "required", "tools": [LOOK_UP]},
}
NAMED = {"type": "function", "function": {"name": "look_up"}}


class TestToolChoice:
    @pytest.mark.parametrize(
        ("choice", "calls", "passes"),
        [
            ("required", [], False),
            ("required", ["other"], True),
            (NAMED, [], False),
            (NAMED, ["look_up"], True),
            (NAMED, ["other"], False),
            ("none", [], True),
            ("none", ["look_up"], False),
            ("auto", [], True),
            (ALLOWED, [], False),
            (ALLOWED, ["look_up"], True),
            (ALLOWED, ["other"], False),
        ],
    )
    def test_what_the_request_demands_is_done(self, choice, calls, passes):
        tool_calls = [a_call(name) for name in calls]
        case = judged(calls=tool_calls, tools=[LOOK_UP, OTHER], tool_choice=choice)

        assert (run("tool_calls", case) is None) is passes

    @pytest.mark.parametrize(("parallel", "passes"), [(False, False), (True, True), (None, True)])
    def test_two_calls_need_leave(self, parallel, passes):
        case = judged(calls=[a_call()] * 2, tools=[LOOK_UP], parallel_tool_calls=parallel)

        assert (run("tool_calls", case) is None) is passes

    def test_every_task_that_names_no_checks_has_it(self):
        assert "tool_calls" in [check.check.name for check in DEFAULT_CHECKS]


@pytest.mark.parametrize(
    ("finish", "passes"),
    [("stop", True), ("tool_calls", True), ("length", False), ("other", False)],
)
def test_only_a_known_end_is_whole(finish, passes):
    assert (run("cut_off", judged(finish=finish)) is None) is passes


@pytest.mark.parametrize(
    ("name", "text", "is_there"),
    [
        ("ab-22", "order ab-2231", False),
        ("ab-22", "order ab-22-31", False),
        ("ab-22", "order ab-22.", True),
        ("ann", "the annual fee", False),
        ("ann", "annual fee, says ann", True),
        ("refund", "all refunds", True),
        ("india", "the indian team", True),
        ("port@x.org", "support@x.org", False),
        ("a@x.org", "a@x.org.uk", False),
        ("a@x.org", "mail a@x.org.", True),
    ],
)
def test_a_name_is_found_as_a_whole(name, text, is_there):
    assert is_mentioned(name, text) is is_there


@pytest.mark.parametrize(("text", "passes"), [("So [1].", True), ("So [12345].", False)])
def test_a_citation_of_any_length_is_looked_up(text, passes):
    assert (run("grounding", judged(text, retrieved="So it is.")) is None) is passes


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("I **guarantee** it.", False),
        ("I _guarantee_ it.", False),
        ("That isn\u2019t so.", False),
        ("Write to a@x.org,b@x.org", False),
        ("Call 030/1234567.", False),
        ("Call (030) 123 45 67.", False),
        ("In 2024 2025 2026 2027.", True),
        ("From 2024-01-01 2024-02-01 on.", True),
        ("01.01.2024 - 31.12.2024", True),
        ("01/02/2024 03/04/2024", True),
        ("See /2024/01/02/123/456/78.", True),
    ],
)
def test_what_is_forbidden_is_found_however_it_is_written(text, passes):
    limits = {"phrases": ["I guarantee", "isn't"], "emails": True, "phones": True}

    assert (run("forbidden", judged(text), **limits) is None) is passes


def test_the_names_of_arguments_are_read():
    call = a_call(arguments='{"a": [{"I guarantee": 1}]}')

    assert run("forbidden", judged("", calls=[call]), phrases=["I guarantee"])


@given(st.text("ab \n", max_size=500), st.text("ab \n", max_size=500))
def test_a_change_never_shows_the_same_twice(before, after):
    for change in changes_between({"answer": before}, {"answer": after}) or []:
        assert change.before != change.after
        assert len(change.before or "") <= 200
        assert len(change.after or "") <= 200


def test_a_late_difference_is_in_what_is_kept():
    [change] = changes_between({"a": "x " * 300 + "30 days"}, {"a": "x " * 300 + "14 days"}) or []

    assert change.before == "\u2026" + ("x " * 30) + "30 days"
    assert change.after == "\u2026" + ("x " * 30) + "14 days"


def test_in_code_case_and_spacing_count():
    assert comparable("Do ```x = 1```") == comparable("do  ```x = 1```")
    assert comparable("Do ```x = 1```") != comparable("Do ```X = 1```")
