"""Dates as people write them, read only where they can be read in one way."""

import re
from datetime import date

__all__ = ["iso_date", "iso_moment"]

_MONTHS = (
    *("january", "february", "march", "april", "may", "june", "july", "august", "september"),
    *("october", "november", "december"),
)
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
#: Names in full and as their first three letters; September is often shortened to four.
_MONTH_NO = {
    **{name: no for no, name in enumerate(_MONTHS, 1)},
    **{name[:3]: no for no, name in enumerate(_MONTHS, 1)},
    "sept": 9,
}
_DAY_NO = {
    **{name: no for no, name in enumerate(_DAYS)},
    **{name[:3]: no for no, name in enumerate(_DAYS)},
}
#: The longest date with a time; longer text is no date.
_LONGEST = 60

_YEAR_FIRST = re.compile(r"([0-9]{4})([-/.])([0-9]{1,2})\2([0-9]{1,2})")
_YEAR_LAST = re.compile(r"([0-9]{1,2})([-/.])([0-9]{1,2})\2([0-9]{4})")
_DAY_MONTH = re.compile(r"([0-9]{1,2})(?:st|nd|rd|th|\.)?(?: of)? ([a-z]+)\.?,? ([0-9]{4})")
_MONTH_DAY = re.compile(r"([a-z]+)\.? ([0-9]{1,2})(?:st|nd|rd|th)?,? ([0-9]{4})")
_WEEKDAY = re.compile(r"([a-z]+)\.?,? (.+)")
_TIME = re.compile(
    r"(.+?)(?:t|,? at |,? )([0-9]{1,2}):([0-9]{2})(?::([0-9]{2})(\.[0-9]{1,9})?)? ?(am|pm)?"
    r" ?(z|utc|gmt|[+-][0-9]{2}:?[0-9]{2})?"
)


def iso_date(text: str) -> str | None:
    """The date as year-month-day; None where the text is no date or could mean two."""
    return _read(_folded(text))


def iso_moment(text: str) -> str | None:
    """A date with its time in ISO 8601, or a date alone; None where that would be a guess.

    The time zone is that of the text, if it has one.
    """
    folded = _folded(text)
    match = _TIME.fullmatch(folded)
    if match is None:
        return _read(folded)

    day, hour, minute = _read(match[1]), int(match[2]), int(match[3])
    second, part, zone = int(match[4] or 0), match[5] or "", match[7] or ""
    if match[6]:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if match[6] == "pm" else 0)
    if day is None or hour > 23 or minute > 59 or second > 59:
        return None
    if zone in ("z", "utc", "gmt"):
        zone = "Z"
    elif zone:
        zone = zone if ":" in zone else f"{zone[:3]}:{zone[3:]}"
    return f"{day}T{hour:02}:{minute:02}:{second:02}{part}{zone}"


def _folded(text: str) -> str:
    """In lower case and with single blanks; empty where it is too long for a date."""
    folded = " ".join(text[: _LONGEST + 1].lower().split())
    return folded if len(folded) <= _LONGEST else ""


def _read(text: str) -> str | None:
    weekday = _WEEKDAY.fullmatch(text)
    if weekday is not None and weekday[1] in _DAY_NO:
        day = _date(weekday[2])
        # The wrong weekday makes a date doubtful.
        return str(day) if day and day.weekday() == _DAY_NO[weekday[1]] else None
    day = _date(text)
    return str(day) if day else None


def _date(text: str) -> date | None:
    if match := _YEAR_FIRST.fullmatch(text):
        return _date_or_none(match[1], int(match[3]), match[4])
    if match := _YEAR_LAST.fullmatch(text):
        first, second = int(match[1]), int(match[3])
        if first != second and first <= 12 and second <= 12:
            return None  # day or month first: only its writer knows
        return _date_or_none(match[4], min(first, second), max(first, second))
    if match := _DAY_MONTH.fullmatch(text):
        return _date_or_none(match[3], _MONTH_NO.get(match[2], 0), match[1])
    if match := _MONTH_DAY.fullmatch(text):
        return _date_or_none(match[3], _MONTH_NO.get(match[1], 0), match[2])
    return None


def _date_or_none(year: str, month: int, day: str | int) -> date | None:
    try:
        return date(int(year), month, int(day))
    except ValueError:
        return None
