"""Checks of an answer against the sources in its request, by words: errors only escalate.

The sources are the context, else what the user says; see docs/checks.md.
"""

from collections.abc import Set as AbstractSet
from typing import Annotated

from pydantic import Field, NonNegativeInt

from router.checks import words
from router.checks.judged import Check, Judged, Parameters
from router.request.languages import language_of, words_of
from schemas.reasons import Reason

__all__ = ["CONFLICTS", "ENTITIES", "GROUNDING", "NUMBERS"]

Share = Annotated[float, Field(ge=0, le=1)]


class Grounding(Parameters):
    """How much of an answer must be in its sources."""

    most_unsupported: Annotated[
        Share, Field(description="most sentences that may be unsupported, as a share, else 0.34")
    ] = 0.34
    least_overlap: Annotated[
        Share, Field(description="least known words of a supported sentence, as a share, else 0.5")
    ] = 0.5
    least_cited: Annotated[
        Share, Field(description="least sentences that cite a source as [1], as a share, else 0")
    ] = 0.0


def _grounding(judged: Judged, limits: Grounding) -> str | None:
    text, asked = judged.lower, judged.asked
    if any(
        not 1 <= number <= asked.most_citation and number not in asked.source_markers
        for number in words.markers(text)
    ):
        return f"a source is cited that does not exist; there are {asked.most_citation}"
    quotes, most = list(dict.fromkeys(words.quotes(text))), words.most_looked_up(asked.source_text)
    if len(quotes) > most or any(quote not in asked.source_text for quote in quotes):
        return "a quotation is not in the sources word for word"
    if not words.is_spaced(text):
        return None
    failed, claimed = words.unsupported(
        text, asked.known_words, asked.known_stems, limits.least_overlap
    )
    if failed > limits.most_unsupported * claimed:
        return f"{failed} of {claimed} sentences are not supported by the sources"
    if limits.least_cited and claimed:
        cited = words.cited(text)
        if cited < limits.least_cited * claimed:
            return f"{cited} of {claimed} sentences cite a source"
    return None


GROUNDING = Check(
    "grounding",
    Reason.UNSUPPORTED_CLAIMS,
    "most sentences, every quotation and every citation can be found in the sources",
    "Deleted files are kept for ever [9].",
    _grounding,
    Grounding,
)


class Entities(Parameters):
    """Which names an answer may bring up."""

    most: Annotated[NonNegativeInt, Field(description="most names that may be in no source")] = 0
    known: list[str] = Field(
        default_factory=list, description="names that are always known, such as the product's own"
    )


def _unknown_names(judged: Judged, limits: Entities) -> AbstractSet[str]:
    """The names that are in no source, in lower case, where they are more than allowed."""
    text, given_text = judged.written, judged.asked.given_text
    always_known = {name.lower() for name in limits.known}
    # A name with an @ is a part of an address, which is looked up as a whole.
    mentioned = {name.lower() for name in words.names(text) if "@" not in name}
    mentioned.update(address.lower() for address in words.addresses(text))
    unsure = mentioned - always_known
    if len(unsure) > words.most_looked_up(given_text):
        unsure -= {*given_text.split(), *words_of(given_text).replace(".", " ").split()}
    if len(unsure) > limits.most and language_of(judged.answer_text) == "de":
        unsure = {name for name in unsure if not name.isalpha()}  # German nouns look like names
    return words.unmentioned(unsure, given_text) if len(unsure) > limits.most else unsure


def _entities(judged: Judged, limits: Entities) -> str | None:
    unknown = _unknown_names(judged, limits)
    if len(unknown) > limits.most:
        where = "in neither the question nor the sources"
        return f"{len(unknown)} names are {where}; {limits.most} are allowed"
    return None


ENTITIES = Check(
    "entities",
    Reason.UNRESOLVED_ENTITIES,
    "names, ids, addresses and links of the answer are in the question or the sources",
    "Ask Ms Brandt about AB-9999, where the sources know neither",
    _entities,
    Entities,
    _unknown_names,
)


class Numbers(Parameters):
    """Which numbers an answer may bring up."""

    most: Annotated[NonNegativeInt, Field(description="most numbers that may be in no source")] = 0


#: More unknown numbers than list markers and spelled numbers can explain.
_MOST_EXCUSED = 2_500


def _unknown_numbers(judged: Judged, limits: Numbers) -> AbstractSet[str]:
    """The numbers that are in no source, where they are more than allowed."""
    asked, text = judged.asked, judged.written
    unknown = words.unknown_numbers(words.written_numbers(text), asked.numbers)
    if not limits.most < len(unknown) <= limits.most + _MOST_EXCUSED:
        return unknown
    # Only now with the slower look at what explains a number, which most answers do not need.
    cleaned = words.without_list_markers(text)
    if len(cleaned) < len(text):
        unknown &= words.written_numbers(cleaned)
    return words.unknown_numbers(unknown, asked.spelled)


def _numbers(judged: Judged, limits: Numbers) -> str | None:
    unknown = _unknown_numbers(judged, limits)
    if len(unknown) > limits.most:
        where = "in neither the question nor the sources"
        return f"{len(unknown)} numbers are {where}; {limits.most} are allowed"
    return None


NUMBERS = Check(
    "numbers",
    Reason.NUMBERS_DISAGREE,
    "the numbers of the answer are those of the question or the sources",
    "within 14 days, where the source says 30",
    _numbers,
    Numbers,
    _unknown_numbers,
)


def _conflicting(judged: Judged, _: Parameters) -> AbstractSet[str]:
    """The figures of the sources that contradict each other, where the answer gives one of two."""
    pairs = judged.asked.conflicts
    stated = words.numbers_and_dates(judged.written) if pairs else ()
    return {
        figure for pair in pairs if (pair[0] in stated) != (pair[1] in stated) for figure in pair
    }


def _conflicts(judged: Judged, limits: Parameters) -> str | None:
    if _conflicting(judged, limits):
        return "the sources state two figures for the same thing, and the answer gives one of them"
    return None


CONFLICTS = Check(
    "conflicts",
    Reason.CONFLICTING_EVIDENCE,
    "where sources contradict each other, the answer does not pick one in silence",
    "30 days, where one source says 30 days and another 14",
    _conflicts,
    parts=_conflicting,
)
