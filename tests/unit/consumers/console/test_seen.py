"""What a page and an export show of a text is what will be published."""

import json

import pytest

from consumers import clock
from consumers.console.exports import csv_of
from consumers.console.pages import templates
from consumers.console.showing import read_output

UNSEEN = (
    "\u200b\u200e\u200f\u202a\u202e\u2066\u2069\u061c\ufeff\u2060\u00ad\x00\x07\x1b\x7f\x85\u2028"
)


@pytest.mark.parametrize("one", UNSEEN)
def test_what_cannot_be_seen_is_an_escape_on_every_page(one):
    made = templates(clock.now).from_string("<pre title='{{ text }}'>{{ text }}</pre>")

    page = made.render(text=f"a{one}b")

    assert one not in page
    assert page.count("\\") == 2


def test_letters_of_all_scripts_and_ends_of_lines_stay():
    text = "Grüße, עברית\n\tमानक हिन्दी 你好 🙂"

    assert templates(clock.now).from_string("{{ text }}").render(text=text) == text


@pytest.mark.parametrize("one", UNSEEN)
def test_an_answer_to_edit_has_escapes_that_mean_the_same(one):
    answer = {"answer": f"a{one}b"}
    made = templates(clock.now).from_string("{{ text | escaped | safe }}")

    draft = made.render(text=json.dumps(answer, ensure_ascii=False))

    assert one not in draft
    assert read_output(draft) == (answer, "")


def test_a_cell_of_an_export_hides_nothing():
    assert csv_of([["a\u202eb"]]) == '"a\\u202eb"\r\n'


@pytest.mark.parametrize("number", ["184467440737095516170001", "0.12345678901234567890", "1e400"])
def test_an_edited_number_that_would_lose_digits_is_refused(number):
    output, words = read_output(f'{{"answer": {number}}}')

    assert output is None
    assert words
