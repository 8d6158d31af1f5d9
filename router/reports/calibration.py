"""Calibration: how sure a model must be so that few enough of its answers are wrong."""

from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from heapq import merge
from itertools import groupby, repeat
from math import sqrt
from operator import itemgetter

__all__ = ["Calibration", "lowest_threshold", "wilson_upper"]

#: The 95th percentile of the normal distribution: one side, 95 % sure.
_SURE = 1.6448536269514722
_FIRST = itemgetter(0)


@dataclass(frozen=True, slots=True)
class Calibration:
    """What a threshold would have done to answers whose truth is known."""

    #: Answers with this confidence or more are accepted; 0 to 1.
    threshold: float
    answers: int
    accepted: int
    #: How many of the accepted are wrong.
    wrong: int
    #: The highest share of wrong answers among the accepted that the data allow, 95 % sure.
    bound: float

    @property
    def coverage(self) -> float:
        """The share of answers that is accepted."""
        return self.accepted / self.answers


def lowest_threshold(
    answers: Iterable[tuple[float, bool]], most_wrong: float
) -> Calibration | None:
    """The lowest threshold whose share of wrong answers is at most this, with 95 % confidence.

    `answers` are pairs of how sure the model was and whether it was right, of one task and tier.
    None when no threshold is shown to be good enough: the answers are too few or too often wrong.
    """
    # There may be a million: plain numbers take a tenth of the memory of pairs.
    sure = {True: array("d"), False: array("d")}
    for confidence, is_right in answers:
        sure[is_right].append(confidence)
    count = sum(map(len, sure.values()))
    sides = [zip(sorted(all_, reverse=True), repeat(is_right)) for is_right, all_ in sure.items()]
    accepted = wrong = 0
    lowest = None
    # Answers that are equally sure are accepted together or not at all.
    by_confidence = merge(*sides, key=_FIRST, reverse=True)
    for threshold, alike in groupby(by_confidence, key=_FIRST):
        rights = [is_right for _, is_right in alike]
        accepted += len(rights)
        wrong += rights.count(False)
        bound = wilson_upper(wrong, accepted)
        if bound <= most_wrong:
            lowest = Calibration(threshold, count, accepted, wrong, bound)
    return lowest


def wilson_upper(hits: int, trials: int) -> float:
    """The upper end of Wilson's one-sided 95 % interval for a share of hits."""
    if trials == 0:
        return 1.0
    share, square = hits / trials, _SURE**2
    middle = share + square / (2 * trials)
    spread = _SURE * sqrt(share * (1 - share) / trials + square / (4 * trials**2))
    return min((middle + spread) / (1 + square / trials), 1.0)
