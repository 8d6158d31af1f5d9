"""Tables on a narrow terminal: no figure and no word is broken, and colours mean something."""

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from consumers.amounts import in_words
from consumers.cli.formats import Terminal, drawn, style_of
from consumers.cli.terminal import print_table

ROWS: list[dict[str, object]] = [
    {"task": "support_answer", "tier": "low", "spend": "$12.345678", "p95": "1,234 ms"},
    {"task": "total", "tier": None, "spend": "$12.345678", "p95": "-"},
]
COLUMNS = ("task", "tier", "spend", "p95")


def printed(rows: list[dict[str, object]], columns: Any, width: int, **options: Any) -> str:
    out = io.StringIO()
    terminal = Terminal(file=out, width=width, highlight=False)
    terminal.print(drawn(rows, columns, width=width, **options)[0], crop=False)
    return out.getvalue()


@pytest.mark.parametrize("width", [20, 40, 80, 120])
def test_figures_and_words_stay_whole(width: int) -> None:
    said = printed(ROWS, COLUMNS, width)

    for word in ("support_answer", "$12.345678", "1,234 ms"):
        assert word in said
    assert "None" not in said


_WORDS = st.text(st.characters(min_codepoint=97, max_codepoint=122), min_size=1, max_size=30)


@given(
    st.lists(st.lists(_WORDS, max_size=12), min_size=1, max_size=4),
    st.integers(30, 140),
)
def test_every_word_of_every_cell_is_printed_in_one_piece(
    cells: list[list[str]], width: int
) -> None:
    columns = [f"c{no}" for no in range(len(cells))]
    row: dict[str, object] = {
        name: " ".join(words) for name, words in zip(columns, cells, strict=True)
    }
    pieces = printed([row], columns, width).replace("│", " ").split()

    assert all(word in pieces for words in cells for word in words)


def test_a_table_is_as_wide_as_the_terminal_at_most() -> None:
    row: dict[str, object] = {"a": "one two " * 30, "b": "three " * 30}

    assert all(len(line) <= 60 for line in printed([row], ("a", "b"), 60).splitlines())


def test_what_matters_least_is_left_out_first() -> None:
    table, left_out = drawn(ROWS, COLUMNS, width=34, optional=("p95", "tier"))

    assert list(left_out) == ["p95", "tier"]
    assert table is not None


def test_the_line_on_what_is_left_out_is_no_wider_than_the_table(
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = [f"column-{no}" for no in range(30)]

    print_table([dict.fromkeys(names, "x" * 40)], names, optional=names[1:])

    said = capsys.readouterr().err
    assert all(len(line) <= 150 for line in said.splitlines())
    assert "column-26, column-27 (--json has them)" in " ".join(said.split())


def test_wide_characters_take_the_room_they_need() -> None:
    row: dict[str, object] = {"name": "r-1", "asked": "日本語の " * 20, "said": "x" * 30}
    said = printed([row], ("name", "asked", "said"), 40)
    assert max(cell_len(line) for line in said.splitlines()) <= 40


@given(st.integers(0, 30), st.integers(1, 10), st.integers(20, 120))
def test_an_indented_drawing_is_never_broken(blanks: int, length: int, width: int) -> None:
    drawing = " " * blanks + "━" * length
    said = printed([{"": drawing, "what": "some words on what it is"}], ("", "what"), width)
    assert "━" * length in said
    if "│" in said:
        assert drawing in said


def test_values_are_no_program_text() -> None:
    row: dict[str, object] = {"a": ["low", "balanced"], "b": {"sum": 3}, "c": True, "d": None}

    said = printed([row], ("a", "b", "c", "d"), 80)
    assert [one.strip() for one in said.splitlines()[3].strip("│").split("│")] == [
        "low, balanced",
        "sum: 3",
        "yes",
        "",
    ]


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ({"answer": "Two\n words", "confidence": 0.9}, "Two words"),
        ({"name": "Turing", "born": 1912, "title": None}, "name: Turing; born: 1912"),
        ({"items": ["a", 1], "ok": True}, 'items: ["a", 1]; ok: true'),
        ({"year": 2018}, "year: 2018"),
        ({}, ""),
    ],
)
def test_an_answer_in_one_line_names_its_fields(output: dict[str, object], words: str) -> None:
    assert in_words(output) == words


def test_outcomes_tiers_and_failures_have_colours() -> None:
    assert style_of("outcome", "accepted") == "green"
    assert style_of("outcome", "failed") == "red"
    assert style_of("reason", "not_json") == "red"
    assert style_of("reason", "approval_required") == "yellow"
    assert style_of("tier", "low") != style_of("tier", "premium")
    assert not style_of("words", "whatever")
