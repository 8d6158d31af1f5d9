"""Which delicate subject a text speaks of: money, law, health or security, by its words.

The tables err on the careful side: a word too many costs a person's time, a word too few publishes
an answer that nobody has seen. Texts in languages without a table have no subject.
"""

from collections.abc import Sequence
from typing import Literal, get_args

from router.request.texts import text_signals

__all__ = ["SUBJECTS", "Subject", "subjects_of"]

Subject = Literal["money", "law", "health", "security"]
SUBJECTS: Sequence[Subject] = get_args(Subject)


def subjects_of(text: str) -> Sequence[Subject]:
    """The subjects a text speaks of, in the order of `SUBJECTS`."""
    signals = text_signals(text)
    return [subject for subject in SUBJECTS if subject in signals]
