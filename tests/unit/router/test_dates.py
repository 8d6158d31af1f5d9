"""A date that can be read one way is written one way; any other stays as it is."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.reply.dates import iso_date, iso_moment


@pytest.mark.parametrize(
    "text",
    [
        "2026-03-05",
        "2026/03/05",
        "2026.3.5",
        "March 5, 2026",
        "march 5 2026",
        "Mar. 5th, 2026",
        "5 March 2026",
        "5th of March, 2026",
        "5. Mar 2026",
        "Thursday, March 5, 2026",
        "Thu 5 Mar 2026",
        "  5  March\t2026 ",
    ],
)
def test_one_day_is_written_one_way(text):
    assert iso_date(text) == iso_moment(text) == "2026-03-05"


@pytest.mark.parametrize(
    ("text", "read"),
    [
        pytest.param("13/04/2026", "2026-04-13", id="no month is the thirteenth"),
        pytest.param("04/13/2026", "2026-04-13", id="the other way round"),
        pytest.param("31.12.2026", "2026-12-31", id="with dots"),
        pytest.param("04-04-2026", "2026-04-04", id="both ways are the same day"),
        pytest.param("03/04/2026", None, id="April or March"),
        pytest.param("03.04.2026", None, id="with dots too"),
        pytest.param("5 March 26", None, id="a year of two digits"),
        pytest.param("5 March", None, id="no year"),
        pytest.param("30 February 2026", None, id="no such day"),
        pytest.param("Friday, March 5, 2026", None, id="the weekday is another day's"),
        pytest.param("next Tuesday", None, id="words"),
        pytest.param("2026-03/05", None, id="two kinds of separators"),
        pytest.param("2026-03-05T10:00:00Z", None, id="a moment is more than a date"),
        pytest.param("0000-01-01", None, id="no such year"),
        pytest.param("", None, id="nothing"),
    ],
)
def test_what_could_mean_two_days_is_left_alone(text, read):
    assert iso_date(text) == read


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("2026-03-05T14:30:00Z", "2026-03-05T14:30:00Z"),
        ("2026-03-05 14:30", "2026-03-05T14:30:00"),
        ("March 5, 2026 at 2:30 PM", "2026-03-05T14:30:00"),
        ("5 March 2026, 12:05 am UTC", "2026-03-05T00:05:00Z"),
        ("2026-03-05T14:30:00.125+0100", "2026-03-05T14:30:00.125+01:00"),
        ("2026-03-05 14:30 GMT", "2026-03-05T14:30:00Z"),
        ("2026-03-05 24:30", None),
        ("2026-03-05 13:30 pm", None),
        ("03/04/2026 14:30", None),
    ],
)
def test_a_moment_keeps_its_zone_and_gets_none_it_did_not_have(text, read):
    assert iso_moment(text) == read


@given(st.dates(min_value=date(1000, 1, 1)))
def test_every_day_reads_back(day):
    written = f"{day:%A}, {day.day} {day:%B} {day.year}"

    assert iso_date(str(day)) == iso_date(written) == str(day)


@given(st.text(st.sampled_from("0123456789 /-.:,tTzZapmMarch5th+\n\u0661"), max_size=40))
def test_reading_twice_reads_the_same(text):
    for read in (iso_date, iso_moment):
        once = read(text)
        assert once is None or read(once) == once
