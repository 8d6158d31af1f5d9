"""What all contracts share: frozen, strict about types, no NaN, unknown fields kept.

They are also bounded: whoever may write to a topic can forge a record, so every number, time, text
and list has a limit that our arithmetic, JSON writers and 64-bit database columns can handle. The
limits are far above what the product itself writes.
"""

import re
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
)

from schemas.json_numbers import as_json, unmarked

__all__ = [
    "EARLIEST",
    "LATEST",
    "MOST_COUNT",
    "AttemptId",
    "AttemptNo",
    "Contract",
    "Count",
    "Deadline",
    "Generation",
    "HttpStatus",
    "Identifier",
    "Instant",
    "JsonObject",
    "Many",
    "Micros",
    "Milliseconds",
    "Name",
    "Offset",
    "PartitionNo",
    "Seconds",
    "Tier",
    "Timestamp",
    "Words",
    "is_identifier",
    "read_instant",
]

_IDENTIFIER = r"^[\x21-\x7e]{1,200}$"
#: The last second of a minute with a leap second.
_LEAP = re.compile(r"(?<=:[0-5][0-9]):60(?=[.,Z+-]|$)")

#: The range of our times; `LATEST` plus any duration of ours is still a time.
EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(3000, 1, 1, tzinfo=UTC)
#: The sum of as many counts as a record can hold still fits into 64 bits.
MOST_COUNT = 10**12
_INT64 = (1 << 63) - 1


def _writable(value: Any, info: ValidationInfo) -> Any:
    """Refuse a value that could not be written again; put numbers with many digits back in."""
    try:
        written = as_json(value)
    except TypeError:
        msg = "numbers of at most 64 bits and at most 254 levels were expected"
        raise ValueError(msg) from None
    mark = info.context
    return value if mark is None or mark.encode() not in written else unmarked(value, mark)


#: An object of any fields that can be written as JSON again.
JsonObject = Annotated[dict[str, Any], AfterValidator(_writable)]


class Contract(BaseModel):
    """A record that others may have written: unknown fields are kept and passed on."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="allow", allow_inf_nan=False, hide_input_in_errors=True
    )

    #: What unknown fields may hold.
    __pydantic_extra__: dict[str, Annotated[Any, AfterValidator(_writable)]]


class Tier(StrEnum):
    """A price and quality class. The order of the members is the ladder."""

    LOW = "low"
    BALANCED = "balanced"
    PREMIUM = "premium"

    #: 0 for the cheapest tier.
    rank: int

    def __init__(self, _name: str) -> None:
        self.rank = len(type(self).__members__)


def is_identifier(text: str) -> bool:
    """True for what may be an id: 1 to 200 printable ASCII characters without blanks."""
    return re.fullmatch(_IDENTIFIER, text) is not None and not text.endswith("\n")


def read_instant(text: str) -> datetime:
    """An instant as ISO 8601 or RFC 3339 write it: in small letters too, and with a leap second.

    A leap second is the next minute's first. Raises ValueError.
    """
    text = text.upper()
    plain = _LEAP.sub(":59", text, count=1)
    instant = datetime.fromisoformat(plain)
    return instant if plain == text else instant + timedelta(seconds=1)


def _read_time(value: Any) -> Any:
    if not isinstance(value, str):
        return value

    try:
        instant = read_instant(value)
    except (ValueError, OverflowError):  # its text repeats the value
        msg = "an ISO 8601 time was expected, for example 2026-01-31T12:00:00Z"
        raise ValueError(msg) from None
    if instant.tzinfo is None:
        msg = "a time needs its offset, for example 2026-01-31T12:00:00Z"
        raise ValueError(msg)
    return instant


def _read_instant(value: Any) -> Any:
    instant = _read_time(value)
    if isinstance(instant, datetime) and instant.tzinfo and not EARLIEST <= instant <= LATEST:
        msg = "a time from 1970 to 2999 was expected"
        raise ValueError(msg)
    return instant


def _read_deadline(value: Any) -> Any:
    instant = _read_time(value)
    if isinstance(instant, datetime) and instant.tzinfo:
        return min(max(instant, EARLIEST), LATEST)
    return instant


#: An instant with its offset, written as ISO 8601. Numbers are refused: their unit is a guess.
Instant = Annotated[datetime, BeforeValidator(_read_instant, json_schema_input_type=datetime)]

#: An instant; producers write 9999-12-31 for "never", which counts as `LATEST`.
Deadline = Annotated[datetime, BeforeValidator(_read_deadline, json_schema_input_type=datetime)]

#: Printable ASCII without spaces, so that an id looks the same in a log, a URL and a header.
Identifier = Annotated[str, StringConstraints(pattern=_IDENTIFIER)]

#: An identifier with the numbers that tell its generations and attempts apart.
AttemptId = Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,240}$")]

_T = TypeVar("_T")
#: A list of anything. The first wrong item ends the check: a record can hold a million of them.
Many = Annotated[list[_T], Field(fail_fast=True, max_length=1_000)]

#: A name in the policy, of a model, a stage or a topic.
Name = Annotated[str, StringConstraints(max_length=10_000)]

#: A text for people, or a reply.
Words = Annotated[str, StringConstraints(max_length=1 << 18)]

Count = Annotated[int, Field(ge=0, le=MOST_COUNT)]

#: Millionths of a US dollar, for one call.
Micros = Annotated[int, Field(ge=0, le=MOST_COUNT)]

#: Counts how often a request was sent through, from 1.
Generation = Annotated[int, Field(ge=1, le=10**6)]

#: Counts the attempts of a request, from 1.
AttemptNo = Annotated[int, Field(ge=1, le=10**6)]

#: Durations of at most three centuries.
Milliseconds = Annotated[float, Field(ge=0, le=1e13)]
Seconds = Annotated[float, Field(ge=0, le=1e10)]

HttpStatus = Annotated[int, Field(ge=0, le=999)]

#: As Kafka numbers them.
PartitionNo = Annotated[int, Field(ge=0, le=(1 << 31) - 1)]

Offset = Annotated[int, Field(ge=0, le=_INT64)]

#: Milliseconds since 1970, as a record has them: where a producer sets them, any number.
Timestamp = Annotated[int, Field(ge=-_INT64 - 1, le=_INT64)]
