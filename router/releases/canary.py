"""The canary: whether a candidate release does as well as the active one, judged at any time.

Requests are dealt to both arms by a hash. So if the candidate changes nothing, a bad answer comes
from it with exactly the candidate's share, whatever the traffic does. Each metric bets against
that, answer by answer. What a bet has won is an e-value: by Ville's inequality, the chance that it
ever exceeds 1/a is at most a. So one may look, and stop, at any time.

The bet is the two-sample e-variable for proportions of Turner, Ly and Grünwald ("Generic
E-variables for exact sequential k-sample tests that allow for optional stopping", 2021), with the
arms' shares known as in Grünwald, Henzi and Lardy ("Anytime-valid tests of conditional independence
under model-X", 2023), mixed over a grid of alternatives in which the candidate is worse. Times and
costs, whose means a few answers can carry, are compared by the shares above marks from before the
rollout. The arms' sizes are tested by the Beta mixture of Lindon and Malek ("Anytime-valid
inference for multinomial count data", 2022). Requests of one conversation share their arm, so only
the first one counts.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from math import exp, lgamma, log, log1p
from typing import Literal, NamedTuple

__all__ = ["METRICS", "MISMATCH", "STEPS", "Arm", "Arms", "Comparison", "Metric", "Step"]
__all__ += ["Verdict", "compared", "judged", "log_evidence", "mismatch"]


class Metric(NamedTuple):
    """A kind of answer that there should not be more of."""

    name: str
    words: str
    #: The chance that it stops a rollout that changes nothing.
    level: float
    #: It may turn out later, so that no answer is known to be free of it.
    is_late: bool = False


#: The levels of all metrics and of the mismatch add up to 5 %.
METRICS = (
    Metric("not_accepted", "requests without an accepted answer", 0.02),
    Metric("escalated", "requests that climbed a tier", 0.004),
    Metric("corrected", "answers that a check, a model or a person corrected", 0.004, is_late=True),
    Metric("refused", "requests that a model refused", 0.004),
    Metric("broken_format", "requests with an answer in a broken format", 0.004),
    Metric("person", "requests that needed a person", 0.004),
    Metric("slower", "answers slower than half of them used to be", 0.002),
    Metric("much_slower", "answers slower than nine in ten used to be", 0.002),
    Metric("dearer", "requests dearer than half of them used to be", 0.002),
    Metric("much_dearer", "requests dearer than nine in ten used to be", 0.002),
)
MISMATCH = Metric("mismatch", "requests given to the candidate", 0.002)

#: From this evidence on, a step waits for more answers.
_DOUBT = 10.0
#: The alternatives: usual shares of bad answers, and by how much the odds of one are worse.
_USUAL = (0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.25, 0.4, 0.6, 0.8)
_WORSE = (1.25, 1.6, 2.5, 6.0)
#: How many requests the belief in the planned share is worth.
_BELIEF = 100.0


class Step(NamedTuple):
    """A share of the requests, and what it takes to go on from there."""

    share: float
    least_time: timedelta
    #: Of the candidate, finished.
    least_answers: int


#: So many answers that a drop of five points is almost always stopped on the way.
STEPS = (
    Step(0.05, timedelta(hours=4), 500),
    Step(0.15, timedelta(hours=8), 1_000),
    Step(0.25, timedelta(hours=24), 2_000),
)


class Arm(NamedTuple):
    """What became of the requests of one release in one step, one of each conversation."""

    given: float = 0
    finished: float = 0
    #: How many of the finished are of each kind, by the metric's name; absent: not measured.
    bad: Mapping[str, float] = {}


class Arms(NamedTuple):
    """Both arms in one step."""

    share: float
    active: Arm = Arm()
    candidate: Arm = Arm()


class Comparison(NamedTuple):
    """A metric of both arms over all steps: bad ones and all, and the e-value's logarithm."""

    metric: Metric
    active: tuple[float, float]
    candidate: tuple[float, float]
    log_evidence: float

    @property
    def is_over(self) -> bool:
        """True where the rollout has to stop."""
        return self.log_evidence >= -log(self.metric.level)

    @property
    def words(self) -> str:
        """The figures in words; evidence is as people bet: `50 to 1`."""
        (bad, all_), (usual, usual_all) = self.candidate, self.active
        return (
            f"{self.metric.words}: {bad / (all_ or 1):.1%} of {all_:,.0f} instead of "
            f"{usual / (usual_all or 1):.1%} of {usual_all:,.0f} (evidence "
            f"{exp(min(self.log_evidence, 99)):,.2g} to 1; {1 / self.metric.level:.0f} to 1 stops)"
        )


