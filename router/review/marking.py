"""Marks: the names, numbers and phrases for which an answer failed its checks, in its text."""

import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

from router.checks import Asked, Judged
from router.policy.table import Policy
from router.reply.reply import Reply
from schemas.attempt import Attempt

__all__ = ["Part", "failing_parts", "marked"]

#: Parts of one answer that are marked.
_MOST_PARTS = 100
#: Signs that may follow a number and are no part of it.
_AFTER_NUMBER = ".,'"


class Part(NamedTuple):
    """A part of a text."""

    text: str
    is_marked: bool


def failing_parts(
    attempt: Attempt, asked: Asked, policy: Policy, task: str | None
) -> Collection[str]:
    """What in an answer, or in its sources, failed the checks that point at parts of it."""
    verdict, row = attempt.verdict, policy.tasks.get(task or "")
    if verdict is None or row is None:
        return ()
    failed = {result.check for result in verdict.checks if not result.passed}
    judged = Judged(
        Reply(attempt.reply or "", "stop", attempt.usage, {}),
        verdict.output,
        validator=None,
        confidence=None,
        accept=None,
        asked=asked,
    )
    parts: dict[str, None] = {}
    for each in row.checks:
        if each.check.name in failed and each.check.parts is not None:
            parts |= dict.fromkeys(sorted(each.check.parts(judged, each.parameters)))
    return list(parts)[:_MOST_PARTS]


def marked(text: str, parts: Collection[str]) -> Sequence[Part]:
    """A text in pieces, with these parts marked where they stand as whole words, in any case."""
    bare = {stripped for part in parts if (stripped := part.rstrip(_AFTER_NUMBER))}
    if not bare:
        return [Part(text, is_marked=False)]
    # The longest first, so that no shorter one takes its beginning.
    some = "|".join(map(re.escape, sorted(bare, key=len, reverse=True)))
    pieces = re.split(rf"(?<![^\W_])({some})(?![^\W_])", text, flags=re.IGNORECASE)
    return [Part(piece, is_marked=no % 2 == 1) for no, piece in enumerate(pieces) if piece]
