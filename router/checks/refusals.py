"""How models refuse in English, German, Spanish and French, as readable tables.

Only the opening of an answer counts: further on, an answer may well say what somebody cannot do.
Plain comparisons instead of a pattern, because a pattern with so many optional parts takes
minutes over a line of dashes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["LEAD_INS", "opens_like_a_refusal"]

_I_AM = ("i'm", "i am", "we're", "we are")

#: Stepped over, as often as they come, before the opening is compared.
LEAD_INS = (
    *(f"{i_am} {how}sorry" for i_am in _I_AM for how in ("", "really ", "very ", "so ")),
    *(f"{i_am} {how} sorry" for i_am in _I_AM for how in ("truly", "terribly", "deeply")),
    *(f"{i_am} afraid" for i_am in _I_AM),
    *("so sorry", "very sorry", "sorry", "apologies", "my apologies", "our apologies"),
    *("i apologize", "i apologise", "we apologize", "we apologise", "unfortunately", "regrettably"),
    *("for the inconvenience", "for any inconvenience", "to say", "that", "but", "however"),
    *("hello there", "hello", "hi there", "hi", "hey", "thank you for your question"),
    *("thank you for asking", "thank you", "thanks for asking", "thanks"),
    *("as an ai language model", "as an ai assistant", "as an ai model", "as an ai"),
    "as a language model",
    *("hallo", "guten tag", "es tut mir leid", "es tut mir sehr leid", "tut mir leid"),
    *("es tut uns leid", "tut uns leid", "entschuldigung", "leider", "aber", "dass"),
    *("hola", "lo siento mucho", "lo siento", "lo sentimos", "lamentablemente", "pero"),
    *("desafortunadamente", "me temo que", "disculpa", "disculpe", "lamento decir que"),
    *("bonjour", "je suis vraiment d\u00e9sol\u00e9", "je suis d\u00e9sol\u00e9"),
    *("je suis d\u00e9sol\u00e9e", "nous sommes d\u00e9sol\u00e9s", "d\u00e9sol\u00e9"),
    *("d\u00e9sol\u00e9e", "malheureusement", "je crains que", "je regrette", "mais"),
)
_LONGEST_FIRST = tuple(sorted(LEAD_INS, key=len, reverse=True))

_CANNOT = ("i can't", "i cannot", "i can not", "i won't", "i will not", "i'm not allowed to")
_UNABLE = ("i'm unable to", "i am unable to", "i'm not able to", "i am not able to")
#: That a firm does not do something is often the answer: only after an apology it is a refusal.
_WE = ("we can't", "we cannot", "we can not", "we are unable to", "we're unable to")
_HELP = (
    *("answer", "assist", "comply", "discuss", "do so", "do that", "do this", "engage", "fulfil"),
    "help",
)
_DO = ("create", "generate", "give", "produce", "provide", "share", "write")

_HELPLESS = (
    *(f"{cannot} {do}" for cannot in (*_CANNOT, *_UNABLE) for do in _HELP),
    "i must decline",
    "i have to decline",
    "i decline to",
    "i refuse to",
)
_UNDONE = tuple(f"{cannot} {do}" for cannot in (*_CANNOT, *_UNABLE) for do in _DO)

_WE_HELPLESS = tuple(f"{cannot} {do}" for cannot in _WE for do in _HELP)


@dataclass(frozen=True, slots=True)
class _Tongue:
    """A language in which other words may come between the denial and what is denied."""

    cannot: tuple[str, ...]
    #: Words of which the clause must contain one; empty where `cannot` denies by itself.
    denies: tuple[str, ...]
    #: Beginnings of the words for what is not done.
    help: tuple[str, ...]
    do: tuple[str, ...]


_TONGUES = (
    _Tongue(
        ("ich kann ", "kann ich ", "ich darf ", "wir k\u00f6nnen ", "ich bin nicht in der lage"),
        ("nicht", "kein", "keine", "keinen", "keinerlei"),
        (
            "helfen",
            "weiterhelfen",
            "beantworten",
            "behilflich",
            "unterst\u00fctzen",
            "erf\u00fcllen",
        ),
        ("geben", "erstellen", "schreiben", "bereitstellen", "teilen", "tun", "nennen"),
    ),
    _Tongue(
        ("no puedo ", "no podemos ", "no me es posible ", "no soy capaz de ", "no estoy en "),
        (),
        ("ayudar", "responder", "asistir", "cumplir", "hacer eso", "hacer esto", "hacerlo"),
        ("proporcionar", "dar", "compartir", "crear", "escribir", "generar", "ofrecer"),
    ),
    _Tongue(
        ("je ne peux pas ", "je ne peux ", "nous ne pouvons pas ", "je ne suis pas en mesure "),
        (),
        ("aider", "r\u00e9pondre", "assister", "satisfaire", "faire cela", "faire \u00e7a"),
        ("fournir", "donner", "partager", "cr\u00e9er", "\u00e9crire", "g\u00e9n\u00e9rer"),
    ),
)
#: A refusal that consists of these words alone.
_BARE = ("no puedo", "no podemos", "je ne peux pas", "nous ne pouvons pas")

#: An answer that goes on like this helps after all ...
_GOES_ON = (
    *("but you can ", "but you may ", "but you could ", "however, you can ", "instead, you can "),
    *(
        "but here",
        "aber sie k\u00f6nnen ",
        "aber du kannst ",
        "aber hier ",
        "pero puede ",
        "pero puedes ",
    ),
    *("pero aqu\u00ed ", "mais vous pouvez ", "mais tu peux ", "mais voici "),
)
#: ... unless it only sends the user to somebody else.
_SENDS_AWAY = (
    *("ask", "consult", "contact", "reach", "seek", "speak", "talk", "try asking"),
    *("sich an", "dich an", "consultar", "contactar", "consulter", "contacter"),
)

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
    return opening.rstrip(_BETWEEN + "\u2026") in _BARE or any(
        opening.startswith(tongue.cannot) and _refuses(opening, tongue) for tongue in _TONGUES
    )


def _refuses(opening: str, tongue: _Tongue) -> bool:
    end = min((at for sign in ".!?;,\n" if (at := opening.find(sign)) >= 0), default=len(opening))
    clause = opening[:end].replace("'", " ")
    if tongue.denies and not set(clause.split()).intersection(tongue.denies):
        return False
    if _has_word(clause, tongue.help):
        return True
    return _has_word(clause, tongue.do) and not _helps(opening)


def _has_word(clause: str, beginnings: Sequence[str]) -> bool:
    return any(f" {beginning}" in clause for beginning in beginnings)


def _helps(opening: str) -> bool:
    """True when the refusal is followed by an offer of help."""
    for words in _GOES_ON:
        at = opening.find(words)
        if at >= 0:
            return not opening.startswith(_SENDS_AWAY, at + len(words))
    return False


def _begins(text: str, words: str) -> bool:
    return text.startswith(words) and not text[len(words) : len(words) + 1].isalnum()
