"""What all contracts share: frozen, strict about types, no NaN, unknown fields kept."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, StringConstraints

__all__ = ["AttemptId", "Contract", "Identifier", "Instant", "Tier"]


class Contract(BaseModel):
    """A record somebody else may have written: fields we do not know are kept and passed on."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="allow", allow_inf_nan=False, hide_input_in_errors=True
    )


class Tier(StrEnum):
    """A price and quality class. The order of the members is the ladder."""

    LOW = "low"
    BALANCED = "balanced"
    PREMIUM = "premium"

    #: 0 for the cheapest tier.
    rank: int

    def __init__(self, _name: str) -> None:
        self.rank = len(type(self).__members__)


def _read_instant(value: Any) -> Any:
    if not isinstance(value, str):
        return value

    try:
        instant = datetime.fromisoformat(value)
    except ValueError:  # its text repeats the value
        msg = "an ISO 8601 time was expected, for example 2026-01-31T12:00:00Z"
        raise ValueError(msg) from None
    if instant.tzinfo is None:
        msg = "a time needs its offset, for example 2026-01-31T12:00:00Z"
        raise ValueError(msg)
    return instant


#: An instant with its offset, written as ISO 8601. Numbers are refused: their unit is a guess.
Instant = Annotated[datetime, BeforeValidator(_read_instant, json_schema_input_type=datetime)]

#: Printable ASCII without spaces, so that an id looks the same in a log, a URL and a header.
Identifier = Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,200}$")]

#: An identifier with the numbers that tell its generations and attempts apart.
AttemptId = Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,240}$")]
