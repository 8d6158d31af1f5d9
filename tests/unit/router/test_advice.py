"""Advice from figures: few calls need one model, and a tier must make a difference."""

import pytest

from router.policy.yaml_text import read_yaml
from router.reports.advice import advice, right_lines
from router.reports.measures import Row


def a_row(tier: str, answers: int, wrong: int, escalated: int = 0) -> Row:
    row = Row(("triage", tier), calls=answers, answers=answers, escalated=escalated)
    row.by_check = wrong
    return row


def words_about(about: str, *rows: Row) -> list[str]:
    total = Row(("total",), calls=sum(row.calls for row in rows))
    return [item.words for item in advice(rows, total, 1.0) if item.about == about]


@pytest.mark.parametrize(
    ("calls", "words"),
    [(999, "one model is probably enough"), (1_000, "enough for more than one model")],
)
def test_few_calls_need_one_model(calls: int, words: str) -> None:
    [said] = words_about("traffic", a_row("low", calls, 0))

    assert words in said


@pytest.mark.parametrize(
    ("low", "balanced", "words"),
    [
        pytest.param((1_000, 100), (1_000, 20), "users notice balanced", id="it is much better"),
        pytest.param((5_000, 100), (5_000, 90), "users would not notice", id="it is as good"),
        pytest.param((30, 3), (30, 2), "too few answers to tell", id="nobody can know yet"),
    ],
)
def test_a_tier_that_users_would_not_notice_is_named(
    low: tuple[int, int], balanced: tuple[int, int], words: str
) -> None:
    [said] = words_about("triage", a_row("low", *low), a_row("balanced", *balanced))

    assert said.startswith(words)


def test_a_task_that_always_climbs_has_a_fault_that_no_tier_mends() -> None:
    [said] = words_about("triage", a_row("low", 100, 95, escalated=95))

    assert "in its prompt, in its sources, or in a task that is several in one" in said
    assert "start a tier higher" not in said


def test_the_shares_are_a_line_of_the_policy() -> None:
    lines = right_lines(
        [a_row("balanced", 100, 3), a_row("low", 200, 40)], "2026-11-01 to 2026-11-30"
    )
    value, _, problems = read_yaml(lines["triage"])

    assert not problems
    right = {"low": 0.8, "balanced": 0.97, "source": "300 answers of 2026-11-01 to 2026-11-30"}
    assert value == {"right": right}
