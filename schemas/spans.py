"""Spans of time as people write them: `30s`, `15m`, `1h30m`, `7d`, or ISO 8601's `PT15M`."""

import re
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError

__all__ = ["LONGEST_SPAN", "PositiveSpan", "Span", "read_positive_span", "read_span", "span_text"]

#: A longer span is a typing error, and would exceed the calendar.
LONGEST_SPAN = timedelta(days=10_000)
_UNITS = {"d": 86_400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_PARTS = re.compile(r"(?:[0-9]{1,9}(?:\.[0-9]{1,9})?(?:ms|[smhd]))+")
_PART = re.compile(r"([0-9.]+)([a-z]+)")
_ISO = TypeAdapter(timedelta)


def read_span(value: Any) -> timedelta:
    """Read a span with its unit. Raises ValueError."""
    span = value if isinstance(value, timedelta) else None
    if isinstance(value, str):
        if _PARTS.fullmatch(value):
            parts = _PART.findall(value)
            span = timedelta(seconds=sum(float(number) * _UNITS[unit] for number, unit in parts))
        elif value.startswith("P"):
            try:
                span = _ISO.validate_python(value)
            except ValidationError:
                span = None
    if span is None or not timedelta(0) <= span <= LONGEST_SPAN:
        msg = "a span of time was expected: numbers with ms, s, m, h or d, for example 30s or 1h30m"
        raise ValueError(msg)
    return span


def span_text(span: timedelta) -> str:
    """A span as text, as short as possible: `1h30m`."""
    left = round(span.total_seconds() * 1000)
    text = ""
    for unit, seconds in _UNITS.items():
        count, left = divmod(left, round(seconds * 1000))
        text += f"{count}{unit}" if count else ""
    return text or "0s"


def read_positive_span(value: Any) -> timedelta:
    """A span longer than zero. Raises ValueError."""
    if span := read_span(value):
        return span
    msg = "a span longer than 0s was expected, for example 30s"
    raise ValueError(msg)


_Written = Annotated[str, Field(examples=["30s", "1h30m"])]
#: Fields of settings and of the policy.
Span = Annotated[timedelta, BeforeValidator(read_span, json_schema_input_type=_Written)]
PositiveSpan = Annotated[
    timedelta, BeforeValidator(read_positive_span, json_schema_input_type=_Written)
]
