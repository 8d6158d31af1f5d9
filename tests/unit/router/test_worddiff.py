"""What changed between two texts: word by word, and in bounded time."""

import random
import time

import pytest

from router.reply.worddiff import Piece, word_diff


def sides(before: str, after: str) -> tuple[str, str]:
    """The two texts as the pieces have them."""
    pieces = word_diff(before, after)
    return (
        "".join(piece.text for piece in pieces if piece.kind != "added"),
        "".join(piece.text for piece in pieces if piece.kind != "removed"),
    )


def test_only_the_words_that_differ_are_marked():
    pieces = word_diff("It takes 14 days after that.", "It takes 30 days after that.")

    assert pieces == [
        Piece("same", "It takes "),
        Piece("removed", "14"),
        Piece("added", "30"),
        Piece("same", " days after that."),
    ]


def test_a_word_that_grew_is_another_word():
    assert Piece("added", "cats") in word_diff("one cat", "one cats")


def test_a_sentence_put_in_between_is_one_piece():
    before, after = "First this. Then that.", "First this. And now something new. Then that."

    assert [piece.kind for piece in word_diff(before, after)] == ["same", "added", "same"]


def test_texts_that_are_the_same_have_one_piece():
    assert word_diff("a b", "a b") == [Piece("same", "a b")]
    assert word_diff("", "") == []


@pytest.mark.parametrize("seed", range(300))
def test_the_pieces_always_make_up_both_texts(seed):
    dice = random.Random(seed)
    words = dice.choice([["a", "b", "c"], ["the", "cat", "\n", "."], ["x", " ", "\x1c", "\u2028"]])
    before, after = (
        " ".join(dice.choice(words) for _ in range(dice.randrange(60))) for _ in range(2)
    )

    assert sides(before, after) == (before, after)


@pytest.mark.parametrize("length", [3_000, 9_000, 200_000])
@pytest.mark.parametrize("unit", ["a b ", ".,", "a\n", "x", "7 8 9 "])
def test_texts_that_differ_everywhere_take_no_time(unit, length):
    before, after = unit * (length // len(unit)), unit[::-1] * (length // len(unit)) + "!"
    began = time.thread_time()

    assert sides(before, after) == (before, after)
    assert time.thread_time() - began < 2.0
