"""Whatever a record holds or leads to, its stage goes on."""

from collections.abc import Sequence
from typing import Any

import pytest

from consumers.runtime.shell import failed, fits, fitting
from schemas.codec import Outgoing
from schemas.reasons import Reason
from schemas.topics import LARGEST_RECORD
from tests.builders import a_record


class _Stage:
    def pointer(self, record: Any, reason: Reason, detail: str) -> Sequence[Outgoing]:
        return [Outgoing("llm.dead-letters", reason.encode(), None)]


def test_what_no_topic_takes_becomes_a_pointer_and_the_rest_is_kept() -> None:
    small, large = Outgoing("a", None, b"1"), Outgoing("b", None, b"x" * LARGEST_RECORD)
    pointer = Outgoing("llm.dead-letters", b"result_too_large", None)

    assert fitting(_Stage(), a_record(b""), [small]) == [small]
    assert fitting(_Stage(), a_record(b""), [small, large]) == [small, pointer]


def test_headers_and_key_count() -> None:
    half = b"x" * (LARGEST_RECORD // 2)
    assert fits(Outgoing("a", None, half))
    assert not fits(Outgoing("a", half, half))
    assert not fits(Outgoing("a", None, half, [("h", half)]))


@pytest.mark.parametrize("error", [RecursionError(), MemoryError(), OverflowError(), KeyError("x")])
def test_an_unforeseen_failure_is_a_pointer(error: Exception) -> None:
    [made] = failed(_Stage(), a_record(b""), error)
    assert made.key == b"internal_error"
