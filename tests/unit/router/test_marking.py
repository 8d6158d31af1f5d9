"""The words for which an answer failed are marked in its text, and no others."""

from typing import Any

import pytest

from router.checks import Asked
from router.review.marking import failing_parts, marked
from schemas.verdict import CheckResult, Verdict
from tests.builders import a_request, an_attempt, the_policy

POLICY = the_policy()


def marks(task: str, answer: str, *failed: str, **request: Any) -> list[str]:
    """The marked parts of an answer that failed these checks."""
    checks = [CheckResult(check=name, passed=False) for name in failed]
    verdict = Verdict(outcome="rejected", checks=checks, output={"answer": answer})
    attempt = an_attempt(verdict=verdict, reply=answer)
    parts = failing_parts(attempt, Asked(a_request(task=task, **request)), POLICY, task)
    pieces = marked(answer, parts)
    assert "".join(piece.text for piece in pieces) == answer
    return [piece.text for piece in pieces if piece.is_marked]


@pytest.mark.parametrize(
    ("task", "answer", "failed", "expected"),
    [
        pytest.param(
            "rag_answer", "Refunds take 14 days, or 140.", "numbers", ["14", "140"], id="numbers"
        ),
        pytest.param(
            "rag_answer", "Within 30 days or 45.", "conflicts", ["30"], id="one of two figures"
        ),
        pytest.param(
            "extraction", "It is for Ms Brandt of AB-9999", "entities", ["Brandt", "AB-9999"],
            id="names and ids",
        ),
        pytest.param("support_answer", "AS AN AI I do.", "forbidden", ["AS AN AI"], id="phrases"),
        pytest.param("rag_answer", "Refunds take 14 days.", "schema", [], id="what has no parts"),
        pytest.param("nothing", "Refunds take 14 days.", "numbers", [], id="an unknown task"),
    ],
)  # fmt: skip
def test_what_failed_is_marked(task: str, answer: str, failed: str, expected: list[str]) -> None:
    retrieved = (
        "The refund period of the shop is 30 days.\n\nThe refund period of the shop is 20 days."
    )
    question = "How long do refunds take?"
    found = marks(task, answer, failed, input=question, context={"retrieved": retrieved})
    assert [part for part in found if part != "Ms"] == expected


def test_a_check_that_passed_marks_nothing() -> None:
    assert marks("rag_answer", "Refunds take 14 days.", input="How long?") == []
