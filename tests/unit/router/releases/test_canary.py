"""A canary is stopped for what is worse, seldom for nothing, and says the figures."""

import random
from datetime import timedelta
from math import exp, log

import pytest

from router.releases.canary import (
    METRICS,
    MISMATCH,
    STEPS,
    Arm,
    Arms,
    Verdict,
    compared,
    judged,
    log_evidence,
    mismatch,
)
from tests.bench.canary import USUAL, expected_answers, rollout
from tests.builders import NOON

_ACCEPTED = METRICS[0]
_DAY = timedelta(days=1)


def arms(
    share: float = 0.05, finished: float = 20_000, usual: float = 0.15, worse: float | None = None
) -> Arms:
    """Both arms with the shares of requests that were planned."""
    new, old = share * finished, (1 - share) * finished
    bad = (old * usual, new * (usual if worse is None else worse))
    return Arms(
        share, *(Arm(n, n, {_ACCEPTED.name: b}) for n, b in zip((old, new), bad, strict=True))
    )


def test_the_chances_of_false_stops_add_up_to_five_percent() -> None:
    assert sum(metric.level for metric in (*METRICS, MISMATCH)) == pytest.approx(0.05)


@pytest.mark.parametrize("is_late", [False, True])
@pytest.mark.parametrize("is_bad", [False, True])
@pytest.mark.parametrize("share", [0.05, 0.25, 0.5])
def test_one_more_answer_of_an_unchanged_candidate_wins_nothing_on_average(
    is_late: bool, is_bad: bool, share: float
) -> None:
    """Given what an answer is, whose it is was drawn with the arms' shares."""
    metric, step = _ACCEPTED._replace(is_late=is_late), arms(share, 300, 0.1, 0.13)

    def more(arm: Arm) -> Arm:
        bad = arm.bad[metric.name] + is_bad
        return Arm(arm.given + 1, arm.finished + 1, {metric.name: bad})

    after = share * exp(log_evidence([step._replace(candidate=more(step.candidate))], metric))
    after += (1 - share) * exp(log_evidence([step._replace(active=more(step.active))], metric))
    assert after == pytest.approx(exp(log_evidence([step], metric)))


def test_rollouts_that_change_nothing_are_seldom_stopped_and_harmful_ones_are() -> None:
    dice = random.Random(7)
    ends = [rollout(dice, look=500)[0] for _ in range(40)]
    assert sum(end is not None for end in ends) <= 2
    harmful = [rollout(dice, USUAL + 0.05, look=500) for _ in range(15)]
    assert {end for end, _ in harmful} <= {
        "requests without an accepted answer",
        "requests that needed a person",
    }
    expected = expected_answers(USUAL, USUAL + 0.05)
    assert expected is not None
    middle = sorted(answers for _, answers in harmful)[7]
    assert expected / 2 <= middle <= 2 * expected


def test_a_drop_that_no_step_can_show_has_no_expected_number() -> None:
    assert expected_answers(0.15, 0.1501) is None


def test_a_better_candidate_is_not_stopped() -> None:
    assert log_evidence([arms(worse=0.05)], _ACCEPTED) < 0
    assert judged([arms(worse=0.05)], NOON, [0.15, 1.0], NOON + _DAY).what == "step"


@pytest.mark.parametrize(
    ("step", "after", "to_come", "expected"),
    [
        pytest.param(
            arms(finished=9_000),
            _DAY,
            [0.15, 1.0],
            Verdict("wait", "waits for answers: 450 of 500 at 5%"),
            id="too few answers",
        ),
        pytest.param(
            arms(finished=10_000),
            timedelta(hours=3),
            [0.15, 1.0],
            Verdict("wait", "waits until 2026-03-01 16:00 UTC: the least time"),
            id="too early",
        ),
        pytest.param(
            arms(),
            timedelta(hours=4),
            [0.15, 1.0],
            Verdict("step", "no figure is worse after 1,000 answers at 5%: on to 15%", 0.15),
            id="long enough and well",
        ),
        pytest.param(
            arms(0.25),
            _DAY,
            [1.0],
            Verdict("done", "no figure is worse after 5,000 answers at 25%: all requests", 1.0),
            id="the last step",
        ),
        pytest.param(
            arms(0.25),
            _DAY,
            [],
            Verdict(
                "wait",
                "no figure is worse after 5,000 answers at 25%: no further share was agreed",
            ),
            id="nothing further was agreed",
        ),
        pytest.param(
            arms(0.01, 60_000),
            timedelta(hours=4),
            [0.5],
            Verdict("step", "no figure is worse after 600 answers at 1%: on to 50%", 0.5),
            id="shares of one's own",
        ),
    ],
)
def test_a_step_needs_time_and_answers(
    step: Arms, after: timedelta, to_come: list[float], expected: Verdict
) -> None:
    assert judged([step], NOON, to_come, NOON + after) == expected


def test_a_stop_says_the_figures_and_comes_before_any_minimum() -> None:
    verdict = judged([arms(finished=6_000, worse=0.35)], NOON, [0.15, 1.0], NOON)

    assert verdict.what == "stop"
    assert "without an accepted answer: 35.0% of 300 instead of 15.0% of 5,700" in verdict.words
    assert "50 to 1 stops" in verdict.words


def test_doubt_waits_for_more_answers() -> None:
    step = arms(worse=0.19)
    assert log(10) < log_evidence([step], _ACCEPTED) < log(50)
    verdict = judged([step], NOON, [0.15, 1.0], NOON + _DAY)
    assert verdict.what == "wait"
    assert verdict.words.startswith("waits, in doubt: requests without an accepted answer")


def test_arms_of_other_sizes_than_planned_stop_a_rollout() -> None:
    planned = Arms(0.05, Arm(given=9_500), Arm(given=500))
    lopsided = Arms(0.05, Arm(given=9_500), Arm(given=380))

    assert not mismatch([planned]).is_over
    assert mismatch([lopsided]).is_over
    verdict = judged([planned, lopsided], NOON, [0.15], NOON)
    assert verdict.what == "stop"
    assert "requests given to the candidate: 4.4% of" in verdict.words


def test_each_step_is_compared_at_its_own_share() -> None:
    """Together the candidate has most of its answers from a bad hour: of both arms alike."""
    quiet, busy = arms(0.05, 20_000, 0.05), arms(0.5, 20_000, 0.4)
    assert log_evidence([quiet, busy], _ACCEPTED) < 0


def test_what_is_not_measured_is_not_compared() -> None:
    assert [comparison.metric.name for comparison in compared([arms()])] == ["not_accepted"]
    assert compared([Arms(0.05)]) == []
    assert "0.0% of 0" in mismatch([Arms(0.05)]).words


def test_steps_rise() -> None:
    assert [step.share for step in STEPS] == sorted(step.share for step in STEPS)