class Verdict(NamedTuple):
    """What is to be done with a candidate, and why in words."""

    what: Literal["wait", "step", "stop", "done"]
    words: str
    #: The candidate's next share.
    share: float = 0.0


def judged(
    steps: Sequence[Arms],
    since: datetime,
    to_come: Sequence[float],
    now: datetime,
    least: Sequence[Step] = STEPS,
) -> Verdict:
    """What is to be done with a candidate.

    `steps` are the arms at each share so far, the present one last, which was set at `since`;
    `to_come` are the next shares that were agreed.
    """
    comparisons = (mismatch(steps), *compared(steps))
    worst = max(comparisons, key=lambda each: each.log_evidence)
    for comparison in comparisons:
        if comparison.is_over:
            return Verdict("stop", f"stopped: {comparison.words}")
    share, answers = steps[-1].share, steps[-1].candidate.finished
    step = ([step for step in least if step.share <= share] or least[:1])[-1]
    if answers < step.least_answers:
        words = f"waits for answers: {answers:,.0f} of {step.least_answers:,} at {share:.0%}"
        return Verdict("wait", words)
    if now < (until := since + step.least_time):
        return Verdict("wait", f"waits until {until:%Y-%m-%d %H:%M} UTC: the least time")
    if worst.log_evidence >= log(_DOUBT):
        return Verdict("wait", f"waits, in doubt: {worst.words}")
    words = f"no figure is worse after {answers:,.0f} answers at {share:.0%}"
    if not to_come:
        return Verdict("wait", f"{words}: no further share was agreed")
    if to_come[0] >= 1:
        return Verdict("done", f"{words}: all requests", 1.0)
    return Verdict("step", f"{words}: on to {to_come[0]:.0%}", to_come[0])


def compared(steps: Sequence[Arms]) -> list[Comparison]:
    """All metrics that were measured, over all steps."""

    def total(arms: Sequence[Arm], name: str) -> tuple[float, float]:
        return sum(arm.bad.get(name, 0) for arm in arms), sum(arm.finished for arm in arms)

    _, old, new = zip(*steps, strict=True)
    return [
        Comparison(
            metric,
            total(old, metric.name),
            total(new, metric.name),
            log_evidence(steps, metric),
        )
        for metric in METRICS
        if any(metric.name in arm.bad for arm in (*old, *new))
    ]


def log_evidence(steps: Sequence[Arms], metric: Metric) -> float:
    """The logarithm of the e-value that more of the candidate's answers are of this kind."""
    bets = [0.0] * (len(_USUAL) * len(_WORSE))
    for share, *arms in steps:
        bads = [arm.bad.get(metric.name, 0) for arm in arms]
        goods = [
            0 if metric.is_late else arm.finished - arm.bad.get(metric.name, 0) for arm in arms
        ]
        all_bad, all_good = sum(bads), sum(goods)
        bets = [
            bet + bads[1] * bad - all_bad * even_bad + goods[1] * good - all_good * even_good
            for bet, (bad, even_bad, good, even_good) in zip(bets, _gains(share), strict=True)
        ]
    most = max(bets)
    return most + log(sum(exp(bet - most) for bet in bets) / len(bets))


@lru_cache(maxsize=256)
def _gains(share: float) -> Sequence[tuple[float, ...]]:
    """By alternative, for bad and for good answers, two logarithms.

    How many times over it expects one of the candidate, and the mean of that over both arms.
    """
    gains = []
    for usual in _USUAL:
        for factor in _WORSE:
            worse = factor * usual / (1 - usual + factor * usual)
            ratios = (worse / usual, (1 - worse) / (1 - usual))
            pairs = [(log(ratio), log1p(share * (ratio - 1))) for ratio in ratios]
            gains.append((*pairs[0], *pairs[1]))
    return gains


def mismatch(steps: Sequence[Arms]) -> Comparison:
    """Whether the candidate was given the share that was planned: more or less of it."""
    evidence = planned = 0.0
    for share, active, candidate in steps:
        old, new = active.given, candidate.given
        a, b = _BELIEF * (1 - share), _BELIEF * share
        evidence += _log_beta(a + old, b + new) - _log_beta(a, b)
        evidence -= new * log(share) + old * log1p(-share)
        planned += share * (old + new)
    given = sum(step.candidate.given for step in steps)
    all_ = given + sum(step.active.given for step in steps)
    return Comparison(MISMATCH, (planned, all_), (given, all_), evidence)


def _log_beta(a: float, b: float) -> float:
    return lgamma(a) + lgamma(b) - lgamma(a + b)
