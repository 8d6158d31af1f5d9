"""How often the canary's guard stops a rollout, of a harmless candidate and of a harmful one.

Rollouts are simulated: requests are dealt to the arms by lot, the usual shares of bad answers go up
and down with the hour, and figures depend on each other as they do in traffic. The guard looks
after each batch of answers. Answers are bits of whole numbers, so that thousands are drawn at once.
"""

import random
import statistics
from collections.abc import Iterator
from datetime import timedelta
from math import log, sin

from router.releases.canary import METRICS, STEPS, Arm, Arms, judged, log_evidence
from tests.bench.harness import sized
from tests.builders import NOON

__all__ = ["USUAL", "expected_answers", "measure_canary", "rollout"]

NULLS, HARMFUL = sized(1_000, 20), sized(300, 10)
#: Answers between two looks of the guard.
LOOK = 400
#: The usual share of requests without an accepted answer.
USUAL = 0.15
_DIGITS = 20


def measure_canary() -> Iterator[str]:
    """False stops of 1,000 harmless rollouts, and how soon drops of the accepted share stop one."""
    dice = random.Random(20)
    ends = [rollout(dice)[0] for _ in range(NULLS)]
    stopped = [end for end in ends if end is not None]
    by_metric = ", ".join(f"{name} {stopped.count(name)}" for name in sorted(set(stopped)))
    share = len(stopped) / NULLS
    yield (
        f"false stops in {NULLS:,} rollouts that change nothing: {len(stopped)} = {share:.1%}"
        f"{f' ({by_metric})' if by_metric else ''}   goal: <= 5 %"
    )
    for points in (5, 10):
        yield _drop(dice, points / 100)


def expected_answers(usual: float, worse: float) -> int | None:
    """After how many answers of both arms a drop of the accepted share is expected to be stopped.

    Where the evidence of the expected counts passes the limit, with each step as short as it may
    be; None: not on the way.
    """
    metric, arms, answers = METRICS[0], list[Arms](), 0
    for share, _, least in STEPS:
        arms.append(Arms(share))
        in_step = 0
        while share * in_step < least:
            in_step += 50
            old, new = (1 - share) * in_step, share * in_step
            bad = ({metric.name: old * usual}, {metric.name: new * worse})
            arms[-1] = Arms(share, Arm(old, old, bad[0]), Arm(new, new, bad[1]))
            if log_evidence(arms, metric) >= -log(metric.level):
                return answers + in_step
        answers += in_step
    return None


def _drop(dice: random.Random, drop: float) -> str:
    runs = [rollout(dice, USUAL + drop) for _ in range(HARMFUL)]
    answers = sorted(answers for end, answers in runs if end is not None)
    expected = expected_answers(USUAL, USUAL + drop)
    median = statistics.median(answers) if answers else float("nan")
    late = answers[len(answers) * 95 // 100] if answers else float("nan")
    return (
        f"accepted share {1 - USUAL:.0%} -> {1 - USUAL - drop:.0%}: stopped {len(answers)} of "
        f"{HARMFUL}; answers of both arms until then: expected {expected or 0:,}, "
        f"median {median:,.0f}, 95th percentile {late:,.0f}"
    )


def rollout(
    dice: random.Random, worse: float | None = None, look: int = LOOK
) -> tuple[str | None, int]:
    """Simulate a rollout: which metric stopped it, None for none, and after how many answers.

    `worse` is the candidate's share of requests without an accepted answer; None: as usual.
    """
    steps: list[Arms] = []
    answers = 0
    to_come = [step.share for step in STEPS]
    while to_come:
        share = to_come.pop(0)
        sums = {arm: dict.fromkeys(_KINDS, 0) for arm in _ARMS}
        steps.append(Arms(share))
        while True:
            _count(dice, share, look, answers, worse, sums)
            answers += look
            arms = [_arm(sums[arm]) for arm in _ARMS]
            steps[-1] = Arms(share, *arms)
            verdict = judged(steps, NOON, [*to_come, 1.0], NOON + timedelta(days=1))
            if verdict.what == "stop":
                return verdict.words.split(": ")[1], answers
            if verdict.what in ("step", "done"):
                break
    return None, answers


_ARMS = ("active", "candidate")
_KINDS = ("all", *(metric.name for metric in METRICS))


def _arm(sums: dict[str, int]) -> Arm:
    bad = {name: count for name, count in sums.items() if name != "all"}
    return Arm(sums["all"], sums["all"], bad)


def _count(
    dice: random.Random,
    share: float,
    count: int,
    at: int,
    worse: float | None,
    sums: dict[str, dict[str, int]],
) -> None:
    """Draw answers, and add what they are to the sums of their arm."""
    every = (1 << count) - 1
    dealt = _coins(dice, share, count)
    wave = 0.05 * sin(at / 2_000)
    failed = _coins(dice, USUAL + wave, count)
    if worse is not None:
        failed = (failed & ~dealt) | (_coins(dice, worse + wave, count) & dealt)
    broken = failed & _coins(dice, 0.2, count)
    escalated = _coins(dice, 0.1, count) | broken
    slower, dearer = _coins(dice, 0.5, count), _coins(dice, 0.45, count) | escalated
    bits = {
        "all": every,
        "not_accepted": failed,
        "escalated": escalated,
        "corrected": escalated | _coins(dice, 0.03, count),
        "refused": _coins(dice, 0.01, count),
        "broken_format": broken,
        "person": failed & _coins(dice, 0.7, count),
        "slower": slower,
        "much_slower": slower & _coins(dice, 0.2, count),
        "dearer": dearer,
        "much_dearer": dearer & _coins(dice, 0.2, count),
    }
    for arm, of_arm in (("active", every & ~dealt), ("candidate", dealt)):
        for name, each in bits.items():
            sums[arm][name] += (each & of_arm).bit_count()


def _coins(dice: random.Random, chance: float, count: int) -> int:
    """So many coins as bits, each of them 1 with this chance."""
    digits, bits = round(chance * (1 << _DIGITS)), 0
    for no in range(_DIGITS):
        drawn = dice.getrandbits(count)
        bits = bits | drawn if digits >> no & 1 else bits & drawn
    return bits
