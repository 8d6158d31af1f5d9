"""How models refuse in English, German, Spanish and French, by the phrases of `refusals.txt`.

Only the opening of an answer counts: further on, an answer may well say what somebody cannot do.
Plain comparisons instead of a pattern, because a pattern with so many optional parts takes
minutes over a line of dashes.
"""

from collections import defaultdict
from collections.abc import Sequence
from importlib import resources

from router.request.word_tables import sections

__all__ = ["LEAD_INS", "opens_like_a_refusal"]

_PHRASES: defaultdict[str, tuple[str, ...]] = defaultdict(tuple)
for _heading, _phrases in sections(
    resources.files("router.checks").joinpath("refusals.txt").read_text("utf-8")
):
    _PHRASES[_heading] += tuple(_phrases)

LEAD_INS = _PHRASES["lead-ins"]
_LONGEST_FIRST = tuple(sorted(LEAD_INS, key=len, reverse=True))
_HELPLESS = (
    *(f"{cannot} {do}" for cannot in _PHRASES["cannot"] for do in _PHRASES["help"]),
    *_PHRASES["declines"],
)
_UNDONE = tuple(f"{cannot} {do}" for cannot in _PHRASES["cannot"] for do in _PHRASES["do"])
_WE_HELPLESS = tuple(
    f"{cannot} {do}" for cannot in _PHRASES["we cannot"] for do in _PHRASES["help"]
)
#: Languages in which other words may come between the denial and what is denied.
_TONGUES = ("de", "es", "fr")

_READ = 400
_BETWEEN = " \t\r\n,.;:-\u2013\u2014!\u00a1\"'*#>_"


def opens_like_a_refusal(text: str) -> bool:
    """True when the text begins like a refusal, after any apology, and does not help after that."""
    opening = text[:_READ].replace("\u2019", "'").lower().lstrip(_BETWEEN)
    length = len(opening)
    for _ in LEAD_INS:
        if not opening.startswith(LEAD_INS):
            break
        lead_in = next((words for words in _LONGEST_FIRST if _begins(opening, words)), None)
        if lead_in is None:
            break
        opening = opening[len(lead_in) :].lstrip(_BETWEEN)
    apologised = len(opening) < length
    if opening.startswith(_HELPLESS) or (apologised and opening.startswith(_WE_HELPLESS)):
        return not opening.startswith(("i can't help but", "i cannot help but"))
    if opening.startswith(_UNDONE):
        return not _helps(opening)
    return opening.rstrip(_BETWEEN + "\u2026") in _PHRASES["alone"] or any(
        any(_begins(opening, words) for words in _PHRASES[f"{tongue} cannot"])
        and _refuses(opening, tongue)
        for tongue in _TONGUES
    )


def _refuses(opening: str, tongue: str) -> bool:
    end = min((at for sign in ".!?;,\n" if (at := opening.find(sign)) >= 0), default=len(opening))
    clause = opening[:end].replace("'", " ")
    denies = _PHRASES[f"{tongue} denies"]
    if denies and not set(clause.split()).intersection(denies):
        return False
    if _has_word(clause, _PHRASES[f"{tongue} help"]):
        return True
    return _has_word(clause, _PHRASES[f"{tongue} do"]) and not _helps(opening)


def _has_word(clause: str, beginnings: Sequence[str]) -> bool:
    return any(f" {beginning}" in clause for beginning in beginnings)


def _helps(opening: str) -> bool:
    """True when the refusal is followed by an offer of help."""
    opening = opening.replace(",", "")
    for words in _PHRASES["goes on"]:
        at = opening.find(f"{words} ")
        if at >= 0:
            return not opening.startswith(_PHRASES["sends away"], at + len(words) + 1)
    return False


def _begins(text: str, words: str) -> bool:
    return text.startswith(words) and not text[len(words) : len(words) + 1].isalnum()
