"""Spans of time, as people write them in settings, policies and commands."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.spans import LONGEST_SPAN, read_span, span_text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("15m", 900),
        ("6h", 21_600),
        ("7d", 604_800),
        ("1h30m", 5400),
        ("1d12h", 129_600),
        ("0.5s", 0.5),
        ("250ms", 0.25),
        ("0s", 0),
        ("PT15M", 900),
        ("P1DT2H", 93_600),
        ("PT0.2S", 0.2),
    ],
)
def test_a_span_is_read(text: str, seconds: float) -> None:
    assert read_span(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "value",
    ["", "15", 15, 1.5, "m", "15 m", "-1s", "-PT5M", "PT", "15min", "1h30", "٣s", "1e3s", None,
     "999999999d", "P99999Y", "30s\n", True],
)  # fmt: skip
def test_what_is_no_span_is_told(value: object) -> None:
    with pytest.raises(ValueError, match="for example 30s or 1h30m"):
        read_span(value)


@given(st.integers(0, int(LONGEST_SPAN.total_seconds() * 1000)))
def test_what_is_written_is_read_again(milliseconds: int) -> None:
    span = timedelta(milliseconds=milliseconds)

    assert read_span(span_text(span)) == span
