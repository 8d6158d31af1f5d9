"""Rows that people write into policies and prompts, and the types of their fields."""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from schemas.base import Tier

__all__ = ["Count", "Fraction", "Name", "Row", "Sentence", "TierName"]


class Row(BaseModel):
    """A row that people write: an unknown field is a mistake."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True
    )


def _read_tier(value: Any) -> Any:
    return Tier(value) if isinstance(value, str) and value in list(Tier) else value


TierName = Annotated[Tier, BeforeValidator(_read_tier, json_schema_input_type=Tier)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Sentence = Annotated[str, Field(min_length=3, max_length=400)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
