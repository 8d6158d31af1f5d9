"""Checks of what an answer must and must not contain."""

import re
from collections.abc import Iterator, Mapping
from functools import cached_property, lru_cache
from itertools import islice
from typing import Annotated

from pydantic import Field, StringConstraints, model_validator

from router.checks import words
from router.checks.judged import Check, Judged, Parameters
from schemas.reasons import Reason

__all__ = ["FORBIDDEN", "REQUIRED"]

Phrase = Annotated[str, StringConstraints(min_length=1, max_length=400, pattern=r"\w")]
#: A telephone number has nine digits or more, unlike a date, and separators, unlike an id.
_PHONE = re.compile(r"[0-9](?<![0-9]{2})[0-9 ()./-]{7,22}[0-9](?![0-9])")
_LEAST_DIGITS = 9
#: A text with more that look like one fails without a look at each.
_MOST_LIKE_PHONES = 1_000
_DATE = re.compile(
    r"(?<![0-9])(?:(?:19|20)[0-9]{2}([./-])[0-9]{1,2}\1[0-9]{1,2}"
    r"|[0-9]{1,2}([./-])[0-9]{1,2}\2(?:19|20)[0-9]{2}"
    r"|[0-9]{1,2}[./-](?:19|20)[0-9]{2}|(?:19|20)[0-9]{2}[./-][0-9]{2})(?![0-9])"
)
_YEARS = re.compile(r"[ ().-]*(?:(?:19|20)[0-9]{2}[ ().-]*)+")
_EDGES = re.compile(r"(?<![^\W_])_+|_+(?![^\W_])")


def _spaced(text: str) -> str:
    """A text to search: lower case, single spaces, straight apostrophes, no emphasis."""
    text = text.lower().replace("*", "").replace("`", "")
    if not text.isascii():
        text = text.replace("\u2019", "'").replace("\u2018", "'")
    if "_" in text:
        text = _EDGES.sub("", text)
    return " ".join(text.split())


def _holds(text: str, phrase: str) -> bool:
    """True when a text holds a phrase as whole words, both in lower case with single spaces."""
    return phrase in text and _whole(phrase).search(text) is not None


@lru_cache(maxsize=4096)
def _whole(phrase: str) -> re.Pattern[str]:
    literal = re.escape(phrase)
    before = rf"(?<![^\W_]{literal})" if phrase[0].isalnum() else ""
    after = r"(?![^\W_])" if phrase[-1].isalnum() else ""
    return re.compile(f"{literal}{before}{after}")


class Required(Parameters):
    """What an answer must say."""

    phrases: list[Phrase] = Field(
        default_factory=list, description="phrases that every answer contains"
    )
    when: Mapping[Phrase, Phrase] = Field(
        default_factory=dict,
        description="a phrase of the question: the phrase that the answer then contains",
    )

    @model_validator(mode="after")
    def _says_something(self) -> "Required":
        if not self.phrases and not self.when:
            msg = "phrases or when is expected here"
            raise ValueError(msg)
        return self

    @cached_property
    def always(self) -> list[str]:
        return [_spaced(phrase) for phrase in self.phrases]

    @cached_property
    def if_asked(self) -> list[tuple[str, str]]:
        return [(_spaced(asked), _spaced(phrase)) for asked, phrase in self.when.items()]


def _required(judged: Judged, required: Required) -> str | None:
    if judged.calls_tools and not judged.answer_text:
        return None
    text = _spaced(judged.answer_text)
    needed = required.always
    if required.if_asked:
        question = _spaced(judged.asked.question)
        needed = [*needed, *(need for asked, need in required.if_asked if _holds(question, asked))]
    missing = next((phrase for phrase in needed if not _holds(text, phrase)), None)
    return None if missing is None else f"the answer does not say: {missing}"


REQUIRED = Check(
    "required",
    Reason.REQUIRED_MISSING,
    "the answer says what it must, always or where the question asks for it",
    "no word of 14 days in an answer about refunds",
    _required,
    Required,
)


class Forbidden(Parameters):
    """What an answer must not say."""

    phrases: list[Phrase] = Field(
        default_factory=list, description="phrases and names that no answer contains"
    )
    unless: Mapping[Phrase, Phrase] = Field(
        default_factory=dict,
        description="a phrase: the phrase of the question that alone allows it",
    )
    emails: Annotated[bool, Field(description="true: no e-mail address")] = False
    phones: Annotated[bool, Field(description="true: no telephone number")] = False

    @model_validator(mode="after")
    def _says_something(self) -> "Forbidden":
        if not (self.phrases or self.unless or self.emails or self.phones):
            msg = "phrases, unless, emails or phones is expected here"
            raise ValueError(msg)
        return self

    @cached_property
    def never(self) -> list[str]:
        return [_spaced(phrase) for phrase in self.phrases]

    @cached_property
    def unasked(self) -> list[tuple[str, str]]:
        return [(_spaced(phrase), _spaced(asked)) for phrase, asked in self.unless.items()]


def _searched(judged: Judged) -> str:
    return _spaced(f"{judged.written}\n{judged.argument_names}")


def _banned_in(text: str, judged: Judged, limits: Forbidden) -> Iterator[str]:
    """The phrases that an answer holds and must not."""
    banned = limits.never
    if limits.unasked:
        question = _spaced(judged.asked.question)
        banned = [*banned, *(no for no, asked in limits.unasked if not _holds(question, asked))]
    return (phrase for phrase in banned if _holds(text, phrase))


def _forbidden(judged: Judged, limits: Forbidden) -> str | None:
    text = _searched(judged)
    for phrase in _banned_in(text, judged, limits):
        return f"the answer says: {phrase}"
    if limits.emails and any(words.is_email(word) for word in words.addresses(text)):
        return "the answer holds an e-mail address"
    if limits.phones:
        numbers = list(islice(_PHONE.finditer(text), _MOST_LIKE_PHONES + 1))
        if len(numbers) > _MOST_LIKE_PHONES or any(map(_is_phone, numbers)):
            return "the answer holds a telephone number"
    return None


def _is_phone(match: re.Match[str]) -> bool:
    number = match[0]
    is_international = match.string.startswith("+", max(match.start() - 1, 0))
    if number.isdecimal():
        return is_international and len(number) >= _LEAST_DIGITS
    digits = sum(map(str.isdigit, number))
    if is_international or digits < _LEAST_DIGITS:
        return digits >= _LEAST_DIGITS
    rest = _DATE.sub(" ", number)
    digits = sum(map(str.isdigit, rest))
    if digits < _LEAST_DIGITS or _YEARS.fullmatch(rest):
        return False
    # A slash ends an area code, which begins with 0; others stand in paths and file numbers.
    return "/" not in rest or (number.startswith("0") and rest.count("/") == 1)


FORBIDDEN = Check(
    "forbidden",
    Reason.FORBIDDEN_FOUND,
    "the answer holds no phrase, name, address or number that it must not",
    "I guarantee it, where the policy forbids a guarantee",
    _forbidden,
    Forbidden,
    lambda judged, limits: list(_banned_in(_searched(judged), judged, limits)),
)
