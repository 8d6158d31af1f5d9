"""What a stronger model changed is told, and nothing that is only written otherwise."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.attempt.answering import attempt_of, ledger_lines, result_of
from router.reply.changes import changes_between
from router.reply.reply import Reply
from schemas.attempt import Attempt, LedgerEntry
from schemas.base import Tier
from schemas.codec import dump, read_model
from schemas.reasons import Reason
from schemas.result import Result
from schemas.usage import Usage
from schemas.verdict import Verdict
from tests.builders import NOON, a_request, a_route, an_assignment, an_attempt, the_policy

BEFORE = {"team": "billing", "urgent": False, "confidence": 0.4}
AFTER = {"team": "refund", "urgent": False, "confidence": 0.9}


@pytest.mark.parametrize(
    ("before", "after", "changes"),
    [
        pytest.param(None, AFTER, None, id="nobody answered before"),
        pytest.param(AFTER, AFTER, [], id="the same"),
        pytest.param(
            {"answer": "Open  settings", "confidence": 1},
            {"answer": "open Settings."},
            [],
            id="written otherwise",
        ),
        pytest.param(BEFORE, AFTER, [("team", "billing", "refund")], id="another label"),
        pytest.param({}, {"n": 1}, [("n", None, "1")], id="a new field"),
        pytest.param({"n": [1]}, {}, [("n", "[1]", None)], id="a field less"),
        pytest.param({"n": False}, {"n": None}, [("n", "false", None)], id="no longer said"),
    ],
)
def test_the_fields_that_differ(before, after, changes):
    changed = changes_between(before, after)
    written = (
        None
        if changed is None
        else [(change.field, change.before, change.after) for change in changed]
    )

    assert written == changes


VALUES = st.none() | st.integers() | st.text(max_size=300) | st.lists(st.text(max_size=5))
OUTPUTS = st.dictionaries(st.text(min_size=1, max_size=3), VALUES, max_size=30)


@given(OUTPUTS, OUTPUTS)
def test_much_that_differs_is_told_in_little(before, after):
    changed = changes_between(before, after) or []

    assert len(changed) <= 20
    assert all(
        len(side or "") <= 200 for change in changed for side in (change.before, change.after)
    )
    assert changes_between(after, after) == []


def a_weak(output: dict[str, Any] | None = BEFORE, **fields: Any) -> Attempt:
    reason = fields.get("reason", Reason.LOW_CONFIDENCE)
    verdict = Verdict(outcome="rejected", checks=[], output=output)
    return an_attempt(
        fields.pop("tier", Tier.LOW), **{"verdict": verdict, "reason": reason, **fields}
    )


def published(*earlier: Attempt) -> tuple[Result, LedgerEntry]:
    routes = [a_route(Tier.LOW), a_route(Tier.BALANCED)]
    assignment = an_assignment(attempts=list(earlier), routes=routes)
    reply = Reply("{}", "stop", Usage(), {})
    attempt = attempt_of(
        assignment,
        reply,
        Verdict(outcome="accepted", checks=[], output=AFTER),
        attempt_id="req-1.1.2",
        attempt_no=2,
        model_name="sim-medium",
        policy=the_policy(),
        release="0123456789ab",
        prompt_version="triage@1+default_balanced@1",
        started_at=NOON,
        duration_ms=1,
    )
    fields = result_of(assignment, a_request(), [attempt], reply, now=NOON, own_ms=0)
    [line] = ledger_lines(assignment, a_request(), [attempt])
    return read_model(Result, dump(fields)), read_model(LedgerEntry, dump(line))


def test_a_result_says_what_the_stronger_model_changed():
    result, _ = published(a_weak())
    [change] = result.router.changes or []

    assert (change.field, change.before, change.after) == ("team", "billing", "refund")
    assert result.router.hops[-1].why == "passed every check; changed: team"


def test_the_ledger_counts_changes_and_quotes_nothing():
    _, line = published(a_weak())
    [change] = line.attempt.changes or []

    assert (change.field, change.before, change.after) == ("team", None, None)


def test_the_last_weaker_answer_counts():
    result, _ = published(a_weak({"team": "bug"}), a_weak(AFTER, attempt_no=2))

    assert result.router.changes == []


@pytest.mark.parametrize(
    "earlier",
    [
        pytest.param([], id="nothing"),
        pytest.param([a_weak(generation=2)], id="an answer of another generation"),
        pytest.param([a_weak(reason=Reason.REFUSED)], id="a refusal"),
        pytest.param([a_weak(step="classify")], id="a classification"),
        pytest.param([a_weak(tier=Tier.BALANCED)], id="an answer of the same tier"),
        pytest.param([a_weak(None)], id="a reply that held no answer"),
        pytest.param([a_weak(verdict=None, outcome="failed")], id="a call that failed"),
    ],
)
def test_where_no_weaker_model_answered_nothing_was_changed(earlier):
    result, line = published(*earlier)

    assert result.router.changes is line.attempt.changes is None
