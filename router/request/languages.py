"""The language of a text, by its script or by its small words; None where that is not sure."""

from bisect import bisect
from collections import Counter
from typing import Literal, get_args

__all__ = [
    "EMPTY_WORDS",
    "LANGUAGES",
    "SMALL_WORDS",
    "Language",
    "language_of",
    "script_of",
    "words_of",
]

Language = Literal[
    "en", "de", "fr", "es", "it", "pt", "nl", "pl", "ru", "el", "he", "ar", "hi", "th", "zh",
    "ja", "ko",
]  # fmt: skip
LANGUAGES: tuple[str, ...] = get_args(Language)

#: Small words that few of the other languages share.
SMALL_WORDS = {
    language: frozenset(line.split())
    for language, line in {
        "en": "the and is are was were you your with for this that have has not from can will "
        "please of to we how what when where it be been they which who does did",
        "de": "der die das und ist nicht sie ein eine einen mit für auf den dem von wir ich haben "
        "hat werden wird kann bitte auch sich wie sind zu im bei oder noch nach",
        "fr": "le les des une est vous nous pour dans pas avec sur votre sont cette être plus ce "
        "et je du au aux il elle qui mais où comment peut sera ont",
        "es": "el los las una es para con por que está usted como más pero en y puede del se su "
        "cómo no muy hay cuando sus desde",
        "it": "il gli che di è per con non una sono della nel questo può anche come lei dei alla "
        "dal delle si quando puoi ho",
        "pt": "os as uma é para com não em um você seu sua do da mais por está são ao quando "
        "pode nos foi isso",
        "nl": "de het een en is van voor niet met op dat zijn u wij kunt uw deze ook te naar wordt "
        "ik hoe bij kan je",
        "pl": "w nie jest na się z że jak po czy są dla przez może być oraz proszę lub od to ale "
        "już tym przy",
    }.items()
}

_TOO_SHORT = "a i in its as at by he she us me my our an am so if no or about also could would"
#: Words that do not tell what a sentence is about.
EMPTY_WORDS = frozenset(_TOO_SHORT.split()).union(*SMALL_WORDS.values())

#: Where a script begins, and whose it is. Scripts that several languages share count as one.
_SCRIPTS = (
    (0x0000, "latin"), (0x0370, "el"), (0x0400, "ru"), (0x0530, ""), (0x0590, "he"),
    (0x0600, "ar"), (0x0780, ""), (0x0900, "hi"), (0x0980, ""), (0x0E00, "th"), (0x0E80, ""),
    (0x1100, "ko"), (0x1200, ""), (0x1E00, "latin"), (0x2000, ""), (0x3040, "ja"), (0x3100, ""),
    (0x3400, "zh"), (0xA000, ""), (0xAC00, "ko"), (0xD7B0, ""), (0xFB1D, "he"), (0xFB50, "ar"),
    (0xFE00, ""), (0xFF66, "ja"), (0xFFA0, ""), (0x20000, "zh"),
)  # fmt: skip
_STARTS = [start for start, _ in _SCRIPTS]
#: Characters of a text that are read: enough to be sure.
_READ = 1500
_LETTERS = 100
_ENDS = ".!?\n"
#: One byte at a time: letters stay, ends of sentences become a full stop, all else a space.
_SIGNS = bytes(
    ord(".") if chr(byte) in _ENDS else byte if byte > 127 or chr(byte).isalnum() else ord(" ")
    for byte in range(256)
)
_MARKS = "\u2018\u2019\u201c\u201d\u201e\u00ab\u00bb\u2013\u2014\u2026\u00a1\u00bf\u00a0"


def words_of(text: str) -> str:
    """The text with spaces in place of signs, and a full stop in place of a sentence's end."""
    if not text.isascii():
        for mark in _MARKS:
            text = text.replace(mark, " ")
    return text.encode("utf-8", "replace").translate(_SIGNS).decode()


def language_of(text: str) -> str | None:
    """The language of a text; None when it is too short, mixed or unknown to us."""
    text = text[:_READ]
    if not text.isascii() and (script := script_of(text)) != "latin":
        return script or None
    words = set(words_of(text.lower()).replace(".", " ").split())
    (most, language), (next_most, _) = sorted(
        ((len(words & small), name) for name, small in SMALL_WORDS.items()), reverse=True
    )[:2]
    is_sure = most >= 3 and (most >= 2 * next_most or most >= next_most + 3)
    return language if is_sure else None


def script_of(text: str) -> str:
    """The script of most letters; empty when none has two thirds of them."""
    sample = text[:: len(text) // _LETTERS + 1]
    seen = Counter(_SCRIPTS[bisect(_STARTS, ord(sign)) - 1][1] for sign in sample if sign.isalpha())
    if not seen:
        return "latin"
    if seen["ja"] * 10 >= seen["zh"] > 0:  # Japanese is written in both
        seen["ja"] += seen.pop("zh")
    script, most = seen.most_common(1)[0]
    return script if most * 3 >= seen.total() * 2 else ""
