"""Acts in sentences: who did what, why, and who said yes."""

from typing import Any

import pytest

from router.releases.history import act_words, sentence_of
from schemas.policy_log import PolicyAct
from tests.builders import NOON


def an_act(what: str, number: int = 1, **fields: Any) -> PolicyAct:
    given = {"policy": "support", "number": number, "what": what, "who": "ann", "at": NOON}
    return PolicyAct.model_validate({**given, "version": "2", **fields})


@pytest.mark.parametrize(
    ("act", "sentence"),
    [
        (an_act("publish"), "ann published version 2"),
        (
            an_act("publish", break_glass="an outage"),
            "ann published version 2, past a freeze: an outage",
        ),
        (an_act("approve", of=7), "ann approved proposal 7: version 2"),
        (an_act("freeze", until=NOON), f"ann froze releases until {NOON:%Y-%m-%d %H:%M} UTC"),
        (
            an_act("start", share=0.05, tasks=["triage"], plans=["free", "pro"]),
            "ann gave version 2 5 % of the requests of the task triage and the plans free, pro",
        ),
        (an_act("start", share=0.125), "ann gave version 2 12.5 % of all requests"),
        (an_act("decide", of=3, decision="keep"), "ann decided on the trial of act 3: keep"),
        (
            an_act("applied", of=3, seconds=1.23, processes=1),
            "ann noted that act 3 was in force in 1 process after 1.2 s",
        ),
    ],
)
def test_an_act_is_one_sentence(act: PolicyAct, sentence: str) -> None:
    assert sentence_of(act) == sentence


def test_a_proposal_says_why_who_said_yes_and_how_long_it_took() -> None:
    proposal = an_act("propose", 1, why="cheaper", problem="too dear", changes=["a", "b"])
    approval = an_act("approve", 2, of=1, who="bob")
    applied = an_act("applied", 3, of=1, seconds=2.0, processes=4)

    lines = [*act_words(proposal, [proposal, approval, applied], None)]

    assert lines[0] == "1. ann proposed version 2"
    text = "\n".join(lines)
    for words in (
        "why: cheaper",
        "what it fixes: too dear",
        "changes: a; b",
        "approved by: bob",
        "in force: in 4 processes after 2.0 s",
    ):
        assert words in text


def test_a_refused_act_says_so() -> None:
    assert next(act_words(an_act("stop"), [], "no way")).endswith("(refused: no way)")
