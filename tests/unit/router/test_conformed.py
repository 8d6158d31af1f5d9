"""Replies of any style end as one: clarifying questions, short texts, the producer's own format."""

from typing import Any

import orjson
import pytest

from router.checks import Asked, named
from router.judge.judging import judge, output_contract
from router.policy.table import Policy
from router.reply.reply import Reply
from schemas.reasons import Reason
from schemas.usage import Usage
from schemas.verdict import Verdict
from tests.builders import a_request, the_policy, with_task

UNSURE = {"answer": "Which invoice do you mean?", "confidence": 0.2, "next_action": "ask_user"}


def judged(output: dict[str, Any], policy: Policy | None = None, **request: Any) -> Verdict:
    asked = a_request(**request)
    contract = output_contract(asked, policy or the_policy(), "support_answer", "answer")
    reply = Reply(orjson.dumps(output).decode(), "stop", Usage(), {})
    checks = named("cut_off", "empty", "refusal", "schema", "confidence")
    return judge(reply, contract, 0.7, checks, Asked(asked))


def test_a_question_back_to_the_user_is_an_answer_however_unsure_the_model_is():
    verdict = judged(UNSURE)

    assert verdict.outcome == "accepted"
    assert verdict.confidence == 0.2


@pytest.mark.parametrize(
    ("output", "policy"),
    [
        pytest.param({**UNSURE, "answer": "It depends."}, None, id="nothing is asked"),
        pytest.param(
            {**UNSURE, "answer": "Go to https://x.example/?a=1"}, None, id="a mark in an address"
        ),
        pytest.param(
            {**UNSURE, "answer": "Why not? You can delete it."}, None, id="an answer after it"
        ),
        pytest.param({**UNSURE, "next_action": "none"}, None, id="the user is not to be asked"),
        pytest.param(UNSURE, with_task(clarify=False), id="the task asks nobody"),
    ],
)
def test_any_other_unsure_answer_climbs(output, policy):
    failed = judged(output, policy).failed

    assert failed is not None
    assert failed.reason is Reason.LOW_CONFIDENCE


def test_asking_back_skips_no_other_check():
    failed = judged({**UNSURE, "more": 1}).failed

    assert failed is not None
    assert failed.reason is Reason.SCHEMA_FAILED


def short_answers(**fields: Any) -> Policy:
    policy, formats = with_task(**fields), dict(the_policy().formats)
    properties = {**formats["answer"]["properties"], "answer": {"type": "string", "maxLength": 20}}
    formats["answer"] = {**formats["answer"], "properties": properties}
    return policy.model_copy(update={"formats": formats})


def test_a_rambling_answer_climbs_unless_its_task_has_it_shortened():
    output = {"answer": "Open Settings. Then go on and on.", "confidence": 1, "next_action": "none"}

    failed = judged(output, short_answers()).failed
    verdict = judged(output, short_answers(shorten=True))

    assert failed is not None
    assert failed.reason is Reason.SCHEMA_FAILED
    assert (verdict.outcome, verdict.output) == ("accepted", {**output, "answer": "Open Settings."})


def test_a_choice_is_accepted_in_the_models_own_spelling():
    verdict = judged({"next_action": "Open_Ticket", "answer": " Yes.", "confidence": 0.9})

    assert verdict.outcome == "accepted"
    assert verdict.output == {"answer": "Yes.", "confidence": 0.9, "next_action": "open_ticket"}
    assert list(verdict.output) == ["answer", "confidence", "next_action"]


def test_a_producers_own_format_is_the_producers():
    own = {
        "type": "object",
        "properties": {"on": {"type": "string", "format": "date"}, "x": {"default": 1}},
    }

    assert judged({"on": "5 May 2026"}, output_format=own).output == {"on": "5 May 2026"}
    assert judged({"a": "b  c"}, output_format="json").output == {"a": "b  c"}
