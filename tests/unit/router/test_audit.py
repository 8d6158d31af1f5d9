"""The audit chain: whatever is changed in it, is found."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.review.audit import broken, chained
from schemas.codec import dump, read_model
from schemas.review import AuditLine
from tests.builders import NOON


def a_chain(count: int) -> list[AuditLine]:
    lines: list[AuditLine] = []
    for number in range(count):
        line = AuditLine(
            writer="console-1",
            no=1,
            at=NOON + timedelta(seconds=number),
            who="ann",
            what="claim",
            request_id=f"req-{number}",
        )
        lines.append(chained(line, lines[-1] if lines else None))
    return lines


def test_a_chain_read_back_from_a_topic_is_whole() -> None:
    lines = [
        read_model(AuditLine, dump(line.model_dump(mode="json", exclude_none=True)))
        for line in a_chain(5)
    ]

    assert [line.no for line in lines] == [1, 2, 3, 4, 5]
    assert broken(lines) == []


@pytest.mark.parametrize(
    "change",
    [{"who": "bob"}, {"note": "x"}, {"request_id": None}, {"at": NOON}, {"hash": "0" * 64}],
)
@given(where=st.integers(1, 3))
def test_a_changed_line_is_found(change: dict[str, Any], where: int) -> None:
    lines = a_chain(5)
    lines[where] = lines[where].model_copy(update=change)

    assert broken(lines)[0] == f"console-1 line {where + 1}: it is not as it was written"


def test_a_line_written_anew_with_its_hash_breaks_the_next_one() -> None:
    lines = a_chain(3)
    lines[1] = chained(lines[1].model_copy(update={"who": "bob"}), lines[0])

    assert broken(lines) == ["console-1 line 3: it does not follow the line before"]


@given(where=st.integers(0, 3))
def test_an_absent_line_is_found_unless_lines_may_be_absent(where: int) -> None:
    lines = a_chain(5)
    del lines[where]

    assert len(broken(lines)) == 1
    assert broken(lines, has_gaps=True) == []


def test_a_line_twice_is_found() -> None:
    lines = a_chain(3)

    assert broken([*lines, lines[-1]], has_gaps=True) == ["console-1 line 3: line 4 was expected"]
