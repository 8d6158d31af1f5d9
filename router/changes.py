"""Changes: what a stronger model's answer says otherwise than a weaker one's."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from router.normalise import comparable
from schemas.attempt import Attempt
from schemas.base import Tier
from schemas.reasons import Reason
from schemas.verdict import Change

__all__ = ["changes_between", "weaker_answer"]

#: What is kept: so many fields, and so many characters of each side.
_MOST_FIELDS = 20
_KEPT = 200
#: Replies that answered nothing: no later answer can differ from them.
_NO_ANSWER = (Reason.REFUSED, Reason.EMPTY, Reason.CUT_OFF)


def changes_between(
    before: Mapping[str, Any] | None, after: Mapping[str, Any]
) -> list[Change] | None:
    """The fields in which two answers differ; None where nothing was answered before.

    Case, spacing and a final full stop are no difference, and neither is how sure a model was.
    """
    if before is None:
        return None
    changes = []
    for name in (*after, *(name for name in before if name not in after)):
        one, other = before.get(name), after.get(name)
        if name == "confidence" or one == other or comparable(one) == comparable(other):
            continue
        changes.append(Change(field=name, before=_cut(one), after=_cut(other)))
    return changes[:_MOST_FIELDS]


def weaker_answer(
    attempts: Sequence[Attempt], tier: Tier, generation: int
) -> Mapping[str, Any] | None:
    """The last answer that a tier below this one gave to the same question, if any."""
    for one in reversed(attempts):
        is_earlier = one.generation == generation and one.tier.rank < tier.rank
        if is_earlier and one.step == "answer" and one.verdict and one.reason not in _NO_ANSWER:
            return one.verdict.output
    return None


def _cut(value: Any) -> str | None:
    if value is None:
        return None
    said = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return said if len(said) <= _KEPT else said[: _KEPT - 1] + "\u2026"
