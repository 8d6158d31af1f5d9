"""Advice on the policy, from its traffic: is one model enough, and would a user notice another?"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import hypot
from typing import NamedTuple

from router.reports.calibration import wilson_upper
from router.reports.measures import Row, alarms, percentile
from schemas.base import Tier

__all__ = ["Advice", "advice", "right_lines"]

#: Calls a day below which one model is probably enough.
_FEW = 1_000
#: Fewer answers are too few to judge by.
_ENOUGH = 20
#: A user notices this many answers more of a hundred that are right.
_NOTICED = 0.02


class Advice(NamedTuple):
    """A sentence about the policy, and what it is about: the traffic, or a task."""

    about: str
    words: str


def advice(rows: Sequence[Row], total: Row, days: float) -> Iterator[Advice]:
    """What the traffic of so many days says about the policy. `rows` are by task and tier."""
    yield _volume(total, days)
    by_task: dict[str, dict[Tier, Row]] = {}
    for row in rows:
        task, tier = row.name
        if row.answers >= _ENOUGH:
            by_task.setdefault(task, {})[Tier(tier)] = row
    for task, tiers in sorted(by_task.items()):
        ladder = sorted(tiers, key=lambda tier: tier.rank)
        for lower, upper in pairwise(ladder):
            yield Advice(task, _gain(lower, tiers[lower], upper, tiers[upper]))
    yield from (Advice(alarm.row.name[0], alarm.words) for alarm in alarms(rows))


def right_lines(rows: Sequence[Row], span: str) -> dict[str, str]:
    """How often each tier is right, by task, as the policy has it. `rows` are by task and tier."""
    tasks: dict[str, list[Row]] = {}
    for row in rows:
        if row.answers >= _ENOUGH:
            tasks.setdefault(row.name[0], []).append(row)
    lines = {}
    for task, by_tier in sorted(tasks.items()):
        by_tier.sort(key=lambda row: Tier(row.name[1]).rank)
        shares = ", ".join(f"{row.name[1]}: {1 - _wrong(row) / row.answers:.3f}" for row in by_tier)
        answers = sum(row.answers for row in by_tier)
        lines[task] = f"right: {{{shares}, source: {answers} answers of {span}}}"
    return lines


def _volume(total: Row, days: float) -> Advice:
    """Whether there is enough traffic for more than one model, and what they save."""
    a_day = total.calls / days
    spent, strongest = total.cost_micros / 1e6 / days, total.strongest_micros / 1e6 / days
    saved = (
        f"It costs ${spent:.2f} a day; the strongest model alone would cost ${strongest:.2f} for "
        f"the same calls, so routing saves ${strongest - spent:.2f} a day."
    )
    if a_day < _FEW:
        words = f"{a_day:,.0f} calls a day are fewer than {_FEW:,}: one model is probably enough."
    else:
        words = f"{a_day:,.0f} calls a day are enough for more than one model."
    return Advice("traffic", f"{words} {saved}")


def _gain(lower: Tier, below: Row, upper: Tier, above: Row) -> str:
    """Whether a user would notice a task's next tier."""
    low, high = _gained(below, above)
    shares = [f"{1 - _wrong(row) / row.answers:.1%}" for row in (below, above)]
    facts = (
        f"{upper} is right in {shares[1]} of {above.answers:,} answers, {lower} in {shares[0]} of "
        f"{below.answers:,} ({low * 100:+.1f} to {high * 100:+.1f} points, 90 % sure)"
    )
    waits = [percentile(row.latencies, 50) for row in (below, above)]
    if waits[0] is not None and waits[1] is not None:
        facts += f"; half of the answers take {waits[0]:,.0f} and {waits[1]:,.0f} ms"
    if high < _NOTICED:
        return f"users would not notice {upper}: {facts}. The task can do without it."
    if low >= _NOTICED:
        return f"users notice {upper}: {facts}. Keep it."
    return f"too few answers to tell whether users notice {upper}: {facts}."


def _gained(below: Row, above: Row) -> tuple[float, float]:
    """By how much the share of right answers grows: an interval, by Newcombe from Wilson's two.

    R. G. Newcombe, Statistics in Medicine 17 (1998), 873-890, method 10.
    """
    wrong, most, least = zip(*map(_bounds, (below, above)), strict=True)
    gain = wrong[0] - wrong[1]
    low = gain - hypot(wrong[0] - least[0], most[1] - wrong[1])
    high = gain + hypot(most[0] - wrong[0], wrong[1] - least[1])
    return low, high


def _bounds(row: Row) -> tuple[float, float, float]:
    """The share of wrong answers, and its upper and lower bound."""
    wrong, answers = _wrong(row), row.answers
    most, least = wilson_upper(wrong, answers), 1 - wilson_upper(answers - wrong, answers)
    return wrong / answers, most, least


def _wrong(row: Row) -> int:
    """Answers that a check, a later model or a person corrected."""
    return min(row.by_check + row.by_model + row.by_person, row.answers)
