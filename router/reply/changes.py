"""Changes: where a stronger model's answer differs from a weaker one's."""

from collections.abc import Mapping, Sequence
from typing import Any

from router.reply.normalise import comparable
from router.reply.worddiff import shared
from schemas.attempt import Attempt
from schemas.base import Tier
from schemas.json_numbers import exact_json
from schemas.reasons import Reason
from schemas.verdict import Change

__all__ = ["changes_between", "weaker_answer"]

#: How many fields are kept, and how many characters of each side.
_MOST_FIELDS = 20
_KEPT = 200
_COMPARED = 50_000
#: Characters before the first difference, where a text is cut.
_LED_BY = 60
#: Reasons of replies without an answer that a later one could differ from.
_NO_ANSWER = (Reason.REFUSED, Reason.EMPTY, Reason.CUT_OFF)


def changes_between(
    before: Mapping[str, Any] | None, after: Mapping[str, Any]
) -> list[Change] | None:
    """The fields in which two answers differ; None where nothing was answered before.

    Case, spacing, a final full stop and the confidence do not count. Of a text the first 50,000
    characters are compared.
    """
    if before is None:
        return None
    changes = []
    for name in (*after, *(name for name in before if name not in after)):
        old, new = _beginning(before.get(name)), _beginning(after.get(name))
        if name == "confidence" or old == new or comparable(old) == comparable(new):
            continue
        old_text, new_text = _as_text(old), _as_text(new)
        at, against = _parting(old_text or "", new_text or "")
        changes.append(Change(field=name, before=_cut(old_text, at), after=_cut(new_text, against)))
    return changes[:_MOST_FIELDS]


def weaker_answer(
    attempts: Sequence[Attempt], tier: Tier, generation: int
) -> Mapping[str, Any] | None:
    """The last answer that a tier below this one gave to the same question, if any."""
    for attempt in reversed(attempts):
        is_earlier = attempt.generation == generation and attempt.tier.rank < tier.rank
        has_answer = attempt.step == "answer" and attempt.reason not in _NO_ANSWER
        if is_earlier and has_answer and attempt.verdict:
            return attempt.verdict.output
    return None


def _beginning(value: Any) -> Any:
    return value[:_COMPARED] if isinstance(value, str) else value


def _as_text(value: Any) -> str | None:
    if value is None:
        return None
    return value if isinstance(value, str) else exact_json(value, gap=" ")


def _parting(before: str, after: str) -> tuple[int, int]:
    """The index in each of two texts where they first differ in more than case and spacing."""
    words = shared(before.casefold().split(), after.casefold().split())
    ours, theirs = _after(before, words), _after(after, words)
    if not ours and not theirs:
        return 0, 0
    same = shared(_first_word(ours).lower(), _first_word(theirs).lower()) if ours and theirs else 0
    return len(before) - len(ours) + same, len(after) - len(theirs) + same


def _after(text: str, words: int) -> str:
    """What follows so many words of a text."""
    rest = text.split(maxsplit=words)
    return rest[words] if len(rest) > words else ""


def _first_word(text: str) -> str:
    return text.split(maxsplit=1)[0]


def _cut(text: str | None, at: int) -> str | None:
    """At most 200 characters of a text, the one at `at` among them."""
    if text is None or len(text) <= _KEPT:
        return text
    start = max(min(at, len(text)) - _LED_BY, 0) if at + _LED_BY > _KEPT else 0
    head = "\u2026" if start else ""
    kept = text[start : start + _KEPT - len(head)]
    return head + (kept if text.endswith(kept) and start else kept[:-1] + "\u2026")
