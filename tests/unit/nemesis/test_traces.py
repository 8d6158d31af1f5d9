"""The judge of traces sees what is split, orphaned or missing."""

from typing import Any

import pytest

from tests.nemesis.traces import Carried, span_problems, trace_problems
from tests.nemesis.traffic import context_of
from tests.telemetry.sink import Seen

_TRACE, _SPAN = context_of("r1")
_PARENT = f"00-{_TRACE}-{'1' * 16}-01".encode()
_OTHER = f"00-{'2' * 32}-{'1' * 16}-01".encode()
_BILL = [{"attempt_id": "r1.1.1"}]


def _span(name: str, span_id: str, parent_id: str, **fields: Any) -> Seen:
    named = {key.replace("_", "."): said for key, said in fields.items()}
    return Seen(_TRACE, span_id, parent_id, name, 1, 0, 1, named, (), (), is_error=False)


_WHOLE = [
    _span("process llm.tier.low", "a", _SPAN),
    _span("chat m", "b", "a", tierline_attempt_id="r1.1.1"),
]


@pytest.mark.parametrize(
    ("parents", "is_split"),
    [
        pytest.param([_PARENT], False, id="one context of the request's trace"),
        pytest.param([], True, id="none"),
        pytest.param([_PARENT, _PARENT], True, id="two"),
        pytest.param([_OTHER], True, id="one of another trace"),
    ],
)
def test_a_record_carries_one_context_of_its_request(parents: list[bytes], is_split: bool) -> None:
    problems = trace_problems([Carried("r1", "llm.results-0", parents)])
    assert bool(problems) is is_split
    assert all(problem.startswith("split trace: r1") for problem in problems)


def test_whole_traces_are_no_problem() -> None:
    assert span_problems(_WHOLE, _BILL, [_SPAN], has_killed=False) == []


def test_a_span_without_its_parent_is_an_orphan_unless_a_process_was_killed() -> None:
    orphaned = [_span("process llm.tier.low", "a", "gone"), _WHOLE[1]]
    [problem] = span_problems(orphaned, _BILL, [_SPAN], has_killed=False)
    assert problem.startswith("orphan span: process llm.tier.low")
    assert span_problems(orphaned, _BILL, [_SPAN], has_killed=True) == []


def test_a_billed_call_has_a_span_and_a_span_a_billed_call() -> None:
    assert span_problems(_WHOLE[:1], _BILL, [_SPAN], has_killed=False) == [
        "call without a span: r1.1.1"
    ]
    assert span_problems(_WHOLE, [], [_SPAN], has_killed=True) == ["call of no bill: r1.1.1"]
