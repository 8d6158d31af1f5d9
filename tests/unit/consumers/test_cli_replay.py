"""A recorded call is rebuilt from the topics alone, shown or made once, and never written down."""

from collections.abc import Mapping
from typing import Any

import orjson
import pytest

from consumers.cli.common import UserError
from consumers.cli.replay_call import Replay, rebuilt
from consumers.journeys.journey import Journey
from consumers.policies import Policies
from consumers.rules import load_rules
from consumers.settings import Settings
from consumers.stages.route import Router
from router.attempt.answering import ledger_lines, result_of
from router.policy.table import Verify
from router.releases.bundle import Bundle
from router.reply.reply import Reply
from schemas.base import Tier
from schemas.codec import dump, dump_envelope, read_envelope
from schemas.escalation import Assignment
from schemas.intake import read_request
from schemas.topics import Topics
from schemas.usage import Usage
from schemas.verdict import Verdict
from tests.builders import NOON, a_record, a_request, an_assignment, an_attempt, an_escalation

TOPICS = Topics()
RULES = load_rules(Settings())
ANSWER = {"answer": "Under billing.", "confidence": 0.9, "next_action": "none"}
BODY = {"id": "req-1", "task": "support_answer", "plan": "enterprise", "input": "Where is 12?"}


def a_journey(*steps: str, fields: Mapping[str, Any] = BODY, intake: bool = True) -> Journey:
    """A request's records: its assignment, one attempt per step, and a result where it ends so."""
    journey = Journey("req-1")
    raw = a_record(orjson.dumps(fields), topic=TOPICS.intake)
    [assigned] = Router(Policies(RULES), TOPICS, lambda: NOON).decide(raw)
    assignment, _ = read_envelope(Assignment, assigned.value)
    request = read_request(raw.value, {}, fallback_id="req-1")
    tiers = {"classify": Tier.LOW, "verify": Tier.PREMIUM}
    attempts = [
        an_attempt(
            tiers.get(step, Tier.BALANCED),
            attempt_no=no,
            step=step,
            outcome="accepted",
            reason=None,
            prompt_version="verify@1+low@1" if step == "verify" else "support_answer@1+low@1",
            verdict=Verdict(outcome="accepted", checks=[], output=ANSWER),
        )
        for no, step in enumerate(steps, 1)
    ]
    records = [a_record(assigned.value, topic=assigned.topic, headers=assigned.headers)]
    records += [raw] if intake else []
    assignment = assignment.model_copy(update={"task": "support_answer"})
    lines = ledger_lines(assignment, request, attempts)
    records += [a_record(dump(line), topic=TOPICS.attempts) for line in lines]
    if "answer" in steps:
        reply = Reply("{}", "stop", Usage(), {})
        result = result_of(assignment, request, attempts, reply, now=NOON, own_ms=0)
        records.append(a_record(dump(result), topic=TOPICS.results))
    for record in records:
        journey.read(record, TOPICS)
    return journey


def replayed(
    journey: Journey, rules: Bundle = RULES, attempt: int | None = None, model: str | None = None
) -> Replay:
    return rebuilt(journey, rules, {}, attempt=attempt, model=model)


def test_a_call_is_rebuilt_as_it_would_be_made_today():
    replay = replayed(a_journey("answer"))

    told = replay.body["messages"][0]["content"]
    assert "Answer the customer so that they can go on by themselves." in told
    assert replay.body["messages"][1] == {"role": "user", "content": "Where is 12?"}
    assert replay.body["model"] == replay.name == "sim-medium"
    assert replay.question.rendered.version == "support_answer@1+default_balanced@1"
    assert replay.answered == ANSWER


def test_the_last_attempt_counts_unless_one_is_named():
    journey = a_journey("classify", "answer", fields={**BODY, "task": None})

    assert replayed(journey).recorded.attempt_no == 2
    replay = replayed(journey, attempt=1)
    assert replay.question.rendered.version == "classify@1+low@1"
    assert "Do not answer it." in replay.body["messages"][0]["content"]


def test_a_reading_is_rebuilt_with_the_answer_it_read():
    replay = replayed(a_journey("answer", "verify"))

    assert replay.question.step == "verify"
    assert "<answer>" in replay.body["messages"][1]["content"]
    assert "Under billing." in replay.body["messages"][1]["content"]


def test_what_was_rejected_is_shown_as_long_as_a_record_on_the_way_has_it():
    said = '{"answer": "Perhaps.", "confidence": 0.2}'
    escalation = an_escalation(attempts=[an_attempt(reply=said)])
    [line] = ledger_lines(an_assignment(), a_request(), escalation.attempts)
    ledger = a_record(dump(line), topic=TOPICS.attempts)
    hop = a_record(
        dump_envelope(escalation, orjson.dumps(BODY)), topic=TOPICS.escalations, offset=1
    )
    for records in ([ledger, hop], [hop, ledger]):
        journey = Journey("req-1")
        for record in records:
            journey.read(record, TOPICS)

        replay = replayed(journey)
        assert (replay.recorded.outcome, replay.answered) == ("rejected", said)


def test_another_model_may_be_asked():
    assert replayed(a_journey("answer"), model="sim-large").body["model"] == "sim-large"


def test_the_request_is_found_where_intake_has_lost_it():
    assert replayed(a_journey("answer", intake=False)).request.text == "Where is 12?"


def with_policy(**update: Any) -> Bundle:
    return Bundle(RULES.policy.model_copy(update=update), RULES.prompts)


TASKS = {n: one for n, one in RULES.policy.tasks.items() if n != "support_answer"}
MODELS = {n: one for n, one in RULES.policy.models.items() if n != "sim-medium"}
NO_TOOLS = RULES.policy.models["sim-medium"].model_copy(update={"refuses": ["tools"]})


@pytest.mark.parametrize(
    ("journey", "rules", "arguments", "words"),
    [
        (a_journey(), RULES, {}, "no call is recorded for the request 'req-1'"),
        (a_journey("answer"), RULES, {"attempt": 3}, "has no attempt 3; it has 1"),
        (a_journey("answer"), RULES, {"model": "sim-larg"}, "did you mean sim-large?"),
        (a_journey("answer"), with_policy(models=MODELS), {}, "name another one with --model"),
        (a_journey("answer"), with_policy(tasks=TASKS), {}, "no longer has the task"),
        (a_journey("answer"), with_policy(tiers={}), {}, "no longer has the tier balanced"),
        (a_journey("verify"), RULES, {}, "the ledger keeps no answers"),
        (
            a_journey(
                "answer",
                fields={
                    **BODY,
                    "input": {"messages": [{"role": "user", "content": "x"}], "tools": [{}]},
                },
            ),
            with_policy(models={**MODELS, "sim-medium": NO_TOOLS}),
            {},
            "sim-medium does not take it",
        ),
    ],
)
def test_what_cannot_be_rebuilt_says_why(journey, rules, arguments, words):
    with pytest.raises(UserError, match=words):
        replayed(journey, rules, **arguments)


def test_a_request_that_no_topic_has_cannot_be_sent_again():
    journey = a_journey("answer")
    journey.request = None

    with pytest.raises(UserError, match="no topic has the request"):
        replayed(journey)


def test_the_threshold_of_a_reading_is_the_tasks():
    task = RULES.policy.tasks["support_answer"]
    verify = Verify(tier=Tier.PREMIUM, accept=0.9)
    tasks = {**TASKS, "support_answer": task.model_copy(update={"verify": verify})}

    assert replayed(a_journey("answer", "verify"), with_policy(tasks=tasks)).question.accept == 0.9
