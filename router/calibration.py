"""Calibration: how sure a model must be for its answers to be wrong rarely enough."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from math import sqrt

__all__ = ["Calibration", "lowest_threshold", "wilson_upper"]

#: The 95th percentile of the normal distribution: one side, 95 % sure.
_SURE = 1.6448536269514722


@dataclass(frozen=True, slots=True)
class Calibration:
    """What a threshold would have done to answers whose truth is known."""

    #: An answer at least this sure is accepted; 0 to 1.
    threshold: float
    answers: int
    accepted: int
    #: Of those accepted.
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

    Takes pairs of how sure the model was and whether it was right, of one task and tier. None when
    no threshold can be shown to be good enough, for the answers are too few or too often wrong.
    """
    by_confidence = sorted(answers, key=lambda answer: -answer[0])
    accepted = wrong = 0
    found = None
    # Answers that are equally sure are accepted together or not at all.
    for threshold, alike in groupby(by_confidence, key=lambda answer: answer[0]):
        rights = [is_right for _, is_right in alike]
        accepted += len(rights)
        wrong += rights.count(False)
        bound = wilson_upper(wrong, accepted)
        if bound <= most_wrong:
            found = Calibration(threshold, len(by_confidence), accepted, wrong, bound)
    return found


def wilson_upper(hits: int, trials: int) -> float:
    """The upper end of Wilson's one-sided 95 % interval for a share of hits."""
    if trials == 0:
        return 1.0
    share, square = hits / trials, _SURE**2
    middle = share + square / (2 * trials)
    spread = _SURE * sqrt(share * (1 - share) / trials + square / (4 * trials**2))
    return min((middle + spread) / (1 + square / trials), 1.0)
