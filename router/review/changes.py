"""Changes: what a stronger model's answer says otherwise than a weaker one's."""

from collections.abc import Mapping, Sequence
from typing import Any

from router.judge.normalise import comparable
from router.review.worddiff import shared
from schemas.attempt import Attempt
from schemas.base import Tier
from schemas.json_text import exact_json
from schemas.reasons import Reason
from schemas.verdict import Change

__all__ = ["changes_between", "weaker_answer"]

#: What is kept: so many fields, and so many characters of each side.
_MOST_FIELDS = 20
_KEPT = 200
_COMPARED = 50_000
#: So many characters before the first difference, where a text is cut.
_LED_BY = 60
#: Replies that answered nothing: no later answer can differ from them.
_NO_ANSWER = (Reason.REFUSED, Reason.EMPTY, Reason.CUT_OFF)


def changes_between(
    before: Mapping[str, Any] | None, after: Mapping[str, Any]
) -> list[Change] | None:
    """The fields in which two answers differ; None where nothing was answered before.

    Case, spacing and a final full stop are no difference, and neither is how sure a model was. Of
    a text the first 50,000 characters are compared.
    """
    if before is None:
        return None
    changes = []
    for name in (*after, *(name for name in before if name not in after)):
        one, other = _beginning(before.get(name)), _beginning(after.get(name))
        if name == "confidence" or one == other or comparable(one) == comparable(other):
            continue
        said, instead = _said(one), _said(other)
        at, against = _parting(said or "", instead or "")
        changes.append(Change(field=name, before=_cut(said, at), after=_cut(instead, against)))
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


def _beginning(value: Any) -> Any:
    return value[:_COMPARED] if isinstance(value, str) else value


def _said(value: Any) -> str | None:
    if value is None:
        return None
    return value if isinstance(value, str) else exact_json(value, gap=" ")


def _parting(one: str, other: str) -> tuple[int, int]:
    """Where two texts first differ in more than case and spacing, in each of them."""
    words = shared(one.casefold().split(), other.casefold().split())
    ours, theirs = _after(one, words), _after(other, words)
    if not ours and not theirs:
        return 0, 0
    same = shared(_first_word(ours).lower(), _first_word(theirs).lower()) if ours and theirs else 0
    return len(one) - len(ours) + same, len(other) - len(theirs) + same


def _after(text: str, words: int) -> str:
    """What follows so many words of a text."""
    rest = text.split(maxsplit=words)
    return rest[words] if len(rest) > words else ""


def _first_word(text: str) -> str:
    return text.split(maxsplit=1)[0]


def _cut(said: str | None, at: int) -> str | None:
    """So much of a text as is kept, the place of interest in it."""
    if said is None or len(said) <= _KEPT:
        return said
    start = max(min(at, len(said)) - _LED_BY, 0) if at + _LED_BY > _KEPT else 0
    head = "\u2026" if start else ""
    kept = said[start : start + _KEPT - len(head)]
    return head + (kept if said.endswith(kept) and start else kept[:-1] + "\u2026")
